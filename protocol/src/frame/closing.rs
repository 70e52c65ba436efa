//! `Finalize` and its answers, `Ping` and `Close` (SPEC "Finalization", "Close").

use std::fmt;

use artifact_formats::ObjectId;
use serde::{Deserialize, Serialize};

use super::announce::Refusal;
use crate::text::Text;

/// The client has sent every wanted object: publish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalize {}

/// Objects that the push needs and the server does not have (any more). The client sends them and
/// finalizes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// At most [`MAX_MISSING_IDS`](crate::limits::MAX_MISSING_IDS).
    pub ids: Vec<ObjectId>,
}

/// The outcome of each announced ref, in the order announced. Durable: an `Updated` ref survives a
/// power cut (INV-3). If it does not fit one frame, the server sends several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finalized {
    /// The outcomes of the next refs.
    pub refs: Vec<RefOutcome>,
}

/// The outcome of one announced ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefOutcome {
    /// The ref holds the new commit.
    Updated,
    /// The ref held the commit already.
    Unchanged,
    /// The ref would be updated if this were not a dry run.
    WouldUpdate,
    /// The ref was not changed.
    Refused(Refusal),
}

/// The state of the repository's summary after the push.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SummaryDone {
    /// It lists the updated refs.
    Current,
    /// It could not be written; the push itself is done and durable.
    Failed(Text),
}

/// A sign of life, which needs no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {}

/// The last frame of an end, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The reason, for programs.
    pub code: CloseCode,
    /// The reason, for a person.
    pub text: Text,
}

/// The reason why a session ends. Unknown codes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CloseCode(pub u16);

impl CloseCode {
    /// The session is complete.
    pub const DONE: Self = Self(0);
    /// The bytes do not belong to this protocol.
    pub const NOT_THE_PROTOCOL: Self = Self(1);
    /// No common version, or an unknown option.
    pub const UNSUPPORTED: Self = Self(2);
    /// A frame that cannot be decoded.
    pub const BAD_FRAME: Self = Self(3);
    /// A frame that is not allowed now, or whose content is not allowed.
    pub const VIOLATION: Self = Self(4);
    /// A limit is exceeded.
    pub const LIMIT: Self = Self(5);
    /// An object whose checksum, container or structure is wrong.
    pub const OBJECT_REFUSED: Self = Self(6);
    /// The client never sent an object that the commits reach.
    pub const INCOMPLETE: Self = Self(7);
    /// The server's disk or quota is full.
    pub const STORAGE_FULL: Self = Self(8);
    /// The server's repository cannot be read or written.
    pub const STORAGE_FAILED: Self = Self(9);
    /// Another program has locked the repository; a later attempt may succeed.
    pub const BUSY: Self = Self(10);
    /// The other end was silent for too long.
    pub const TIMEOUT: Self = Self(11);
    /// The end was told to stop.
    pub const INTERRUPTED: Self = Self(12);
    /// The client's own repository cannot be read.
    pub const SOURCE_FAILED: Self = Self(13);
    /// A bug of the program itself.
    pub const INTERNAL: Self = Self(14);
    /// The client has no right at all on the server.
    pub const NOT_PERMITTED: Self = Self(15);
}

impl CloseCode {
    /// Returns whether a server that closes with this code instead of `Finalized` has set no ref.
    pub const fn comes_before_publication(self) -> bool {
        matches!(
            self,
            Self::OBJECT_REFUSED | Self::LIMIT | Self::INCOMPLETE | Self::VIOLATION | Self::BUSY
        )
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::DONE => "done",
            Self::NOT_THE_PROTOCOL => "not the protocol",
            Self::UNSUPPORTED => "unsupported",
            Self::BAD_FRAME => "bad frame",
            Self::VIOLATION => "protocol violation",
            Self::LIMIT => "limit exceeded",
            Self::OBJECT_REFUSED => "object refused",
            Self::INCOMPLETE => "push incomplete",
            Self::STORAGE_FULL => "storage full",
            Self::STORAGE_FAILED => "storage failed",
            Self::BUSY => "busy",
            Self::TIMEOUT => "timeout",
            Self::INTERRUPTED => "interrupted",
            Self::SOURCE_FAILED => "source failed",
            Self::INTERNAL => "internal fault",
            Self::NOT_PERMITTED => "not permitted",
            Self(code) => return write!(f, "close code {code}"),
        };
        f.write_str(name)
    }
}
