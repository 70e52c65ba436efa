//! What must hold of every input, whoever makes it up.
//!
//! The property tests of this package and the fuzz targets of `fuzz/` call the same functions, so a
//! finding of one is a regression test of the other. Each panics when its claim is false.

use std::path::{Component, Path};

use artifact_protocol::frame::{Frame, PREAMBLE, RefOutcome, RefState, SummaryDone, Verdict};
use artifact_protocol::limits::{MAX_EARLY_FRAME_LEN, MAX_FRAME_LEN_MAX, MAX_REF_LEN};
use artifact_protocol::ostree::{
    Attributes, Commit, Dirmeta, Dirtree, FileHeader, Summary, check_detached,
};
use artifact_protocol::session::{
    ApiMisuse, Error, Opened, Published, ReceiverConfig, ReceiverOutput, ReceiverSession, StoreOp,
    StoreOutcome,
};
use artifact_protocol::{RefName, escape};
use bytes::BytesMut;

/// A ref name that is accepted is a path of plain components, spelled as given, in few bytes.
pub fn ref_name_is_a_safe_path(text: &str) {
    let Ok(name) = text.parse::<RefName>() else {
        return;
    };
    assert_eq!(name.as_str(), text, "a ref name is kept as it was given");
    assert!(text.is_ascii() && text.len() <= MAX_REF_LEN);
    let plain: Vec<&str> = Path::new(text)
        .components()
        .map(|component| match component {
            Component::Normal(part) => part.to_str().expect("it is ASCII"),
            other => unreachable!("{text:?} has the component {other:?}"),
        })
        .collect();
    assert_eq!(
        plain.join("/"),
        text,
        "a path is the same whether normalized or not"
    );
    assert!(name.components().eq(plain));
}

/// Escaped text cannot move a cursor, change a colour, or hide or reorder what stands beside it.
pub fn escaped_text_is_harmless(text: &str) {
    for character in escape(text).chars() {
        let code = u32::from(character);
        let unseen = [
            0x200b..=0x200f,
            0x2028..=0x202e,
            0x2060..=0x206f,
            0xfeff..=0xfeff,
        ];
        assert!(
            !character.is_control() && !unseen.iter().any(|range| range.contains(&code)),
            "{text:?} leaves {character:?}"
        );
    }
}

/// Bytes that are a frame are the only bytes that are this frame, and where they are cut on the way
/// makes no difference.
pub fn a_frame_has_one_spelling(input: &[u8]) {
    let mut rest = BytesMut::from(input);
    loop {
        let before = rest.clone();
        let Ok(Some(frame)) = Frame::decode(&mut rest, MAX_FRAME_LEN_MAX) else {
            return;
        };
        let taken = &before[..before.len() - rest.len()];
        // Frames that may be skipped may stand before it.
        assert!(
            taken.ends_with(&frame.encode()),
            "{frame:?} is spelled otherwise"
        );
        let (early, late) = taken.split_at(taken.len() / 2);
        let mut pieces = BytesMut::from(early);
        if let Ok(Some(sooner)) = Frame::decode(&mut pieces, MAX_FRAME_LEN_MAX) {
            unreachable!("half of {frame:?} is {sooner:?}");
        }
        pieces.extend_from_slice(late);
        let again = Frame::decode(&mut pieces, MAX_FRAME_LEN_MAX);
        assert_eq!(again.expect("it was one before"), Some(frame));
    }
}

/// Bytes that are accepted as an object's are what writing that object gives, where all of it is
/// kept, and otherwise say the same as what writing it gives.
pub fn an_object_has_one_spelling(input: &[u8]) {
    if let Ok(tree) = Dirtree::parse(input) {
        assert_eq!(Dirtree::serialize(tree.files(), tree.dirs()), input);
        let names = tree.files().map(|(name, _)| name);
        for name in names.chain(tree.dirs().map(|(name, _, _)| name)) {
            let mut components = Path::new(name).components();
            let first = components.next();
            assert!(
                matches!(first, Some(Component::Normal(plain)) if plain == name),
                "{name:?}"
            );
            assert!(components.next().is_none() && !name.contains(['/', '\0']));
        }
    }
    if let Ok(meta) = Dirmeta::parse(input) {
        assert_eq!(meta.serialize(), input);
    }
    if let Ok(attributes) = Attributes::parse(input) {
        assert_eq!(attributes.serialize(), input);
    }
    if let Ok(commit) = Commit::parse(input) {
        // As with summaries, values that are not known are left out when it is written.
        let again = Commit::parse(&commit.serialize());
        assert_eq!(again.expect("what is written can be read"), commit);
    }
    if let Ok((header, size)) = FileHeader::parse_archive(input) {
        assert_eq!(header.to_archive(size), input);
        assert_eq!(FileHeader::archive_bytes_needed(input).ok(), Some(0));
    }
    if let Ok(summary) = Summary::parse(input) {
        let again = Summary::parse(&summary.serialize());
        assert_eq!(again.expect("what is written can be read"), summary);
    }
    // Detached metadata is passed on as it is.
    let _ = check_detached(input);
}

