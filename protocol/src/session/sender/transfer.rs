//! The state in which objects travel: offers, answers and objects overlap.

use std::collections::{HashSet, VecDeque};

use artifact_formats::ObjectId;
use bytes::Bytes;

use super::super::error::{ApiMisuse, Error, Fault, Violation, unexpected};
use super::super::packer::Packer;
use super::super::source::{Fetched, SourceOp, SourceOutcome};
use super::finish::ExpectFinalized;
use super::greeting::EarlyOffer;
use super::quota::Quota;
use super::streams::Streams;
use super::{Core, SenderEvent, State};
use crate::frame::{Finalize, Frame, Offer, Pack, Want};
use crate::limits::{MAX_OFFER_IDS, MAX_PIECE_LEN, MAX_UNSETTLED_IDS};

/// Waits for answers to offers, and for the source.
#[derive(Debug)]
pub(super) struct Transfer {
    /// The state of the source's offers.
    offering: Offering,
    unanswered: VecDeque<Vec<ObjectId>>,
    unanswered_ids: usize,
    /// Objects of the early offer that no accepted ref needs.
    unneeded: HashSet<ObjectId>,
    /// Answers that the source has not been told yet.
    answers: Vec<(ObjectId, bool)>,
    /// Missing objects that the source has not been told yet.
    missing: Vec<ObjectId>,
    wanted: VecDeque<ObjectId>,
    /// Ids in `Fetch` requests in progress.
    fetching: usize,
    fetches: usize,
    packer: Packer,
    streams: Streams,
    /// `Missing` answers so far (LIM-19).
    pub(super) rounds: u32,
    /// Counts for the limits that the server announced.
    quota: Quota,
}

/// Whether the source has more to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Offering {
    /// A request is in progress.
    Asked,
    /// It may have more.
    Ready,
    /// It has nothing until it learns an answer.
    Waiting,
    /// It has nothing more.
    Exhausted,
}

impl Transfer {
    pub(super) fn begin(early: Option<EarlyOffer>, core: &mut Core) -> Result<State, Error> {
        let mut transfer = Self::new();
        if let Some(EarlyOffer {
            ids,
            unneeded,
            answer,
        }) = early
        {
            transfer.unanswered_ids = ids.len();
            transfer.unanswered.push_back(ids);
            transfer.unneeded = unneeded;
            if let Some(want) = answer {
                transfer.handle_want(want, core)?;
            }
        }
        Ok(transfer.go_on(core))
    }

    fn new() -> Self {
        Self {
            offering: Offering::Ready,
            unanswered: VecDeque::new(),
            unanswered_ids: 0,
            unneeded: HashSet::new(),
            answers: Vec::new(),
            missing: Vec::new(),
            wanted: VecDeque::new(),
            fetching: 0,
            fetches: 0,
            packer: Packer::default(),
            streams: Streams::default(),
            rounds: 0,
            quota: Quota::default(),
        }
    }

    pub(super) fn handle(mut self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::Want(want) = frame else {
            return unexpected("Want", &frame);
        };
        self.handle_want(want, core)?;
        Ok(self.go_on(core))
    }

    pub(super) fn handle_source(
        mut self,
        op: SourceOp,
        outcome: SourceOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        match (op, outcome) {
            (SourceOp::Offer { .. }, SourceOutcome::Offered { ids, exhausted }) => {
                self.handle_offered(ids, exhausted, core)?;
            }
            (SourceOp::Vouch(ids), SourceOutcome::Vouched(all)) => {
                self.handle_vouched(ids, all, core)?;
            }
            (SourceOp::Fetch(ids), SourceOutcome::Fetched(objects))
                if ids.len() == objects.len() =>
            {
                self.fetches -= 1;
                self.fetching -= ids.len();
                for (id, object) in ids.into_iter().zip(objects) {
                    match object {
                        Fetched::Whole(stored) if stored.len() > MAX_PIECE_LEN => {
                            return Err(ApiMisuse::Outcome.into());
                        }
                        Fetched::Whole(stored) => self.send_whole(id, stored, core)?,
                        Fetched::Large(_) => self.streams.add(id),
                    }
                }
            }
            (SourceOp::Next(id), SourceOutcome::Piece { bytes, last }) => {
                let quota = &mut self.quota;
                self.streams.send(id, bytes, last, quota, core)?;
            }
            _ => return Err(ApiMisuse::Outcome.into()),
        }
        Ok(self.go_on(core))
    }

    /// Sends the objects that a finalization found missing, offers what lies beneath them, and
    /// finalizes again. First asks the source whether they belong to what was announced: a hostile
    /// server may name any id.
    pub(super) fn send_again(
        mut self,
        ids: Vec<ObjectId>,
        core: &mut Core,
    ) -> Result<State, Error> {
        self.rounds += 1;
        self.quota.want(ids.len() as u64, &core.limits)?;
        self.offering = Offering::Asked;
        core.request(SourceOp::Vouch(ids));
        Ok(State::Transfer(Box::new(self)))
    }

    fn handle_vouched(
        &mut self,
        ids: Vec<ObjectId>,
        all: bool,
        core: &mut Core,
    ) -> Result<(), Violation> {
        if !all {
            return Err(Violation::Rule(
                "Missing names an object that the announced commits do not reach",
            ));
        }
        core.outputs.push(SenderEvent::Missing(ids.len() as u64));
        self.wanted.extend(&ids);
        self.missing = ids;
        self.offering = Offering::Ready;
        Ok(())
    }

