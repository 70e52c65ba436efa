//! Pulls: every frame in every state, hostile answers and requests, limits at N and at N + 1, and
//! the choice between a push and a pull.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

mod common;

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind};
use artifact_protocol::dialect::{AnyReceiver, Openness};
use artifact_protocol::frame::{
    Announce, Answer, Base, Basis, CloseCode, Detached, Expect, Extensions, Extent, Finalize,
    Finalized, Frame, Held, Hello, Missing, ObjectBegin, ObjectChunk, ObjectEnd, Offer, PREAMBLE,
    Pack, Ping, Prefix, PullOptions, PullState, PushOptions, RefAnswer, RefOutcome, RefRequest,
    RefState, RefStatus, Refusal, RefusalCode, Request, Sent, Staged, SummaryDone, Verdict, Want,
    Welcome,
};
use artifact_protocol::limits::{Limits, MAX_BASES, MAX_HELD, MAX_PATTERNS, MAX_REFS};
use artifact_protocol::session::pull::{
    AnswerOp, AnswerOutcome, AnswerRequest, PullAnswer, PullClient, PullClientConfig,
    PullClientEvent, PullClientOutput, PullServer, PullServerOutput, ReadRequest, WantedRef,
};
use artifact_protocol::session::{
    ApiMisuse, Error, Fetched, Opened, Published, ReceiverConfig, ReceiverOutput, StoreOp,
    StoreOutcome, StoreRequest,
};
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};

use self::common::{close, frames, name, table};

const METADATA: &[u8] = b"detached";

/// A commit whose root has a file and a directory, and its parent, which shares its tree.
struct World {
    parent: (ObjectId, Bytes),
    commit: (ObjectId, Bytes),
    root: (ObjectId, Bytes),
    below: (ObjectId, Bytes),
    meta: (ObjectId, Bytes),
    file: (ObjectId, Bytes),
}

fn object(kind: ObjectKind, stored: Vec<u8>) -> (ObjectId, Bytes) {
    let stored = Bytes::from(stored);
    (ObjectId::new(kind, Checksum::of(&stored)), stored)
}

fn world() -> World {
    let file = object(ObjectKind::File, b"a file".to_vec());
    let meta = object(ObjectKind::Dirmeta, b"a dirmeta".to_vec());
    let files = [("f", file.0.checksum)];
    let below = object(ObjectKind::Dirtree, Dirtree::serialize(files, []));
    let dirs = [("d", below.0.checksum, meta.0.checksum)];
    let root = object(ObjectKind::Dirtree, Dirtree::serialize([], dirs));
    let commit = |parent| {
        let commit = Commit {
            parent,
            ..Commit::new(root.0.checksum, meta.0.checksum)
        };
        object(ObjectKind::Commit, commit.serialize())
    };
    let parent = commit(None);
    World {
        commit: commit(Some(parent.0.checksum)),
        parent,
        root,
        below,
        meta,
        file,
    }
}

impl World {
    /// All that the commit reaches, parents before children.
    fn objects(self) -> Vec<(ObjectId, Bytes)> {
        vec![self.commit, self.root, self.meta, self.below, self.file]
    }
}

fn commit() -> Checksum {
    world().commit.0.checksum
}

fn hello(features: Features) -> Frame {
    Frame::Hello(Hello {
        version_min: Version(2),
        version_max: Version(2),
        features,
        agent: Text::default(),
        extensions: Extensions::default(),
    })
}

fn welcome(features: Features) -> Frame {
    Frame::Welcome(Welcome {
        version: Version(2),
        features,
        limits: Limits::default(),
        agent: Text::default(),
        pull_url: None,
        identity: None,
        extensions: Extensions::default(),
    })
}

fn request() -> Request {
    Request {
        options: PullOptions::default(),
        history: 0,
        refs: vec![RefRequest {
            name: "main".parse().unwrap(),
            current: None,
            detached: None,
        }],
        patterns: Vec::new(),
        held: Vec::new(),
        more: false,
        extensions: Extensions::default(),
    }
}

fn held(more: bool, count: usize) -> Frame {
    let objects = vec![Prefix::new([1; 8]); count];
    Frame::Held(Held { more, objects })
}

fn promised() -> PullState {
    PullState::Promised {
        commit: commit(),
        detached: Some(Checksum::of(METADATA)),
    }
}

fn absent() -> PullState {
    PullState::Refused(Refusal::new(RefusalCode::ABSENT, "there is no such ref"))
}

fn answer(refs: &[(&str, PullState)]) -> Answer {
    let refs = refs.iter().map(|(name, state)| RefAnswer {
        name: name.parse().unwrap(),
        state: state.clone(),
    });
    Answer {
        refs: refs.collect(),
        basis: Vec::new(),
        more: false,
    }
}

fn detached(metadata: &'static [u8]) -> Frame {
    Frame::Detached(Detached {
        commit: commit(),
        metadata: Bytes::from_static(metadata),
    })
}

fn pack(objects: Vec<(ObjectId, Bytes)>) -> Frame {
    Frame::Pack(Pack { objects })
}

fn sent(objects: &[(ObjectId, Bytes)]) -> Frame {
    let lens = objects.iter().map(|(_, stored)| stored.len() as u64);
    let (objects, bytes) = (objects.len() as u64, lens.sum());
    Frame::Sent(Sent { objects, bytes })
}

fn begin(stream: u8, id: ObjectId) -> Frame {
    Frame::ObjectBegin(ObjectBegin { stream, id })
}

fn chunk(stream: u8, bytes: Bytes) -> Frame {
    Frame::ObjectChunk(ObjectChunk { stream, bytes })
}

