//! A receiver session against whatever a client does.

use std::collections::{BTreeSet, VecDeque};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{
    Announce, Basis, Close, CloseCode, Detached, Extensions, Finalize, Frame, Hello, ObjectBegin,
    ObjectChunk, ObjectEnd, Offer, PREAMBLE, Pack, Ping, PushOptions, RefOutcome,
};
use artifact_protocol::limits::{Limits, MAX_FINALIZE_ROUNDS, MAX_FRAME_LEN_MAX};
use artifact_protocol::session::{
    ApiMisuse, Error, Fault, Lane, Published, ReceiverConfig, ReceiverOutput, ReceiverSession,
    StoreOp, StoreOutcome, StoreRequest,
};
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};

use crate::model::Store;
use crate::props::draw::Draw;
use crate::props::world::{WORLD, draw_announcement, draw_id, draw_part};

/// The claim: the session keeps its rules whatever bytes a client sends after its preamble.
pub fn a_receiver_session_withstands_any_bytes(input: &[u8]) {
    let mut rig = Rig::new(Limits::default(), Store::default());
    rig.flying.extend_from_slice(&PREAMBLE);
    rig.flying.extend_from_slice(input);
    rig.come_to_rest(&mut Draw::new(&[]));
    rig.hang_up(&mut Draw::new(&[]));
}

/// The claim: the session keeps its rules whatever a client does that knows the protocol, and
/// whatever the outcome of the store's work. It answers each offer, takes only the objects it
/// wanted, publishes only complete commits, acknowledges only what is published, and does nothing
/// after an error.
pub fn a_receiver_session_withstands_any_client(input: &[u8]) {
    drive(input);
}

fn drive(input: &[u8]) -> Rig {
    let mut draw = Draw::new(input);
    let limits = match draw.below(4) {
        3 => Limits {
            object_len_max: 500,
            push_objects_max: 6,
            push_len_max: 900,
            ..Limits::default()
        },
        _ => Limits::default(),
    };
    let mut store = Store::new(draw_part(&mut draw));
    for _ in 0..draw.below(2) * draw.below(5) {
        store
            .vanish
            .push_back(vec![draw_id(&mut draw), draw_id(&mut draw)]);
    }
    let mut rig = Rig::new(limits, store);
    let mut client = Client::new(&mut draw, &mut rig);
    while !draw.is_over() && !rig.session.is_finished() {
        client.act(&mut draw, &mut rig);
        if draw.once_in(4) {
            rig.step(&mut draw);
        } else {
            rig.come_to_rest(&mut draw);
        }
    }
    rig.come_to_rest(&mut draw);
    rig.hang_up(&mut draw);
    rig
}

/// A client that mostly does what it should next.
struct Client {
    /// Ids still to offer.
    unoffered: VecDeque<ObjectId>,
    streams: Vec<(u8, Bytes)>,
    /// Commits whose detached metadata it must still send.
    detached: Vec<Checksum>,
}

impl Client {
    /// Greets and announces; sometimes wrongly.
    fn new(draw: &mut Draw<'_>, rig: &mut Rig) -> Self {
        let announcement = draw_announcement(draw);
        let unoffered = WORLD.objects.keys().rev().copied().collect();
        let announced = announcement.refs.iter();
        let detached = announced.filter(|update| update.detached.is_some());
        let client = Self {
            unoffered,
            streams: Vec::new(),
            detached: detached.map(|update| update.commit).collect(),
        };
        rig.flying.extend_from_slice(&PREAMBLE);
        if draw.once_in(30) {
            return client;
        }
        rig.send(&hello());
        rig.send(&Frame::Announce(Announce {
            options: announcement.options,
            refs: announcement.refs,
            bases: announcement.bases,
            more: draw.once_in(30),
            extensions: Extensions::default(),
        }));
        client
    }

