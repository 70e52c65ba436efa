//! The state in which objects travel: the session answers offers while earlier objects arrive.

use std::collections::HashMap;

use artifact_formats::limits::MAX_DETACHED_LEN;
use artifact_formats::{Checksum, ObjectId};

use super::super::error::{ApiMisuse, Error, Fault, Violation, unexpected};
use super::super::store::{Announcement, Opened, StoreOp, StoreOutcome};
use super::finish::{Publishing, finish_without_publishing};
use super::ledger::Ledger;
use super::{Core, State};
use crate::frame::{
    Basis, CloseCode, Detached, Frame, Missing, Offer, PushOptions, RefOutcome, Staged, Verdict,
    Want,
};
use crate::limits::{
    Limits, MAX_COMPLETE, MAX_FINALIZE_ROUNDS, MAX_MISSING_IDS, MAX_OFFER_IDS, MAX_OPEN_STREAMS,
};

/// The state of a commit's detached metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Metadata {
    /// It must come, with this checksum.
    Awaited(Checksum),
    /// It has come.
    Came,
    /// No ref of this commit was accepted.
    Unneeded,
}

/// Waits for offers, objects, and `Finalize`.
#[derive(Debug)]
pub(super) struct Transfer {
    dry_run: bool,
    verdicts: Vec<Verdict>,
    ledger: Ledger,
    /// Announced commits with detached metadata, and its state.
    detached: HashMap<Checksum, Metadata>,
    /// Whether the client may still send its `Basis`: once, before it offers.
    may_rely: bool,
    /// Store requests of this state that are not completed.
    pending: usize,
    /// For each stream, the object on its way.
    streams: [Option<ObjectId>; MAX_OPEN_STREAMS],
    /// The count of verified objects that the client was last told.
    told: Staged,
    /// Whether the client has sent `Finalize`; the session acts on it when nothing is pending.
    finalizing: bool,
    /// `Missing` answers given.
    rounds: u32,
}

impl Transfer {
    pub(super) fn new(announcement: Announcement, opened: Opened, limits: Limits) -> Self {
        let verdicts: Vec<_> = opened.refs.into_iter().map(|state| state.verdict).collect();
        let mut detached = HashMap::new();
        for (update, verdict) in announcement.refs.iter().zip(&verdicts) {
            if let (Some(checksum), Verdict::Accepted) = (update.detached, verdict) {
                detached.insert(update.commit, Metadata::Awaited(checksum));
            } else if update.detached.is_some() {
                detached.entry(update.commit).or_insert(Metadata::Unneeded);
            }
        }
        let dry_run = announcement.options.contains(PushOptions::DRY_RUN);
        Self {
            dry_run,
            verdicts,
            ledger: Ledger::new(limits, dry_run),
            detached,
            may_rely: true,
            pending: 0,
            streams: [None; MAX_OPEN_STREAMS],
            told: NOTHING,
            finalizing: false,
            rounds: 0,
        }
    }

    /// Returns whether the client has sent `Finalize`.
    pub(super) const fn is_finalizing(&self) -> bool {
        self.finalizing
    }

