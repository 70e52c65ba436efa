//! Golden frames: the bytes of version 2, for this crate and for other implementations.
//!
//! Each `testdata/v2/NAME.bin` is a stream of frames; `NAME.txt` is the decoded text, or the reason
//! for the refusal. Streams are added, never edited; `GOLDEN=write` writes the missing ones.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Announce, Answer, Base, Basis, Close, CloseCode, Detached, Expect, Extensions, Extent,
    Finalize, Finalized, Frame, Held, Hello, Missing, ObjectBegin, ObjectChunk, ObjectEnd, Offer,
    PREAMBLE, Pack, Ping, Prefix, PullOptions, PullState, PushOptions, RefAnswer, RefOutcome,
    RefRequest, RefState, RefStatus, RefUpdate, Refusal, RefusalCode, Request, Sent, Staged,
    SummaryDone, Verdict, Want, Welcome,
};
use artifact_protocol::limits::{Limits, MAX_EARLY_FRAME_LEN, MAX_EXTENSIONS_LEN, MAX_TEXT_LEN};
use artifact_protocol::session::{ReceiverConfig, ReceiverSession};
use artifact_protocol::{Features, Text, Version};
use bytes::{Bytes, BytesMut};

#[test]
fn every_golden_stream_decodes_to_its_text() {
    for (name, bytes) in goldens() {
        let bin = directory().join(format!("{name}.bin"));
        let txt = directory().join(format!("{name}.txt"));
        if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") && !bin.exists() {
            std::fs::write(&bin, &bytes).unwrap();
            std::fs::write(&txt, describe(name, &bytes)).unwrap();
        }
        let golden = std::fs::read(&bin).unwrap_or_else(|_| panic!("{name} is missing"));
        let text = std::fs::read_to_string(&txt).unwrap();
        assert_eq!(describe(name, &golden), text, "{name}");
        assert_eq!(golden, bytes, "{name}: we would write other bytes");
    }
}

#[test]
fn the_directory_holds_the_listed_files_and_no_others() {
    let listed: BTreeSet<_> = goldens()
        .into_iter()
        .flat_map(|(name, _)| [format!("{name}.bin"), format!("{name}.txt")])
        .collect();
    let found: BTreeSet<_> = std::fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, listed);
}

#[test]
fn every_kind_of_frame_has_a_golden() {
    let mut kinds = BTreeSet::new();
    for (_, bytes) in goldens() {
        let mut input = BytesMut::from(&bytes[..]);
        while let Ok(Some(frame)) = Frame::decode(&mut input, MAX_EARLY_FRAME_LEN) {
            kinds.insert(frame.kind().0);
        }
    }
    let of_the_spec = [
        0x01, 0x02, 0x03, 0x04, 0x10, 0x11, 0x12, 0x13, 0x20, 0x21, 0x22, 0x23, 0x24, 0x30, 0x31,
        0x32, 0x33, 0x40, 0x41, 0x50, 0x51, 0x52, 0x53, 0x54,
    ];
    assert_eq!(kinds, BTreeSet::from(of_the_spec));
}

