//! Every frame in every state, allowed or refused; the end of the bytes in every state; and every
//! limit at N and at N + 1.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

mod common;

use artifact_formats::limits::MAX_DETACHED_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Announce, Answer, Base, Basis, CloseCode, Detached, Expect, Extensions, Extent, Finalize,
    Finalized, Frame, Held, Hello, Missing, ObjectBegin, ObjectChunk, ObjectEnd, Offer, PREAMBLE,
    Pack, Ping, Prefix, PullOptions, PushOptions, RefOutcome, RefState, RefStatus, RefUpdate,
    Request, Sent, Staged, SummaryDone, Verdict, Want, Welcome,
};
use artifact_protocol::limits::{
    Limits, MAX_BASES, MAX_COMPLETE, MAX_EARLY_FRAME_LEN, MAX_FRAME_LEN_MAX, MAX_MISSING_IDS,
    MAX_OFFER_IDS, MAX_UNSETTLED_IDS, MIN_FRAME_LEN_MAX,
};
use artifact_protocol::session::{
    Announcement, ApiMisuse, Error, Fetched, Opened, Published, ReceiverConfig, ReceiverOutput,
    ReceiverSession, SenderConfig, SenderOutput, SenderSession, SmallCommit, SourceOp,
    SourceOutcome, SourceRequest, StoreOp, StoreOutcome, StoreRequest, Violation,
};
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};

use self::common::{close, frames, table};

const COMMIT: Checksum = Checksum::new([1; 32]);
const METADATA: &[u8] = b"detached";

fn file(number: usize) -> ObjectId {
    ObjectId::new(ObjectKind::File, Checksum::of(&number.to_le_bytes()))
}

fn files(count: usize) -> Vec<ObjectId> {
    (0..count).map(file).collect()
}

fn update() -> RefUpdate {
    RefUpdate {
        name: "project/element/key".parse().unwrap(),
        commit: COMMIT,
        detached: Some(Checksum::of(METADATA)),
        expect: Expect::Any,
    }
}

fn hello() -> Frame {
    Frame::Hello(Hello {
        version_min: Version(2),
        version_max: Version(2),
        features: Features(0),
        agent: Text::default(),
        extensions: Extensions::default(),
    })
}

fn welcome(frame_len_max: u32) -> Frame {
    let limits = Limits {
        frame_len_max,
        ..Limits::default()
    };
    Frame::Welcome(Welcome {
        version: Version(2),
        features: Features(0),
        limits,
        agent: Text::default(),
        pull_url: None,
        identity: None,
        extensions: Extensions::default(),
    })
}

fn announce(options: PushOptions, bases: usize) -> Frame {
    let base = Base {
        name: update().name,
        commit: COMMIT,
    };
    Frame::Announce(Announce {
        options,
        refs: vec![update()],
        bases: vec![base; bases],
        more: false,
        extensions: Extensions::default(),
    })
}

fn offer(ids: Vec<ObjectId>) -> Frame {
    Frame::Offer(Offer { ids })
}

fn basis(count: usize) -> Frame {
    let commits = vec![COMMIT; count];
    Frame::Basis(Basis { commits })
}

fn detached(metadata: Bytes) -> Frame {
    let commit = COMMIT;
    Frame::Detached(Detached { commit, metadata })
}

fn accepted() -> RefState {
    RefState {
        current: None,
        verdict: Verdict::Accepted,
    }
}

fn up_to_date() -> RefState {
    RefState {
        current: Some(COMMIT),
        verdict: Verdict::UpToDate,
    }
}

fn ref_status(complete: usize) -> Frame {
    Frame::RefStatus(RefStatus {
        refs: vec![accepted()],
        complete: vec![COMMIT; complete],
    })
}

fn want(count: usize) -> Frame {
    Frame::Want(Want {
        wanted: vec![true; count],
    })
}

fn missing(count: usize) -> Frame {
    let ids = files(count);
    Frame::Missing(Missing { ids })
}

/// One frame of each kind, valid wherever its kind is allowed.
fn every_frame() -> Vec<Frame> {
    let (stream, id) = (1, file(2));
    vec![
        hello(),
        welcome(MAX_FRAME_LEN_MAX),
        announce(PushOptions(0), 0),
        ref_status(0),
        basis(1),
        offer(vec![file(9)]),
        Frame::Want(Want { wanted: vec![true] }),
        detached(Bytes::from_static(METADATA)),
        Frame::Pack(Pack {
            objects: vec![(file(1), Bytes::from_static(b"stored"))],
        }),
        Frame::ObjectBegin(ObjectBegin { stream, id }),
        Frame::ObjectChunk(ObjectChunk {
            stream: 0,
            bytes: Bytes::from_static(b"stored"),
        }),
        Frame::ObjectEnd(ObjectEnd { stream: 0 }),
        Frame::Staged(Staged {
            objects: 1,
            bytes: 1,
        }),
        Frame::Finalize(Finalize {}),
        missing(1),
        Frame::Finalized(Finalized {
            refs: vec![RefOutcome::Updated],
        }),
        Frame::SummaryDone(SummaryDone::Current),
        Frame::Ping(Ping {}),
        close(CloseCode::DONE),
        Frame::Request(Request {
            options: PullOptions::default(),
            history: 0,
            refs: Vec::new(),
            patterns: vec!["**".parse().unwrap()],
            held: Vec::new(),
            more: false,
            extensions: Extensions::default(),
        }),
        Frame::Held(Held {
            more: false,
            objects: vec![Prefix::new([1; 8])],
        }),
        Frame::Answer(Answer {
            refs: Vec::new(),
            basis: Vec::new(),
            more: false,
        }),
        Frame::Extent(Extent::default()),
        Frame::Sent(Sent::default()),
    ]
}

