//! The two old protocols, against sessions recorded from the original programs (`testdata/legacy`).
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::path::Path;

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::Text;
use artifact_protocol::dialect::{AnyReceiver, ByteOrder, Dialect, Info, Message, Openness};
use artifact_protocol::frame::{
    CloseCode, Expect, PushOptions, RefOutcome, RefState, Refusal, RefusalCode, SummaryDone,
    Verdict,
};
use artifact_protocol::session::{
    Announcement, Error, Fault, Opened, Published, ReceiverConfig, ReceiverOutput, RefQuery,
    StoreOp, StoreOutcome,
};
use bytes::{Bytes, BytesMut};

const COMMIT: &str = "359413d06dd6518cc656aeefbf19cd65b2f7f684e4ed29cd5889b880ed7ac114";

fn recorded(session: &str, direction: &str) -> Vec<u8> {
    let path = format!("testdata/legacy/{session}/{direction}.bin");
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn strong() -> RefName {
    format!("demo/hello/{}", "1".repeat(64)).parse().unwrap()
}

/// A receiving session, and a store that accepts every object.
struct Server {
    session: AnyReceiver,
    /// The refs the store holds.
    refs: Vec<(RefName, Checksum)>,
    verdict: Verdict,
    outcome: RefOutcome,
    /// The number of the store request that fails, counted from the first.
    fails_at: Option<usize>,
    requests: usize,
    announced: Option<Announcement>,
    staged: Vec<(ObjectId, Bytes)>,
    stream: Option<(ObjectId, BytesMut)>,
    detached: Vec<(Checksum, Bytes)>,
    published: bool,
    said: Vec<u8>,
}

impl Server {
    fn new(dialect: Dialect) -> Self {
        Self::with(Openness {
            server_first: dialect == Dialect::V0,
            ..Openness::default()
        })
    }

    fn with(openness: Openness) -> Self {
        let config = ReceiverConfig {
            pull_url: Some(Text::new("http://127.0.0.1/none")),
            ..ReceiverConfig::default()
        };
        Self {
            session: AnyReceiver::new(config, openness),
            refs: Vec::new(),
            verdict: Verdict::Accepted,
            outcome: RefOutcome::Updated,
            fails_at: None,
            requests: 0,
            announced: None,
            staged: Vec::new(),
            stream: None,
            detached: Vec::new(),
            published: false,
            said: Vec::new(),
        }
    }

    /// Feeds bytes to the session, `step` at a time, and then the end of the stream.
    fn converse(&mut self, bytes: &[u8], step: usize) -> Result<(), Error> {
        let mut input = BytesMut::new();
        self.drain()?;
        for piece in bytes.chunks(step) {
            if self.session.is_finished() {
                return Ok(());
            }
            input.extend_from_slice(piece);
            loop {
                let before = (input.len(), self.requests, self.said.len());
                let taken = self.session.handle_bytes(&mut input);
                self.drain()?;
                taken?;
                if (input.len(), self.requests, self.said.len()) == before {
                    break;
                }
            }
        }
        if self.session.is_finished() {
            return Ok(());
        }
        self.session.handle_eof()?;
        self.drain()
    }

    fn drain(&mut self) -> Result<(), Error> {
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => self.said.extend_from_slice(&bytes),
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Store(request) => {
                    let outcome = if self.fails_at == Some(self.requests) {
                        Err(Fault {
                            code: CloseCode::OBJECT_REFUSED,
                            text: "it is no good".into(),
                        })
                    } else {
                        Ok(self.act(request.op()))
                    };
                    self.requests += 1;
                    self.session.handle_stored(request.complete(outcome))?;
                }
            }
        }
        Ok(())
    }

    fn act(&mut self, op: &StoreOp) -> StoreOutcome {
        match op {
            StoreOp::Refs(query) => {
                let asked = |name| match query {
                    RefQuery::Named(names) => names.contains(name),
                    RefQuery::All { .. } => true,
                };
                let refs = self.refs.iter().filter(|(name, _)| asked(name));
                StoreOutcome::Refs {
                    refs: refs.cloned().collect(),
                    all: true,
                }
            }
            StoreOp::Open(announcement) => {
                self.announced = Some(announcement.clone());
                let state = RefState {
                    current: None,
                    verdict: self.verdict.clone(),
                };
                StoreOutcome::Opened(Opened {
                    refs: vec![state; announcement.refs.len()],
                    complete: Vec::new(),
                })
            }
            StoreOp::Stage(objects) => {
                self.staged.extend(objects.clone());
                StoreOutcome::Staged
            }
            StoreOp::Begin(_, id) => {
                assert!(self.stream.replace((*id, BytesMut::new())).is_none());
                StoreOutcome::Appended
            }
            StoreOp::Append(_, bytes) => {
                self.stream.as_mut().unwrap().1.extend_from_slice(bytes);
                StoreOutcome::Appended
            }
            StoreOp::End(_) => {
                let (id, bytes) = self.stream.take().unwrap();
                self.staged.push((id, bytes.freeze()));
                StoreOutcome::Staged
            }
            StoreOp::Detached(commit, bytes) => {
                self.detached.push((*commit, bytes.clone()));
                StoreOutcome::Staged
            }
            StoreOp::Publish => {
                self.published = true;
                let refs = self.announced.as_ref().unwrap().refs.len();
                StoreOutcome::Published(Published::Done(vec![self.outcome.clone(); refs]))
            }
            StoreOp::Summarize => StoreOutcome::Summarized(SummaryDone::Current),
            StoreOp::Rely(_) | StoreOp::Have(_) | StoreOp::Unsent(_) => {
                unreachable!("old clients offer nothing")
            }
        }
    }

    fn messages(&self, dialect: Dialect) -> Vec<Message> {
        let mut said = BytesMut::from(&*self.said);
        let mut messages = Vec::new();
        while let Some(message) = Message::decode(dialect, &mut said).unwrap() {
            messages.push(message);
        }
        assert!(said.is_empty());
        messages
    }
}

