//! Frames: one spelling each, wherever the bytes are cut.

use artifact_protocol::frame::{Frame, FrameKind};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use bytes::BytesMut;

/// The claim: if bytes decode to a frame, no other bytes decode to it; cutting them elsewhere makes
/// no difference.
pub fn a_frame_has_one_spelling(input: &[u8]) {
    let mut rest = BytesMut::from(input);
    loop {
        let before = rest.clone();
        let Ok(Some(frame)) = Frame::decode(&mut rest, MAX_FRAME_LEN_MAX) else {
            return;
        };
        let taken = &before[..before.len() - rest.len()];
        // Ignorable frames may come before it.
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

/// The claim: if a payload decodes to a message of a kind, which the first byte chooses, encoding
/// that message gives the payload.
pub fn a_message_has_one_spelling(input: &[u8]) {
    let Some((which, payload)) = input.split_first() else {
        return;
    };
    let kind = KINDS[usize::from(*which) % KINDS.len()];
    let len = u32::try_from(payload.len()).expect("a fuzzer's input is short");
    let head = [&kind.0.to_le_bytes()[..], &[0; 2], &len.to_le_bytes()].concat();
    let bytes = [&head, payload].concat();
    let mut rest = BytesMut::from(&bytes[..]);
    match Frame::decode(&mut rest, MAX_FRAME_LEN_MAX) {
        Ok(Some(frame)) => {
            assert_eq!(frame.kind(), kind);
            assert!(rest.is_empty(), "a payload ends with its last field");
            assert_eq!(&frame.encode()[..], bytes, "{frame:?} is spelled otherwise");
        }
        Ok(None) => unreachable!("a whole frame of {kind:?} waits for more"),
        Err(_) => {}
    }
}

const KINDS: [FrameKind; 24] = [
    FrameKind::HELLO,
    FrameKind::WELCOME,
    FrameKind::ANNOUNCE,
    FrameKind::REF_STATUS,
    FrameKind::BASIS,
    FrameKind::OFFER,
    FrameKind::WANT,
    FrameKind::DETACHED,
    FrameKind::PACK,
    FrameKind::OBJECT_BEGIN,
    FrameKind::OBJECT_CHUNK,
    FrameKind::OBJECT_END,
    FrameKind::STAGED,
    FrameKind::FINALIZE,
    FrameKind::MISSING,
    FrameKind::FINALIZED,
    FrameKind::SUMMARY_DONE,
    FrameKind::PING,
    FrameKind::CLOSE,
    FrameKind::REQUEST,
    FrameKind::HELD,
    FrameKind::ANSWER,
    FrameKind::EXTENT,
    FrameKind::SENT,
];