fn end(stream: u8) -> Frame {
    Frame::ObjectEnd(ObjectEnd { stream })
}

/// One frame of each kind, valid wherever its kind is allowed.
fn every_frame() -> Vec<Frame> {
    let state = RefState {
        current: None,
        verdict: Verdict::Accepted,
    };
    let file = world().file.0;
    vec![
        hello(Features::PULL),
        welcome(Features::PULL),
        Frame::Announce(Announce {
            options: PushOptions(0),
            refs: Vec::new(),
            bases: Vec::new(),
            more: false,
            extensions: Extensions::default(),
        }),
        Frame::RefStatus(RefStatus {
            refs: vec![state],
            complete: Vec::new(),
        }),
        Frame::Basis(Basis {
            commits: vec![commit()],
        }),
        Frame::Offer(Offer { ids: vec![file] }),
        Frame::Want(Want { wanted: vec![true] }),
        detached(METADATA),
        pack(vec![world().commit]),
        begin(1, world().commit.0),
        chunk(0, Bytes::from_static(b"a file")),
        end(0),
        Frame::Staged(Staged {
            objects: 1,
            bytes: 1,
        }),
        Frame::Finalize(Finalize {}),
        Frame::Missing(Missing { ids: vec![file] }),
        Frame::Finalized(Finalized {
            refs: vec![RefOutcome::Updated],
        }),
        Frame::SummaryDone(SummaryDone::Current),
        Frame::Ping(Ping {}),
        close(CloseCode::DONE),
        Frame::Request(request()),
        held(false, 1),
        Frame::Answer(answer(&[("main", promised())])),
        Frame::Extent(Extent::default()),
        Frame::Sent(Sent::default()),
    ]
}

fn codes(sent: &[Frame]) -> Vec<CloseCode> {
    let code = |frame: &Frame| match frame {
        Frame::Close(close) => Some(close.code),
        _ => None,
    };
    sent.iter().filter_map(code).collect()
}

// The client.

struct Client {
    session: PullClient,
    sent: Vec<Frame>,
    stores: Vec<StoreRequest>,
    reads: Vec<ReadRequest>,
    events: Vec<PullClientEvent>,
    ops: Vec<String>,
}

fn wanted(name: &str) -> WantedRef {
    WantedRef {
        name: name.parse().unwrap(),
        current: None,
        detached: None,
        expect: Expect::Any,
    }
}

fn config() -> PullClientConfig {
    PullClientConfig {
        refs: vec![wanted("main")],
        ..PullClientConfig::default()
    }
}

impl Client {
    fn expect_welcome() -> Self {
        Self::with(config())
    }

    fn with(config: PullClientConfig) -> Self {
        let mut client = Self {
            session: PullClient::new(config),
            sent: Vec::new(),
            stores: Vec::new(),
            reads: Vec::new(),
            events: Vec::new(),
            ops: Vec::new(),
        };
        let mut preamble = BytesMut::from(&PREAMBLE[..]);
        client.session.handle_bytes(&mut preamble).unwrap();
        client.drain();
        client
    }

    fn expect_answer() -> Self {
        Self::expect_welcome().after(welcome(Features::PULL))
    }

    fn opening() -> Self {
        Self::expect_answer().after(Frame::Answer(answer(&[("main", promised())])))
    }

    fn receiving() -> Self {
        Self::opening().answered()
    }

    /// All that the commit reaches has come, but not its file, which is open as stream 0.
    fn receiving_the_last() -> Self {
        let mut objects = world().objects();
        let (file, _) = objects.pop().unwrap();
        Self::receiving().after(pack(objects)).after(begin(0, file))
    }

    fn expect_sent() -> Self {
        Self::expect_answer().after(Frame::Answer(answer(&[("main", absent())])))
    }

    fn dry_run() -> Self {
        let config = PullClientConfig {
            options: PullOptions::DRY_RUN,
            ..config()
        };
        let answer = Frame::Answer(answer(&[("main", promised())]));
        Self::with(config)
            .after(welcome(Features::PULL))
            .after(answer)
    }

    fn whole() -> Self {
        let objects = world().objects();
        let whole = Self::receiving().after(detached(METADATA));
        whole.after(pack(objects.clone())).after(sent(&objects))
    }

    fn publishing() -> Self {
        Self::whole().answered()
    }

    fn finished() -> Self {
        Self::publishing().answered()
    }

