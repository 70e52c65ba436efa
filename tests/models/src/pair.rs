//! Two sessions, two pipes, a source and a store in memory: a whole push without a thread or a
//! clock. A seed decides what happens next, so that every order of completions can occur and every
//! failure can be repeated.

use std::collections::VecDeque;

use artifact_formats::Checksum;
use artifact_protocol::dialect::{AnyReceiver, AnySender, Dialect, Openness};
use artifact_protocol::frame::{Expect, Frame, PushOptions, RefOutcome, RefState, RefUpdate};
use artifact_protocol::session::{
    Announcement, Error, Lane, ReceiverConfig, ReceiverOutput, SenderConfig, SenderEvent,
    SenderOutput, SmallCommit, SourceOp, SourceRequest, StoreRequest,
};
use bytes::{Bytes, BytesMut};

use crate::model::{Repository, Source, Store, children, commit_id};

/// How the bytes of a stream arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// All available bytes.
    Whole,
    /// This many at a time.
    Every(usize),
    /// A random number, up to this many.
    UpTo(usize),
}

/// Conditions of a push that must not affect its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Decides what happens next.
    pub seed: u64,
    /// How bytes arrive, either way.
    pub split: Split,
    /// The connection breaks after this many bytes to the server.
    pub cut_to_receiver: Option<usize>,
    /// The connection breaks after this many bytes to the client.
    pub cut_to_sender: Option<usize>,
    /// Whether the client reads objects only when nothing else can happen.
    pub slow_source: bool,
    /// Whether the client makes an early offer.
    pub early: bool,
    /// The old version that both speak, if any.
    pub dialect: Option<Dialect>,
}

impl Default for Weather {
    fn default() -> Self {
        Self {
            seed: 1,
            split: Split::Whole,
            cut_to_receiver: None,
            cut_to_sender: None,
            slow_source: false,
            early: false,
            dialect: None,
        }
    }
}

/// A push that does not end: a bug of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing can happen, but the push is not over.
    Deadlock,
    /// The push is not over after this many steps.
    Livelock(usize),
}

/// One direction of the connection.
#[derive(Debug, Default)]
struct Pipe {
    /// Sent, but not delivered.
    flying: BytesMut,
    /// Delivered, but not taken by the session.
    arrived: BytesMut,
    delivered: usize,
    cut_at: Option<usize>,
    /// Whether nothing more will be sent.
    closed: bool,
    eof_told: bool,
}

/// Both ends of a push.
#[derive(Debug)]
pub struct Pair {
    /// The sending end.
    pub sender: AnySender,
    /// The receiving end.
    pub receiver: AnyReceiver,
    /// The client's repository.
    pub source: Source,
    /// The server's.
    pub store: Store,
    /// The events of the client.
    pub events: Vec<SenderEvent>,
    /// The reason why the client's end failed.
    pub sender_error: Option<Error>,
    /// The reason why the server's end failed.
    pub receiver_error: Option<Error>,
    /// A line for each event, after [`Pair::traced`].
    pub trace: Option<Vec<String>>,
    to_receiver: Pipe,
    to_sender: Pipe,
    source_requests: Vec<SourceRequest>,
    store_requests: VecDeque<StoreRequest>,
    split: Split,
    slow_source: bool,
    random: u64,
}

/// An event that can happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    ToReceiver,
    ToSender,
    Source(usize),
    Store(usize),
}