/// No text about a frame may show how this crate is built: it uses the SPEC's names of messages and
/// fields.
#[test]
fn whoever_sends_a_bad_frame_is_told_its_name_and_the_field_in_words() {
    let spec = include_str!("../SPEC.md");
    for (golden, bytes) in goldens() {
        for len in 0..=bytes.len() {
            let (mut cut, end) = (bytes[..len].to_vec(), len.saturating_sub(8));
            let stated = u32::try_from(end).unwrap().to_le_bytes();
            if let Some(room) = cut.get_mut(4..8)
                && !golden.contains("too-long")
            {
                room.copy_from_slice(&stated);
            }
            let Err(error) = Frame::decode(&mut BytesMut::from(&cut[..]), MAX_EARLY_FRAME_LEN)
            else {
                continue;
            };
            let text = refusal(&error);
            for alien in [
                "FrameKind",
                "{",
                "Some(",
                "String",
                "variant",
                "Variant",
                "serde",
            ] {
                assert!(!text.contains(alien), "{golden}: {text}");
            }
            let Some((_, reason)) = text.split_once("because: ") else {
                continue;
            };
            let field = reason.split([':', '[']).next().unwrap();
            if field.ends_with("_max") || !field.contains(' ') {
                let name = field.rsplit('.').next().unwrap().trim();
                assert!(spec.contains(name), "{golden}: {name} is not in the SPEC");
            }
        }
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/v2")
}

/// Describes a stream. The beginning of a connection goes to a session, which expects the preamble;
/// every decoded frame is encoded again.
fn describe(name: &str, bytes: &[u8]) -> String {
    let mut input = BytesMut::from(bytes);
    if name.starts_with("refused-preamble") {
        let mut session = ReceiverSession::new(ReceiverConfig::default());
        return refusal(&session.handle_bytes(&mut input).unwrap_err());
    }
    let mut text = String::new();
    loop {
        let before = input.clone();
        match Frame::decode(&mut input, MAX_EARLY_FRAME_LEN) {
            Ok(Some(frame)) => {
                let taken = &before[..before.len() - input.len()];
                assert!(taken.ends_with(&frame.encode()), "{name}");
                writeln!(text, "{frame:#?}").unwrap();
            }
            Ok(None) if input.is_empty() => return text,
            Ok(None) => return text + &format!("{} bytes that wait for more\n", input.len()),
            Err(error) => return text + &refusal(&error),
        }
    }
}

fn refusal(error: &dyn Error) -> String {
    let mut text = format!("refused: {error}\n");
    let mut source = error.source();
    while let Some(error) = source {
        writeln!(text, "  because: {error}").unwrap();
        source = error.source();
    }
    text
}

fn goldens() -> Vec<(&'static str, Vec<u8>)> {
    let groups = [greeting(), announcement(), objects(), closing(), pull()];
    let frames = groups.into_iter().flatten();
    let mut goldens: Vec<_> = frames
        .map(|(name, frame)| (name, frame.encode().to_vec()))
        .collect();
    goldens.extend(skipped_and_partial());
    goldens.extend(refused_heads());
    goldens.extend(refused_messages());
    goldens.extend(refused_object_frames());
    goldens.extend(refused_pull_frames());
    goldens
}

fn sum(byte: u8) -> Checksum {
    Checksum::new([byte; 32])
}

fn id(kind: ObjectKind, byte: u8) -> ObjectId {
    ObjectId::new(kind, sum(byte))
}

fn extensions(entries: &[(u16, &[u8])]) -> Extensions {
    let mut extensions = Extensions::default();
    for (tag, value) in entries {
        extensions.set(*tag, value.to_vec());
    }
    extensions
}

fn hello() -> Hello {
    Hello {
        version_min: Version(2),
        version_max: Version(2),
        features: Features(0),
        agent: Text::new("artifact-cache 0.1.0"),
        extensions: Extensions::default(),
    }
}

fn greeting() -> Vec<(&'static str, Frame)> {
    let later = Hello {
        version_max: Version(7),
        features: Features(0x8000_0000_0000_0001),
        extensions: extensions(&[(1, b"one"), (0xffff, b"")]),
        ..hello()
    };
    let welcome = Welcome {
        version: Version(2),
        features: Features(0),
        limits: Limits::default(),
        agent: Text::new("bst-artifact-receive 0.1.0"),
        pull_url: Some(Text::new("https://example.com/artifacts")),
        identity: Some(Text::new("ci-42")),
        extensions: Extensions::default(),
    };
    let terse = Welcome {
        agent: Text::default(),
        pull_url: None,
        identity: None,
        extensions: extensions(&[(9, b"nine")]),
        ..welcome.clone()
    };
    vec![
        ("hello", Frame::Hello(hello())),
        ("hello-of-a-later-client", Frame::Hello(later)),
        ("welcome", Frame::Welcome(welcome)),
        ("welcome-that-says-little", Frame::Welcome(terse)),
    ]
}

fn announce_one() -> Announce {
    Announce {
        options: PushOptions(0),
        refs: vec![update("main", Expect::Any)],
        bases: Vec::new(),
        more: false,
        extensions: Extensions::default(),
    }
}

fn update(name: &str, expect: Expect) -> RefUpdate {
    RefUpdate {
        name: name.parse().unwrap(),
        commit: sum(0x11),
        detached: None,
        expect,
    }
}

fn announcement() -> Vec<(&'static str, Frame)> {
    let signed = RefUpdate {
        detached: Some(sum(0x22)),
        ..update("project/signed.bst/0123", Expect::Any)
    };
    let everything = Announce {
        options: PushOptions::FORCE.with(PushOptions::DRY_RUN),
        refs: vec![
            signed,
            update("project/absent.bst/0123", Expect::Absent),
            update("project/is.bst/0123", Expect::Is(sum(0x33))),
        ],
        bases: vec![Base {
            name: "project/is.bst/0000".parse().unwrap(),
            commit: sum(0x44),
        }],
        more: true,
        extensions: extensions(&[(1, b"one")]),
    };
    let nothing = Announce {
        refs: Vec::new(),
        ..announce_one()
    };
    let state = |current, verdict| RefState { current, verdict };
    let refusal = Refusal::new(RefusalCode::NOT_FAST_FORWARD, "it is older");
    let verdicts = RefStatus {
        refs: vec![
            state(Some(sum(0x11)), Verdict::UpToDate),
            state(None, Verdict::Accepted),
            state(Some(sum(0x33)), Verdict::Refused(refusal)),
        ],
        complete: vec![sum(0x44), sum(0x33)],
    };
    let no_status = RefStatus {
        refs: Vec::new(),
        complete: Vec::new(),
    };
    vec![
        ("announce", Frame::Announce(announce_one())),
        ("announce-every-expectation", Frame::Announce(everything)),
        ("announce-nothing", Frame::Announce(nothing)),
        ("ref-status-every-verdict", Frame::RefStatus(verdicts)),
        ("ref-status-nothing", Frame::RefStatus(no_status)),
    ]
}

fn objects() -> Vec<(&'static str, Frame)> {
    let ids = ObjectKind::ALL
        .map(|kind| id(kind, 0x50 + kind.to_wire()))
        .to_vec();
    let want = |wanted| Frame::Want(Want { wanted });
    let detached = |metadata: &'static [u8]| {
        let (commit, metadata) = (sum(0x11), Bytes::from_static(metadata));
        Frame::Detached(Detached { commit, metadata })
    };
    let tree = (id(ObjectKind::Dirtree, 0x52), Bytes::from_static(b"tree"));
    let file = (id(ObjectKind::File, 0x51), Bytes::new());
    let (stream, bytes) = (3, Bytes::from_static(b"stored bytes"));
    let begin = ObjectBegin { stream, id: file.0 };
    let staged = Staged {
        objects: 512,
        bytes: 1 << 40,
    };
    vec![
        (
            "basis",
            Frame::Basis(Basis {
                commits: vec![sum(0x44)],
            }),
        ),
        ("offer-every-kind", Frame::Offer(Offer { ids })),
        ("want-none", want(Vec::new())),
        ("want-eight", want(vec![true; 8])),
        (
            "want-nine",
            want((0..9).map(|n| n % 3 == 0 || n == 8).collect()),
        ),
        ("detached", detached(b"variant")),
        ("detached-empty", detached(b"")),
        (
            "pack",
            Frame::Pack(Pack {
                objects: vec![tree, file],
            }),
        ),
        ("object-begin", Frame::ObjectBegin(begin)),
        (
            "object-chunk",
            Frame::ObjectChunk(ObjectChunk { stream, bytes }),
        ),
        ("object-end", Frame::ObjectEnd(ObjectEnd { stream })),
        ("staged", Frame::Staged(staged)),
    ]
}