    fn after(mut self, frame: Frame) -> Self {
        self.handle(frame).unwrap();
        self
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Error> {
        let mut bytes = BytesMut::from(&frame.encode()[..]);
        let result = self.session.handle_bytes(&mut bytes);
        assert!(result.is_err() || bytes.is_empty(), "the frame is taken");
        self.drain();
        result
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                PullClientOutput::Transmit(bytes) => self.sent.extend(frames(&bytes)),
                PullClientOutput::Store(request) => {
                    let op = format!("{:?}", request.op());
                    self.ops.push(op.split('(').next().unwrap().to_owned());
                    self.stores.push(request);
                }
                PullClientOutput::Read(request) => self.reads.push(request),
                PullClientOutput::Event(event) => self.events.push(event),
            }
        }
    }

    /// Completes all requests as a willing store does.
    fn answered(mut self) -> Self {
        for request in std::mem::take(&mut self.stores) {
            let outcome = match request.op() {
                StoreOp::Open(announcement) => StoreOutcome::Opened(Opened {
                    refs: vec![
                        RefState {
                            current: None,
                            verdict: Verdict::Accepted,
                        };
                        announcement.refs.len()
                    ],
                    complete: Vec::new(),
                }),
                StoreOp::Rely(_) => StoreOutcome::Relied,
                StoreOp::Begin(..) | StoreOp::Append(..) => StoreOutcome::Appended,
                StoreOp::Stage(_) | StoreOp::End(_) | StoreOp::Detached(..) => StoreOutcome::Staged,
                StoreOp::Publish => {
                    StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated]))
                }
                op => unreachable!("a pull does not ask {op:?}"),
            };
            let done = request.complete(Ok(outcome));
            self.session.handle_stored(done).unwrap();
        }
        self.drain();
        self
    }

    fn refuses(mut self, frame: Frame, code: CloseCode) {
        assert!(
            matches!(self.handle(frame.clone()), Err(Error::Violation(_))),
            "{frame:?}"
        );
        assert_eq!(codes(&self.sent), [code], "{frame:?}");
        self.stays_closed();
    }

    fn stays_closed(mut self) {
        let closed = |result| matches!(result, Err(Error::Misuse(ApiMisuse::Closed)));
        assert!(self.session.is_finished() && !self.session.wants_input());
        assert!(closed(self.session.handle_bytes(&mut BytesMut::new())));
        assert!(closed(self.session.handle_eof()));
        for request in std::mem::take(&mut self.stores) {
            let done = request.complete(Ok(StoreOutcome::Staged));
            assert!(closed(self.session.handle_stored(done)));
        }
        self.session.ping();
        assert!(closed(Err(self.session.abort(CloseCode::TIMEOUT, "again"))));
        assert!(
            self.session.poll_output().is_none(),
            "nothing follows a Close"
        );
        assert!(!self.ops.contains(&"Publish".to_owned()), "{:?}", self.ops);
    }
}

#[test]
fn a_client_takes_in_each_state_what_is_listed_and_refuses_the_rest() {
    let table =
        |make: fn() -> Client| table(every_frame(), make, |client, frame| client.handle(frame));
    assert_eq!(table(Client::expect_welcome), "Welcome / Close");
    assert_eq!(table(Client::expect_answer), "Ping Answer / Close");
    let receiving = "Detached Pack ObjectBegin Ping Extent / Close";
    assert_eq!(table(Client::receiving), receiving);
    let last = "Detached ObjectChunk ObjectEnd Ping Extent / Close";
    assert_eq!(table(Client::receiving_the_last), last);
    assert_eq!(table(Client::expect_sent), "Ping Extent Sent / Close");
    let measured = || Client::dry_run().after(Frame::Extent(Extent::default()));
    assert_eq!(table(measured), "Ping Sent / Close");
}

#[test]
fn a_client_reads_nothing_while_its_store_decides_or_after_the_answer() {
    for make in [
        Client::opening,
        Client::whole,
        Client::publishing,
        Client::finished,
    ] {
        for frame in every_frame() {
            let mut state = make();
            assert!(!state.session.wants_input());
            let mut bytes = BytesMut::from(&frame.encode()[..]);
            state.session.handle_bytes(&mut bytes).unwrap();
            assert_eq!(bytes, frame.encode(), "left for later");
        }
    }
}

#[test]
fn a_whole_answer_is_published_and_one_that_breaks_off_is_not() {
    // REQ-57.
    let finished = Client::finished();
    assert!(finished.session.is_finished());
    assert_eq!(codes(&finished.sent), [CloseCode::DONE]);
    let main = "main".parse().unwrap();
    let published = PullClientEvent::Published(vec![(main, RefOutcome::Updated)]);
    assert_eq!(finished.events.last(), Some(&published));
    for make in [
        Client::expect_welcome,
        Client::expect_answer,
        Client::opening,
        Client::receiving,
        Client::receiving_the_last,
        Client::expect_sent,
        Client::dry_run,
    ] {
        let mut state = make();
        let ended = state.session.handle_eof();
        assert!(matches!(ended, Err(Error::Truncated)));
        state.drain();
        state.stays_closed();
    }
    for make in [Client::whole, Client::publishing, Client::finished] {
        make().session.handle_eof().unwrap();
    }
}

#[test]
fn an_answer_that_ends_too_soon_or_counts_otherwise_is_no_answer() {
    // REQ-57, REQ-51.
    let violation = CloseCode::VIOLATION;
    let objects = world().objects();
    let came = |count: usize| Client::receiving().after(pack(objects[..count].to_vec()));
    let whole = || came(5).after(detached(METADATA));
    came(5).refuses(sent(&objects), violation);
    for missing in 1..5 {
        let state = came(5 - missing).after(detached(METADATA));
        state.refuses(sent(&objects[..5 - missing]), violation);
    }
    Client::receiving().refuses(Frame::Sent(Sent::default()), violation);
    whole().refuses(sent(&objects[1..]), violation);
    whole().refuses(Frame::Sent(Sent::default()), violation);
    let open = Client::receiving_the_last().after(detached(METADATA));
    open.after(chunk(0, objects[4].1.clone()))
        .refuses(sent(&objects), violation);
    Client::expect_sent().refuses(sent(&objects), violation);
    // REQ-56.
    Client::dry_run().refuses(Frame::Sent(Sent::default()), violation);
    let extent = || Frame::Extent(Extent::default());
    Client::receiving()
        .after(extent())
        .refuses(extent(), violation);
}

