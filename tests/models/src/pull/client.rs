//! The client's store: what is published, and what is staged beside it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{
    CloseCode, Expect, RefOutcome, RefState, Refusal, RefusalCode, Verdict,
};
use artifact_protocol::session::{Announcement, Fault, Opened, Published, StoreOp, StoreOutcome};
use bytes::{Bytes, BytesMut};

use super::cache::Cache;

/// The client's repository, and the objects staged beside it.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// The published state.
    pub cache: Cache,
    /// Verified objects that are not published; a later pull holds them.
    pub staged: BTreeMap<ObjectId, Bytes>,
    /// Objects that vanish before each publication.
    pub vanish: VecDeque<ObjectId>,
    /// The first request, counted from 0, that fails.
    pub fails_at: Option<usize>,
    /// How often refs were asked to move.
    pub publications: usize,
    requests: usize,
    announcement: Announcement,
    verdicts: Vec<Verdict>,
    basis: Vec<Checksum>,
    detached: BTreeMap<Checksum, Bytes>,
    streams: BTreeMap<u8, (ObjectId, BytesMut)>,
}

impl Store {
    /// Makes a store on a repository.
    pub fn new(cache: Cache) -> Self {
        Self {
            cache,
            ..Self::default()
        }
    }

    /// Ends the session: what is staged stays.
    #[must_use]
    pub fn reopened(self) -> Self {
        Self {
            cache: self.cache,
            staged: self.staged,
            ..Self::default()
        }
    }

    /// Executes a request of the session.
    pub fn act(&mut self, op: &StoreOp) -> Result<StoreOutcome, Fault> {
        self.requests += 1;
        if self.fails_at.is_some_and(|at| self.requests > at) {
            return Err(fault(CloseCode::STORAGE_FULL, "the disk is full"));
        }
        Ok(match op {
            StoreOp::Open(announcement) => StoreOutcome::Opened(self.open(announcement)),
            StoreOp::Rely(commits) => {
                let is_here = |commit: &&Checksum| self.cache.closure(**commit).1.is_empty();
                assert!(
                    commits.iter().all(|commit| is_here(&commit)),
                    "a held basis"
                );
                self.basis.clone_from(commits);
                StoreOutcome::Relied
            }
            StoreOp::Stage(objects) => {
                for (id, stored) in objects {
                    self.stage(*id, stored.clone())?;
                }
                StoreOutcome::Staged
            }
            StoreOp::Begin(stream, id) => {
                let open = self.streams.insert(*stream, (*id, BytesMut::new()));
                assert!(open.is_none(), "a stream is begun twice");
                StoreOutcome::Appended
            }
            StoreOp::Append(stream, bytes) => {
                let open = self.streams.get_mut(stream).expect("begun before");
                open.1.extend_from_slice(bytes);
                StoreOutcome::Appended
            }
            StoreOp::End(stream) => {
                let (id, bytes) = self.streams.remove(stream).expect("begun before");
                self.stage(id, bytes.freeze())?;
                StoreOutcome::Staged
            }
            StoreOp::Detached(commit, metadata) => {
                self.detached.insert(*commit, metadata.clone());
                StoreOutcome::Staged
            }
            StoreOp::Publish => StoreOutcome::Published(self.publish()),
            StoreOp::Refs(_) | StoreOp::Have(_) | StoreOp::Unsent(_) | StoreOp::Summarize => {
                unreachable!("a pull does not ask {op:?}")
            }
        })
    }

    /// Reads an object for the session.
    pub fn read(&self, id: &ObjectId) -> Option<Bytes> {
        let staged = self.staged.get(id);
        staged.or_else(|| self.cache.objects.get(id)).cloned()
    }

    fn open(&mut self, announcement: &Announcement) -> Opened {
        self.announcement = announcement.clone();
        let states = announcement.refs.iter().map(|update| {
            let current = self.cache.refs.get(&update.name).copied();
            let is_expected = match update.expect {
                Expect::Any => true,
                Expect::Absent => current.is_none(),
                Expect::Is(commit) => current == Some(commit),
            };
            let verdict = match is_expected {
                true => Verdict::Accepted,
                false => Verdict::Refused(Refusal::new(RefusalCode::LOST_RACE, "it moved")),
            };
            RefState { current, verdict }
        });
        let refs: Vec<_> = states.collect();
        self.verdicts = refs.iter().map(|state| state.verdict.clone()).collect();
        Opened {
            refs,
            complete: Vec::new(),
        }
    }

    fn stage(&mut self, id: ObjectId, stored: Bytes) -> Result<(), Fault> {
        if Checksum::of(&stored) != id.checksum {
            return Err(fault(CloseCode::OBJECT_REFUSED, "a wrong checksum"));
        }
        self.staged.insert(id, stored);
        Ok(())
    }

    fn publish(&mut self) -> Published {
        self.publications += 1;
        if let Some(id) = self.vanish.pop_front() {
            self.staged.remove(&id);
        }
        let mut whole = self.cache.clone();
        whole.objects.extend(self.staged.clone());
        let updates = self.announcement.refs.iter().zip(&self.verdicts);
        let accepted: Vec<_> = updates
            .filter(|(_, verdict)| **verdict == Verdict::Accepted)
            .map(|(update, _)| update)
            .collect();
        let closures = accepted.iter().map(|update| whole.closure(update.commit));
        let (mut here, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for (present, missing) in closures {
            here.extend(present);
            gone.extend(missing);
        }
        if !gone.is_empty() {
            return Published::Missing(gone.into_iter().collect());
        }
        for id in here {
            self.cache.objects.insert(id, whole.objects[&id].clone());
        }
        // Ancestors that came whole.
        for (id, stored) in &self.staged {
            let is_whole = |commit| whole.closure(commit).1.is_empty();
            if ObjectId::commit(id.checksum) == *id && is_whole(id.checksum) {
                let here = whole.closure(id.checksum).0.into_iter();
                let here = here.map(|id| (id, whole.objects[&id].clone()));
                self.cache.objects.extend(here);
                self.cache.objects.insert(*id, stored.clone());
            }
        }
        for update in accepted {
            if let Some(sum) = update.detached {
                let metadata = self.detached.get(&update.commit).expect("it was promised");
                assert_eq!(Checksum::of(metadata), sum);
                self.cache.detached.insert(update.commit, metadata.clone());
            }
            self.cache.refs.insert(update.name.clone(), update.commit);
        }
        let outcome = |verdict: &Verdict| match verdict {
            Verdict::Accepted | Verdict::UpToDate => RefOutcome::Updated,
            Verdict::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
        };
        Published::Done(self.verdicts.iter().map(outcome).collect())
    }
}

fn fault(code: CloseCode, text: &str) -> Fault {
    let text = text.to_owned();
    Fault { code, text }
}