    fn act(&mut self, draw: &mut Draw<'_>, rig: &mut Rig) {
        let before = rig.flying.len();
        // It misbehaves now and then.
        let way = if draw.once_in(40) {
            16 + draw.below(4)
        } else {
            draw.below(16)
        };
        match way {
            0..=3 if !self.unoffered.is_empty() => {
                let count = (1 + draw.below(8)).min(self.unoffered.len());
                let ids = self.unoffered.drain(..count).collect();
                rig.send(&Frame::Offer(Offer { ids }));
            }
            0..=8 => self.send_wanted(draw, rig),
            9..=10 => self.send_pieces(draw, rig),
            11..=12 => {
                for commit in self.detached.drain(..) {
                    let metadata = WORLD.detached[&commit].clone();
                    rig.send(&Frame::Detached(Detached { commit, metadata }));
                }
            }
            13..=15 => {
                let is_early = !(self.unoffered.is_empty()
                    && self.detached.is_empty()
                    && rig.asked.is_empty());
                if is_early && !draw.once_in(6) {
                    self.send_wanted(draw, rig);
                } else {
                    rig.send(&Frame::Finalize(Finalize {}));
                }
            }
            16 => {
                let ids = (0..draw.below(5)).map(|_| draw_id(draw)).collect();
                rig.send(&Frame::Offer(Offer { ids }));
            }
            17 => {
                let frame = out_of_place(draw);
                rig.send(&frame);
            }
            18 => rig.fails_next = draw.once_in(3),
            _ => rig.flying.extend_from_slice(draw.bytes(12)),
        }
        if draw.once_in(100) && rig.flying.len() > before {
            let at = before + draw.below(rig.flying.len() - before);
            rig.flying[at] ^= 1 << draw.below(8);
        }
    }

    /// Sends some of the wanted objects, mostly unchanged.
    fn send_wanted(&mut self, draw: &mut Draw<'_>, rig: &mut Rig) {
        let count = 1 + draw.below(6);
        let mut ids: Vec<ObjectId> = rig.asked.iter().copied().take(count).collect();
        rig.asked.retain(|id| !ids.contains(id));
        if draw.once_in(60) {
            ids.push(draw_id(draw));
        }
        let mut objects = Vec::new();
        for id in ids {
            let stored = stored(id, draw);
            match draw.below(4) {
                3 => {
                    let stream = (0..4).find(|n| self.streams.iter().all(|(open, _)| open != n));
                    let stream = stream.unwrap_or(4);
                    rig.send(&Frame::ObjectBegin(ObjectBegin { stream, id }));
                    self.streams.push((stream, stored));
                }
                _ => objects.push((id, stored)),
            }
        }
        if !objects.is_empty() {
            rig.send(&Frame::Pack(Pack { objects }));
        }
    }

    /// Continues an open stream.
    fn send_pieces(&mut self, draw: &mut Draw<'_>, rig: &mut Rig) {
        if self.streams.is_empty() {
            return;
        }
        let at = draw.below(self.streams.len());
        let (stream, rest) = &mut self.streams[at];
        let stream = *stream;
        let bytes = rest.split_to(rest.len().min(1 + draw.below(400)));
        if !bytes.is_empty() {
            rig.send(&Frame::ObjectChunk(ObjectChunk { stream, bytes }));
        }
        if rest.is_empty() || draw.once_in(60) {
            self.streams.remove(at);
            rig.send(&Frame::ObjectEnd(ObjectEnd { stream }));
        }
    }
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        features: Features::SUPPORTED,
        agent: Text::new("a client"),
        extensions: Extensions::default(),
    })
}