impl Pair {
    /// Joins both ends; nothing has happened yet.
    pub fn new(announcement: Announcement, source: Source, store: Store, weather: Weather) -> Self {
        let small = if weather.early {
            small_commits(&announcement, &source.repository)
        } else {
            Vec::new()
        };
        let config = SenderConfig {
            announcement,
            small,
            ..SenderConfig::default()
        };
        let openness = Openness {
            server_first: weather.dialect == Some(Dialect::V0),
            ..Openness::default()
        };
        Self {
            sender: AnySender::new(config, weather.dialect),
            receiver: AnyReceiver::new(ReceiverConfig::default(), openness),
            source,
            store,
            events: Vec::new(),
            sender_error: None,
            receiver_error: None,
            trace: None,
            to_receiver: Pipe {
                cut_at: weather.cut_to_receiver,
                ..Pipe::default()
            },
            to_sender: Pipe {
                cut_at: weather.cut_to_sender,
                ..Pipe::default()
            },
            source_requests: Vec::new(),
            store_requests: VecDeque::new(),
            split: weather.split,
            slow_source: weather.slow_source,
            random: weather.seed,
        }
    }

    /// Keeps a trace from now on.
    #[must_use]
    pub fn traced(self) -> Self {
        Self {
            trace: Some(Vec::new()),
            ..self
        }
    }

    /// Lets one event happen; returns `false` if none can.
    pub fn step(&mut self) -> bool {
        self.pump();
        let steps = self.possible_steps();
        if steps.is_empty() {
            return false;
        }
        let step = steps[self.draw(steps.len())];
        self.act(step);
        true
    }

    /// Lets everything happen.
    pub fn drive(&mut self) -> Result<(), Stuck> {
        self.drive_bounded(1_000_000)
    }

    /// Lets everything happen, in at most `steps` steps.
    pub fn drive_bounded(&mut self, steps: usize) -> Result<(), Stuck> {
        for _ in 0..steps {
            if !self.step() {
                let over = self.sender.is_finished() && self.receiver.is_finished();
                return if over { Ok(()) } else { Err(Stuck::Deadlock) };
            }
        }
        Err(Stuck::Livelock(steps))
    }

    /// Lets everything happen on a link that takes half a round trip each way, for any number of
    /// bytes; everything else takes no time. Returns the round trips until the client was done.
    ///
    /// At most as many bytes travel at once as fit the pipes.
    pub fn count_round_trips(&mut self) -> Result<usize, Stuck> {
        const MOST: usize = 1_000;
        for passed in 0..MOST {
            self.settle(|step| matches!(step, Step::ToSender | Step::Source(_)));
            if self.sender.is_finished() {
                return Ok(passed);
            }
            self.settle(|step| matches!(step, Step::ToReceiver | Step::Store(_)));
        }
        Err(Stuck::Livelock(MOST))
    }

    /// Lets these events happen as long as there are any.
    fn settle(&mut self, may_happen: impl Fn(&Step) -> bool) {
        self.pump();
        while let Some(step) = self.possible_steps().into_iter().find(&may_happen) {
            self.act(step);
        }
    }

    /// Returns the outcomes of the refs, as the client was told.
    pub fn outcomes(&self) -> Option<&[RefOutcome]> {
        self.events.iter().find_map(|event| match event {
            SenderEvent::Finalized(outcomes) => Some(outcomes.as_slice()),
            _ => None,
        })
    }

    /// Returns the states of the refs that the client was told before it sent anything.
    pub fn ref_states(&self) -> Option<&[RefState]> {
        self.events.iter().find_map(|event| match event {
            SenderEvent::RefStatus(states) => Some(states.as_slice()),
            _ => None,
        })
    }

    /// Returns how many objects the client sent.
    pub fn objects_sent(&self) -> u64 {
        let sent = self.events.iter().map(|event| match event {
            SenderEvent::Sent { objects, .. } => *objects,
            _ => 0,
        });
        sent.sum()
    }

    /// Returns how many bytes were delivered, to the server and to the client.
    pub const fn delivered(&self) -> (usize, usize) {
        (self.to_receiver.delivered, self.to_sender.delivered)
    }

    /// Sends the test's own bytes to the server.
    pub fn inject(&mut self, bytes: &[u8]) {
        self.to_receiver.flying.extend_from_slice(bytes);
    }

