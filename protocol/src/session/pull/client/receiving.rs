//! The state in which objects travel: the session stages what is justified, until the answer is
//! whole.

use std::collections::{HashMap, HashSet, VecDeque};

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, ObjectId};
use bytes::{Bytes, BytesMut};

use super::super::super::error::{ApiMisuse, Error, Fault, Violation, unexpected};
use super::super::super::store::{Announcement, StoreOp, StoreOutcome};
use super::super::answer::PullAnswer;
use super::finish::{COUNTED, Publishing, take_extent};
use super::ledger::Ledger;
use super::read::ReadRequest;
use super::{Core, PullClientEvent, State};
use crate::frame::{
    CloseCode, Detached, Frame, ObjectBegin, ObjectChunk, ObjectEnd, PullState, RefUpdate, Sent,
    Verdict,
};
use crate::limits::MAX_OPEN_STREAMS;

/// Waits for objects, and for the end of the answer.
#[derive(Debug)]
pub(super) struct Receiving {
    answer: PullAnswer,
    ledger: Ledger,
    /// Promised detached metadata: `None` once it has come.
    detached: HashMap<Checksum, Option<Checksum>>,
    /// Commits of the refs that the store accepts.
    accepted: HashSet<Checksum>,
    measured: bool,
    /// Objects of a `Pack` that wait for a read: it may tell that they are justified.
    unjudged: VecDeque<(ObjectId, Bytes)>,
    reading: bool,
    streams: [Option<Incoming>; MAX_OPEN_STREAMS],
    /// Store requests of this state that are not completed.
    pending: usize,
    /// Whether the answer has come whole.
    whole: bool,
}

/// An object that arrives in pieces.
#[derive(Debug)]
struct Incoming {
    id: ObjectId,
    len: u64,
    /// The bytes of a commit or dirtree, which the session must read as a whole.
    bytes: Option<BytesMut>,
}

impl Receiving {
    pub(super) fn begin(
        answer: PullAnswer,
        announcement: &Announcement,
        verdicts: &[Verdict],
        core: &mut Core,
    ) -> Result<State, Error> {
        let held = std::mem::take(&mut core.config.objects);
        let mut ledger = Ledger::new(core.config.limits, answer.basis.clone(), held);
        let (mut detached, mut accepted) = (HashMap::new(), HashSet::new());
        for (update, verdict) in announcement.refs.iter().zip(verdicts) {
            let RefUpdate { commit, .. } = update;
            ledger.promise(*commit, core.config.history)?;
            if update.detached.is_some() {
                detached.insert(*commit, update.detached);
            }
            if *verdict == Verdict::Accepted {
                accepted.insert(*commit);
            }
        }
        let receiving = Self {
            answer,
            ledger,
            detached,
            accepted,
            measured: false,
            unjudged: VecDeque::new(),
            reading: false,
            streams: Default::default(),
            // `Rely`.
            pending: 1,
            whole: false,
        };
        Box::new(receiving).go_on(core)
    }

    /// Returns whether the answer has come whole.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Returns whether the next frame can be judged.
    pub(super) fn wants_input(&self) -> bool {
        !self.whole && !self.reading && self.unjudged.is_empty()
    }

    pub(super) fn handle(
        mut self: Box<Self>,
        frame: Frame,
        core: &mut Core,
    ) -> Result<State, Error> {
        match frame {
            Frame::Extent(extent) => take_extent(&mut self.measured, extent, core)?,
            Frame::Detached(detached) => self.handle_detached(detached, core)?,
            Frame::Pack(pack) => self.unjudged.extend(pack.objects),
            Frame::ObjectBegin(begin) => self.handle_begin(&begin, core)?,
            Frame::ObjectChunk(chunk) => self.handle_chunk(chunk, core)?,
            Frame::ObjectEnd(end) => self.handle_end(&end, core)?,
            Frame::Sent(sent) => self.handle_sent(sent, core)?,
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Announce(_)
            | Frame::RefStatus(_)
            | Frame::Basis(_)
            | Frame::Offer(_)
            | Frame::Want(_)
            | Frame::Staged(_)
            | Frame::Finalize(_)
            | Frame::Missing(_)
            | Frame::Finalized(_)
            | Frame::SummaryDone(_)
            | Frame::Ping(_)
            | Frame::Close(_)
            | Frame::Request(_)
            | Frame::Held(_)
            | Frame::Answer(_) => return unexpected("objects", &frame),
        }
        self.go_on(core)
    }