#[test]
fn only_objects_that_a_promise_or_a_verified_parent_names_are_taken_and_once() {
    // REQ-52.
    let violation = CloseCode::VIOLATION;
    let world = world();
    let objects = self::world().objects();
    for (_, object) in objects.iter().enumerate().skip(1) {
        Client::receiving().refuses(pack(vec![object.clone()]), violation);
        Client::receiving().refuses(begin(0, object.0), violation);
    }
    Client::receiving().refuses(pack(vec![world.parent.clone()]), violation);
    let after_commit = || Client::receiving().after(pack(vec![world.commit.clone()]));
    after_commit().refuses(pack(vec![world.commit.clone()]), violation);
    after_commit().refuses(pack(vec![world.below.clone()]), violation);
    after_commit().refuses(pack(vec![world.parent.clone()]), violation);
    // A parent counts for as many generations as were requested.
    let config = PullClientConfig {
        history: 1,
        ..config()
    };
    let state = Client::with(config).after(welcome(Features::PULL));
    let state = state
        .after(Frame::Answer(answer(&[("main", promised())])))
        .answered();
    let state = state.after(pack(vec![world.commit.clone(), world.parent.clone()]));
    state.refuses(pack(vec![world.parent.clone()]), violation);
    // Metadata under the name of other metadata names nothing.
    let swapped = vec![(world.commit.0, world.parent.1.clone())];
    Client::receiving().refuses(pack(swapped), CloseCode::OBJECT_REFUSED);
    let no_tree = (
        ObjectId::new(ObjectKind::Dirtree, world.meta.0.checksum),
        world.meta.1,
    );
    let lying = object(ObjectKind::Commit, b"no commit".to_vec());
    let promise = PullState::Promised {
        commit: lying.0.checksum,
        detached: None,
    };
    let state = Client::expect_answer().after(Frame::Answer(answer(&[("main", promise)])));
    state
        .answered()
        .refuses(pack(vec![lying]), CloseCode::OBJECT_REFUSED);
    Client::receiving().refuses(pack(vec![no_tree]), violation);
}

#[test]
fn a_dirtree_in_pieces_names_its_children_once_it_is_whole() {
    // REQ-53.
    let world = world();
    let state = || Client::receiving().after(pack(vec![world.commit.clone()]));
    let (first, second) = world.root.1.split_at(7);
    let first = Bytes::copy_from_slice(first);
    let second = Bytes::copy_from_slice(second);
    let open = || {
        state()
            .after(begin(3, world.root.0))
            .after(chunk(3, first.clone()))
    };
    let mut staged = open().after(chunk(3, second.clone())).after(end(3));
    let ops: Vec<_> = staged.stores.iter().map(StoreRequest::op).collect();
    let stage = StoreOp::Stage(vec![world.root.clone()]);
    assert!(ops.contains(&&stage), "{ops:?}");
    staged.handle(pack(vec![world.below.clone()])).unwrap();
    open().refuses(pack(vec![world.below.clone()]), CloseCode::VIOLATION);
    open().refuses(begin(3, world.meta.0), CloseCode::VIOLATION);
    open().refuses(end(2), CloseCode::VIOLATION);
    open().refuses(begin(4, world.meta.0), CloseCode::VIOLATION);
    open().refuses(end(3), CloseCode::OBJECT_REFUSED);
    let config = PullClientConfig {
        history: 1,
        ..config()
    };
    let state = Client::with(config).after(welcome(Features::PULL));
    let state = state
        .after(Frame::Answer(answer(&[("main", promised())])))
        .answered();
    let state = state.after(pack(vec![world.commit.clone()]));
    let state = state.after(begin(0, world.parent.0));
    state.refuses(begin(1, world.root.0), CloseCode::VIOLATION);
}

#[test]
fn detached_metadata_is_taken_as_promised_and_once() {
    // REQ-51.
    let violation = CloseCode::VIOLATION;
    Client::receiving().refuses(detached(b"other"), violation);
    Client::receiving()
        .after(detached(METADATA))
        .refuses(detached(METADATA), violation);
    let of_another = Frame::Detached(Detached {
        commit: world().parent.0.checksum,
        metadata: Bytes::from_static(METADATA),
    });
    Client::receiving().refuses(of_another, violation);
}

#[test]
fn an_answer_says_one_thing_of_each_wanted_ref_and_nothing_of_others() {
    // REQ-50.
    let violation = CloseCode::VIOLATION;
    let frame = |refs: &[(&str, PullState)]| Frame::Answer(answer(refs));
    let refuses = |answer| Client::expect_answer().refuses(answer, violation);
    refuses(frame(&[]));
    refuses(frame(&[("other", promised())]));
    refuses(frame(&[("main", promised()), ("other", absent())]));
    refuses(frame(&[("main", promised()), ("main", promised())]));
    refuses(frame(&[("main", PullState::UpToDate)]));
    let on = Answer {
        more: true,
        ..answer(&[])
    };
    refuses(Frame::Answer(on));
    let basis = Answer {
        basis: vec![commit()],
        ..answer(&[("main", promised())])
    };
    refuses(Frame::Answer(basis.clone()));
    let two = || {
        let config = PullClientConfig {
            patterns: vec!["p/**".parse().unwrap()],
            held: vec![Base {
                name: "main".parse().unwrap(),
                commit: commit(),
            }],
            ..config()
        };
        Client::with(config).after(welcome(Features::PULL))
    };
    let _ = two().after(Frame::Answer(basis.clone()));
    let _ = two().after(frame(&[("p/matched", promised()), ("main", absent())]));
    let unsigned = PullState::Promised {
        commit: commit(),
        detached: None,
    };
    two().refuses(
        frame(&[("p/matched", unsigned), ("main", promised())]),
        violation,
    );
    two().refuses(
        frame(&[("p/matched", PullState::UpToDate), ("main", absent())]),
        violation,
    );
    let first = Answer {
        more: true,
        ..answer(&[("p/matched", absent())])
    };
    two()
        .after(Frame::Answer(first))
        .refuses(Frame::Answer(basis), violation);
}

