//! Claims about frames, for any bytes.

use artifact_models::frames::frame;
use artifact_protocol::frame::{DecodeError, Frame};
use bytes::{BufMut, BytesMut};
use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};
use proptest::sample::Index;

const LIMIT: u32 = 1024 * 1024;

fn decode_all(input: &mut BytesMut) -> Result<Vec<Frame>, DecodeError> {
    let mut frames = Vec::new();
    while let Some(frame) = Frame::decode(input, LIMIT)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// Bytes that are nearly a frame: a frame with a few bytes changed, or a payload under a known
/// kind.
fn nearly_a_frame() -> impl Strategy<Value = Vec<u8>> {
    let changed = (frame(), vec((any::<Index>(), any::<u8>()), 0..4)).prop_map(|(frame, edits)| {
        let mut bytes = frame.encode().to_vec();
        for (index, byte) in edits {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    let made_up = (0..0x60_u16, vec(any::<u8>(), 0..60)).prop_map(|(kind, payload)| {
        let mut bytes = Vec::new();
        bytes.put_u16_le(kind);
        bytes.put_u16_le(0);
        bytes.put_u32_le(u32::try_from(payload.len()).unwrap());
        bytes.extend(payload);
        bytes
    });
    proptest::prop_oneof![changed, made_up, vec(any::<u8>(), 0..60)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_frame_is_itself_again_after_encode_and_decode(frame in frame()) {
        let mut bytes = BytesMut::from(&frame.encode()[..]);
        prop_assert_eq!(Frame::decode(&mut bytes, LIMIT).unwrap(), Some(frame));
        prop_assert!(bytes.is_empty());
    }

    #[test]
    fn bytes_that_decode_have_no_second_spelling(bytes in nearly_a_frame()) {
        let mut input = BytesMut::from(&bytes[..]);
        if let Ok(Some(frame)) = Frame::decode(&mut input, LIMIT) {
            let taken = bytes.len() - input.len();
            let again = frame.encode();
            // An ignorable frame is dropped, so it may come before the one that is kept.
            prop_assert!(bytes[..taken].ends_with(&again), "{frame:?}");
            let skipped = &bytes[..taken - again.len()];
            prop_assert!(skipped.is_empty() || skipped[2..4] == [1, 0]);
        }
    }

    #[test]
    fn any_split_of_a_stream_gives_the_same_frames(
        frames in vec(frame(), 0..6),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let stream: Vec<u8> = frames.iter().flat_map(|f| f.encode().to_vec()).collect();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(stream.len());
        let (mut buffer, mut found, mut from) = (BytesMut::new(), Vec::new(), 0);
        for to in cuts {
            buffer.extend_from_slice(&stream[from..to]);
            found.extend(decode_all(&mut buffer).unwrap());
            from = to;
        }
        prop_assert_eq!(found, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn every_strict_prefix_of_a_frame_waits_for_more(frame in frame(), cut in any::<Index>()) {
        let bytes = frame.encode();
        let prefix = &bytes[..cut.index(bytes.len())];
        let mut input = BytesMut::from(prefix);
        prop_assert!(matches!(Frame::decode(&mut input, LIMIT), Ok(None)));
        prop_assert_eq!(&input[..], prefix, "nothing is taken before the frame is whole");
    }

    #[test]
    fn a_stated_length_above_the_limit_is_refused_from_the_head_alone(
        kind in any::<u16>(), flags in any::<u16>(), len in LIMIT + 1..=u32::MAX,
    ) {
        let mut head = BytesMut::new();
        head.put_u16_le(kind);
        head.put_u16_le(flags);
        head.put_u32_le(len);
        let capacity = head.capacity();
        let refused = matches!(
            Frame::decode(&mut head, LIMIT),
            Err(DecodeError::TooLong { limit: LIMIT, got }) if got == len
        );
        prop_assert!(refused);
        prop_assert_eq!(head.capacity(), capacity);
    }
}