/// Draws a frame that may not belong where it comes.
fn out_of_place(draw: &mut Draw<'_>) -> Frame {
    let stream = u8::try_from(draw.below(6)).expect("it is small");
    match draw.below(9) {
        0 => Frame::Ping(Ping {}),
        1 => hello(),
        2 => Frame::Basis(Basis {
            commits: vec![draw_id(draw).checksum],
        }),
        3 => Frame::ObjectChunk(ObjectChunk {
            stream,
            bytes: Bytes::from_static(b"stray"),
        }),
        4 => Frame::ObjectEnd(ObjectEnd { stream }),
        5 => Frame::Detached(Detached {
            commit: draw_id(draw).checksum,
            metadata: Bytes::from_static(b"signature"),
        }),
        6 => Frame::Pack(Pack {
            objects: vec![(draw_id(draw), Bytes::from_static(b"shared"))],
        }),
        7 => Frame::Finalize(Finalize {}),
        _ => Frame::Close(Close {
            code: *draw.pick(&[CloseCode::DONE, CloseCode::SOURCE_FAILED]),
            text: Text::default(),
        }),
    }
}

/// Returns an object's stored bytes, now and then damaged.
fn stored(id: ObjectId, draw: &mut Draw<'_>) -> Bytes {
    let stored = WORLD.objects.get(&id).cloned().unwrap_or_default();
    if draw.once_in(60) {
        return [&stored[..], b"?"].concat().into();
    }
    stored
}

/// A session, its store, and the rules for both.
struct Rig {
    session: ReceiverSession,
    store: Store,
    /// On the way to the session.
    flying: BytesMut,
    arrived: BytesMut,
    requests: VecDeque<StoreRequest>,
    fails_next: bool,
    has_failed: bool,
    /// Whether objects vanish from the store.
    prunes: bool,
    /// Objects that the client was asked for and has not been seen to send.
    asked: BTreeSet<ObjectId>,
    ledger: Ledger,
}

/// What the session has said and requested, as far as the rules depend on it.
#[derive(Default)]
struct Ledger {
    told: BytesMut,
    is_greeted: bool,
    /// Ids of each offer that the store has answered, but not yet the session.
    answered: VecDeque<Vec<ObjectId>>,
    /// Wanted, but not handed to the store.
    wanted: BTreeSet<ObjectId>,
    published: Option<Vec<RefOutcome>>,
    dry_run: bool,
    acknowledged: usize,
    rounds: u32,
    summarized: bool,
    is_closed: bool,
}

impl Rig {
    fn new(limits: Limits, store: Store) -> Self {
        Self {
            prunes: !store.vanish.is_empty(),
            session: ReceiverSession::new(ReceiverConfig {
                limits,
                ..ReceiverConfig::default()
            }),
            store,
            flying: BytesMut::new(),
            arrived: BytesMut::new(),
            requests: VecDeque::new(),
            fails_next: false,
            has_failed: false,
            asked: BTreeSet::new(),
            ledger: Ledger::default(),
        }
    }

    fn send(&mut self, frame: &Frame) {
        self.flying.extend_from_slice(&frame.encode());
    }

    /// Lets one event happen: some bytes arrive, or a request completes.
    fn step(&mut self, draw: &mut Draw<'_>) -> bool {
        if self.has_failed {
            return false;
        }
        let ready = self.ready();
        let reads = self.session.wants_input() && !self.flying.is_empty();
        match (reads, ready.is_empty()) {
            (false, true) => false,
            (true, true) => self.read(draw),
            (true, false) if draw.below(2) == 0 => self.read(draw),
            (_, false) => {
                let index = *draw.pick(&ready);
                self.complete(index);
                true
            }
        }
    }

    /// Lets everything happen. Then the session is over, or waits for its client.
    fn come_to_rest(&mut self, draw: &mut Draw<'_>) {
        while self.step(draw) {}
        let waits = self.session.wants_input() || self.session.is_finished();
        assert!(waits, "the session waits for nobody");
    }

    /// Ends the client's bytes, and lets the session end.
    fn hang_up(&mut self, draw: &mut Draw<'_>) {
        while !self.session.is_finished() {
            let result = self.session.handle_eof();
            self.settle(result);
            self.come_to_rest(draw);
        }
        assert!(self.prunes || self.store.repository.is_whole());
        self.must_only_have_changed_what_was_acknowledged();
        let mut more = BytesMut::from(&PREAMBLE[..]);
        if self.has_failed {
            let misuse = self.session.handle_bytes(&mut more);
            assert!(
                matches!(misuse, Err(Error::Misuse(ApiMisuse::Closed))),
                "{misuse:?}"
            );
            assert!(self.session.poll_output().is_none());
        }
    }