    pub(super) fn handle_stored(
        mut self: Box<Self>,
        op: &StoreOp,
        outcome: &StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        self.pending -= 1;
        match (op, outcome) {
            (StoreOp::Rely(_), StoreOutcome::Relied)
            | (StoreOp::Begin(..) | StoreOp::Append(..), StoreOutcome::Appended)
            | (StoreOp::Stage(_) | StoreOp::End(_) | StoreOp::Detached(..), StoreOutcome::Staged) => {
                self.go_on(core)
            }
            _ => Err(ApiMisuse::Outcome.into()),
        }
    }

    pub(super) fn handle_read(
        mut self: Box<Self>,
        ids: &[ObjectId],
        read: Vec<Option<Bytes>>,
        core: &mut Core,
    ) -> Result<State, Error> {
        if !std::mem::replace(&mut self.reading, false) {
            return Err(ApiMisuse::Outcome.into());
        }
        for (id, stored) in ids.iter().zip(read) {
            // What is not here after all will be missing, and the driver asks again.
            let Some(stored) = stored else { continue };
            self.ledger
                .learn(*id, &stored)
                .map_err(blame_the_repository)?;
        }
        self.go_on(core)
    }

    fn handle_detached(&mut self, detached: Detached, core: &mut Core) -> Result<(), Violation> {
        let Detached { commit, metadata } = detached;
        // LIM-10.
        let what = "bytes of detached metadata";
        Violation::limit(what, MAX_DETACHED_LEN, metadata.len())?;
        self.ledger.check_bytes(metadata.len() as u64)?;
        // REQ-51.
        match self.detached.insert(commit, None) {
            Some(Some(promised)) if promised == Checksum::of(&metadata) => {}
            Some(Some(_)) => {
                let rule = "detached metadata differs from the promised checksum";
                return Err(Violation::Rule(rule));
            }
            Some(None) => return Err(Violation::Rule("detached metadata came twice")),
            None => {
                return Err(Violation::Rule(
                    "detached metadata came that was not promised",
                ));
            }
        }
        if self.accepted.contains(&commit) {
            self.request(StoreOp::Detached(commit, metadata), core);
        }
        Ok(())
    }

    fn handle_begin(&mut self, begin: &ObjectBegin, core: &mut Core) -> Result<(), Violation> {
        let ObjectBegin { stream, id } = *begin;
        let reads = id.kind.has_children();
        // REQ-53.
        let mut open = self.streams.iter().flatten();
        if reads && open.any(|incoming| incoming.bytes.is_some()) {
            let rule = "two commits or dirtrees came in pieces at once";
            return Err(Violation::Rule(rule));
        }
        if self.slot(stream)?.is_some() {
            return Err(Violation::Rule("a stream was begun twice"));
        }
        self.ledger.begin(id)?;
        *self.slot(stream)? = Some(Incoming {
            id,
            len: 0,
            bytes: reads.then(BytesMut::new),
        });
        if !reads {
            self.request(StoreOp::Begin(stream, id), core);
        }
        Ok(())
    }