#[test]
fn a_client_keeps_limits_of_its_own_at_n_and_refuses_n_plus_one() {
    // REQ-55.
    let objects = world().objects();
    let bytes: u64 = objects.iter().map(|(_, stored)| stored.len() as u64).sum();
    let longest = objects
        .iter()
        .map(|(_, stored)| stored.len() as u64)
        .max()
        .unwrap();
    let limits = |objects, object_len, len| Limits {
        push_objects_max: objects,
        object_len_max: object_len,
        push_len_max: len,
        ..Limits::default()
    };
    for (limits, fits) in [
        (limits(5, longest, bytes), true),
        (limits(4, longest, bytes), false),
        (limits(5, longest - 1, bytes), false),
        (limits(5, longest, bytes - 1), false),
    ] {
        let config = PullClientConfig { limits, ..config() };
        let state = Client::with(config).after(welcome(Features::PULL));
        let state = state
            .after(Frame::Answer(answer(&[("main", promised())])))
            .answered();
        if fits {
            let _ = state.after(pack(objects.clone()));
        } else {
            state.refuses(pack(objects.clone()), CloseCode::LIMIT);
        }
    }
    let refs: Vec<_> = (0..=MAX_REFS)
        .map(|n| (format!("p/{n}-"), absent()))
        .collect();
    for count in [MAX_REFS, MAX_REFS + 1] {
        let refs: Vec<_> = refs[..count]
            .iter()
            .map(|(n, s)| (n.as_str(), s.clone()))
            .collect();
        let config = PullClientConfig {
            patterns: vec!["p/*".parse().unwrap()],
            ..PullClientConfig::default()
        };
        let state = Client::with(config).after(welcome(Features::PULL));
        let answer = Frame::Answer(answer(&refs));
        if count == MAX_REFS {
            let _ = state.after(answer);
        } else {
            state.refuses(answer, CloseCode::LIMIT);
        }
    }
}

#[test]
fn what_the_client_holds_is_read_before_the_next_object_is_judged() {
    let world = world();
    let config = PullClientConfig {
        objects: vec![Prefix::of(&world.root.0.checksum)],
        ..config()
    };
    let receiving = || {
        let state = Client::with(config.clone()).after(welcome(Features::PULL));
        state
            .after(Frame::Answer(answer(&[("main", promised())])))
            .answered()
    };
    let objects = vec![
        world.commit.clone(),
        world.meta.clone(),
        world.below.clone(),
    ];
    for (there, is_taken) in [(true, true), (false, false)] {
        let mut state = receiving().after(pack(objects.clone()));
        assert!(
            !state.session.wants_input(),
            "it must know what the root names"
        );
        let read = state.reads.pop().unwrap();
        assert_eq!(read.ids(), [world.root.0]);
        let stored = there.then(|| world.root.1.clone());
        let result = state.session.handle_read(read.complete(Ok(vec![stored])));
        assert_eq!(result.is_ok(), is_taken, "{result:?}");
        assert_eq!(state.session.wants_input(), is_taken);
    }
    // A damaged object is the client's own fault.
    let mut state = receiving().after(pack(objects));
    let read = state.reads.pop().unwrap();
    let result = state
        .session
        .handle_read(read.complete(Ok(vec![Some(world.meta.1)])));
    assert!(matches!(result, Err(Error::Fault(fault)) if fault.code == CloseCode::SOURCE_FAILED));
}

#[test]
fn objects_that_are_missing_after_all_are_told_and_nothing_is_published() {
    let mut state = Client::publishing();
    let publish = state.stores.pop().unwrap();
    let missing = Published::Missing(vec![world().file.0]);
    let done = publish.complete(Ok(StoreOutcome::Published(missing)));
    let result = state.session.handle_stored(done);
    assert!(matches!(result, Err(Error::Fault(fault)) if fault.code == CloseCode::INCOMPLETE));
    state.drain();
    assert_eq!(state.events.last(), Some(&PullClientEvent::Missing(1)));
}

#[test]
fn a_server_that_serves_no_pulls_is_told_apart_from_a_failure() {
    // REQ-47.
    let mut state = Client::expect_welcome();
    let result = state.handle(welcome(Features::default()));
    assert!(matches!(result, Err(Error::NotServed)));
    assert_eq!(codes(&state.sent), [CloseCode::DONE]);
    state.stays_closed();
}

#[test]
fn a_request_of_any_size_is_sent_in_frames_that_any_server_reads() {
    let names = (0..2_000).map(|number| wanted(&format!("{}/{number}-", "x".repeat(150))));
    let config = PullClientConfig {
        refs: names.collect(),
        patterns: vec!["p/**".parse().unwrap(); MAX_PATTERNS],
        held: vec![
            Base {
                name: "main".parse().unwrap(),
                commit: commit(),
            };
            MAX_BASES
        ],
        objects: vec![Prefix::new([7; 8]); 20_000],
        ..config()
    };
    let sent = Client::with(config).sent;
    let (mut refs, mut objects) = (0, 0);
    for frame in &sent {
        assert!(frame.encode().len() <= 8 + 64 * 1024);
        match frame {
            Frame::Request(request) => {
                assert!(request.more, "a Held follows");
                refs += request.refs.len();
            }
            Frame::Held(held) => objects += held.objects.len(),
            _ => assert!(matches!(frame, Frame::Hello(_))),
        }
    }
    assert_eq!((refs, objects), (2_000, 20_000));
    assert!(matches!(
        sent.last(),
        Some(Frame::Held(Held { more: false, .. }))
    ));
    // The server takes it as one request.
    let mut server = Server::expect_hello();
    for frame in sent {
        server.handle(frame).unwrap();
    }
    let AnswerOp::Judge(request) = server.requests[0].op() else {
        unreachable!()
    };
    assert_eq!((request.refs.len(), request.objects.len()), (2_000, 20_000));
}