fn assert_last_is_close(sent: &[Frame], expected: CloseCode) {
    let closes = sent.iter().filter(|f| matches!(f, Frame::Close(_))).count();
    assert_eq!(closes, 1);
    assert!(matches!(sent.last(), Some(Frame::Close(close)) if close.code == expected));
}

/// A session's output, sorted.
struct Drained<R> {
    sent: Vec<Frame>,
    requests: Vec<R>,
}

// The receiving end.

struct Receiving {
    session: ReceiverSession,
    requests: Vec<StoreRequest>,
}

impl Receiving {
    fn expect_hello() -> Self {
        let mut session = ReceiverSession::new(ReceiverConfig::default());
        session
            .handle_bytes(&mut BytesMut::from(&PREAMBLE[..]))
            .unwrap();
        Self {
            session,
            requests: Vec::new(),
        }
    }

    fn expect_announce() -> Self {
        Self::expect_hello().after(hello())
    }

    fn opening() -> Self {
        Self::expect_announce().after(announce(PushOptions(0), 0))
    }

    fn transfer() -> Self {
        Self::opening().answered()
    }

    /// A push whose only ref is up to date.
    fn nothing_accepted() -> Self {
        let mut state = Self::opening();
        let request = state.drain().requests.pop().unwrap();
        let outcome = StoreOutcome::Opened(Opened {
            refs: vec![up_to_date()],
            complete: vec![COMMIT],
        });
        let done = request.complete(Ok(outcome));
        state.session.handle_stored(done).unwrap();
        state
    }

    fn dry_run() -> Self {
        let announce = announce(PushOptions::DRY_RUN, 0);
        Self::expect_announce().after(announce).answered()
    }

    /// Files 0, 1 and 2 are wanted, and 0 is open as stream 0.
    fn transfer_of_wanted() -> Self {
        let begin = Frame::ObjectBegin(ObjectBegin {
            stream: 0,
            id: file(0),
        });
        let offered = Self::transfer().after(offer(files(3))).answered();
        offered.after(begin).answered()
    }

    /// The client finalized while metadata is still being staged.
    fn finalizing() -> Self {
        let sent = Self::transfer().after(detached(Bytes::from_static(METADATA)));
        sent.after(Frame::Finalize(Finalize {}))
    }

    fn publishing() -> Self {
        Self::finalizing().answered()
    }

    fn summarizing() -> Self {
        Self::publishing().answered()
    }

    fn finished() -> Self {
        Self::summarizing().answered()
    }

    fn after(mut self, frame: Frame) -> Self {
        self.handle(frame).unwrap();
        self
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Error> {
        let mut bytes = BytesMut::from(&frame.encode()[..]);
        let result = self.session.handle_bytes(&mut bytes);
        assert!(result.is_err() || bytes.is_empty(), "the frame is taken");
        result
    }

    /// Completes all requests as a willing store does.
    fn answered(mut self) -> Self {
        let drained = self.drain();
        for request in self.requests.drain(..).chain(drained.requests) {
            let outcome = match request.op() {
                StoreOp::Refs(_) => unreachable!("clients of version 2 do not ask"),
                StoreOp::Open(_) => StoreOutcome::Opened(Opened {
                    refs: vec![accepted()],
                    complete: vec![COMMIT],
                }),
                StoreOp::Rely(_) | StoreOp::Unsent(_) => StoreOutcome::Relied,
                StoreOp::Have(ids) => StoreOutcome::Have(vec![false; ids.len()]),
                StoreOp::Begin(..) | StoreOp::Append(..) => StoreOutcome::Appended,
                StoreOp::Stage(_) | StoreOp::End(_) | StoreOp::Detached(..) => StoreOutcome::Staged,
                StoreOp::Publish => {
                    StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated]))
                }
                StoreOp::Summarize => StoreOutcome::Summarized(SummaryDone::Current),
            };
            self.session
                .handle_stored(request.complete(Ok(outcome)))
                .unwrap();
        }
        self
    }

    fn drain(&mut self) -> Drained<StoreRequest> {
        let (mut sent, mut requests) = (Vec::new(), Vec::new());
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => sent.extend(frames(&bytes)),
                ReceiverOutput::Store(request) => requests.push(request),
                ReceiverOutput::Event(_) => {}
            }
        }
        Drained { sent, requests }
    }

    fn refuses(mut self, frame: Frame, code: CloseCode) {
        self.drain();
        assert!(matches!(self.handle(frame), Err(Error::Violation(_))));
        let drained = self.drain();
        assert_last_is_close(&drained.sent, code);
        assert!(drained.requests.is_empty());
        self.stays_closed();
    }

    fn stays_closed(mut self) {
        let closed = |result| matches!(result, Err(Error::Misuse(ApiMisuse::Closed)));
        assert!(self.session.is_finished() && !self.session.wants_input());
        assert!(closed(
            self.session
                .handle_bytes(&mut BytesMut::from(&hello().encode()[..]))
        ));
        assert!(closed(self.session.handle_eof()));
        for request in self.requests {
            let done = request.complete(Ok(StoreOutcome::Relied));
            assert!(closed(self.session.handle_stored(done)));
        }
        self.session.ping();
        assert!(closed(Err(self.session.abort(CloseCode::TIMEOUT, "again"))));
        assert!(
            self.session.poll_output().is_none(),
            "nothing follows a Close"
        );
    }
}