    /// Returns whether these outcomes may answer a `Finalize` outside of a dry run.
    pub(super) fn is_answered_by(&self, outcomes: &[RefOutcome]) -> bool {
        outcomes.len() == self.verdicts.len() && !outcomes.contains(&RefOutcome::WouldUpdate)
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        frame: Frame,
        core: &mut Core,
    ) -> Result<State, Error> {
        match frame {
            Frame::Basis(basis) => self.handle_basis(basis, core)?,
            Frame::Offer(offer) => self.handle_offer(offer, core)?,
            Frame::Detached(detached) => self.handle_detached(detached, core)?,
            Frame::Pack(pack) => {
                self.refuse_in_dry_run("a dry run sends no objects")?;
                for (id, stored) in &pack.objects {
                    self.ledger.receive(*id, stored.len())?;
                }
                self.request(StoreOp::Stage(pack.objects), core);
            }
            Frame::ObjectBegin(begin) => {
                self.refuse_in_dry_run("a dry run sends no objects")?;
                self.ledger.begin(begin.stream, begin.id)?;
                self.request(StoreOp::Begin(begin.stream, begin.id), core);
            }
            Frame::ObjectChunk(chunk) => {
                self.ledger.append(chunk.stream, chunk.bytes.len())?;
                self.request(StoreOp::Append(chunk.stream, chunk.bytes), core);
            }
            Frame::ObjectEnd(end) => {
                self.ledger.end(end.stream)?;
                self.request(StoreOp::End(end.stream), core);
            }
            Frame::Finalize(_) => {
                self.ledger.check_settled()?;
                self.check_detached()?;
                // REQ-25.
                let unsent = self.ledger.take_unsent();
                if !unsent.is_empty() {
                    self.request(StoreOp::Unsent(unsent), core);
                }
                self.finalizing = true;
                return Ok(self.finalize_when_idle(core));
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Announce(_)
            | Frame::RefStatus(_)
            | Frame::Want(_)
            | Frame::Staged(_)
            | Frame::Missing(_)
            | Frame::Finalized(_)
            | Frame::SummaryDone(_)
            | Frame::Ping(_)
            | Frame::Close(_)
            | Frame::Request(_)
            | Frame::Held(_)
            | Frame::Answer(_)
            | Frame::Extent(_)
            | Frame::Sent(_) => return unexpected("offers and objects", &frame),
        }
        Ok(State::Transfer(self))
    }

    pub(super) fn handle_stored(
        mut self: Box<Self>,
        op: StoreOp,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        self.pending -= 1;
        match (op, outcome) {
            (StoreOp::Rely(_) | StoreOp::Unsent(_), StoreOutcome::Relied)
            | (StoreOp::Append(..), StoreOutcome::Appended)
            | (StoreOp::Detached(..), StoreOutcome::Staged) => {}
            (StoreOp::Have(ids), StoreOutcome::Have(have)) if ids.len() == have.len() => {
                let wanted = self.ledger.answer(&ids, &have);
                core.outputs.send(&Frame::Want(Want { wanted }));
            }
            (StoreOp::Begin(stream, id), StoreOutcome::Appended) => {
                *self.stream(stream)? = Some(id);
            }
            (StoreOp::Stage(objects), StoreOutcome::Staged) => {
                objects.iter().for_each(|(id, _)| self.ledger.verified(id));
            }
            (StoreOp::End(stream), StoreOutcome::Staged) => {
                let id = self.stream(stream)?.take();
                id.iter().for_each(|id| self.ledger.verified(id));
            }
            _ => return Err(ApiMisuse::Outcome.into()),
        }
        self.tell_staged(core);
        Ok(self.finalize_when_idle(core))
    }

    /// Asks for the objects that a publication found missing.
    pub(super) fn ask_again(
        mut self: Box<Self>,
        ids: Vec<ObjectId>,
        core: &mut Core,
    ) -> Result<State, Error> {
        self.rounds += 1;
        // REQ-27, LIM-19, LIM-20.
        if self.rounds > MAX_FINALIZE_ROUNDS || ids.len() > MAX_MISSING_IDS || ids.is_empty() {
            let first = ids.first().map(ToString::to_string).unwrap_or_default();
            return Err(Error::Fault(Fault {
                code: CloseCode::INCOMPLETE,
                text: format!(
                    "the push is incomplete: {} objects such as {first}",
                    ids.len()
                ),
            }));
        }
        self.ledger.want(&ids);
        self.finalizing = false;
        core.outputs.send(&Frame::Missing(Missing { ids }));
        Ok(State::Transfer(self))
    }

    fn handle_basis(&mut self, basis: Basis, core: &mut Core) -> Result<(), Violation> {
        // REQ-16, LIM-23.
        if !std::mem::take(&mut self.may_rely) {
            return Err(Violation::Rule(
                "Basis may come only once, before the first Offer",
            ));
        }
        Violation::limit("commits of a basis", MAX_COMPLETE, basis.commits.len())?;
        self.request(StoreOp::Rely(basis.commits), core);
        Ok(())
    }

    fn handle_offer(&mut self, offer: Offer, core: &mut Core) -> Result<(), Violation> {
        self.may_rely = false;
        if offer.ids.is_empty() {
            return Err(Violation::Rule("an Offer has no id"));
        }
        // LIM-6.
        Violation::limit("ids in an offer", MAX_OFFER_IDS, offer.ids.len())?;
        self.ledger.offer(offer.ids.len())?;
        self.request(StoreOp::Have(offer.ids), core);
        Ok(())
    }

    fn handle_detached(&mut self, detached: Detached, core: &mut Core) -> Result<(), Violation> {
        self.refuse_in_dry_run("a dry run sends no detached metadata")?;
        let Detached { commit, metadata } = detached;
        Violation::limit(
            "bytes of detached metadata",
            MAX_DETACHED_LEN,
            metadata.len(),
        )?;
        self.ledger.receive_detached(metadata.len())?;
        // REQ-17.
        let rule = match self.detached.insert(commit, Metadata::Came) {
            Some(Metadata::Awaited(announced)) if announced == Checksum::of(&metadata) => None,
            Some(Metadata::Awaited(_)) => {
                Some("detached metadata differs from the announced checksum")
            }
            Some(Metadata::Came) => Some("detached metadata of a commit came twice"),
            Some(Metadata::Unneeded) => {
                Some("detached metadata came for a ref that is not accepted")
            }
            None => Some("detached metadata came that was not announced"),
        };
        if let Some(rule) = rule {
            return Err(Violation::Rule(rule));
        }
        self.request(StoreOp::Detached(commit, metadata), core);
        Ok(())
    }

    fn finalize_when_idle(self: Box<Self>, core: &mut Core) -> State {
        if !self.finalizing || self.pending > 0 {
            return State::Transfer(self);
        }
        // REQ-38.
        if self.dry_run {
            let outcomes = self.verdicts.into_iter().map(foretell).collect();
            return finish_without_publishing(outcomes, core);
        }
        core.request(StoreOp::Publish);
        State::Publishing(Publishing::new(self))
    }

    fn request(&mut self, op: StoreOp, core: &mut Core) {
        self.pending += 1;
        core.request(op);
    }

    fn check_detached(&self) -> Result<(), Violation> {
        let is_awaited = |metadata: &Metadata| matches!(metadata, Metadata::Awaited(_));
        if !self.dry_run && self.detached.values().any(is_awaited) {
            return Err(Violation::Rule(
                "Finalize came before the announced detached metadata",
            ));
        }
        Ok(())
    }

    fn stream(&mut self, stream: u8) -> Result<&mut Option<ObjectId>, ApiMisuse> {
        let slot = self.streams.get_mut(usize::from(stream));
        slot.ok_or(ApiMisuse::Outcome)
    }

    const fn refuse_in_dry_run(&self, rule: &'static str) -> Result<(), Violation> {
        // REQ-39.
        if self.dry_run {
            return Err(Violation::Rule(rule));
        }
        Ok(())
    }

    /// Sends `Staged` now and then.
    fn tell_staged(&mut self, core: &mut Core) {
        let staged = core.backlog.staged();
        let news = staged.bytes - self.told.bytes >= STAGED_STEP_BYTES
            || staged.objects - self.told.objects >= STAGED_STEP_OBJECTS;
        let last = self.finalizing && self.pending == 0 && staged != self.told;
        if news || last {
            self.told = staged;
            core.outputs.send(&Frame::Staged(staged));
        }
    }
}

fn foretell(verdict: Verdict) -> RefOutcome {
    match verdict {
        Verdict::UpToDate => RefOutcome::Unchanged,
        Verdict::Accepted => RefOutcome::WouldUpdate,
        Verdict::Refused(refusal) => RefOutcome::Refused(refusal),
    }
}

const NOTHING: Staged = Staged {
    objects: 0,
    bytes: 0,
};
const STAGED_STEP_BYTES: u64 = 1024 * 1024;
const STAGED_STEP_OBJECTS: u64 = 512;