    /// Drains both sessions, as far as their bytes are accepted.
    fn pump(&mut self) {
        while self.to_receiver.has_room()
            && let Some(output) = self.sender.poll_output()
        {
            match output {
                SenderOutput::Transmit(bytes) => {
                    note_frame(&mut self.trace, "client", &bytes);
                    self.to_receiver.send(&bytes);
                }
                SenderOutput::Source(request) => self.source_requests.push(request),
                SenderOutput::Event(event) => self.events.push(event),
            }
        }
        self.to_receiver.closed |= self.sender.is_finished() && self.to_receiver.has_room();
        while let Some(output) = self.receiver.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => {
                    note_frame(&mut self.trace, "server", &bytes);
                    self.to_sender.send(&bytes);
                }
                ReceiverOutput::Store(request) => self.store_requests.push_back(request),
                ReceiverOutput::Event(_) => {}
            }
        }
        self.to_sender.closed |= self.receiver.is_finished();
        if self.receiver_error.is_some() {
            self.store_requests.clear();
        }
        if self.sender_error.is_some() {
            self.source_requests.clear();
        }
        if self.to_receiver.is_cut() || self.to_sender.is_cut() {
            self.to_receiver.cut();
            self.to_sender.cut();
        }
    }

    fn possible_steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        // If a client does not read, its server stops reading, too.
        let reads = self.receiver.wants_input() && self.to_sender.has_room();
        if self.receiver_error.is_none() && reads && self.to_receiver.has_news() {
            steps.push(Step::ToReceiver);
        }
        if self.sender_error.is_none() && self.to_sender.has_news() {
            steps.push(Step::ToSender);
        }
        for (index, request) in self.source_requests.iter().enumerate() {
            if !self.slow_source || !matches!(request.op(), SourceOp::Fetch(_)) {
                steps.push(Step::Source(index));
            }
        }
        let mut lanes = Vec::new();
        for (index, request) in self.store_requests.iter().enumerate() {
            let lane = request.lane();
            if lane == Lane::Any || !lanes.contains(&lane) {
                lanes.push(lane);
                steps.push(Step::Store(index));
            }
        }
        if steps.is_empty() {
            steps.extend((0..self.source_requests.len()).map(Step::Source));
        }
        steps
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::ToReceiver => self.deliver_to_receiver(),
            Step::ToSender => self.deliver_to_sender(),
            Step::Source(index) => self.complete_source(index),
            Step::Store(index) => self.complete_store(index),
        }
        self.pump();
    }

    fn deliver_to_receiver(&mut self) {
        let count = self.draw_count(self.to_receiver.flying.len());
        self.to_receiver.deliver(count);
        let mut result = self.receiver.handle_bytes(&mut self.to_receiver.arrived);
        if result.is_ok() && self.receiver.wants_input() && self.to_receiver.is_at_end() {
            self.to_receiver.eof_told = true;
            result = self.receiver.handle_eof();
        }
        self.end_receiver(result);
    }

    fn deliver_to_sender(&mut self) {
        let count = self.draw_count(self.to_sender.flying.len());
        self.to_sender.deliver(count);
        let mut result = self.sender.handle_bytes(&mut self.to_sender.arrived);
        if result.is_ok() && self.to_sender.is_at_end() {
            self.to_sender.eof_told = true;
            result = self.sender.handle_eof();
        }
        self.end_sender(result);
    }

    fn complete_source(&mut self, index: usize) {
        let request = self.source_requests.swap_remove(index);
        note(&mut self.trace, || {
            format!("    source: {:?}", request.op())
        });
        let outcome = self.source.act(request.op());
        let result = self.sender.handle_source(request.complete(outcome));
        self.end_sender(result);
    }

    fn complete_store(&mut self, index: usize) {
        let Some(request) = self.store_requests.remove(index) else {
            return;
        };
        note(&mut self.trace, || format!("    store: {:?}", request.op()));
        let outcome = self.store.act(request.op());
        let mut result = self.receiver.handle_stored(request.complete(outcome));
        if result.is_ok() {
            // The bytes that were left while the session was busy.
            result = self.receiver.handle_bytes(&mut self.to_receiver.arrived);
        }
        self.end_receiver(result);
    }

    fn end_sender(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            note(&mut self.trace, || format!("client ends: {error}"));
            self.sender_error = Some(error);
        }
    }

    fn end_receiver(&mut self, result: Result<(), Error>) {
        if let Err(error) = result {
            note(&mut self.trace, || format!("server ends: {error}"));
            self.receiver_error = Some(error);
        }
    }

    fn draw_count(&mut self, flying: usize) -> usize {
        match self.split {
            Split::Whole => flying,
            Split::Every(count) => count.min(flying),
            Split::UpTo(count) => (1 + self.draw(count)).min(flying),
        }
    }

    /// Draws a number below `end` (splitmix64).
    fn draw(&mut self, end: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = (z ^ (z >> 31)) % end.max(1) as u64;
        usize::try_from(drawn).expect("it is below a usize")
    }
}

