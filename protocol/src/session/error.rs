//! The reasons why a session fails, sorted by whose fault they are.

use artifact_formats::{ObjectId, with_causes};

use crate::dialect::error::DialectError;
use crate::frame::{Close, CloseCode, DecodeError, Frame, FrameKind};

/// The reason why a session cannot continue. After the first one the session is closed: the driver
/// may poll the remaining outputs (a `Close` for the peer), and every input is
/// [`ApiMisuse::Closed`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's bytes are not of this protocol.
    #[error("the bytes received are not the protocol's")]
    Decode(#[from] DecodeError),
    /// The peer's bytes are not of the old protocol that it speaks.
    #[error("the bytes received are not the old protocol's")]
    Dialect(#[from] DialectError),
    /// The peer broke a rule.
    #[error("the other side broke a rule of the protocol")]
    Violation(#[from] Violation),
    /// The peer closed the session with a reason of its own.
    #[error("the other side gave up ({}): {}", .0.code, .0.text.escaped())]
    PeerClosed(Close),
    /// The bytes ended in the middle of a push or a pull.
    #[error("the connection ended before everything was said")]
    Truncated,
    /// The server takes pushes, but serves no pulls.
    #[error("the server does not serve pulls")]
    NotServed,
    /// Our own store or source cannot continue.
    #[error("{}", .0.text)]
    Fault(Fault),
    /// The driver's fault.
    #[error("the driver misused the session")]
    Misuse(#[from] ApiMisuse),
}

impl Error {
    /// Returns the `Close` to send to the other side, if it can be told.
    pub(super) fn to_close(&self) -> Option<(CloseCode, String)> {
        match self {
            Self::Decode(decode) => Some((decode.into(), with_causes(decode))),
            Self::Violation(violation) => Some((violation.into(), violation.to_string())),
            Self::Fault(fault) => Some((fault.code, fault.text.clone())),
            Self::Misuse(misuse) => Some((CloseCode::INTERNAL, misuse.to_string())),
            Self::NotServed => Some((CloseCode::DONE, String::new())),
            // The old protocols have no message for this.
            Self::Dialect(_) | Self::PeerClosed(_) | Self::Truncated => None,
        }
    }
}

/// The reason why a store or a source cannot continue, in words fit for the other side: no paths.
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

/// A well-formed frame that is not allowed, or not allowed now: the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that this state does not take.
    #[error("{got} came, but the session expects {awaited}")]
    Unexpected {
        /// The frames that the state takes.
        awaited: &'static str,
        /// The frame that came.
        got: FrameKind,
    },
    /// A limit is exceeded.
    #[error("{what}: {got} exceeds the limit of {limit}")]
    Limit {
        /// The thing counted.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The count.
        got: u64,
    },
    /// An object that the session did not ask for.
    #[error("{id} was not wanted, or has come already")]
    NotWanted {
        /// The object.
        id: ObjectId,
    },
    /// An object that the session has not asked for yet.
    #[error("{id} came before the Want that answers its Offer, or was never offered")]
    NotWantedYet {
        /// The object.
        id: ObjectId,
    },
    /// An object's bytes are not those of its name, or break a rule of its kind.
    #[error("{id} is refused: {reason}")]
    BadObject {
        /// The object.
        id: ObjectId,
        /// The rule.
        reason: String,
    },
    /// The peer's versions or options are not supported.
    #[error("{0}")]
    Unsupported(String),
    /// Another rule of SPEC "Sessions", stated in the text.
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

/// REQ-34: a frame that a state does not take ends the session.
pub(crate) fn unexpected<T>(awaited: &'static str, frame: &Frame) -> Result<T, Error> {
    let got = frame.kind();
    Err(Violation::Unexpected { awaited, got }.into())
}

impl From<&Violation> for CloseCode {
    fn from(violation: &Violation) -> Self {
        match violation {
            Violation::Limit { .. } => Self::LIMIT,
            Violation::Unsupported(_) => Self::UNSUPPORTED,
            Violation::BadObject { .. } => Self::OBJECT_REFUSED,
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

/// A call that the session does not allow: a bug of the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiMisuse {
    /// The session is closed.
    #[error("an input after the session was closed")]
    Closed,
    /// A request was completed with the outcome of another, or with more than it asked for.
    #[error("a request was completed with an outcome that does not answer it")]
    Outcome,
}
