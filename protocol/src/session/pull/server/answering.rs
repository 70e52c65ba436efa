//! The state in which objects travel: the list, reads and frames overlap, in the list's order.

use std::collections::VecDeque;

use artifact_formats::{Checksum, ObjectId};
use bytes::Bytes;

use super::super::super::error::{ApiMisuse, Error, Fault};
use super::super::super::packer::Packer;
use super::super::super::source::Fetched;
use super::super::answer::{AnswerOp, AnswerOutcome};
use super::{Core, State};
use crate::frame::{CloseCode, Detached, Extent, Frame, ObjectBegin, ObjectChunk, ObjectEnd, Sent};
use crate::limits::MAX_PIECE_LEN;

/// Waits for the repository.
#[derive(Debug)]
pub(super) struct Answering {
    listing: Listing,
    listed: VecDeque<ObjectId>,
    /// `Fetch` requests, in the order of the list. They complete in any order.
    fetches: VecDeque<Fetch>,
    /// Objects that are read, in the order of the list.
    ready: VecDeque<(ObjectId, Fetched)>,
    packer: Packer,
    /// Large objects that wait for a stream.
    large: VecDeque<ObjectId>,
    streams: [Option<ObjectId>; STREAMS],
    /// A large object that may name those after it in the list: they wait for its end (REQ-52).
    barrier: Option<ObjectId>,
    /// Commits whose detached metadata is promised, and its SHA-256; the first one is being read.
    detached: VecDeque<(Checksum, Checksum)>,
    sent: Sent,
}

/// Whether the repository has more to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// A request is in progress.
    Asked,
    /// It may have more.
    Ready,
    /// It has nothing more.
    Exhausted,
}

/// A `Fetch` request.
#[derive(Debug)]
struct Fetch {
    ids: Vec<ObjectId>,
    /// `None` until it is completed.
    objects: Option<Vec<Fetched>>,
}

impl Answering {
    pub(super) fn begin(detached: Vec<(Checksum, Checksum)>, core: &mut Core) -> State {
        let answering = Self {
            listing: Listing::Ready,
            listed: VecDeque::new(),
            fetches: VecDeque::new(),
            ready: VecDeque::new(),
            packer: Packer::default(),
            large: VecDeque::new(),
            streams: Default::default(),
            barrier: None,
            detached: detached.into(),
            sent: Sent::default(),
        };
        answering.ask_for_detached(core);
        Box::new(answering).go_on(core)
    }

    pub(super) fn handle_answer(
        mut self: Box<Self>,
        op: AnswerOp,
        outcome: AnswerOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        match (op, outcome) {
            (AnswerOp::Measure, AnswerOutcome::Measured(Extent { objects, bytes })) => {
                core.outputs.send(&Frame::Extent(Extent { objects, bytes }));
            }
            (AnswerOp::List { max }, AnswerOutcome::Listed { ids, exhausted })
                if ids.len() <= max && (exhausted || !ids.is_empty()) =>
            {
                self.listed.extend(ids);
                self.listing = match exhausted {
                    true => Listing::Exhausted,
                    false => Listing::Ready,
                };
            }
            (AnswerOp::Detached(commit), AnswerOutcome::Detached(metadata)) => {
                self.handle_detached(commit, metadata, core)?;
            }
            (AnswerOp::Fetch(ids), AnswerOutcome::Fetched(objects))
                if ids.len() == objects.len() =>
            {
                self.handle_fetched(&ids, objects)?;
            }
            (AnswerOp::Next(id), AnswerOutcome::Piece { bytes, last }) => {
                self.send_piece(id, bytes, last, core)?;
            }
            _ => return Err(ApiMisuse::Outcome.into()),
        }
        Ok(self.go_on(core))
    }

    fn handle_detached(
        &mut self,
        commit: Checksum,
        metadata: Bytes,
        core: &mut Core,
    ) -> Result<(), Error> {
        let promised = self.detached.pop_front();
        // REQ-51.
        if promised != Some((commit, Checksum::of(&metadata))) {
            return Err(Error::Fault(Fault {
                code: CloseCode::BUSY,
                text: format!("the detached metadata of {commit} changed meanwhile: pull again"),
            }));
        }
        core.outputs
            .send(&Frame::Detached(Detached { commit, metadata }));
        self.ask_for_detached(core);
        Ok(())
    }

    fn handle_fetched(&mut self, ids: &[ObjectId], objects: Vec<Fetched>) -> Result<(), ApiMisuse> {
        let is_too_long = |object: &Fetched| match object {
            Fetched::Whole(stored) => stored.len() > MAX_PIECE_LEN,
            Fetched::Large(_) => false,
        };
        if objects.iter().any(is_too_long) {
            return Err(ApiMisuse::Outcome);
        }
        let mut open = self.fetches.iter_mut();
        let fetch = open.find(|fetch| fetch.objects.is_none() && fetch.ids == ids);
        fetch.ok_or(ApiMisuse::Outcome)?.objects = Some(objects);
        Ok(())
    }

    /// Takes every step that is possible now.
    fn go_on(mut self: Box<Self>, core: &mut Core) -> State {
        self.send_ready(core);
        self.open_streams(core);
        self.fetch(core);
        self.ask_for_list(core);
        if self.fetches.is_empty() && self.listed.is_empty() {
            self.flush(core);
        }
        if !self.is_done() {
            return State::Answering(self);
        }
        core.say_sent(self.sent)
    }