/// The recorded sessions: name, version, and whether the ref exists before the push.
const SESSIONS: [(&str, Dialect, bool); 5] = [
    ("v1-hello", Dialect::V1, false),
    ("v1-push-new", Dialect::V1, false),
    ("v1-push-again", Dialect::V1, true),
    ("v0-push-new", Dialect::V0, false),
    ("v0-push-again", Dialect::V0, true),
];

fn server_for(dialect: Dialect, is_there: bool) -> Server {
    let mut server = Server::new(dialect);
    if is_there {
        server.refs.push((strong(), COMMIT.parse().unwrap()));
        server.verdict = Verdict::UpToDate;
    }
    server
}

#[test]
fn recorded_clients_get_the_recorded_answers_to_the_byte() {
    for (session, dialect, is_there) in SESSIONS {
        for step in [usize::MAX, 10_240, 512, 7, 1] {
            let mut server = server_for(dialect, is_there);
            let done = server.converse(&recorded(session, "c2s"), step);
            assert!(done.is_ok(), "{session} by {step}: {done:?}");
            assert!(server.session.is_finished(), "{session} by {step}");
            assert_eq!(server.said, recorded(session, "s2c"), "{session} by {step}");
        }
    }
}

#[test]
fn a_recorded_push_brings_every_object_and_asks_for_its_refs() {
    for (session, dialect, refs) in [
        ("v1-push-new", Dialect::V1, 2),
        ("v0-push-new", Dialect::V0, 1),
    ] {
        let mut server = server_for(dialect, false);
        server.converse(&recorded(session, "c2s"), 1_000).unwrap();
        assert!(server.published);
        assert_eq!(server.staged.len(), 11, "{session}");
        for (id, stored) in &server.staged {
            if id.kind.is_metadata() {
                assert_eq!(Checksum::of(stored), id.checksum, "{session}");
            }
        }
        let announced = server.announced.unwrap();
        let commit: Checksum = COMMIT.parse().unwrap();
        assert_eq!(announced.refs.len(), refs);
        assert!(announced.refs.iter().all(|update| update.commit == commit));
        assert_eq!(announced.refs[0].name, strong());
        // A client of version 1 does not know the ref's commit; a client of version 0 does.
        let (expect, options) = match dialect {
            Dialect::V1 => (Expect::Any, PushOptions::FORCE.with(PushOptions::ALIASES)),
            Dialect::V0 => (Expect::Absent, PushOptions::default()),
        };
        assert_eq!(
            (announced.refs[0].expect, announced.options),
            (expect, options)
        );
    }
}

