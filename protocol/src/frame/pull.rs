//! The frames of a pull: the client's request, and the frames around the objects of the answer
//! (SPEC "Pulling").

use artifact_formats::{Checksum, RefName, RefPattern};
use serde::{Deserialize, Serialize};

use super::announce::Refusal;
use super::greeting::Extensions;

/// What a client wants, and what it holds. If it does not fit one frame, the client sends several
/// in a row; their lists add up, and `options` and `history` are the same in each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Options of the pull.
    pub options: PullOptions,
    /// How many ancestors of each commit the client wants as well.
    pub history: u32,
    /// Refs that the client wants, each at most once in a pull.
    pub refs: Vec<RefRequest>,
    /// The client also wants every ref that one of these matches.
    pub patterns: Vec<RefPattern>,
    /// Commits that the client holds with everything that they reach.
    pub held: Vec<Checksum>,
    /// Whether another `Request`, or a `Held`, follows.
    pub more: bool,
    /// Additions of later versions.
    pub extensions: Extensions,
}

/// Options of a pull, a bit each. A server refuses unknown bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PullOptions(pub u32);

impl PullOptions {
    /// Send no object; say what would be sent.
    pub const DRY_RUN: Self = Self(1);

    /// Returns whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether every set bit has a meaning.
    pub const fn is_known(self) -> bool {
        self.0 & !Self::DRY_RUN.0 == 0
    }
}

/// A ref that a client wants, and what it holds of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRequest {
    /// The ref.
    pub name: RefName,
    /// The client's value of the ref, if the client holds everything that it reaches.
    pub current: Option<Checksum>,
    /// SHA-256 of the detached metadata that the client has of that commit.
    pub detached: Option<Checksum>,
}

/// Objects that the client holds outside complete commits. The server does not send them, but
/// sends what lies beneath them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whether another `Held` follows.
    pub more: bool,
    /// The objects.
    pub objects: Vec<Prefix>,
}

/// The first eight bytes of an object's checksum. Two objects with the same ones cost a client
/// another request, and nobody anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix([u8; Self::LEN]);

impl Prefix {
    /// Length in bytes.
    pub const LEN: usize = 8;

    /// Takes the bytes as they are.
    pub const fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// Returns the first bytes of a checksum.
    pub fn of(checksum: &Checksum) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *checksum.as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

/// What becomes of each wanted ref, before the objects. If it does not fit one frame, the server
/// sends several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The next refs: each one that was requested, and each one that a pattern matches.
    pub refs: Vec<RefAnswer>,
    /// Held commits that the objects are a difference to. Only in the first `Answer`.
    pub basis: Vec<Checksum>,
    /// Whether another `Answer` follows.
    pub more: bool,
}

/// What becomes of a wanted ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefAnswer {
    /// The ref.
    pub name: RefName,
    /// What becomes of it.
    pub state: PullState,
}

/// What becomes of a wanted ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullState {
    /// The answer makes this commit whole at the client.
    Promised {
        /// The server's value of the ref.
        commit: Checksum,
        /// SHA-256 of the commit's detached metadata, if the answer contains them.
        detached: Option<Checksum>,
    },
    /// The client has the server's value, with the same detached metadata.
    UpToDate,
    /// The client does not get it.
    Refused(Refusal),
}

/// How much an answer contains. It may come late, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Objects.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

/// The end of an answer: everything promised was sent, and this is what it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Objects.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_beginning_of_a_checksum() {
        let mut bytes = [0; 32];
        bytes[..9].copy_from_slice(b"beginning");
        let prefix = Prefix::of(&Checksum::new(bytes));
        assert_eq!(prefix, Prefix::new(*b"beginnin"));
        assert_eq!(prefix.as_bytes(), b"beginnin");
    }

    #[test]
    fn a_dry_run_is_the_only_option() {
        assert!(PullOptions::DRY_RUN.is_known() && PullOptions::default().is_known());
        assert!(!PullOptions(2).is_known() && !PullOptions(3).is_known());
        assert!(!PullOptions::default().contains(PullOptions::DRY_RUN));
    }
}