fn closing() -> Vec<(&'static str, Frame)> {
    let ids = vec![id(ObjectKind::Dirmeta, 0x53)];
    let refused = |code| RefOutcome::Refused(Refusal::new(RefusalCode(code), "why"));
    let mut refs = vec![
        RefOutcome::Updated,
        RefOutcome::Unchanged,
        RefOutcome::WouldUpdate,
    ];
    refs.extend((1..=6).map(refused));
    let failed = SummaryDone::Failed(Text::new("no room"));
    let close = |code, text: &str| {
        let text = Text::new(text);
        Frame::Close(Close { code, text })
    };
    let longest = "x".repeat(MAX_TEXT_LEN);
    vec![
        ("finalize", Frame::Finalize(Finalize {})),
        ("missing", Frame::Missing(Missing { ids })),
        (
            "finalized-every-outcome",
            Frame::Finalized(Finalized { refs }),
        ),
        ("summary-current", Frame::SummaryDone(SummaryDone::Current)),
        ("summary-failed", Frame::SummaryDone(failed)),
        ("ping", Frame::Ping(Ping {})),
        ("close-done", close(CloseCode::DONE, "")),
        (
            "close-unknown-code",
            close(CloseCode(999), "\u{7d42}\u{308f}\u{308a}"),
        ),
        (
            "close-longest-text",
            close(CloseCode::STORAGE_FULL, &longest),
        ),
    ]
}

