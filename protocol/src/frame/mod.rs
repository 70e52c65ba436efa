//! Frames: every message of the protocol, to bytes and back (SPEC "Frames", "Messages").
//!
//! One file per group of messages. `encode` and `decode` are inverses; `decode` measures before it
//! takes, and copies no object bytes. Nothing here knows which frame may come when: that is
//! [`crate::session`]'s.

mod announce;
mod closing;
pub(crate) mod deframer;
mod fields;
mod greeting;
mod head;
mod objects;
mod payload;
mod preamble;

use bytes::{Buf, Bytes, BytesMut};

pub use self::announce::{
    Announce, Base, Expect, PushOptions, RefState, RefStatus, RefUpdate, Refusal, RefusalCode,
    Verdict,
};
pub use self::closing::{
    Close, CloseCode, Finalize, Finalized, Missing, Ping, RefOutcome, SummaryDone,
};
pub use self::greeting::{Extensions, Hello, Welcome};
pub use self::head::FrameKind;
use self::head::Head;
pub use self::objects::{
    Basis, Detached, ObjectBegin, ObjectChunk, ObjectEnd, Offer, Pack, Staged, Want,
};
pub use self::preamble::PREAMBLE;
use crate::text::escape;
use crate::wire::PayloadError;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant holds the message of its name, documented there"
)]
pub enum Frame {
    Hello(Hello),
    Welcome(Welcome),
    Announce(Announce),
    RefStatus(RefStatus),
    Basis(Basis),
    Offer(Offer),
    Want(Want),
    Detached(Detached),
    Pack(Pack),
    ObjectBegin(ObjectBegin),
    ObjectChunk(ObjectChunk),
    ObjectEnd(ObjectEnd),
    Staged(Staged),
    Finalize(Finalize),
    Missing(Missing),
    Finalized(Finalized),
    SummaryDone(SummaryDone),
    Ping(Ping),
    Close(Close),
}

/// Bytes that are not a frame: the peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The peer did not begin with the preamble: another program, or a shell that prints.
    #[error("no preamble; the other side began with \"{}\"", escape(got))]
    Preamble {
        /// The first line of what came instead.
        got: String,
    },
    /// The head states more than the limit. Nothing was reserved.
    #[error("a frame of {got} bytes, where {limit} is the limit")]
    TooLong {
        /// Bytes allowed.
        limit: u32,
        /// Bytes stated.
        got: u32,
    },
    /// A kind that is not known and may not be skipped.
    #[error("a frame of unknown kind {:#06x}", kind.0)]
    UnknownKind {
        /// The kind.
        kind: FrameKind,
    },
    /// A flag where there must be none.
    #[error("flags {flags:#06x} on {kind}")]
    Flags {
        /// The kind.
        kind: FrameKind,
        /// The flags.
        flags: u16,
    },
    /// The payload is not the message its head says.
    #[error("{kind} cannot be decoded")]
    Payload {
        /// The kind.
        kind: FrameKind,
        /// What is wrong.
        source: PayloadError,
    },
}

impl Frame {
    /// Returns the number that stands for this message on the wire.
    pub const fn kind(&self) -> FrameKind {
        match self {
            Self::Hello(_) => FrameKind::HELLO,
            Self::Welcome(_) => FrameKind::WELCOME,
            Self::Announce(_) => FrameKind::ANNOUNCE,
            Self::RefStatus(_) => FrameKind::REF_STATUS,
            Self::Basis(_) => FrameKind::BASIS,
            Self::Offer(_) => FrameKind::OFFER,
            Self::Want(_) => FrameKind::WANT,
            Self::Detached(_) => FrameKind::DETACHED,
            Self::Pack(_) => FrameKind::PACK,
            Self::ObjectBegin(_) => FrameKind::OBJECT_BEGIN,
            Self::ObjectChunk(_) => FrameKind::OBJECT_CHUNK,
            Self::ObjectEnd(_) => FrameKind::OBJECT_END,
            Self::Staged(_) => FrameKind::STAGED,
            Self::Finalize(_) => FrameKind::FINALIZE,
            Self::Missing(_) => FrameKind::MISSING,
            Self::Finalized(_) => FrameKind::FINALIZED,
            Self::SummaryDone(_) => FrameKind::SUMMARY_DONE,
            Self::Ping(_) => FrameKind::PING,
            Self::Close(_) => FrameKind::CLOSE,
        }
    }

    /// Returns the frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![0; Head::LEN];
        payload::encode(self, &mut out);
        let len = u32::try_from(out.len() - Head::LEN).unwrap_or(u32::MAX);
        let head = Head {
            kind: self.kind(),
            flags: 0,
            len,
        };
        if let Some(room) = out.first_chunk_mut() {
            *room = head.to_wire();
        }
        out.into()
    }

    /// Takes the next whole frame off the front of `input`, or nothing when there is none yet.
    ///
    /// Frames of unknown kind that may be skipped are skipped. `payload_len_max` is in bytes.
    ///
    /// # Errors
    ///
    /// The peer's fault; the rest of `input` has no meaning any more.
    pub fn decode(input: &mut BytesMut, payload_len_max: u32) -> Result<Option<Self>, DecodeError> {
        Self::decode_by(input, payload_len_max, |input, len| {
            input.split_to(len).freeze()
        })
    }

    /// Does the same; `take` takes the payload off the input.
    fn decode_by(
        input: &mut BytesMut,
        payload_len_max: u32,
        mut take: impl FnMut(&mut BytesMut, usize) -> Bytes,
    ) -> Result<Option<Self>, DecodeError> {
        while let Some(wire) = input.first_chunk() {
            let Head { kind, flags, len } = Head::from_wire(*wire);
            // REQ-2.
            if len > payload_len_max {
                return Err(DecodeError::TooLong {
                    limit: payload_len_max,
                    got: len,
                });
            }
            let known = payload::is_known(kind);
            match (known, flags) {
                // REQ-3, REQ-4.
                (true, 0) | (false, Head::IGNORABLE) => {}
                (false, 0) => return Err(DecodeError::UnknownKind { kind }),
                _ => return Err(DecodeError::Flags { kind, flags }),
            }
            let len = len as usize;
            let missing = len.saturating_sub(input.len() - Head::LEN);
            if missing > 0 {
                // Room for the rest at once: what grows bit by bit is copied again and again, and
                // ends up twice as large.
                input.reserve(missing);
                return Ok(None);
            }
            input.advance(Head::LEN);
            let bytes = take(input, len);
            if known {
                return payload::decode(kind, bytes)
                    .map(Some)
                    .map_err(|source| DecodeError::Payload { kind, source });
            }
        }
        Ok(None)
    }
}