// The server.

struct Server {
    session: PullServer,
    sent: Vec<Frame>,
    requests: Vec<AnswerRequest>,
}

impl Server {
    fn expect_hello() -> Self {
        let mut session = PullServer::new(ReceiverConfig::default());
        let mut preamble = BytesMut::from(&PREAMBLE[..]);
        session.handle_bytes(&mut preamble).unwrap();
        Self {
            session,
            sent: Vec::new(),
            requests: Vec::new(),
        }
    }

    fn expect_request() -> Self {
        Self::expect_hello().after(hello(Features::PULL))
    }

    fn judging() -> Self {
        Self::expect_request().after(Frame::Request(request()))
    }

    fn answering() -> Self {
        Self::judging().answered(&[("main", promised())])
    }

    fn dry_run() -> Self {
        let request = Request {
            options: PullOptions::DRY_RUN,
            ..request()
        };
        let state = Self::expect_request().after(Frame::Request(request));
        state.answered(&[("main", promised())])
    }

    fn after(mut self, frame: Frame) -> Self {
        self.handle(frame).unwrap();
        self
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Error> {
        let mut bytes = BytesMut::from(&frame.encode()[..]);
        let result = self.session.handle_bytes(&mut bytes);
        self.drain();
        result
    }

    fn answered(self, refs: &[(&str, PullState)]) -> Self {
        let Answer { refs, basis, .. } = answer(refs);
        self.judged(PullAnswer { refs, basis }).0
    }

    fn judged(mut self, answer: PullAnswer) -> (Self, Result<(), Error>) {
        let judge = self.requests.pop().unwrap();
        let outcome = AnswerOutcome::Judged(answer);
        let result = self.session.handle_answer(judge.complete(Ok(outcome)));
        self.drain();
        (self, result)
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                PullServerOutput::Transmit(bytes) => self.sent.extend(frames(&bytes)),
                PullServerOutput::Answer(request) => self.requests.push(request),
                PullServerOutput::Event(_) => {}
            }
        }
    }

    fn take(&mut self, is_it: impl Fn(&AnswerOp) -> bool) -> AnswerRequest {
        let mut requests = self.requests.iter();
        let at = requests.position(|request| is_it(request.op())).unwrap();
        self.requests.remove(at)
    }

    fn complete(&mut self, is_it: impl Fn(&AnswerOp) -> bool, outcome: AnswerOutcome) {
        let request = self.take(is_it);
        let done = request.complete(Ok(outcome));
        self.session.handle_answer(done).unwrap();
        self.drain();
    }

    fn refuses(mut self, frame: Frame, code: CloseCode) {
        assert!(
            matches!(self.handle(frame.clone()), Err(Error::Violation(_))),
            "{frame:?}"
        );
        assert_eq!(codes(&self.sent), [code], "{frame:?}");
        self.stays_closed();
    }

    fn stays_closed(mut self) {
        let closed = |result| matches!(result, Err(Error::Misuse(ApiMisuse::Closed)));
        assert!(self.session.is_finished() && !self.session.wants_input());
        assert!(closed(self.session.handle_bytes(&mut BytesMut::new())));
        assert!(closed(self.session.handle_eof()));
        self.session.ping();
        assert!(closed(Err(self.session.abort(CloseCode::TIMEOUT, "again"))));
        assert!(
            self.session.poll_output().is_none(),
            "nothing follows a Close"
        );
    }
}

#[test]
fn a_server_takes_in_each_state_what_is_listed_and_refuses_the_rest() {
    let table =
        |make: fn() -> Server| table(every_frame(), make, |server, frame| server.handle(frame));
    assert_eq!(table(Server::expect_hello), "Hello / Close");
    assert_eq!(table(Server::expect_request), "Ping Request / Close");
    let more = || {
        let request = Request {
            more: true,
            ..request()
        };
        Server::expect_request().after(Frame::Request(request))
    };
    // The other request is of the same ref.
    assert_eq!(table(more), "Ping Held / Close");
    assert_eq!(table(Server::judging), "Ping Close / ");
    assert_eq!(table(Server::answering), "Ping Close / ");
    assert_eq!(table(Server::dry_run), "Ping Close / ");
}

#[test]
fn the_end_of_a_clients_bytes_means_nothing_once_the_request_is_whole() {
    // REQ-58.
    for make in [Server::expect_hello, Server::expect_request] {
        let mut state = make();
        let ended = state.session.handle_eof();
        assert!(matches!(ended, Err(Error::Truncated)));
        state.stays_closed();
    }
    for make in [Server::judging, Server::answering, Server::dry_run] {
        let mut state = make();
        state.session.handle_eof().unwrap();
        assert!(!state.session.is_finished());
    }
}