#[test]
fn a_receiver_takes_in_each_state_what_is_listed_and_refuses_the_rest() {
    let table = |make: fn() -> Receiving| {
        table(every_frame(), make, |session, frame| session.handle(frame))
    };
    assert_eq!(table(Receiving::expect_hello), "Hello / Close");
    assert_eq!(table(Receiving::expect_announce), "Announce Ping / Close");
    let transfer = "Basis Offer Detached Ping Close / ";
    assert_eq!(table(Receiving::transfer), transfer);
    let wanted = "Offer Detached Pack ObjectBegin ObjectChunk ObjectEnd Ping Close / ";
    assert_eq!(table(Receiving::transfer_of_wanted), wanted);
    assert_eq!(
        table(Receiving::dry_run),
        "Basis Offer Finalize Ping Close / "
    );
}

#[test]
fn a_receiver_reads_nothing_while_its_store_decides_or_after_all_was_said() {
    let states = [
        Receiving::opening,
        Receiving::finalizing,
        Receiving::publishing,
        Receiving::summarizing,
        Receiving::finished,
        Receiving::nothing_accepted,
    ];
    for make in states {
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
fn a_refused_frame_closes_the_receiver_and_tells_the_client_why() {
    let violation = CloseCode::VIOLATION;
    Receiving::expect_hello().refuses(Frame::Ping(Ping {}), violation);
    Receiving::expect_announce().refuses(hello(), violation);
    Receiving::transfer().refuses(announce(PushOptions(0), 0), violation);
    Receiving::transfer_of_wanted().refuses(Frame::Finalize(Finalize {}), violation);
    Receiving::transfer().refuses(offer(Vec::new()), violation);
    let unknown = announce(PushOptions(4), 0);
    Receiving::expect_announce().refuses(unknown, CloseCode::UNSUPPORTED);
    let Frame::Hello(hello) = hello() else {
        unreachable!()
    };
    let newer = Frame::Hello(Hello {
        version_min: Version(3),
        version_max: Version(9),
        ..hello
    });
    Receiving::expect_hello().refuses(newer, CloseCode::UNSUPPORTED);
}

#[test]
fn bytes_that_are_no_frame_close_the_receiver_with_their_own_codes() {
    for (bytes, code) in [
        (
            &b"\x7f\x00\x00\x00\x00\x00\x00\x00"[..],
            CloseCode::BAD_FRAME,
        ),
        (b"\x40\x00\x00\x00\xff\xff\xff\xff", CloseCode::LIMIT),
        (
            b"\x40\x00\x00\x00\x01\x00\x00\x00\x00",
            CloseCode::BAD_FRAME,
        ),
    ] {
        let mut state = Receiving::transfer();
        let result = state.session.handle_bytes(&mut BytesMut::from(bytes));
        assert!(matches!(result, Err(Error::Decode(_))));
        assert_last_is_close(&state.drain().sent, code);
        state.stays_closed();
    }
    let mut session = ReceiverSession::new(ReceiverConfig::default());
    assert!(
        session
            .handle_bytes(&mut BytesMut::from("ssh: hello"))
            .is_err()
    );
    let mut state = Receiving {
        session,
        requests: Vec::new(),
    };
    assert_last_is_close(&state.drain().sent, CloseCode::NOT_THE_PROTOCOL);
    state.stays_closed();
}

#[test]
fn the_end_of_a_clients_bytes_is_clean_from_finalize_on() {
    for make in [
        Receiving::expect_hello,
        Receiving::expect_announce,
        Receiving::opening,
        Receiving::transfer,
        Receiving::transfer_of_wanted,
    ] {
        let mut state = make();
        state.drain();
        assert!(matches!(state.session.handle_eof(), Err(Error::Truncated)));
        state.stays_closed();
    }
    for make in [
        Receiving::finalizing,
        Receiving::publishing,
        Receiving::summarizing,
    ] {
        let mut state = make();
        state.session.handle_eof().unwrap();
        assert!(
            !state.session.is_finished(),
            "what was finalized is carried through"
        );
        let state = state.answered().answered().answered();
        assert!(state.session.is_finished());
    }
    let mut finished = Receiving::finished();
    finished.session.handle_eof().unwrap();
    assert!(finished.session.is_finished());
}

#[test]
fn a_server_that_accepts_no_ref_has_said_all_and_does_not_wait_for_a_goodbye() {
    let mut state = Receiving::nothing_accepted();
    assert!(state.session.is_finished());
    let sent = state.drain().sent;
    assert!(matches!(sent.last(), Some(Frame::RefStatus(_))), "{sent:?}");
    assert!(Receiving::finished().session.is_finished());
}

#[test]
fn what_is_wanted_and_not_sent_is_for_the_store_to_miss() {
    let offered = Receiving::transfer().after(offer(files(3))).answered();
    let told = offered.after(detached(Bytes::from_static(METADATA)));
    let mut state = told.after(Frame::Finalize(Finalize {})).answered();
    let request = state.drain().requests.pop().unwrap();
    let outcome = StoreOutcome::Published(Published::Missing(files(1)));
    let done = request.complete(Ok(outcome));
    state.session.handle_stored(done).unwrap();
    assert_eq!(state.drain().sent, [missing(1)]);
    let pack = |number| {
        Frame::Pack(Pack {
            objects: vec![(file(number), Bytes::from_static(b"stored"))],
        })
    };
    let state = state.after(pack(0));
    state.refuses(pack(1), CloseCode::VIOLATION);
}

#[test]
fn a_client_that_withdraws_while_objects_are_being_staged_is_no_fault_of_the_driver() {
    let state = Receiving::transfer().after(offer(files(1)));
    let mut state = state.after(close(CloseCode::DONE)).answered();
    assert!(state.session.is_finished());
    assert!(
        !state
            .drain()
            .sent
            .iter()
            .any(|frame| matches!(frame, Frame::Close(_)))
    );
}

#[test]
fn a_receiver_keeps_its_limits_at_n_and_refuses_n_plus_one() {
    let limit = CloseCode::LIMIT;
    let announce = |bases| announce(PushOptions(0), bases);
    let _ = Receiving::expect_announce().after(announce(MAX_BASES));
    Receiving::expect_announce().refuses(announce(MAX_BASES + 1), limit);
    let _ = Receiving::transfer().after(basis(MAX_COMPLETE));
    Receiving::transfer().refuses(basis(MAX_COMPLETE + 1), limit);
    let _ = Receiving::transfer().after(offer(files(MAX_OFFER_IDS)));
    Receiving::transfer().refuses(offer(files(MAX_OFFER_IDS + 1)), limit);
    let too_much = Bytes::from(vec![0; MAX_DETACHED_LEN + 1]);
    Receiving::transfer().refuses(detached(too_much), limit);

    let mut unsettled = Receiving::transfer();
    let ids = files(MAX_UNSETTLED_IDS);
    for batch in ids.chunks(MAX_OFFER_IDS) {
        unsettled = unsettled.after(offer(batch.to_vec())).answered();
    }
    unsettled.refuses(offer(vec![file(MAX_UNSETTLED_IDS)]), limit);
}

#[test]
fn detached_metadata_of_the_largest_size_is_taken() {
    let metadata = Bytes::from(vec![0; MAX_DETACHED_LEN]);
    let Frame::Announce(announce) = announce(PushOptions(0), 0) else {
        unreachable!()
    };
    let announce = Frame::Announce(Announce {
        refs: vec![RefUpdate {
            detached: Some(Checksum::of(&metadata)),
            ..update()
        }],
        ..announce
    });
    let state = Receiving::expect_announce().after(announce).answered();
    let _ = state.after(detached(metadata));
}

#[test]
fn a_frame_before_hello_is_measured_by_the_frozen_limit_and_later_ones_by_the_sessions_own() {
    let ignorable = |len: u32| {
        let head = [&[0x77, 0x77, 1, 0][..], &len.to_le_bytes()].concat();
        let payload = vec![0; usize::try_from(len).unwrap()];
        BytesMut::from(&[head, payload].concat()[..])
    };
    let later = Limits::default().frame_len_max;
    for (make, limit) in [
        (
            Receiving::expect_hello as fn() -> Receiving,
            MAX_EARLY_FRAME_LEN,
        ),
        (Receiving::expect_announce, later),
    ] {
        make().session.handle_bytes(&mut ignorable(limit)).unwrap();
        let mut state = make();
        state.drain();
        let result = state.session.handle_bytes(&mut ignorable(limit + 1));
        assert!(matches!(result, Err(Error::Decode(_))));
        assert_last_is_close(&state.drain().sent, CloseCode::LIMIT);
        state.stays_closed();
    }
}

// The sending end.

struct Sending {
    session: SenderSession,
    requests: Vec<SourceRequest>,
}

impl Sending {
    fn expect_welcome() -> Self {
        Self::begin(Vec::new(), PushOptions::default())
    }

    /// Files 0, 1 and 2 were offered along with the announcement.
    fn offered_early() -> Self {
        let small = SmallCommit {
            commit: COMMIT,
            closure: files(3),
        };
        Self::begin(vec![small], PushOptions::default()).after(welcome(MAX_FRAME_LEN_MAX))
    }

    fn begin(small: Vec<SmallCommit>, options: PushOptions) -> Self {
        let mut session = SenderSession::new(SenderConfig {
            announcement: Announcement {
                options,
                refs: vec![update()],
                ..Announcement::default()
            },
            small,
            ..SenderConfig::default()
        });
        session
            .handle_bytes(&mut BytesMut::from(&PREAMBLE[..]))
            .unwrap();
        Self {
            session,
            requests: Vec::new(),
        }
    }

    fn planning_after_offer() -> Self {
        Self::offered_early().after(ref_status(0))
    }

    fn expect_ref_status() -> Self {
        Self::expect_welcome().after(welcome(MAX_FRAME_LEN_MAX))
    }

    fn planning() -> Self {
        Self::expect_ref_status().after(ref_status(0))
    }

    /// One id is offered, and no other follows.
    fn transfer() -> Self {
        Self::planning().answered().answered()
    }

    fn expect_finalized() -> Self {
        Self::finalized_with(PushOptions::default())
    }

    fn finalized_with(options: PushOptions) -> Self {
        let state = Self::begin(Vec::new(), options).after(welcome(MAX_FRAME_LEN_MAX));
        let mut state = state.after(ref_status(0)).answered().answered();
        state = state.after(want(1));
        let Drained { mut sent, requests } = state.drain();
        state.requests = requests;
        state = state.answered();
        sent.extend(state.drain().sent);
        assert_eq!(sent.last(), Some(&Frame::Finalize(Finalize {})));
        state
    }

    fn expect_summary() -> Self {
        Self::expect_finalized().after(Frame::Finalized(Finalized {
            refs: vec![RefOutcome::Updated],
        }))
    }

    fn finished() -> Self {
        Self::expect_summary().after(Frame::SummaryDone(SummaryDone::Current))
    }

    fn after(mut self, frame: Frame) -> Self {
        self.handle(frame).unwrap();
        self
    }

    fn handle(&mut self, frame: Frame) -> Result<(), Error> {
        self.session
            .handle_bytes(&mut BytesMut::from(&frame.encode()[..]))
    }

    /// Completes all requests; one file is the only object.
    fn answered(mut self) -> Self {
        let drained = self.drain();
        for request in self.requests.drain(..).chain(drained.requests) {
            let outcome = match request.op() {
                SourceOp::Descends(_) => unreachable!("servers of version 2 compare"),
                SourceOp::Plan(_) => SourceOutcome::Planned {
                    basis: Vec::new(),
                    detached: Vec::new(),
                },
                SourceOp::Offer { missing, .. } => SourceOutcome::Offered {
                    ids: if missing.is_empty() {
                        vec![file(1)]
                    } else {
                        Vec::new()
                    },
                    exhausted: true,
                },
                SourceOp::Vouch(_) => SourceOutcome::Vouched(true),
                SourceOp::Fetch(ids) => SourceOutcome::Fetched(
                    ids.iter()
                        .map(|_| Fetched::Whole(Bytes::from_static(b"stored")))
                        .collect(),
                ),
                SourceOp::Next(_) => SourceOutcome::Piece {
                    bytes: Bytes::new(),
                    last: true,
                },
            };
            self.session
                .handle_source(request.complete(Ok(outcome)))
                .unwrap();
        }
        self
    }

    fn drain(&mut self) -> Drained<SourceRequest> {
        let (mut sent, mut requests) = (Vec::new(), Vec::new());
        while let Some(output) = self.session.poll_output() {
            match output {
                SenderOutput::Transmit(bytes) => sent.extend(frames(&bytes)),
                SenderOutput::Source(request) => requests.push(request),
                SenderOutput::Event(_) => {}
            }
        }
        Drained { sent, requests }
    }

    fn refuses(mut self, frame: Frame, code: CloseCode) {
        self.drain();
        assert!(matches!(self.handle(frame), Err(Error::Violation(_))));
        assert_last_is_close(&self.drain().sent, code);
        self.stays_closed();
    }

    fn stays_closed(mut self) {
        let closed = |result| matches!(result, Err(Error::Misuse(ApiMisuse::Closed)));
        assert!(self.session.is_finished());
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
fn a_sender_takes_in_each_state_what_is_listed_and_refuses_the_rest() {
    let table =
        |make: fn() -> Sending| table(every_frame(), make, |session, frame| session.handle(frame));
    assert_eq!(table(Sending::expect_welcome), "Welcome / Close");
    assert_eq!(table(Sending::expect_ref_status), "RefStatus Ping / Close");
    assert_eq!(table(Sending::offered_early), "RefStatus Ping / Close");
    assert_eq!(table(Sending::planning), "Ping / Close");
    let after_offer = table(Sending::planning_after_offer);
    assert_eq!(after_offer, "Want Ping / Close");
    let answered = || Sending::planning_after_offer().after(want(1));
    assert_eq!(table(answered), "Ping / Close", "there was one offer");
    assert_eq!(table(Sending::transfer), "Want Staged Ping / Close");
    let finalized = "Staged Missing Finalized Ping / Close";
    assert_eq!(table(Sending::expect_finalized), finalized);
    assert_eq!(table(Sending::expect_summary), "SummaryDone Ping / Close");
    assert_eq!(table(Sending::finished), "Ping Close / ");
}

#[test]
fn a_refused_frame_closes_the_sender_and_tells_the_server_why() {
    let violation = CloseCode::VIOLATION;
    Sending::expect_welcome().refuses(Frame::Ping(Ping {}), violation);
    Sending::transfer().refuses(want(2), violation);
    Sending::expect_finalized().refuses(want(1), violation);
    Sending::expect_finalized().refuses(missing(0), violation);
    // After both were sent, at most two streams at a time, and the source was asked for one object
    // twice.
    let ids = vec![file(1), file(1)];
    Sending::expect_finalized().refuses(Frame::Missing(Missing { ids }), violation);
    let nothing = Frame::Finalized(Finalized { refs: Vec::new() });
    Sending::expect_finalized().refuses(nothing, violation);
}

#[test]
fn a_sender_keeps_its_limits_at_n_and_refuses_n_plus_one() {
    let (limit, unsupported) = (CloseCode::LIMIT, CloseCode::UNSUPPORTED);
    let _ = Sending::expect_welcome().after(welcome(MIN_FRAME_LEN_MAX));
    Sending::expect_welcome().refuses(welcome(MIN_FRAME_LEN_MAX - 1), unsupported);
    Sending::expect_welcome().refuses(welcome(MAX_FRAME_LEN_MAX + 1), unsupported);
    let _ = Sending::expect_ref_status().after(ref_status(MAX_COMPLETE));
    Sending::expect_ref_status().refuses(ref_status(MAX_COMPLETE + 1), limit);
    let _ = Sending::expect_finalized().after(missing(MAX_MISSING_IDS));
    Sending::expect_finalized().refuses(missing(MAX_MISSING_IDS + 1), limit);
    let two = Frame::Finalized(Finalized {
        refs: vec![RefOutcome::Updated; 2],
    });
    Sending::expect_finalized().refuses(two, limit);
}

#[test]
fn a_server_may_say_three_times_and_not_a_fourth_that_objects_are_missing() {
    let mut state = Sending::expect_finalized();
    for _ in 0..3 {
        state = state.after(missing(1)).answered().answered();
    }
    state.refuses(missing(1), CloseCode::VIOLATION);
}

#[test]
fn progress_that_a_server_repeats_for_ever_takes_the_room_of_one() {
    let mut state = Sending::expect_finalized();
    for objects in 0..1_000 {
        let staged = Staged { objects, bytes: 0 };
        state = state.after(Frame::Staged(staged));
    }
    let outputs = std::iter::from_fn(|| state.session.poll_output()).count();
    assert_eq!(outputs, 1);
}

#[test]
fn the_end_of_a_servers_bytes_is_clean_only_when_all_was_said() {
    for make in [
        Sending::expect_welcome,
        Sending::expect_ref_status,
        Sending::planning,
        Sending::planning_after_offer,
        Sending::transfer,
        Sending::expect_finalized,
        Sending::expect_summary,
    ] {
        let mut state = make();
        state.drain();
        assert!(matches!(state.session.handle_eof(), Err(Error::Truncated)));
        state.stays_closed();
    }
    Sending::finished().session.handle_eof().unwrap();
}

#[test]
fn a_source_that_gives_more_than_was_asked_for_is_misused_not_sent() {
    let mut state = Sending::planning().answered();
    let request = state.drain().requests.pop().unwrap();
    let outcome = SourceOutcome::Offered {
        ids: files(MAX_OFFER_IDS + 1),
        exhausted: true,
    };
    let result = state.session.handle_source(request.complete(Ok(outcome)));
    assert!(matches!(result, Err(Error::Misuse(ApiMisuse::Outcome))));
    assert_last_is_close(&state.drain().sent, CloseCode::INTERNAL);
}

#[test]
fn a_violation_names_what_was_awaited_and_what_came() {
    let mut state = Receiving::expect_hello();
    let error = state.handle(offer(files(1))).unwrap_err();
    assert!(matches!(
        error,
        Error::Violation(Violation::Unexpected {
            awaited: "Hello",
            ..
        })
    ));
}

#[test]
fn an_outcome_is_foretold_in_a_dry_run_and_nowhere_else() {
    let finalized = |outcome| {
        let refs = vec![outcome];
        Frame::Finalized(Finalized { refs })
    };
    let dry = || Sending::finalized_with(PushOptions::DRY_RUN);
    let _ = dry().after(finalized(RefOutcome::WouldUpdate));
    let _ = dry().after(finalized(RefOutcome::Unchanged));
    dry().refuses(finalized(RefOutcome::Updated), CloseCode::VIOLATION);
    dry().refuses(missing(1), CloseCode::VIOLATION);
    let real = Sending::expect_finalized;
    let _ = real().after(finalized(RefOutcome::Unchanged));
    real().refuses(finalized(RefOutcome::WouldUpdate), CloseCode::VIOLATION);
    // The server's own store cannot produce these outcomes either.
    for refs in [vec![RefOutcome::WouldUpdate], vec![RefOutcome::Updated; 2]] {
        let mut state = Receiving::publishing();
        let request = state.drain().requests.pop().unwrap();
        let outcome = StoreOutcome::Published(Published::Done(refs));
        let result = state.session.handle_stored(request.complete(Ok(outcome)));
        assert!(matches!(result, Err(Error::Misuse(ApiMisuse::Outcome))));
    }
}

#[test]
fn a_client_does_not_know_what_became_of_a_push_between_finalize_and_its_answer() {
    assert!(!Sending::transfer().session.is_unsettled());
    assert!(Sending::expect_finalized().session.is_unsettled());
    assert!(!Sending::expect_summary().session.is_unsettled());
    let asked = Sending::expect_finalized().after(missing(1));
    assert!(!asked.session.is_unsettled());
    let dry = Sending::finalized_with(PushOptions::DRY_RUN);
    assert!(!dry.session.is_unsettled());
    // A close that refuses a message or an object proves that nothing was published; others do not.
    for code in 0..=15 {
        let mut state = Sending::expect_finalized();
        state.handle(close(CloseCode(code))).unwrap_err();
        let is_known = [4, 5, 6, 7, 10].contains(&code);
        assert_eq!(state.session.is_unsettled(), !is_known, "code {code}");
    }
    // A `Missing` that breaks a rule still says that nothing was published.
    for wrong in [0, MAX_MISSING_IDS + 1] {
        let mut state = Sending::expect_finalized();
        state.handle(missing(wrong)).unwrap_err();
        assert!(!state.session.is_unsettled(), "{wrong} ids");
    }
    let mut cut = Sending::expect_finalized();
    cut.session.handle_eof().unwrap_err();
    assert!(cut.session.is_unsettled());
}

#[test]
fn a_client_ends_a_push_before_it_sends_what_the_server_does_not_take() {
    let limits = |objects, object_len, len| Limits {
        push_objects_max: objects,
        object_len_max: object_len,
        push_len_max: len,
        ..Limits::default()
    };
    // The client is to send one object of 6 bytes.
    for (limits, ends) in [
        (limits(1, 6, 6), false),
        (limits(0, 6, 6), true),
        (limits(1, 5, 6), true),
        (limits(1, 6, 5), true),
    ] {
        let Frame::Welcome(welcome) = welcome(MAX_FRAME_LEN_MAX) else {
            unreachable!()
        };
        let welcome = Frame::Welcome(Welcome { limits, ..welcome });
        let state = Sending::expect_welcome().after(welcome);
        let mut state = state.after(ref_status(0)).answered().answered();
        state.drain();
        let wanted = state.handle(want(1));
        let mut sent = Vec::new();
        let result = wanted.and_then(|()| {
            let drained = state.drain();
            sent.extend(drained.sent);
            let mut fetches = drained.requests.into_iter();
            let fetched = Fetched::Whole(Bytes::from_static(b"stored"));
            let outcome = SourceOutcome::Fetched(vec![fetched]);
            let done = fetches.next().unwrap().complete(Ok(outcome));
            state.session.handle_source(done)
        });
        sent.extend(state.drain().sent);
        let packs = sent.iter().any(|frame| matches!(frame, Frame::Pack(_)));
        assert_eq!(packs, !ends, "{limits:?}");
        assert_eq!(result.is_err(), ends, "{limits:?}");
        if ends {
            assert_last_is_close(&sent, CloseCode::LIMIT);
            state.stays_closed();
        }
    }
}

#[test]
fn a_client_looks_at_the_unpacked_size_before_it_sends_a_large_file() {
    let mut first = vec![0; 16];
    first[8..].copy_from_slice(&1_000_u64.to_be_bytes());
    for (object_len_max, ends) in [(1_000, false), (999, true)] {
        let limits = Limits {
            object_len_max,
            ..Limits::default()
        };
        let Frame::Welcome(welcome) = welcome(MAX_FRAME_LEN_MAX) else {
            unreachable!()
        };
        let welcome = Frame::Welcome(Welcome { limits, ..welcome });
        let state = Sending::expect_welcome().after(welcome);
        let mut state = state.after(ref_status(0)).answered().answered();
        state = state.after(want(1));
        let fetch = state.drain().requests.pop().unwrap();
        let large = SourceOutcome::Fetched(vec![Fetched::Large(None)]);
        state
            .session
            .handle_source(fetch.complete(Ok(large)))
            .unwrap();
        let next = state.drain().requests.pop().unwrap();
        let piece = SourceOutcome::Piece {
            bytes: first.clone().into(),
            last: true,
        };
        let result = state.session.handle_source(next.complete(Ok(piece)));
        assert_eq!(result.is_err(), ends);
        let sent = state.drain().sent;
        let chunks = sent
            .iter()
            .any(|frame| matches!(frame, Frame::ObjectChunk(_)));
        assert_eq!(chunks, !ends);
    }
}

#[test]
fn staged_counts_bytes_of_verified_objects_and_of_no_others() {
    let chunk = |len| {
        let bytes = Bytes::from(vec![0; len]);
        Frame::ObjectChunk(ObjectChunk { stream: 0, bytes })
    };
    let staged = |state: &mut Receiving| {
        let sent = state.drain().sent;
        sent.into_iter().find_map(|frame| match frame {
            Frame::Staged(staged) => Some((staged.objects, staged.bytes)),
            _ => None,
        })
    };
    let mut state = Receiving::transfer_of_wanted();
    for _ in 0..3 {
        state = state.after(chunk(1024 * 1024)).answered();
        assert_eq!(staged(&mut state), None, "it is on its way");
    }
    let mut state = state.after(Frame::ObjectEnd(ObjectEnd { stream: 0 }));
    let end = state.drain().requests.pop().unwrap();
    let done = end.complete(Ok(StoreOutcome::Staged));
    state.session.handle_stored(done).unwrap();
    assert_eq!(staged(&mut state), Some((1, 3 * 1024 * 1024)));
}

#[test]
fn what_was_wanted_and_did_not_come_is_told_to_the_store_before_it_publishes() {
    let offered = Receiving::transfer().after(offer(files(3))).answered();
    let pack = Frame::Pack(Pack {
        objects: vec![(file(1), Bytes::from_static(b"stored"))],
    });
    let told = offered
        .after(pack)
        .after(detached(Bytes::from_static(METADATA)));
    let mut state = told.answered().after(Frame::Finalize(Finalize {}));
    let requests = state.drain().requests;
    let [StoreOp::Unsent(unsent)] = &requests.iter().map(StoreRequest::op).collect::<Vec<_>>()[..]
    else {
        unreachable!("{requests:?}");
    };
    let mut unsent = unsent.clone();
    unsent.sort();
    let mut expected = vec![file(0), file(2)];
    expected.sort();
    assert_eq!(unsent, expected);
    state.requests = requests;
    let requests = state.answered().drain().requests;
    assert!(matches!(requests[0].op(), StoreOp::Publish));
}

/// The texts of the most common mistakes, which the author of another implementation reads.
#[test]
fn a_violation_says_which_rule_was_broken() {
    let says = |mut state: Receiving, frame: Frame| state.handle(frame).unwrap_err();
    let chain = |error: Error| {
        let source = std::error::Error::source(&error).unwrap();
        source.to_string()
    };
    let pack = |number| {
        Frame::Pack(Pack {
            objects: vec![(file(number), Bytes::from_static(b"stored"))],
        })
    };
    let metadata = || detached(Bytes::from_static(METADATA));
    let offered = Receiving::transfer().after(offer(files(1)));
    let early = chain(says(offered, pack(0)));
    assert!(
        early.contains("before the Want that answers its Offer"),
        "{early}"
    );
    let twice = Receiving::transfer().after(metadata());
    assert_eq!(
        chain(says(twice, metadata())),
        "detached metadata of a commit came twice"
    );
    assert_eq!(
        chain(says(Receiving::dry_run(), metadata())),
        "a dry run sends no detached metadata"
    );
    let says = |mut state: Sending, frame: Frame| chain(state.handle(frame).unwrap_err());
    let summary = Frame::SummaryDone(SummaryDone::Current);
    assert_eq!(
        says(Sending::expect_finalized(), summary),
        "SummaryDone came before an outcome for each announced ref"
    );
    assert_eq!(
        says(Sending::expect_finalized(), missing(0)),
        "a Missing has no id"
    );
    assert_eq!(
        says(Sending::planning(), want(1)),
        "Want came before anything was offered"
    );
    assert_eq!(
        says(Sending::expect_welcome(), want(1)),
        "Want came, but the session expects Welcome"
    );
}
