//! An incoming push: the announcement, and the objects so far. Enforces every limit on an old
//! client's objects (INV-6).

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId};
use bytes::Bytes;

use super::super::member::Member;
use super::Core;
use crate::frame::{Expect, RefOutcome, RefusalCode, Verdict};
use crate::limits::{Limits, PACK_LEN};
use crate::session::{
    Announcement, ApiMisuse, Error, Fault, Opened, StoreOp, StoreOutcome, Violation,
};

/// An accepted push.
#[derive(Debug)]
pub(super) struct Push {
    limits: Limits,
    expectations: Vec<Expect>,
    /// The commits that refs are set to: only their detached metadata is accepted.
    commits: HashSet<Checksum>,
    /// Every ref holds its commit already: no object is needed.
    up_to_date: bool,
    /// The client has withdrawn, and gone on.
    pub(super) withdrawn: bool,
    objects: u64,
    bytes: u64,
    /// Objects to hand to the store together.
    batch: Vec<(ObjectId, Bytes)>,
    batch_len: usize,
    open: Open,
    /// Store requests that are not completed.
    pending: usize,
    /// Whether detached metadata was handed to the store.
    detached: bool,
}

/// The file whose bytes are coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    /// Its bytes come together.
    Whole(Member),
    /// The store has begun it as a stream.
    Stream,
    /// Its bytes are skipped.
    Skipped,
}

impl Push {
    pub(super) fn new(announcement: Announcement, opened: &Opened, limits: Limits) -> Self {
        let verdicts = opened.refs.iter().map(|state| &state.verdict);
        Self {
            limits,
            commits: announcement.refs.iter().map(|u| u.commit).collect(),
            expectations: announcement.refs.into_iter().map(|u| u.expect).collect(),
            up_to_date: verdicts.into_iter().all(|v| *v == Verdict::UpToDate),
            withdrawn: false,
            objects: 0,
            bytes: 0,
            batch: Vec::new(),
            batch_len: 0,
            open: Open::Nothing,
            pending: 0,
            detached: false,
        }
    }

    /// Begins a file, before any byte of it is taken.
    pub(super) fn begin(
        &mut self,
        member: Member,
        len: u64,
        whole: bool,
        core: &mut Core,
    ) -> Result<(), Violation> {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(len);
        let Limits {
            push_objects_max,
            push_len_max,
            ..
        } = self.limits;
        limit("objects in a push", push_objects_max, self.objects)?;
        limit("bytes in a push", push_len_max, self.bytes)?;
        limit("bytes of an object", member.len_max(&self.limits), len)?;
        self.open = match member {
            Member::Companion(_) => Open::Skipped,
            Member::Detached(commit) if !self.commits.contains(&commit) || len == 0 => {
                Open::Skipped
            }
            Member::Object(_) if self.up_to_date => Open::Skipped,
            Member::Object(id) if !whole => {
                self.request(StoreOp::Begin(STREAM, id), core);
                Open::Stream
            }
            Member::Object(_) | Member::Detached(_) => Open::Whole(member),
        };
        Ok(())
    }

    /// Takes bytes of the current file.
    pub(super) fn take(&mut self, bytes: Bytes, last: bool, core: &mut Core) {
        match self.open {
            Open::Whole(Member::Object(id)) => {
                self.batch_len += bytes.len();
                self.batch.push((id, bytes));
                if self.batch_len >= PACK_LEN || self.batch.len() >= BATCH_OBJECTS {
                    self.flush(core);
                }
            }
            Open::Whole(Member::Detached(commit)) => {
                self.detached = true;
                self.request(StoreOp::Detached(commit, bytes), core);
            }
            Open::Stream => {
                if !bytes.is_empty() {
                    self.request(StoreOp::Append(STREAM, bytes), core);
                }
                if last {
                    self.request(StoreOp::End(STREAM), core);
                }
            }
            Open::Whole(Member::Companion(_)) | Open::Skipped | Open::Nothing => {}
        }
        if last {
            self.open = Open::Nothing;
        }
    }

    /// Skips the rest of the current file.
    pub(super) const fn skip(&mut self) {
        self.open = Open::Skipped;
    }

    /// Hands the collected objects to the store.
    pub(super) fn flush(&mut self, core: &mut Core) {
        if !self.batch.is_empty() {
            self.batch_len = 0;
            let batch = std::mem::take(&mut self.batch);
            self.request(StoreOp::Stage(batch), core);
        }
    }

    pub(super) fn handle_stored(
        &mut self,
        op: &StoreOp,
        outcome: Result<StoreOutcome, Fault>,
    ) -> Result<(), Error> {
        self.pending = self.pending.checked_sub(1).ok_or(ApiMisuse::Outcome)?;
        let outcome = outcome.map_err(Error::Fault)?;
        let is_expected = matches!(
            (op, &outcome),
            (
                StoreOp::Begin(..) | StoreOp::Append(..),
                StoreOutcome::Appended
            ) | (
                StoreOp::Stage(_) | StoreOp::End(_) | StoreOp::Detached(..),
                StoreOutcome::Staged
            )
        );
        if is_expected {
            Ok(())
        } else {
            Err(ApiMisuse::Outcome.into())
        }
    }

    /// Returns whether the store has completed every request.
    pub(super) const fn is_stored(&self) -> bool {
        self.pending == 0
    }

    /// Returns whether any file has come.
    pub(super) const fn has_objects(&self) -> bool {
        self.objects > 0
    }

    /// Returns whether nothing needs publishing.
    pub(super) const fn is_needless(&self) -> bool {
        self.up_to_date && !self.detached
    }

    /// Returns whether the outcomes are what the client expects to hear as success.
    ///
    /// A client that did not know a ref's value wants the last of all pushes to stand: if another
    /// push came in between, that one is the last. A client that withdrew an update that is no
    /// fast-forward, and went on with the rest, knows about it.
    pub(super) fn is_done(&self, outcomes: &[RefOutcome]) -> bool {
        let mut expected = self.expectations.iter().zip(outcomes);
        expected.all(|(expect, outcome)| match outcome {
            RefOutcome::Updated | RefOutcome::Unchanged | RefOutcome::WouldUpdate => true,
            RefOutcome::Refused(refusal) => match refusal.code {
                RefusalCode::LOST_RACE => *expect == Expect::Any,
                RefusalCode::NOT_FAST_FORWARD => self.withdrawn,
                _ => false,
            },
        })
    }

    fn request(&mut self, op: StoreOp, core: &mut Core) {
        self.pending += 1;
        core.request(op);
    }
}

/// Files come one after the other, so one stream number serves all.
const STREAM: u8 = 0;
/// Most objects to hand to the store together.
const BATCH_OBJECTS: usize = 256;

const fn limit(what: &'static str, limit: u64, got: u64) -> Result<(), Violation> {
    if got <= limit {
        Ok(())
    } else {
        Err(Violation::Limit { what, limit, got })
    }
}
