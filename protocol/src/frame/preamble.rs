//! The eight bytes either end sends before its first frame (SPEC "Preamble"), and the reader that
//! takes preamble and frames off a stream.

use bytes::{Buf, BytesMut};

use super::{DecodeError, Frame};

/// What both ends send first: a byte no text begins with, the name, and line ends that a transport
/// which rewrites text would spoil.
pub const PREAMBLE: [u8; 8] = *b"\x8aACP\r\n\x1a\n";

/// Takes whole frames off a growing buffer.
#[derive(Debug)]
pub(crate) struct Deframer {
    greeted: bool,
    pub(crate) payload_len_max: u32,
}

impl Deframer {
    pub(crate) const fn new(payload_len_max: u32) -> Self {
        Self {
            greeted: false,
            payload_len_max,
        }
    }

    /// Returns the next frame, or nothing when there is none yet.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if !self.greeted {
            let seen = input.len().min(PREAMBLE.len());
            if input.get(..seen) != PREAMBLE.get(..seen) {
                return Err(DecodeError::Preamble {
                    got: first_line(input),
                });
            }
            if seen < PREAMBLE.len() {
                return Ok(None);
            }
            input.advance(PREAMBLE.len());
            self.greeted = true;
        }
        Frame::decode(input, self.payload_len_max)
    }
}

/// What stands in the place of the preamble, for the error message.
fn first_line(input: &[u8]) -> String {
    let line = input
        .split(|byte| *byte == b'\n')
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = line.get(..line.len().min(200)).unwrap_or_default();
    String::from_utf8_lossy(line).trim_end().to_owned()
}