fn pull() -> Vec<(&'static str, Frame)> {
    let wanted = |name: &str, current, detached| RefRequest {
        name: name.parse().unwrap(),
        current,
        detached,
    };
    let request = Request {
        options: PullOptions::default(),
        history: 0,
        refs: vec![wanted("main", None, None)],
        patterns: Vec::new(),
        held: Vec::new(),
        more: false,
        extensions: Extensions::default(),
    };
    let everything = Request {
        options: PullOptions::DRY_RUN,
        history: 3,
        refs: vec![
            wanted("project/new.bst/0123", None, None),
            wanted("project/old.bst/0123", Some(sum(0x11)), None),
            wanted("project/signed.bst/0123", Some(sum(0x22)), Some(sum(0x33))),
        ],
        patterns: vec![
            "project/*/main".parse().unwrap(),
            "team/**".parse().unwrap(),
        ],
        held: vec![sum(0x11), sum(0x22)],
        more: true,
        extensions: extensions(&[(1, b"one")]),
    };
    let held = |more, objects: &[u8]| {
        let objects = objects.iter().map(|byte| Prefix::new([*byte; 8]));
        let objects = objects.collect();
        Frame::Held(Held { more, objects })
    };
    let answer = |name: &str, state| RefAnswer {
        name: name.parse().unwrap(),
        state,
    };
    let promised = |detached| PullState::Promised {
        commit: sum(0x44),
        detached,
    };
    let absent = PullState::Refused(Refusal::new(RefusalCode::ABSENT, "there is no such ref"));
    let answers = Answer {
        refs: vec![
            answer("project/new.bst/0123", promised(None)),
            answer("project/signed.bst/0123", promised(Some(sum(0x55)))),
            answer("project/old.bst/0123", PullState::UpToDate),
            answer("project/absent.bst/0123", absent),
        ],
        basis: vec![sum(0x11)],
        more: true,
    };
    let nothing = Answer {
        refs: Vec::new(),
        basis: Vec::new(),
        more: false,
    };
    let (objects, bytes) = (512, 1 << 40);
    vec![
        ("request", Frame::Request(request)),
        ("request-of-everything", Frame::Request(everything)),
        ("held", held(false, &[0x61])),
        ("held-of-several", held(true, &[0x61, 0x62, 0x61])),
        ("answer-every-state", Frame::Answer(answers)),
        ("answer-nothing", Frame::Answer(nothing)),
        ("extent", Frame::Extent(Extent { objects, bytes })),
        ("sent", Frame::Sent(Sent { objects, bytes })),
    ]
}

fn refused_pull_frames() -> Vec<(&'static str, Vec<u8>)> {
    let pull = pull();
    let encoded = |name| {
        let found = pull.iter().find(|(found, _)| *found == name).unwrap();
        found.1.encode()
    };
    let request = encoded("request-of-everything");
    let at = |text: &[u8]| {
        let mut windows = request.windows(text.len());
        windows.position(|window| window == text).unwrap()
    };
    let answer = encoded("answer-every-state");
    let state = 8 + 8 + 8 + "project/new.bst/0123".len();
    vec![
        (
            "refused-request-pattern",
            patched(&request, at(b"team/**"), b'-'),
        ),
        (
            "refused-request-ref-name",
            patched(&request, at(b"project/old"), b'/'),
        ),
        ("refused-answer-state", patched(&answer, state, 3)),
        ("refused-held-empty", raw(0x51, 0, b"")),
        ("refused-held-without-objects", raw(0x51, 0, b"\0")),
        ("refused-held-part-of-an-object", raw(0x51, 0, &[1; 16])),
        ("refused-held-more", raw(0x51, 0, &[2; 9])),
    ]
}

fn skipped_and_partial() -> Vec<(&'static str, Vec<u8>)> {
    let skipped = raw(0x7777, 1, b"of a later version");
    let ping = raw(0x40, 0, b"");
    let close = raw(0x41, 0, &[0; 10]);
    vec![
        (
            "skipped-unknown-kind-then-ping",
            [&skipped[..], &ping].concat(),
        ),
        (
            "ping-then-part-of-close",
            [&ping[..], &close[..17]].concat(),
        ),
    ]
}

fn refused_heads() -> Vec<(&'static str, Vec<u8>)> {
    let mut rewritten = PREAMBLE.to_vec();
    rewritten.remove(4);
    let limit = MAX_EARLY_FRAME_LEN;
    vec![
        (
            "refused-preamble-of-a-shell",
            b"Last login: today\r\n".to_vec(),
        ),
        ("refused-preamble-line-end-rewritten", rewritten),
        (
            "refused-preamble-of-the-old-protocol",
            b"l\x01\x00\x21\x00".to_vec(),
        ),
        ("refused-too-long", head(0x20, 0, limit + 1)),
        ("refused-too-long-by-far", head(0x20, 0, u32::MAX)),
        (
            "refused-too-long-though-ignorable",
            head(0x7777, 1, limit + 1),
        ),
        ("refused-unknown-kind", raw(0x7777, 0, b"")),
        ("refused-unknown-kind-before-its-payload", head(0x05, 0, 10)),
        ("refused-unknown-flag-on-unknown-kind", raw(0x7777, 3, b"")),
        ("refused-ignorable-flag-on-known-kind", raw(0x40, 1, b"")),
        ("refused-unknown-flag-on-known-kind", raw(0x40, 0x8000, b"")),
    ]
}