#[test]
fn a_request_that_breaks_a_rule_is_refused() {
    // REQ-48, REQ-49.
    let frame = Frame::Request;
    let (violation, unsupported) = (CloseCode::VIOLATION, CloseCode::UNSUPPORTED);
    let more = || Request {
        more: true,
        ..request()
    };
    let begun = || Server::expect_request().after(frame(more()));
    let other = || Request {
        refs: Vec::new(),
        ..request()
    };
    let _ = begun().after(frame(other()));
    let dry = Request {
        options: PullOptions::DRY_RUN,
        ..other()
    };
    begun().refuses(frame(dry), violation);
    let deep = Request {
        history: 1,
        ..other()
    };
    begun().refuses(frame(deep), violation);
    begun().refuses(frame(request()), violation);
    begun()
        .after(held(true, 1))
        .refuses(frame(other()), violation);
    Server::expect_request().refuses(held(false, 1), violation);
    let empty = Request {
        more: true,
        ..other()
    };
    Server::expect_request().refuses(frame(empty), violation);
    let unknown = Request {
        options: PullOptions(2),
        ..request()
    };
    Server::expect_request().refuses(frame(unknown), unsupported);
    let Frame::Announce(announce) = every_frame().remove(2) else {
        unreachable!()
    };
    Server::expect_request().refuses(Frame::Announce(announce), unsupported);
}

#[test]
fn a_server_keeps_its_limits_at_n_and_refuses_n_plus_one() {
    let limit = CloseCode::LIMIT;
    let refs = |count: usize| Request {
        refs: (0..count)
            .map(|number| RefRequest {
                name: format!("p/{number}-").parse().unwrap(),
                current: None,
                detached: None,
            })
            .collect(),
        ..request()
    };
    let patterns = |count| Request {
        patterns: vec!["p/**".parse().unwrap(); count],
        ..request()
    };
    let commits = |count| Request {
        held: vec![commit(); count],
        ..request()
    };
    for (at_n, beyond) in [
        (refs(MAX_REFS), refs(MAX_REFS + 1)),
        (patterns(MAX_PATTERNS), patterns(MAX_PATTERNS + 1)),
        (commits(MAX_BASES), commits(MAX_BASES + 1)),
    ] {
        let _ = Server::expect_request().after(Frame::Request(at_n));
        Server::expect_request().refuses(Frame::Request(beyond), limit);
    }
    let holding = || {
        let begun = Request {
            more: true,
            ..request()
        };
        let mut state = Server::expect_request().after(Frame::Request(begun));
        for _ in 0..MAX_HELD / 65_536 {
            state = state.after(held(true, 65_536));
        }
        state
    };
    assert_eq!(MAX_HELD % 65_536, 0);
    holding().refuses(held(false, 1), limit);
}

#[test]
fn a_server_answers_what_was_requested_or_its_driver_is_at_fault() {
    // REQ-50, REQ-54.
    let misused = |answer: PullAnswer| {
        let (state, result) = Server::judging().judged(answer);
        assert!(matches!(result, Err(Error::Misuse(ApiMisuse::Outcome))));
        assert_eq!(codes(&state.sent), [CloseCode::INTERNAL]);
    };
    let of = |refs: &[(&str, PullState)]| PullAnswer {
        refs: answer(refs).refs,
        basis: Vec::new(),
    };
    misused(of(&[]));
    misused(of(&[("other", promised())]));
    misused(of(&[("main", promised()), ("other", promised())]));
    misused(of(&[("main", promised()), ("main", promised())]));
    misused(of(&[("main", PullState::UpToDate)]));
    misused(PullAnswer {
        basis: vec![commit()],
        ..of(&[("main", promised())])
    });
}

#[test]
fn the_answer_keeps_the_order_of_the_list_though_reads_complete_in_another() {
    // REQ-52.
    let world = world();
    let mut state = Server::answering();
    let small = |number: u8| object(ObjectKind::File, vec![number; 10]);
    let mut objects = vec![world.commit, world.root];
    objects.extend((0..30).map(small));
    let ids: Vec<_> = objects.iter().map(|(id, _)| *id).collect();
    let listed = AnswerOutcome::Listed {
        ids: ids.clone(),
        exhausted: true,
    };
    state.complete(|op| matches!(op, AnswerOp::List { .. }), listed);
    let read = AnswerOutcome::Detached(Bytes::from_static(METADATA));
    state.complete(|op| matches!(op, AnswerOp::Detached(_)), read);
    while let Some(at) = state
        .requests
        .iter()
        .rposition(|request| matches!(request.op(), AnswerOp::Fetch(_)))
    {
        let request = state.requests.remove(at);
        let AnswerOp::Fetch(ids) = request.op() else {
            unreachable!()
        };
        let stored = |id| {
            objects
                .iter()
                .find(|(found, _)| found == id)
                .unwrap()
                .1
                .clone()
        };
        let fetched = ids.iter().map(|id| Fetched::Whole(stored(id))).collect();
        let done = request.complete(Ok(AnswerOutcome::Fetched(fetched)));
        state.session.handle_answer(done).unwrap();
        state.drain();
    }
    assert!(state.session.is_finished());
    let packs = state.sent.iter().filter_map(|frame| match frame {
        Frame::Pack(pack) => Some(&pack.objects),
        _ => None,
    });
    let order: Vec<_> = packs.flatten().cloned().collect();
    assert_eq!(order, objects);
    assert_eq!(state.sent.last(), Some(&sent(&objects)));
}

