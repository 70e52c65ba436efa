//! Frames over an asynchronous stream: the only file that names tokio-util.
//!
//! For programs that read frames without a session, such as a proxy or a test. The sessions have a
//! reader of their own and do not need this one.

use std::io;

use bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};

use crate::frame::deframer::Deframer;
use crate::frame::{DecodeError, Frame, PREAMBLE};

/// Reads and writes the preamble, and then frames.
#[derive(Debug)]
pub struct FrameCodec {
    deframer: Deframer,
    greeted: bool,
}

impl FrameCodec {
    /// Makes the codec of a new connection. It refuses payloads longer than `payload_len_max`
    /// bytes.
    pub const fn new(payload_len_max: u32) -> Self {
        Self {
            deframer: Deframer::new(payload_len_max),
            greeted: false,
        }
    }

    /// Changes the limit for the frames to come, as `Welcome` does.
    pub const fn set_payload_len_max(&mut self, payload_len_max: u32) {
        self.deframer.payload_len_max = payload_len_max;
    }
}

impl Encoder<&Frame> for FrameCodec {
    type Error = io::Error;

    fn encode(&mut self, frame: &Frame, output: &mut BytesMut) -> io::Result<()> {
        if !std::mem::replace(&mut self.greeted, true) {
            output.extend_from_slice(&PREAMBLE);
        }
        output.extend_from_slice(&frame.encode());
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = CodecError;

    fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, CodecError> {
        Ok(self.deframer.next(input)?)
    }
}

/// The reason why a stream yields no further frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The stream cannot be read.
    #[error("the stream cannot be read")]
    Read(#[from] io::Error),
    /// The peer's bytes are not frames.
    #[error("the bytes received are not frames")]
    Decode(#[from] DecodeError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Finalize, Ping};

    #[test]
    fn frames_come_out_as_they_went_in_behind_one_preamble() {
        let frames = [Frame::Ping(Ping {}), Frame::Finalize(Finalize {})];
        let mut codec = FrameCodec::new(1024);
        let mut stream = BytesMut::new();
        for frame in &frames {
            codec.encode(frame, &mut stream).unwrap();
        }
        assert_eq!(stream.len(), PREAMBLE.len() + 8 + 8);
        for frame in frames {
            assert_eq!(codec.decode(&mut stream).unwrap(), Some(frame));
        }
        assert_eq!(codec.decode_eof(&mut stream).unwrap(), None);
    }

    #[test]
    fn the_limit_holds_from_the_moment_it_is_set() {
        let mut stream = BytesMut::from(&PREAMBLE[..]);
        stream.extend_from_slice(&[0x40, 0, 0, 0, 1, 0, 0, 0]);
        for (limit, refused) in [(0, true), (1, false)] {
            let mut codec = FrameCodec::new(7);
            codec.set_payload_len_max(limit);
            assert_eq!(codec.decode(&mut stream.clone()).is_err(), refused);
        }
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_or_begins_otherwise_is_an_error() {
        let mut codec = FrameCodec::new(1024);
        let mut stream = BytesMut::from(&b"\x8aACP\r\n\x1a\n\x40\x00"[..]);
        assert!(matches!(
            codec.decode_eof(&mut stream),
            Err(CodecError::Read(_))
        ));
        let other = FrameCodec::new(1024).decode(&mut BytesMut::from("HTTP/1.1"));
        assert!(matches!(other, Err(CodecError::Decode(_))));
    }
}