    fn handle_want(&mut self, want: Want, core: &mut Core) -> Result<(), Error> {
        let Some(offered) = self.unanswered.pop_front() else {
            return Err(Violation::Rule("Want came without an unanswered Offer").into());
        };
        // REQ-18.
        if offered.len() != want.wanted.len() {
            let rule = "Want answers another number of ids than were offered";
            return Err(Violation::Rule(rule).into());
        }
        self.unanswered_ids -= offered.len();
        let (mut wanted, mut had) = (Vec::new(), 0);
        let dry_run = core.is_dry_run();
        for (id, is_wanted) in offered.into_iter().zip(want.wanted) {
            self.answers.push((id, !is_wanted));
            if !is_wanted {
                had += 1;
                continue;
            }
            if self.unneeded.contains(&id) {
                continue;
            }
            wanted.push(id);
            if !dry_run {
                self.wanted.push_back(id);
            }
        }
        self.quota.want(wanted.len() as u64, &core.limits)?;
        if self.offering == Offering::Waiting {
            self.offering = Offering::Ready;
        }
        core.outputs.push(SenderEvent::Answered { wanted, had });
        Ok(())
    }

    fn handle_offered(
        &mut self,
        ids: Vec<ObjectId>,
        exhausted: bool,
        core: &mut Core,
    ) -> Result<(), ApiMisuse> {
        if ids.len() > MAX_OFFER_IDS {
            return Err(ApiMisuse::Outcome);
        }
        self.offering = match (exhausted, ids.is_empty() && self.answers.is_empty()) {
            (true, _) => Offering::Exhausted,
            // Nothing is unanswered, so the source would wait for ever.
            (false, true) if self.unanswered.is_empty() => return Err(ApiMisuse::Outcome),
            (false, true) => Offering::Waiting,
            (false, false) => Offering::Ready,
        };
        if !ids.is_empty() {
            core.outputs.send(&Frame::Offer(Offer { ids: ids.clone() }));
            self.unanswered_ids += ids.len();
            self.unanswered.push_back(ids);
        }
        Ok(())
    }

    /// Takes every step that is possible now.
    fn go_on(mut self, core: &mut Core) -> State {
        self.ask_for_offers(core);
        self.streams.open(core);
        self.fetch(core);
        if self.fetches == 0 && self.wanted.is_empty() {
            self.flush(core);
        }
        if !self.is_done() {
            return State::Transfer(Box::new(self));
        }
        core.outputs.send(&Frame::Finalize(Finalize {}));
        core.is_unsettled = !core.is_dry_run();
        State::ExpectFinalized(ExpectFinalized::new(self))
    }

    fn is_done(&self) -> bool {
        self.offering == Offering::Exhausted
            && self.unanswered.is_empty()
            && self.wanted.is_empty()
            && self.fetches == 0
            && self.streams.len() == 0
    }

    fn ask_for_offers(&mut self, core: &mut Core) {
        let unsent = self.wanted.len() + self.fetching + self.packer.waiting();
        let unsettled = self.unanswered_ids + unsent + self.streams.len();
        // REQ-19, LIM-7, LIM-6.
        if self.offering == Offering::Ready && unsettled + MAX_OFFER_IDS <= MAX_UNSETTLED_IDS {
            self.offering = Offering::Asked;
            let answers = std::mem::take(&mut self.answers);
            let missing = std::mem::take(&mut self.missing);
            core.request(SourceOp::Offer {
                answers,
                missing,
                max: MAX_OFFER_IDS,
            });
        }
    }

    fn fetch(&mut self, core: &mut Core) {
        // Each fetched object may prove large, and then waits, open, for a stream.
        while !self.wanted.is_empty()
            && self.streams.waiting() + self.fetching + FETCH_IDS <= FETCHES * FETCH_IDS
        {
            let ids: Vec<_> = self
                .wanted
                .drain(..self.wanted.len().min(FETCH_IDS))
                .collect();
            self.fetches += 1;
            self.fetching += ids.len();
            core.request(SourceOp::Fetch(ids));
        }
    }

    fn send_whole(&mut self, id: ObjectId, stored: Bytes, core: &mut Core) -> Result<(), Fault> {
        let len = stored.len();
        Quota::begin(id, &stored, &core.limits)?;
        self.quota.send(id, len, len as u64, &core.limits)?;
        if let Some(pack) = self.packer.push(id, stored) {
            send_pack(pack, core);
        }
        Ok(())
    }

    fn flush(&mut self, core: &mut Core) {
        if let Some(pack) = self.packer.flush() {
            send_pack(pack, core);
        }
    }
}

/// Sends a pack, and then an event about it.
fn send_pack(pack: Pack, core: &mut Core) {
    let lens = pack.objects.iter().map(|(_, stored)| stored.len() as u64);
    let sent = SenderEvent::Sent {
        objects: pack.objects.len() as u64,
        bytes: lens.sum(),
        large: None,
    };
    core.outputs.send(&Frame::Pack(pack));
    core.outputs.push(sent);
}

/// `Fetch` requests in progress at once, and ids in each. With small objects of at most 32 KiB they
/// hold 1 MiB; as many large ones hold a file and a compressor each.
const FETCHES: usize = 4;
const FETCH_IDS: usize = 8;

#[cfg(test)]
mod tests;