#[test]
fn a_push_that_is_cut_anywhere_publishes_nothing_and_one_that_is_not_does() {
    for (session, dialect) in [("v1-push-new", Dialect::V1), ("v0-push-new", Dialect::V0)] {
        let bytes = recorded(session, "c2s");
        for cut in (0..bytes.len())
            .step_by(11)
            .chain([38, 488, 5 + 0xda])
            .chain(bytes.len() - 6..bytes.len())
        {
            let mut server = server_for(dialect, false);
            let done = server.converse(&bytes[..cut], usize::MAX);
            // A client that has asked for nothing, or sent nothing, may leave.
            let asked = match dialect {
                Dialect::V1 => 38..493,
                Dialect::V0 => 0..223 + 5 + 0x6d,
            };
            match done {
                Err(Error::Truncated) => {}
                Ok(()) if asked.contains(&cut) => {}
                done => panic!("{session} at {cut}: {done:?}"),
            }
            assert!(!server.published, "{session} at {cut}");
        }
    }
}

#[test]
fn recorded_messages_serialize_to_the_same_bytes() {
    for (session, dialect, _) in SESSIONS {
        let bytes = recorded(session, "s2c");
        let mut input = BytesMut::from(&*bytes);
        let mut again = Vec::new();
        while let Some(message) = Message::decode(dialect, &mut input).unwrap() {
            again.extend_from_slice(&message.encode(dialect).unwrap());
            let big = message.encode_in(dialect, ByteOrder::Big).unwrap();
            let read = Message::decode(dialect, &mut BytesMut::from(&*big)).unwrap();
            assert_eq!(read, Some(message), "{session}");
        }
        assert_eq!(again, bytes, "{session}");
    }
}

#[test]
fn messages_of_another_version_order_or_command_are_refused() {
    let refused = |bytes: &[u8]| Message::decode(Dialect::V1, &mut BytesMut::from(bytes)).is_err();
    assert!(refused(b"x"));
    assert!(refused(b"\x8aACP"));
    for head in [
        b"l\0\x04\0\0",
        b"l\x02\x04\0\0",
        b"l\x01\x05\0\0",
        b"l\x01\xff\0\0",
    ] {
        assert!(refused(head), "{head:?}");
    }
    assert!(!refused(b"l\x01\x04\0\0"));
    assert!(refused(b"l\x01\x03\0\0"), "a status without a result");
    assert!(refused(b"l\x01\x04\x01\0\xff"), "no dictionary");
}

fn message(message: &Message) -> Vec<u8> {
    message.encode(Dialect::V1).unwrap().to_vec()
}

/// The messages a client of version 1 sends before its objects.
fn greeting(old: &str) -> Vec<u8> {
    let info = Message::Info(Info {
        mode: Info::ARCHIVE,
        ..Info::default()
    });
    let update = Message::Update(vec![artifact_protocol::dialect::Change {
        name: strong().to_string(),
        old: old.to_owned(),
        new: COMMIT.to_owned(),
    }]);
    [message(&info), message(&update)].concat()
}