impl Pipe {
    /// Bytes on the way above which an end stops: a socket's buffer.
    const ROOM: usize = 256 * 1024;

    fn send(&mut self, bytes: &Bytes) {
        if !self.closed {
            self.flying.extend_from_slice(bytes);
        }
    }

    fn has_room(&self) -> bool {
        self.flying.len() < Self::ROOM
    }

    fn deliver(&mut self, count: usize) {
        let room = self.cut_at.map_or(count, |at| at - self.delivered);
        let count = count.min(room);
        self.delivered += count;
        self.arrived.extend_from_slice(&self.flying.split_to(count));
    }

    fn has_news(&self) -> bool {
        !self.eof_told && (self.closed || !self.flying.is_empty())
    }

    fn is_at_end(&self) -> bool {
        self.closed && self.flying.is_empty() && !self.eof_told
    }

    fn is_cut(&self) -> bool {
        self.cut_at == Some(self.delivered)
    }

    fn cut(&mut self) {
        self.flying.clear();
        self.closed = true;
    }
}

fn note(trace: &mut Option<Vec<String>>, line: impl FnOnce() -> String) {
    if let Some(lines) = trace {
        lines.push(line());
    }
}

fn note_frame(trace: &mut Option<Vec<String>>, end: &str, bytes: &Bytes) {
    let mut input = BytesMut::from(&bytes[..]);
    if let Ok(Some(frame)) = Frame::decode(&mut input, u32::MAX) {
        note(trace, || format!("{end}: {frame:?}"));
    }
}

/// Returns the closures of the announced commits, for an early offer.
pub fn small_commits(announcement: &Announcement, repository: &Repository) -> Vec<SmallCommit> {
    let mut small: Vec<SmallCommit> = Vec::new();
    for RefUpdate { commit, .. } in &announcement.refs {
        if small.iter().all(|known| known.commit != *commit) {
            let mut closure = vec![commit_id(*commit)];
            let mut expanded = 0;
            while let Some(id) = closure.get(expanded).copied() {
                expanded += 1;
                for child in children(id, &repository.objects[&id]) {
                    if !closure.contains(&child) {
                        closure.push(child);
                    }
                }
            }
            small.push(SmallCommit {
                commit: *commit,
                closure,
            });
        }
    }
    small
}

/// Announces every ref of a repository, whatever the server holds.
pub fn announce_all(repository: &Repository, options: PushOptions) -> Announcement {
    let refs = repository.refs.iter().map(|(name, commit)| RefUpdate {
        name: name.clone(),
        commit: *commit,
        detached: repository.detached.get(commit).map(|m| Checksum::of(m)),
        expect: Expect::Any,
    });
    Announcement {
        options,
        refs: refs.collect(),
        bases: Vec::new(),
        history: 0,
    }
}