/// Whatever a client sends, a receiver session asks for nothing after an error, and acknowledges
/// refs only after the store has published them.
pub fn a_receiver_session_withstands(input: &[u8]) {
    let mut session = ReceiverSession::new(ReceiverConfig::default());
    let mut input = BytesMut::from(input);
    let mut store = WillingStore::default();
    while !session.is_finished() {
        let before = input.len();
        let mut result = session.handle_bytes(&mut input);
        let mut worked = false;
        while let (Ok(()), Some(output)) = (&result, session.poll_output()) {
            worked = true;
            match output {
                ReceiverOutput::Transmit(bytes) => store.check_transmitted(&bytes),
                ReceiverOutput::Event(_) => {}
                ReceiverOutput::Store(request) => {
                    let outcome = store.work(request.op());
                    result = session.handle_stored(request.complete(Ok(outcome)));
                }
            }
        }
        if result.is_err() {
            return must_stay_closed(session, &store);
        }
        if !worked && input.len() == before {
            if session.handle_eof().is_err() {
                return must_stay_closed(session, &store);
            }
            return;
        }
    }
}

fn must_stay_closed(mut session: ReceiverSession, store: &WillingStore) {
    assert!(session.is_finished());
    while let Some(output) = session.poll_output() {
        match output {
            ReceiverOutput::Transmit(bytes) => store.check_transmitted(&bytes),
            ReceiverOutput::Event(_) => {}
            ReceiverOutput::Store(request) => unreachable!("{request:?} after an error"),
        }
    }
    let mut more = BytesMut::from(&PREAMBLE[..]);
    let misuse = session.handle_bytes(&mut more);
    assert!(
        matches!(misuse, Err(Error::Misuse(ApiMisuse::Closed))),
        "{misuse:?}"
    );
    assert!(session.poll_output().is_none());
}

/// A store that lacks every object, and to which everything is well.
#[derive(Debug, Default)]
struct WillingStore {
    refs: usize,
    published: bool,
}

impl WillingStore {
    fn work(&mut self, op: &StoreOp) -> StoreOutcome {
        match op {
            StoreOp::Open(announcement) => {
                self.refs = announcement.refs.len();
                let accepted = |_| RefState {
                    current: None,
                    verdict: Verdict::Accepted,
                };
                StoreOutcome::Opened(Opened {
                    refs: (0..self.refs).map(accepted).collect(),
                    complete: Vec::new(),
                })
            }
            StoreOp::Rely(_) => StoreOutcome::Relied,
            StoreOp::Have(ids) => StoreOutcome::Have(vec![false; ids.len()]),
            StoreOp::Begin(..) | StoreOp::Append(..) => StoreOutcome::Appended,
            StoreOp::Stage(_) | StoreOp::End(_) | StoreOp::Detached(..) => StoreOutcome::Staged,
            StoreOp::Publish => {
                self.published = true;
                StoreOutcome::Published(Published::Done(vec![RefOutcome::Updated; self.refs]))
            }
            StoreOp::Summarize => StoreOutcome::Summarized(SummaryDone::Current),
        }
    }