#[test]
fn what_a_large_dirtree_names_waits_for_its_last_piece() {
    // REQ-52.
    let world = world();
    let mut state = Server::answering();
    let ids = vec![world.commit.0, world.root.0, world.file.0, world.below.0];
    let listed = AnswerOutcome::Listed {
        ids,
        exhausted: true,
    };
    state.complete(|op| matches!(op, AnswerOp::List { .. }), listed);
    let fetched = AnswerOutcome::Fetched(vec![
        Fetched::Whole(world.commit.1.clone()),
        Fetched::Large(None),
        Fetched::Large(None),
        Fetched::Whole(world.below.1.clone()),
    ]);
    state.complete(|op| matches!(op, AnswerOp::Fetch(_)), fetched);
    let begun = |state: &Server, id| state.sent.contains(&begin(0, id));
    assert!(begun(&state, world.root.0) && !begun(&state, world.file.0));
    let is_next = |id| move |op: &AnswerOp| *op == AnswerOp::Next(id);
    for (bytes, last) in [(&world.root.1[..7], false), (&world.root.1[7..], true)] {
        assert!(!state.sent.contains(&pack(vec![world.below.clone()])));
        let bytes = Bytes::copy_from_slice(bytes);
        let piece = AnswerOutcome::Piece { bytes, last };
        state.complete(is_next(world.root.0), piece);
    }
    assert!(begun(&state, world.file.0));
    // The pack is flushed before the stream that its objects may name.
    let order: Vec<_> = state.sent.iter().map(name).collect();
    let expected = [
        "Welcome",
        "Answer",
        "Pack",
        "ObjectBegin",
        "ObjectChunk",
        "ObjectChunk",
        "ObjectEnd",
        "Pack",
        "ObjectBegin",
    ];
    assert_eq!(order, expected);
}

#[test]
fn detached_metadata_that_changed_meanwhile_ends_the_answer() {
    // REQ-51.
    let mut state = Server::answering();
    let request = state.take(|op| matches!(op, AnswerOp::Detached(_)));
    let outcome = AnswerOutcome::Detached(Bytes::from_static(b"other"));
    let result = state.session.handle_answer(request.complete(Ok(outcome)));
    assert!(matches!(result, Err(Error::Fault(_))));
    state.drain();
    assert_eq!(codes(&state.sent), [CloseCode::BUSY]);
}

#[test]
fn nothing_promised_ends_the_answer_at_once_and_a_dry_run_with_its_extent() {
    let state = Server::judging().answered(&[("main", absent())]);
    assert!(state.session.is_finished() && state.requests.is_empty());
    let order: Vec<_> = state.sent.iter().map(name).collect();
    assert_eq!(order, ["Welcome", "Answer", "Sent"]);
    let mut state = Server::dry_run();
    assert_eq!(state.requests.len(), 1);
    let extent = Extent {
        objects: 5,
        bytes: 9,
    };
    state.complete(
        |op| *op == AnswerOp::Measure,
        AnswerOutcome::Measured(extent),
    );
    assert!(state.session.is_finished());
    let tail = &state.sent[state.sent.len() - 2..];
    assert_eq!(tail, [Frame::Extent(extent), Frame::Sent(Sent::default())]);
}

// A server that takes pushes as well.

fn begin_at_receiver(serves_pulls: bool, features: Features) -> (AnyReceiver, BytesMut) {
    let config = ReceiverConfig {
        serves_pulls,
        ..ReceiverConfig::default()
    };
    let receiver = AnyReceiver::new(config, Openness::default());
    let mut bytes = BytesMut::from(&PREAMBLE[..]);
    bytes.extend_from_slice(&hello(features).encode());
    (receiver, bytes)
}

fn heard(receiver: &mut AnyReceiver) -> Vec<Frame> {
    let mut sent = Vec::new();
    while let Some(output) = receiver.poll_output() {
        if let ReceiverOutput::Transmit(bytes) = output {
            sent.extend(frames(&bytes));
        }
    }
    sent
}

#[test]
fn the_frame_after_hello_decides_between_a_push_and_a_pull() {
    // REQ-47.
    let (mut receiver, mut bytes) = begin_at_receiver(true, Features::PULL);
    bytes.extend_from_slice(&Frame::Request(request()).encode());
    bytes.extend_from_slice(&Frame::Ping(Ping {}).encode());
    receiver.handle_bytes(&mut bytes).unwrap();
    let sent = heard(&mut receiver);
    assert!(
        matches!(&sent[..], [Frame::Welcome(w)] if w.features == Features::PULL),
        "{sent:?}"
    );
    let mut pull = receiver.take_pull().unwrap();
    assert!(receiver.is_finished() && receiver.take_pull().is_none());
    pull.handle_bytes(&mut bytes).unwrap();
    assert!(bytes.is_empty());
    let judge = std::iter::from_fn(|| pull.poll_output()).last();
    assert!(
        matches!(judge, Some(PullServerOutput::Answer(r)) if matches!(r.op(), AnswerOp::Judge(_)))
    );

    let (mut receiver, mut bytes) = begin_at_receiver(true, Features::PULL);
    bytes.extend_from_slice(&every_frame()[2].encode());
    receiver.handle_bytes(&mut bytes).unwrap();
    assert!(receiver.take_pull().is_none(), "it is a push");

    for (serves_pulls, features) in [(false, Features::PULL), (true, Features::default())] {
        let (mut receiver, mut bytes) = begin_at_receiver(serves_pulls, features);
        bytes.extend_from_slice(&Frame::Request(request()).encode());
        let result = receiver.handle_bytes(&mut bytes);
        assert!(matches!(result, Err(Error::Violation(_))));
        let sent = heard(&mut receiver);
        assert!(matches!(&sent[0], Frame::Welcome(w) if w.features == Features::default()));
        assert_eq!(codes(&sent), [CloseCode::UNSUPPORTED]);
    }
}