    fn must_only_have_changed_what_was_acknowledged(&self) {
        if self.ledger.published.is_none() {
            assert_eq!(self.store.summaries, 0);
        }
        if self.ledger.acknowledged > 0 && !self.ledger.dry_run {
            let published = self.ledger.published.as_ref();
            assert_eq!(published.map(Vec::len), Some(self.ledger.acknowledged));
        }
    }

    /// Returns the requests that a store may execute now: the first of each lane, and any that may
    /// run in any order.
    fn ready(&self) -> Vec<usize> {
        let mut lanes = Vec::new();
        let mut ready = Vec::new();
        for (index, request) in self.requests.iter().enumerate() {
            let lane = request.lane();
            if lane == Lane::Any || !lanes.contains(&lane) {
                lanes.push(lane);
                ready.push(index);
            }
        }
        ready
    }

    fn read(&mut self, draw: &mut Draw<'_>) -> bool {
        let most = self.flying.len();
        let count = if draw.once_in(3) {
            1 + draw.below(most)
        } else {
            most
        };
        self.arrived.extend_from_slice(&self.flying.split_to(count));
        self.handle_arrived();
        true
    }

    fn handle_arrived(&mut self) {
        let result = self.session.handle_bytes(&mut self.arrived);
        self.settle(result);
    }

    fn complete(&mut self, index: usize) {
        let request = self.requests.remove(index).expect("it is ready");
        let outcome = if std::mem::take(&mut self.fails_next) {
            Err(Fault {
                code: CloseCode::STORAGE_FAILED,
                text: "the disk is gone".to_owned(),
            })
        } else {
            self.store.act(request.op())
        };
        self.ledger.note(request.op(), outcome.as_ref().ok());
        let result = self.session.handle_stored(request.complete(outcome));
        let is_well = result.is_ok();
        self.settle(result);
        if is_well {
            // The bytes that were left while the session was busy.
            self.handle_arrived();
        }
    }

    /// Takes the session's outputs, and the consequences of an error.
    fn settle(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            assert!(!matches!(error, Error::Misuse(_)), "{error:?}");
            assert!(self.session.is_finished() && !self.session.wants_input());
            self.has_failed = true;
            self.requests.clear();
        }
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => self.ledger.hear(&bytes, &mut self.asked),
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Store(request) => {
                    assert!(!self.has_failed, "{request:?} after an error");
                    self.ledger.take(request.op(), &mut self.asked);
                    self.requests.push_back(request);
                }
            }
        }
    }
}

impl Ledger {
    /// Records the outcome of a request before the session learns it.
    fn note(&mut self, op: &StoreOp, outcome: Option<&StoreOutcome>) {
        match (op, outcome) {
            (StoreOp::Have(ids), Some(_)) => self.answered.push_back(ids.clone()),
            (_, Some(StoreOutcome::Published(Published::Done(outcomes)))) => {
                self.published = Some(outcomes.clone());
            }
            (_, Some(StoreOutcome::Summarized(_))) => self.summarized = true,
            _ => {}
        }
    }