fn refused_messages() -> Vec<(&'static str, Vec<u8>)> {
    let announce = Frame::Announce(announce_one()).encode();
    let name = 8 + 4 + 8 + 8;
    let detached = name + 4 + 32;
    let expect = detached + 1;
    let more = expect + 4 + 8;
    let close = |len: u64, text: &[u8]| {
        let payload = [&[0, 0][..], &len.to_le_bytes(), text].concat();
        raw(0x41, 0, &payload)
    };
    let long = [b'x'; MAX_TEXT_LEN + 1];
    let value = vec![0; MAX_EXTENSIONS_LEN - 10 + 1];
    let extended = Hello {
        extensions: extensions(&[(1, &value)]),
        ..hello()
    };
    vec![
        ("refused-trailing-byte", raw(0x40, 0, b"\0")),
        (
            "refused-trailing-byte-after-a-field",
            raw(0x23, 0, b"\x03\0"),
        ),
        ("refused-payload-too-short", raw(0x41, 0, b"\0")),
        ("refused-ref-name", patched(&announce, name, b'/')),
        ("refused-option-tag", patched(&announce, detached, 2)),
        ("refused-variant", patched(&announce, expect, 3)),
        ("refused-bool", patched(&announce, more, 2)),
        (
            "refused-list-longer-than-payload",
            raw(0x11, 0, &u64::MAX.to_le_bytes()),
        ),
        ("refused-text-not-utf-8", close(2, b"\xc3\x28")),
        ("refused-text-too-long", close(long.len() as u64, &long)),
        ("refused-text-longer-than-payload", close(3, b"ab")),
        (
            "refused-extensions-too-long",
            Frame::Hello(extended).encode().to_vec(),
        ),
        ("refused-extensions-unsorted", hello_with_tags([2, 1])),
        ("refused-extensions-tag-twice", hello_with_tags([1, 1])),
    ]
}

/// A `Hello` with two empty extensions.
fn hello_with_tags(tags: [u16; 2]) -> Vec<u8> {
    let two = extensions(&[(1, b""), (2, b"")]);
    let hello = Hello {
        extensions: two,
        ..hello()
    };
    let mut bytes = Frame::Hello(hello).encode().to_vec();
    for (tag, from_end) in tags.into_iter().zip([20, 10]) {
        let at = bytes.len() - from_end;
        bytes[at..at + 2].copy_from_slice(&tag.to_le_bytes());
    }
    bytes
}

fn refused_object_frames() -> Vec<(&'static str, Vec<u8>)> {
    let offer = |kind: u8| raw(0x11, 0, &[&1_u64.to_le_bytes()[..], &[kind; 33]].concat());
    let pack = |kind, len: u32| {
        let payload = [&[kind; 33][..], &len.to_le_bytes(), b"1234567"].concat();
        raw(0x20, 0, &payload)
    };
    vec![
        ("refused-object-kind-zero", offer(0)),
        ("refused-object-kind-five", offer(5)),
        ("refused-want-without-count", raw(0x12, 0, b"\x01")),
        (
            "refused-want-count-other-than-bits",
            raw(0x12, 0, b"\x09\0\0\0\x01"),
        ),
        (
            "refused-want-bit-beyond-count",
            raw(0x12, 0, b"\x07\0\0\0\x80"),
        ),
        ("refused-detached-without-commit", raw(0x13, 0, &[0; 31])),
        ("refused-pack-empty", raw(0x20, 0, b"")),
        ("refused-pack-object-kind", pack(9, 7)),
        ("refused-pack-object-longer-than-pack", pack(1, 8)),
        ("refused-pack-object-without-length", raw(0x20, 0, &[1; 36])),
        ("refused-chunk-empty", raw(0x22, 0, b"")),
        ("refused-chunk-without-bytes", raw(0x22, 0, b"\x03")),
    ]
}

fn head(kind: u16, flags: u16, len: u32) -> Vec<u8> {
    let (kind, flags) = (kind.to_le_bytes(), flags.to_le_bytes());
    [&kind[..], &flags, &len.to_le_bytes()].concat()
}

fn raw(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&head(kind, flags, len)[..], payload].concat()
}

fn patched(bytes: &[u8], at: usize, byte: u8) -> Vec<u8> {
    let mut patched = bytes.to_vec();
    patched[at] = byte;
    patched
}
