//! Why a session ends other than well, sorted by whose fault it is.

use artifact_formats::ObjectId;

use crate::dialect::error::DialectError;
use crate::frame::{Close, CloseCode, DecodeError, FrameKind};

/// Why a session cannot go on. After the first one the session is closed; what is still to be
/// transmitted (a `Close` for the peer) may be polled, and every input is
/// [`ApiMisuse::Closed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's bytes are not the protocol's.
    #[error("the bytes received are not the protocol's")]
    Decode(#[from] DecodeError),
    /// The peer's bytes are not those of the old protocol that it speaks.
    #[error("the bytes received are not the old protocol's")]
    Dialect(#[from] DialectError),
    /// The peer did what it may not do.
    #[error("the other side broke a rule of the protocol")]
    Violation(#[from] Violation),
    /// The peer ended the session with a reason of its own.
    #[error("the other side gave up ({}): {}", .0.code, .0.text.escaped())]
    PeerClosed(Close),
    /// The bytes ended in the middle of a push.
    #[error("the connection ended before the push was done")]
    Truncated,
    /// Our own side, store or source, cannot go on.
    #[error("{}", .0.text)]
    Fault(Fault),
    /// The driver's fault.
    #[error("the session was driven wrongly")]
    Misuse(#[from] ApiMisuse),
}

impl Error {
    /// Returns what the other side is told, if it is there to be told.
    pub(super) fn to_close(&self) -> Option<(CloseCode, String)> {
        match self {
            Self::Decode(decode) => Some((decode.into(), with_causes(decode))),
            Self::Violation(violation) => Some((violation.into(), violation.to_string())),
            Self::Fault(fault) => Some((fault.code, fault.text.clone())),
            Self::Misuse(misuse) => Some((CloseCode::INTERNAL, misuse.to_string())),
            // The old protocols have no word for it.
            Self::Dialect(_) | Self::PeerClosed(_) | Self::Truncated => None,
        }
    }
}

/// Joins what an error and its causes say, for the other side.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Why a store or a source cannot go on, in words fit for the other side: no paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The reason, for programs.
    pub code: CloseCode,
    /// The reason, for a person.
    pub text: String,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// A well-formed frame that may not come, or may not come now: the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that does not belong here.
    #[error("{got} came where {awaited} may come")]
    Unexpected {
        /// What the state waits for.
        awaited: &'static str,
        /// What came.
        got: FrameKind,
    },
    /// More than a limit lets.
    #[error("{what}: {got}, where {limit} is the limit")]
    Limit {
        /// What was counted.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
        /// How many came.
        got: u64,
    },
    /// An object that was not asked for.
    #[error("{id} was not wanted, or has come already")]
    NotWanted {
        /// The object.
        id: ObjectId,
    },
    /// An object that was not asked for yet.
    #[error("{id} came before the Want that answers its Offer, or was never offered")]
    NotWantedYet {
        /// The object.
        id: ObjectId,
    },
    /// Versions or options with nothing in common.
    #[error("{0}")]
    Unsupported(String),
    /// Another rule of SPEC "Sessions", which the text states.
    #[error("{0}")]
    Rule(&'static str),
}

impl Violation {
    pub(crate) fn limit(what: &'static str, limit: usize, got: usize) -> Result<(), Self> {
        if got <= limit {
            return Ok(());
        }
        Err(Self::Limit {
            what,
            limit: limit as u64,
            got: got as u64,
        })
    }
}

impl From<&Violation> for CloseCode {
    fn from(violation: &Violation) -> Self {
        match violation {
            Violation::Limit { .. } => Self::LIMIT,
            Violation::Unsupported(_) => Self::UNSUPPORTED,
            Violation::Unexpected { .. }
            | Violation::NotWanted { .. }
            | Violation::NotWantedYet { .. }
            | Violation::Rule(_) => Self::VIOLATION,
        }
    }
}

impl From<&DecodeError> for CloseCode {
    fn from(error: &DecodeError) -> Self {
        match error {
            DecodeError::Preamble { .. } => Self::NOT_THE_PROTOCOL,
            DecodeError::TooLong { .. } => Self::LIMIT,
            DecodeError::UnknownKind { .. }
            | DecodeError::Flags { .. }
            | DecodeError::Payload { .. } => Self::BAD_FRAME,
        }
    }
}

/// A call the session does not allow: a bug of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// The session is closed.
    #[error("an input after the session was closed")]
    Closed,
    /// A request was completed with another's outcome, or with more than it asked for.
    #[error("a request was completed with an outcome that does not answer it")]
    Outcome,
}
