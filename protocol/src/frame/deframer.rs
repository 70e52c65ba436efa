//! The reader of the preamble and the frames of a stream (SPEC "Preamble", "Frames").

use bytes::{Buf, BytesMut};

use super::head::{FrameKind, Head};
use super::objects::ObjectChunk;
use super::preamble::PREAMBLE;
use super::{DecodeError, Frame};
use crate::shared::Shared;

/// Takes complete frames off a growing buffer.
#[derive(Debug)]
pub(crate) struct Deframer {
    greeted: bool,
    pub(crate) payload_len_max: u32,
    /// The stream of an `ObjectChunk` that was returned in part.
    stream: u8,
    lacking: usize,
    shared: Shared,
}

impl Deframer {
    pub(crate) const fn new(payload_len_max: u32) -> Self {
        Self {
            greeted: false,
            payload_len_max,
            stream: 0,
            lacking: 0,
            shared: Shared::new(),
        }
    }

    /// Returns the next frame, or `None` if it is incomplete.
    pub(crate) fn next(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        if self.greet(input)? {
            Frame::decode(input, self.payload_len_max)
        } else {
            Ok(None)
        }
    }

    /// Like `next`, but returns an `ObjectChunk` in parts, as its bytes arrive: chunk boundaries
    /// mean nothing, and joining large chunks would copy them. The parts may wait for long, so they
    /// keep little more than their own bytes in memory.
    pub(crate) fn next_part(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, DecodeError> {
        self.shared.look(input);
        if !self.greet(input)? {
            return Ok(None);
        }
        if self.lacking == 0 {
            let head = input.first_chunk().map(|wire| Head::from_wire(*wire));
            let Some(len) = head.and_then(|head| self.len_of_chunk(head)) else {
                let shared = &mut self.shared;
                return Frame::decode_by(input, self.payload_len_max, |input, len| {
                    shared.take(input, len)
                });
            };
            if input.len() <= Head::LEN + 1 {
                return Ok(None);
            }
            input.advance(Head::LEN);
            self.stream = input.get_u8();
            self.lacking = len;
        }
        let part = self.shared.take(input, input.len().min(self.lacking));
        self.lacking -= part.len();
        Ok(
            (!part.is_empty()).then_some(Frame::ObjectChunk(ObjectChunk {
                stream: self.stream,
                bytes: part,
            })),
        )
    }

    /// Returns the number of object bytes after the head and the stream number; `None` if the head
    /// is not an `ObjectChunk`'s, or must be refused.
    const fn len_of_chunk(&self, head: Head) -> Option<usize> {
        let Head { kind, flags, len } = head;
        if kind.0 == FrameKind::OBJECT_CHUNK.0
            && flags == 0
            && len > 1
            && len <= self.payload_len_max
        {
            return Some(len as usize - 1);
        }
        None
    }

    /// Takes the preamble; returns whether it is complete.
    fn greet(&mut self, input: &mut BytesMut) -> Result<bool, DecodeError> {
        if !self.greeted {
            let seen = input.len().min(PREAMBLE.len());
            // REQ-1.
            if input.get(..seen) != PREAMBLE.get(..seen) {
                return Err(DecodeError::Preamble {
                    got: first_line(input),
                });
            }
            if seen < PREAMBLE.len() {
                return Ok(false);
            }
            input.advance(PREAMBLE.len());
            self.greeted = true;
        }
        Ok(true)
    }
}

/// Returns the first line of the bytes that came instead of the preamble, for the error message.
fn first_line(input: &[u8]) -> String {
    let line = input
        .split(|byte| *byte == b'\n')
        .find(|line| !line.is_empty())
        .unwrap_or_default();
    let line = line.get(..line.len().min(200)).unwrap_or_default();
    String::from_utf8_lossy(line).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use bytes::BufMut;

    use super::*;
    use crate::frame::{Detached, Finalize, Pack, Ping};

    const READ: usize = 256 * 1024;
    const MAX: u32 = 1024 * 1024;

    fn chunk(bytes: &'static [u8]) -> Frame {
        Frame::ObjectChunk(ObjectChunk {
            stream: 3,
            bytes: bytes.into(),
        })
    }

    #[test]
    fn a_chunk_comes_in_parts_wherever_it_is_split_and_other_frames_come_whole() {
        let frames = [
            Frame::Ping(Ping {}),
            chunk(b"abcdef"),
            Frame::Finalize(Finalize {}),
        ];
        let mut stream = PREAMBLE.to_vec();
        frames
            .iter()
            .for_each(|frame| stream.extend(frame.encode()));
        for split in 0..=stream.len() {
            let mut deframer = Deframer::new(7);
            let mut input = BytesMut::new();
            let (mut bytes, mut others) = (Vec::new(), Vec::new());
            let (first, second) = stream.split_at(split);
            for read in [first, second] {
                input.extend_from_slice(read);
                while let Some(frame) = deframer.next_part(&mut input).unwrap() {
                    if let Frame::ObjectChunk(chunk) = frame {
                        assert_eq!((chunk.stream, others.len()), (3, 1));
                        assert!(!chunk.bytes.is_empty());
                        bytes.extend_from_slice(&chunk.bytes);
                    } else {
                        others.push(frame);
                    }
                }
                // No byte of a chunk waits for the rest of it.
                let came = split
                    .saturating_sub(PREAMBLE.len() + 2 * Head::LEN + 1)
                    .min(6);
                assert!(bytes.len() >= came, "split at {split}");
            }
            assert_eq!(bytes, b"abcdef");
            assert_eq!(others, [frames[0].clone(), frames[2].clone()]);
        }
    }

    #[test]
    fn a_few_bytes_of_an_object_do_not_keep_the_buffer_that_they_came_in() {
        let mut deframer = Deframer::new(MAX);
        assert_eq!(
            deframer
                .next_part(&mut BytesMut::from(&PREAMBLE[..]))
                .unwrap(),
            None
        );
        let id = "ab".repeat(32).parse().unwrap();
        let id = artifact_formats::ObjectId::new(artifact_formats::ObjectKind::File, id);
        let pack = |len| {
            Frame::Pack(Pack {
                objects: vec![(id, vec![7; len].into())],
            })
        };
        let detached = |len| {
            Frame::Detached(Detached {
                commit: id.checksum,
                metadata: vec![7; len].into(),
            })
        };
        let part = |len| {
            Frame::ObjectChunk(ObjectChunk {
                stream: 3,
                bytes: vec![7; len].into(),
            })
        };
        for (len, stays) in [(1, false), (60_000, false), (70_000, true), (250_000, true)] {
            for frame in [pack(len), detached(len), part(len)] {
                let mut input = BytesMut::with_capacity(READ);
                input.extend_from_slice(&frame.encode());
                while input.len() + Head::LEN < READ {
                    // Frames that leave nothing behind.
                    input.extend_from_slice(&Frame::Ping(Ping {}).encode());
                }
                let place = input.as_ptr() as usize;
                let bytes = match deframer.next_part(&mut input).unwrap() {
                    Some(Frame::Pack(pack)) => pack.objects[0].1.clone(),
                    Some(Frame::Detached(detached)) => detached.metadata,
                    Some(Frame::ObjectChunk(chunk)) => chunk.bytes,
                    other => panic!("{other:?}"),
                };
                assert_eq!(bytes, vec![7; len]);
                let within = (place..place + READ).contains(&(bytes.as_ptr() as usize));
                assert_eq!(within, stays, "{len} bytes");
                while deframer.next_part(&mut input).unwrap().is_some() {}
                assert_eq!((input.len(), input.capacity()), (0, 0));
            }
        }
    }

    #[test]
    fn a_chunk_that_is_too_long_or_empty_is_refused_from_its_head() {
        let mut head = BytesMut::from(&chunk(b"abcdef").encode()[..Head::LEN]);
        head.put_u8(3);
        for (limit, refused) in [(6, true), (7, false)] {
            let mut deframer = Deframer::new(limit);
            let mut input = BytesMut::from(&PREAMBLE[..]);
            input.extend_from_slice(&head);
            assert_eq!(deframer.next_part(&mut input).is_err(), refused);
        }
        let mut empty = BytesMut::from(&PREAMBLE[..]);
        empty.extend_from_slice(&chunk(b"").encode());
        assert!(Deframer::new(7).next_part(&mut empty).is_err());
    }
}
