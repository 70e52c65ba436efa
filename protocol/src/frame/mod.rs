//! Frames: every message of the protocol, to bytes and back (SPEC "Frames", "Messages").
//!
//! One file per group of messages. `encode` and `decode` are inverses; `decode` checks lengths
//! before it takes bytes, and copies no object bytes. Nothing here knows when a frame may come:
//! [`crate::session`] does.

mod announce;
mod closing;
pub(crate) mod deframer;
mod fields;
mod greeting;
mod head;
mod objects;
mod payload;
mod preamble;
mod pull;

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
pub use self::pull::{
    Answer, Extent, Held, Prefix, PullOptions, PullState, RefAnswer, RefRequest, Request, Sent,
};
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
    Request(Request),
    Held(Held),
    Answer(Answer),
    Extent(Extent),
    Sent(Sent),
}

/// Bytes that are not a frame: the peer's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The peer did not begin with the preamble: it is another program, or a shell that prints.
    #[error("no preamble; the other side began with \"{}\"", escape(got))]
    Preamble {
        /// The first line that came instead.
        got: String,
    },
    /// The head states a length above the limit. Nothing was reserved.
    #[error("a frame of {got} bytes, where {limit} is the limit")]
    TooLong {
        /// The limit, in bytes.
        limit: u32,
        /// The stated length, in bytes.
        got: u32,
    },
    /// A kind that is unknown and may not be skipped.
    #[error("a frame of unknown kind {:#06x}", kind.0)]
    UnknownKind {
        /// The kind.
        kind: FrameKind,
    },
    /// A flag that is not allowed.
    #[error("flags {flags:#06x} on {kind}")]
    Flags {
        /// The kind.
        kind: FrameKind,
        /// The flags.
        flags: u16,
    },
    /// The payload is not the message that its head announces.
    #[error("{kind} cannot be decoded")]
    Payload {
        /// The kind.
        kind: FrameKind,
        /// The rule that the payload breaks.
        source: PayloadError,
    },
}

impl Frame {
    /// Returns this message's number on the wire.
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
            Self::Request(_) => FrameKind::REQUEST,
            Self::Held(_) => FrameKind::HELD,
            Self::Answer(_) => FrameKind::ANSWER,
            Self::Extent(_) => FrameKind::EXTENT,
            Self::Sent(_) => FrameKind::SENT,
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

    /// Takes the next complete frame off the front of `input`, or returns `None` if it is
    /// incomplete.
    ///
    /// Skips frames of unknown kind that are marked ignorable. `payload_len_max` is in bytes.
    ///
    /// # Errors
    ///
    /// The peer's fault; the rest of `input` is meaningless.
    pub fn decode(input: &mut BytesMut, payload_len_max: u32) -> Result<Option<Self>, DecodeError> {
        Self::decode_by(input, payload_len_max, |input, len| {
            input.split_to(len).freeze()
        })
    }

    /// Like `decode`; `take` takes the payload off the input.
    fn decode_by(
        input: &mut BytesMut,
        payload_len_max: u32,
        mut take: impl FnMut(&mut BytesMut, usize) -> Bytes,
    ) -> Result<Option<Self>, DecodeError> {
        while let Some(wire) = input.first_chunk() {
            let Head { kind, flags, len } = Head::from_wire(*wire);
            // REQ-2; the caller passes LIM-1, LIM-3 or the announced limit.
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
                // Reserve space for the whole payload: a buffer that grows bit by bit is copied
                // again and again, and ends up twice as large.
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