    fn is_done(&self) -> bool {
        self.listing == Listing::Exhausted
            && self.listed.is_empty()
            && self.fetches.is_empty()
            && self.ready.is_empty()
            && self.large.is_empty()
            && self.streams.iter().all(Option::is_none)
            && self.detached.is_empty()
    }

    fn ask_for_list(&mut self, core: &mut Core) {
        if self.listing == Listing::Ready && self.listed.len() < LIST_IDS / 2 {
            self.listing = Listing::Asked;
            core.request(AnswerOp::List { max: LIST_IDS });
        }
    }

    fn ask_for_detached(&self, core: &mut Core) {
        if let Some((commit, _)) = self.detached.front() {
            core.request(AnswerOp::Detached(*commit));
        }
    }

    fn fetch(&mut self, core: &mut Core) {
        // Behind a barrier, what is read waits in memory. Each fetched object may prove large, and
        // then waits, open, for a stream.
        let waiting = self.ready.len() + self.large.len();
        let fetching = self.fetches.iter().map(|fetch| fetch.ids.len());
        let mut open = waiting + fetching.sum::<usize>();
        while !self.listed.is_empty() && open + FETCH_IDS <= FETCHES * FETCH_IDS {
            let count = self.listed.len().min(FETCH_IDS);
            let ids: Vec<_> = self.listed.drain(..count).collect();
            open += count;
            self.fetches.push_back(Fetch {
                ids: ids.clone(),
                objects: None,
            });
            core.request(AnswerOp::Fetch(ids));
        }
    }

    /// Sends what is read, up to the first object that is not.
    fn send_ready(&mut self, core: &mut Core) {
        while self.barrier.is_none() {
            let Some((id, object)) = self.next_ready() else {
                return;
            };
            match object {
                Fetched::Whole(stored) => {
                    self.count(stored.len(), true);
                    if let Some(pack) = self.packer.push(id, stored) {
                        core.outputs.send(&Frame::Pack(pack));
                    }
                }
                Fetched::Large(_) if id.kind.has_children() => {
                    self.barrier = Some(id);
                    self.large.push_front(id);
                }
                Fetched::Large(_) => self.large.push_back(id),
            }
        }
    }

    fn next_ready(&mut self) -> Option<(ObjectId, Fetched)> {
        while self.ready.is_empty() {
            self.fetches.front()?.objects.as_ref()?;
            let Fetch { ids, objects } = self.fetches.pop_front()?;
            self.ready.extend(ids.into_iter().zip(objects?));
        }
        self.ready.pop_front()
    }

    fn open_streams(&mut self, core: &mut Core) {
        for number in 0..STREAMS {
            let is_free = self.streams.get(number).is_some_and(Option::is_none);
            let Some(id) = self.large.front().copied().filter(|_| is_free) else {
                continue;
            };
            self.large.pop_front();
            // The object that names this one may wait in the pack (REQ-52).
            self.flush(core);
            if let Some(slot) = self.streams.get_mut(number) {
                *slot = Some(id);
            }
            core.outputs.send(&Frame::ObjectBegin(ObjectBegin {
                stream: stream(number),
                id,
            }));
            core.request(AnswerOp::Next(id));
        }
    }

    fn flush(&mut self, core: &mut Core) {
        if let Some(pack) = self.packer.flush() {
            core.outputs.send(&Frame::Pack(pack));
        }
    }

    fn send_piece(
        &mut self,
        id: ObjectId,
        bytes: Bytes,
        last: bool,
        core: &mut Core,
    ) -> Result<(), ApiMisuse> {
        let number = self.streams.iter().position(|slot| *slot == Some(id));
        let number = number.ok_or(ApiMisuse::Outcome)?;
        // A piece without bytes that is not the last would be asked for without end.
        if bytes.len() > MAX_PIECE_LEN || (bytes.is_empty() && !last) {
            return Err(ApiMisuse::Outcome);
        }
        self.count(bytes.len(), last);
        let stream = stream(number);
        if !bytes.is_empty() {
            core.outputs
                .send(&Frame::ObjectChunk(ObjectChunk { stream, bytes }));
        }
        if !last {
            core.request(AnswerOp::Next(id));
            return Ok(());
        }
        core.outputs.send(&Frame::ObjectEnd(ObjectEnd { stream }));
        if let Some(slot) = self.streams.get_mut(number) {
            *slot = None;
        }
        if self.barrier == Some(id) {
            self.barrier = None;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize, whole: bool) {
        self.sent.objects += u64::from(whole);
        self.sent.bytes += bytes as u64;
    }
}

fn stream(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// Streams that this server opens at once: enough to keep two cores of a client busy.
const STREAMS: usize = 2;
/// Ids in a list.
const LIST_IDS: usize = 1_024;
/// `Fetch` requests in progress at once, and ids in each: the answer keeps the list's order, so
/// one slow read must not leave the others idle. With small objects of at most 32 KiB they hold
/// 2 MiB; as many large ones hold a file and a compressor each.
const FETCHES: usize = 8;
const FETCH_IDS: usize = 8;