#[test]
fn a_refusal_by_the_rules_is_a_status_with_its_reason_and_nothing_is_published() {
    for (dialect, session) in [(Dialect::V1, "v1-push-new"), (Dialect::V0, "v0-push-new")] {
        let mut server = server_for(dialect, false);
        let refusal = Refusal::new(RefusalCode::NOT_PERMITTED, "not \u{1b}[2J yours");
        server.verdict = Verdict::Refused(refusal);
        // The client closes with `done`.
        let mut bytes = recorded(session, "c2s");
        let update = if dialect == Dialect::V1 {
            488
        } else {
            5 + 0xda
        };
        bytes.truncate(update);
        bytes.extend(Message::Done.encode(dialect).unwrap());
        assert!(server.converse(&bytes, 100).is_ok());
        let Some(Message::Status { result, text }) = server.messages(dialect).pop() else {
            panic!("{session}: no status");
        };
        assert!(
            !result && text.contains("yours") && !text.contains('\u{1b}'),
            "{text}"
        );
        assert!(text.contains("demo/hello/1111"), "{text}");
        assert!(!server.published);
    }
}

#[test]
fn a_refused_object_is_told_to_a_client_of_version_0_and_ends_one_of_version_1() {
    // The requests of version 0 are: refs, open, then one for each object.
    for object in 0..11 {
        let mut server = server_for(Dialect::V0, false);
        server.fails_at = Some(2 + object);
        let bytes = recorded("v0-push-new", "c2s");
        let done = server.converse(&bytes, usize::MAX);
        // The recorded client goes on regardless, except for the last object.
        assert!(done.is_err(), "{object}");
        let last = server.messages(Dialect::V0).pop();
        let Some(Message::Status {
            result: false,
            text,
        }) = last
        else {
            panic!("{object}: {last:?}");
        };
        assert_eq!(text, "it is no good");
        assert!(!server.published);
    }
    let mut server = server_for(Dialect::V1, false);
    server.fails_at = Some(1);
    let done = server.converse(&recorded("v1-push-new", "c2s"), usize::MAX);
    assert!(matches!(done, Err(Error::Fault(_))), "{done:?}");
    let messages = server.messages(Dialect::V1);
    assert!(!messages.contains(&Message::Done) && messages.len() == 2);
}

#[test]
fn a_client_of_version_1_that_withdraws_may_leave_or_go_on() {
    let zeros = "0".repeat(64);
    let withdraws = [greeting(&zeros), message(&Message::Done)].concat();
    let mut server = Server::new(Dialect::V1);
    assert!(server.converse(&withdraws, 10).is_ok());
    assert!(!server.published);

    let objects = recorded("v1-push-new", "c2s").split_off(488);
    let goes_on = [withdraws, objects].concat();
    let mut server = Server::new(Dialect::V1);
    server.outcome = RefOutcome::Refused(Refusal::new(RefusalCode::NOT_FAST_FORWARD, "no"));
    assert!(server.converse(&goes_on, 1_000).is_ok());
    assert_eq!(server.messages(Dialect::V1).pop(), Some(Message::Done));
}

#[test]
fn the_last_done_is_said_where_all_refs_are_as_the_client_wants_and_not_elsewhere() {
    let refused = |code| RefOutcome::Refused(Refusal::new(code, "no"));
    let zeros = "0".repeat(64);
    let one = Checksum::new([1; 32]).to_hex();
    for (old, outcome, done) in [
        (&zeros, RefOutcome::Updated, true),
        (&zeros, RefOutcome::Unchanged, true),
        (&one, RefOutcome::Updated, true),
        // Another client set the ref last.
        (&zeros, refused(RefusalCode::LOST_RACE), true),
        (&one, refused(RefusalCode::LOST_RACE), false),
        (&zeros, refused(RefusalCode::NOT_FAST_FORWARD), false),
        (&zeros, refused(RefusalCode::BINDING), false),
    ] {
        let objects = recorded("v1-push-new", "c2s").split_off(488);
        let mut server = Server::new(Dialect::V1);
        server.outcome = outcome.clone();
        let bytes = [greeting(old), objects].concat();
        assert!(server.converse(&bytes, usize::MAX).is_ok());
        let last = server.messages(Dialect::V1).pop();
        assert_eq!(last == Some(Message::Done), done, "{old} {outcome:?}");
    }
}