    fn check_transmitted(&self, bytes: &[u8]) {
        let mut frames = BytesMut::from(bytes.strip_prefix(&PREAMBLE[..]).unwrap_or(bytes));
        while let Ok(Some(frame)) = Frame::decode(&mut frames, MAX_EARLY_FRAME_LEN) {
            let acknowledged = matches!(frame, Frame::Finalized(_) | Frame::SummaryDone(_));
            assert!(
                self.published || !acknowledged,
                "{frame:?} before it is published"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifact_protocol::frame::{
        Announce, Close, CloseCode, Detached, Expect, Extensions, Finalize, Hello, ObjectBegin,
        ObjectChunk, ObjectEnd, Offer, Pack, Ping, PushOptions, RefUpdate,
    };
    use artifact_protocol::{Checksum, Features, ObjectId, ObjectKind, Text, Version};
    use bytes::Bytes;
    use proptest::prelude::*;

    fn hello() -> Frame {
        Frame::Hello(Hello {
            version_min: Version::OLDEST,
            version_max: Version::NEWEST,
            features: Features::SUPPORTED,
            agent: Text::new("a test"),
            extensions: Extensions::default(),
        })
    }

    fn announce() -> Frame {
        let update = RefUpdate {
            name: "a/b/c".parse().unwrap(),
            commit: Checksum::new([1; 32]),
            detached: None,
            expect: Expect::Any,
        };
        Frame::Announce(Announce {
            options: PushOptions::default(),
            refs: vec![update],
            bases: Vec::new(),
            more: false,
            extensions: Extensions::default(),
        })
    }

    fn any_id() -> impl Strategy<Value = ObjectId> {
        let kind = prop::sample::select(ObjectKind::ALL.to_vec());
        (kind, 1..4u8).prop_map(|(kind, byte)| ObjectId::new(kind, Checksum::new([byte; 32])))
    }

    /// Frames of clients, in states where they belong and where they do not.
    fn any_frame() -> impl Strategy<Value = Frame> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let pack = prop::collection::vec((any_id(), bytes()), 0..3);
        prop_oneof![
            1 => Just(hello()),
            1 => Just(announce()),
            4 => prop::collection::vec(any_id(), 0..5).prop_map(|ids| Frame::Offer(Offer { ids })),
            4 => pack.prop_map(|objects| Frame::Pack(Pack { objects })),
            2 => (0..3u8, any_id())
                .prop_map(|(stream, id)| Frame::ObjectBegin(ObjectBegin { stream, id })),
            2 => (0..3u8, bytes())
                .prop_map(|(stream, bytes)| Frame::ObjectChunk(ObjectChunk { stream, bytes })),
            2 => (0..3u8).prop_map(|stream| Frame::ObjectEnd(ObjectEnd { stream })),
            1 => bytes().prop_map(|metadata| Frame::Detached(Detached {
                commit: Checksum::new([1; 32]),
                metadata,
            })),
            2 => Just(Frame::Finalize(Finalize {})),
            1 => Just(Frame::Ping(Ping {})),
            1 => Just(Frame::Close(Close { code: CloseCode::DONE, text: Text::default() })),
        ]
    }

    fn any_talk() -> impl Strategy<Value = Vec<u8>> {
        let rest = prop::collection::vec(any_frame(), 0..20);
        (
            rest,
            prop::option::weighted(0.3, (any::<prop::sample::Index>(), 1..=255u8)),
        )
            .prop_map(|(rest, damage)| {
                let frames = [hello(), announce()].into_iter().chain(rest);
                let mut talk = PREAMBLE.to_vec();
                frames.for_each(|frame| talk.extend_from_slice(&frame.encode()));
                if let Some((at, flip)) = damage {
                    let at = at.index(talk.len());
                    talk[at] ^= flip;
                }
                talk
            })
    }

    /// The objects that stock ostree has written, which the fuzz targets start from as well.
    fn recorded() -> Vec<Vec<u8>> {
        let dir = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../protocol/testdata/ostree/objects"
        );
        std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect()
    }

    #[test]
    fn a_push_of_a_client_that_keeps_to_the_rules_is_acknowledged() {
        let mut talk = PREAMBLE.to_vec();
        for frame in [hello(), announce(), Frame::Finalize(Finalize {})] {
            talk.extend_from_slice(&frame.encode());
        }
        a_receiver_session_withstands(&talk);
        let mut store = WillingStore::default();
        let mut session = ReceiverSession::new(ReceiverConfig::default());
        let mut input = BytesMut::from(&talk[..]);
        for _ in 0..10 {
            session.handle_bytes(&mut input).unwrap();
            while let Some(output) = session.poll_output() {
                if let ReceiverOutput::Store(request) = output {
                    let outcome = store.work(request.op());
                    session
                        .handle_stored(request.complete(Ok(outcome)))
                        .unwrap();
                }
            }
        }
        assert!(
            store.published,
            "the property above would hold of a session that does nothing"
        );
    }

    proptest! {
        #[test]
        fn any_accepted_ref_name_is_a_safe_path(
            text in "([a-c_.0/-]{0,3}(tmp|\\.|/|\\.\\.)?){0,6}",
            wild in ".{0,40}",
        ) {
            ref_name_is_a_safe_path(&text);
            ref_name_is_a_safe_path(&wild);
            escaped_text_is_harmless(&wild);
        }

        #[test]
        fn any_frame_has_one_spelling(talk in any_talk(), noise: Vec<u8>) {
            a_frame_has_one_spelling(&talk[PREAMBLE.len()..]);
            a_frame_has_one_spelling(&noise);
        }

        #[test]
        fn any_object_has_one_spelling(
            which: prop::sample::Index,
            at: prop::sample::Index,
            change: u8,
            len: prop::sample::Index,
            noise: Vec<u8>,
        ) {
            let mut object = which.get(&recorded()).clone();
            an_object_has_one_spelling(&object);
            an_object_has_one_spelling(&object[..len.index(object.len())]);
            let at = at.index(object.len());
            object[at] = change;
            an_object_has_one_spelling(&object);
            an_object_has_one_spelling(&noise);
        }

        #[test]
        fn a_receiver_session_withstands_any_client(talk in any_talk(), noise: Vec<u8>) {
            a_receiver_session_withstands(&talk);
            a_receiver_session_withstands(&noise);
        }
    }
}