    /// Checks a request of the session to the store.
    fn take(&mut self, op: &StoreOp, asked: &mut BTreeSet<ObjectId>) {
        let mut came = |id| assert!(self.wanted.remove(&id), "{id} was not wanted");
        match op {
            StoreOp::Stage(objects) => objects.iter().for_each(|(id, _)| came(*id)),
            StoreOp::Begin(_, id) => came(*id),
            StoreOp::Open(announcement) => {
                self.dry_run = announcement.options.contains(PushOptions::DRY_RUN);
            }
            StoreOp::Unsent(ids) => {
                let unsent: BTreeSet<_> = ids.iter().copied().collect();
                assert_eq!(
                    unsent,
                    std::mem::take(&mut self.wanted),
                    "all that did not come"
                );
            }
            StoreOp::Publish => {
                assert!(self.wanted.is_empty(), "the store knows what did not come");
                assert!(!self.dry_run && self.answered.is_empty());
                asked.clear();
                assert!(self.published.is_none(), "published twice");
            }
            StoreOp::Summarize => assert!(self.published.is_some()),
            StoreOp::Refs(_)
            | StoreOp::Rely(_)
            | StoreOp::Have(_)
            | StoreOp::Append(..)
            | StoreOp::End(_)
            | StoreOp::Detached(..) => {}
        }
    }

    /// Checks what the client is told.
    fn hear(&mut self, bytes: &[u8], asked: &mut BTreeSet<ObjectId>) {
        self.told.extend_from_slice(bytes);
        if !self.is_greeted {
            let preamble = self.told.split_to(PREAMBLE.len());
            assert_eq!(preamble[..], PREAMBLE);
            self.is_greeted = true;
        }
        while let Some(frame) = Frame::decode(&mut self.told, MAX_FRAME_LEN_MAX).expect("a frame") {
            assert!(!self.is_closed, "{frame:?} after Close");
            match frame {
                Frame::Want(want) => {
                    let ids = self.answered.pop_front().expect("an offer for the answer");
                    assert_eq!(ids.len(), want.wanted.len());
                    let wanted = ids
                        .into_iter()
                        .zip(want.wanted)
                        .filter(|(_, wanted)| *wanted);
                    for (id, _) in wanted.filter(|_| !self.dry_run) {
                        assert!(self.wanted.insert(id), "{id} is wanted twice");
                        asked.insert(id);
                    }
                }
                Frame::Missing(missing) => {
                    self.rounds += 1;
                    assert!(self.rounds <= MAX_FINALIZE_ROUNDS && !missing.ids.is_empty());
                    for id in &missing.ids {
                        assert!(self.wanted.insert(*id), "{id} is missing twice");
                    }
                    asked.extend(&missing.ids);
                }
                Frame::Finalized(finalized) => {
                    let from = self.acknowledged;
                    self.acknowledged += finalized.refs.len();
                    let acknowledged = &finalized.refs[..];
                    if self.dry_run {
                        assert!(!acknowledged.contains(&RefOutcome::Updated));
                    } else {
                        let published = self.published.as_ref().expect("published before");
                        assert_eq!(published.get(from..self.acknowledged), Some(acknowledged));
                    }
                }
                Frame::SummaryDone(_) => assert!(
                    self.summarized || self.dry_run || self.published.is_some(),
                    "nothing was published"
                ),
                Frame::Close(_) => self.is_closed = true,
                Frame::Welcome(_) | Frame::RefStatus(_) | Frame::Staged(_) | Frame::Ping(_) => {}
                Frame::Hello(_)
                | Frame::Announce(_)
                | Frame::Basis(_)
                | Frame::Offer(_)
                | Frame::Detached(_)
                | Frame::Pack(_)
                | Frame::ObjectBegin(_)
                | Frame::ObjectChunk(_)
                | Frame::ObjectEnd(_)
                | Frame::Finalize(_)
                | Frame::Request(_)
                | Frame::Held(_)
                | Frame::Answer(_)
                | Frame::Extent(_)
                | Frame::Sent(_) => unreachable!("a server of pushes does not say {frame:?}"),
            }
        }
        assert!(self.told.is_empty(), "a part of a frame");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::props::noise;

    #[test]
    fn a_drawn_client_often_gets_a_push_done() {
        let done = noise().filter(|input| drive(input).ledger.acknowledged > 0);
        let done = done.count();
        assert!(
            done > 20,
            "{done}: the claim would hold of a session that does nothing"
        );
    }
}
