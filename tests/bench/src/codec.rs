//! A part of a push on the wire, to measure the cost of frames by themselves.

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_models::random::Random;
use artifact_protocol::frame::{Frame, Offer, Pack, Staged, Want};
use artifact_protocol::limits::{MAX_FRAME_LEN_MAX, MAX_OFFER_IDS};
use bytes::{Bytes, BytesMut};

/// An offer, its answer, and the packs of what it offered.
#[derive(Debug)]
pub struct Stretch {
    frames: Vec<Frame>,
    wire: Vec<u8>,
}

impl Stretch {
    /// Creates it, the same each time.
    pub fn new() -> Self {
        let mut random = Random(1);
        let objects: Vec<(ObjectId, Bytes)> = (0..MAX_OFFER_IDS)
            .map(|_| {
                let len = 40 + random.below(4_000) as usize;
                let stored = Bytes::from(random.bytes(len));
                (
                    ObjectId::new(ObjectKind::File, Checksum::of(&stored)),
                    stored,
                )
            })
            .collect();
        let offer = Offer {
            ids: objects.iter().map(|(id, _)| *id).collect(),
        };
        let want = Want {
            wanted: vec![true; objects.len()],
        };
        let staged = Staged {
            objects: objects.len() as u64,
            bytes: 1 << 20,
        };
        let mut frames = vec![Frame::Offer(offer), Frame::Want(want)];
        // About 128 KiB each, as senders make them.
        frames.extend(objects.chunks(64).map(|objects| {
            Frame::Pack(Pack {
                objects: objects.to_vec(),
            })
        }));
        frames.push(Frame::Staged(staged));
        let wire = frames.iter().flat_map(|frame| frame.encode()).collect();
        Self { frames, wire }
    }

    /// Returns its length in bytes.
    pub fn wire_len(&self) -> usize {
        self.wire.len()
    }

    /// Encodes all frames, and returns the number of bytes.
    pub fn encode(&self) -> usize {
        self.frames.iter().map(|frame| frame.encode().len()).sum()
    }

    /// Decodes all frames from pieces like a pipe's, and returns their number.
    ///
    /// # Panics
    ///
    /// If they do not decode, which is a fault of the codec.
    pub fn decode(&self) -> usize {
        let mut input = BytesMut::new();
        let mut frames = 0;
        for piece in self.wire.chunks(READ_LEN) {
            input.extend_from_slice(piece);
            while let Some(frame) = Frame::decode(&mut input, MAX_FRAME_LEN_MAX)
                .expect("it was encoded by the same library")
            {
                frames += 1;
                drop(frame);
            }
        }
        frames
    }
}

impl Default for Stretch {
    fn default() -> Self {
        Self::new()
    }
}

const READ_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_is_decoded_to_as_many_frames_as_were_encoded() {
        let stretch = Stretch::new();
        assert_eq!(stretch.encode(), stretch.wire_len());
        assert_eq!(stretch.decode(), stretch.frames.len());
    }
}