#[test]
fn a_push_without_an_object_is_published_and_answered() {
    let tar = vec![0; 10_240];
    let zeros = "0".repeat(64);
    let put = message(&Message::PutObjects);
    let bytes = [greeting(&zeros), put, tar, message(&Message::Done)].concat();
    let mut server = Server::new(Dialect::V1);
    server.converse(&bytes, 99).unwrap();
    assert!(server.published && server.staged.is_empty());
    assert_eq!(server.messages(Dialect::V1).pop(), Some(Message::Done));
}

#[test]
fn clients_of_switched_off_versions_are_told_in_their_own_words() {
    let off = |server_first| {
        Server::with(Openness {
            oldest: artifact_protocol::Version(2),
            server_first,
            ..Openness::default()
        })
    };
    // A client that asks whether the server is there learns the pull URL, and nothing else.
    let mut hello = off(false);
    let done = hello.converse(&recorded("v1-hello", "c2s"), 3);
    assert!(matches!(done, Err(Error::Fault(_))), "{done:?}");
    assert_eq!(hello.said, recorded("v1-hello", "s2c"));

    for (dialect, mut server) in [(Dialect::V1, off(false)), (Dialect::V0, off(true))] {
        let session = ["v0-push-new", "v1-push-new"][usize::from(dialect == Dialect::V1)];
        let mut bytes = recorded(session, "c2s");
        bytes.truncate(if dialect == Dialect::V1 {
            488
        } else {
            5 + 0xda
        });
        bytes.extend(Message::Done.encode(dialect).unwrap());
        let done = server.converse(&bytes, 3);
        assert!(matches!(done, Err(Error::Fault(_))), "{done:?}");
        let Some(Message::Status {
            result: false,
            text,
        }) = server.messages(dialect).pop()
        else {
            panic!("no status");
        };
        assert!(text.contains("artifact-cache"), "{text}");
        assert_eq!(server.requests, 0);
    }
}

#[test]
fn a_client_that_says_what_it_has_is_told_what_the_server_has() {
    let mut server = server_for(Dialect::V1, true);
    let refs = vec![
        (strong().to_string(), COMMIT.to_owned()),
        ("demo/other".to_owned(), COMMIT.to_owned()),
        ("not a ref".to_owned(), COMMIT.to_owned()),
    ];
    let info = Message::Info(Info {
        mode: Info::ARCHIVE,
        refs,
        pull_url: None,
    });
    let bytes = [message(&info), message(&Message::Done)].concat();
    server.converse(&bytes, 50).unwrap();
    let [Message::Info(info)] = &server.messages(Dialect::V1)[..] else {
        panic!("one answer");
    };
    assert_eq!(info.refs, [(strong().to_string(), COMMIT.to_owned())]);
}

#[test]
fn a_server_with_more_refs_than_a_message_holds_tells_as_many_as_fit() {
    let mut server = Server::new(Dialect::V0);
    let commit: Checksum = COMMIT.parse().unwrap();
    let name = |n: usize| format!("demo/hello/{n:064}").parse().unwrap();
    server.refs = (0..2_000).map(|n| (name(n), commit)).collect();
    let update = recorded("v0-push-new", "c2s");
    let _ = server.converse(&update, usize::MAX);
    let Some(Message::Info(info)) = server.messages(Dialect::V0).into_iter().next() else {
        panic!("no info");
    };
    assert!((400..500).contains(&info.refs.len()), "{}", info.refs.len());
    // A client that was not told a ref's commit cannot compare it.
    assert_eq!(server.announced.unwrap().refs[0].expect, Expect::Any);
}