    fn handle_chunk(&mut self, chunk: ObjectChunk, core: &mut Core) -> Result<(), Violation> {
        let ObjectChunk { stream, bytes } = chunk;
        let incoming = self.slot(stream)?.as_mut().ok_or(NOT_OPEN)?;
        incoming.len = incoming.len.saturating_add(bytes.len() as u64);
        let object_len = incoming.len;
        let is_read = match &mut incoming.bytes {
            Some(so_far) => {
                // LIM-9.
                let len = so_far.len() + bytes.len();
                Violation::limit("bytes of a metadata object", MAX_METADATA_LEN, len)?;
                so_far.extend_from_slice(&bytes);
                true
            }
            None => false,
        };
        self.ledger.count_bytes(bytes.len(), object_len)?;
        if !is_read {
            self.request(StoreOp::Append(stream, bytes), core);
        }
        Ok(())
    }

    fn handle_end(&mut self, end: &ObjectEnd, core: &mut Core) -> Result<(), Violation> {
        let incoming = self.slot(end.stream)?.take().ok_or(NOT_OPEN)?;
        match incoming.bytes {
            None => self.request(StoreOp::End(end.stream), core),
            Some(stored) => {
                let stored = stored.freeze();
                self.ledger.learn(incoming.id, &stored)?;
                self.request(StoreOp::Stage(vec![(incoming.id, stored)]), core);
            }
        }
        Ok(())
    }

    /// REQ-55: only a whole answer is published.
    fn handle_sent(&mut self, sent: Sent, core: &mut Core) -> Result<(), Violation> {
        if self.streams.iter().any(Option::is_some) {
            return Err(Violation::Rule("Sent came while a stream was open"));
        }
        if sent != self.ledger.received() {
            return Err(Violation::Rule(COUNTED));
        }
        if self.detached.values().any(Option::is_some) {
            return Err(Violation::Rule(
                "Sent came before promised detached metadata",
            ));
        }
        let promised = self
            .answer
            .refs
            .iter()
            .filter_map(|answer| match answer.state {
                PullState::Promised { commit, .. } => Some(commit),
                PullState::UpToDate | PullState::Refused(_) => None,
            });
        self.ledger.check_whole(promised)?;
        self.whole = true;
        core.outputs.close(CloseCode::DONE, "");
        Ok(())
    }

    /// Takes every step that is possible now.
    fn go_on(mut self: Box<Self>, core: &mut Core) -> Result<State, Error> {
        self.judge(core)?;
        if self.ledger.has_unread() && !self.reading {
            self.reading = true;
            core.read(ReadRequest::new(self.ledger.take_unread()));
        }
        if !self.whole || self.pending > 0 {
            return Ok(State::Receiving(self));
        }
        core.outputs
            .push(PullClientEvent::Received(core.backlog.staged()));
        core.request(StoreOp::Publish);
        Ok(State::Publishing(Publishing::new(self.answer)))
    }

    /// Stages the objects that wait, up to the first that must wait for a read.
    fn judge(&mut self, core: &mut Core) -> Result<(), Violation> {
        let mut objects = Vec::new();
        while !self.reading && !self.ledger.has_unread() {
            let Some((id, stored)) = self.unjudged.pop_front() else {
                break;
            };
            self.ledger.receive(id, stored.len())?;
            self.ledger.learn(id, &stored)?;
            objects.push((id, stored));
        }
        if !objects.is_empty() {
            self.request(StoreOp::Stage(objects), core);
        }
        Ok(())
    }

    fn request(&mut self, op: StoreOp, core: &mut Core) {
        self.pending += 1;
        core.request(op);
    }

    fn slot(&mut self, stream: u8) -> Result<&mut Option<Incoming>, Violation> {
        // REQ-22, LIM-8.
        let rule = Violation::Rule("a stream number is not below the limit");
        self.streams.get_mut(usize::from(stream)).ok_or(rule)
    }
}

/// An object that is here already, and bad, is no fault of the server's.
fn blame_the_repository(violation: Violation) -> Error {
    if !matches!(violation, Violation::BadObject { .. }) {
        return violation.into();
    }
    Error::Fault(Fault {
        code: CloseCode::SOURCE_FAILED,
        text: format!("the local repository has a damaged object: {violation}"),
    })
}

const NOT_OPEN: Violation = Violation::Rule("a stream is not open");
