//! `Announce` and `RefStatus`: the refs that the client wants to set, and the server's answer (SPEC
//! "Announce", "RefStatus").

use std::fmt;

use artifact_formats::{Checksum, RefName};
use serde::{Deserialize, Serialize};

use super::greeting::Extensions;
use crate::text::Text;

/// The announcement of a push. If it does not fit one frame, the client sends several in a row;
/// their refs and bases add up, and `options` is the same in each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// Options of the push.
    pub options: PushOptions,
    /// Refs to set, each at most once in a push.
    pub refs: Vec<RefUpdate>,
    /// Commits that the client holds, and believes that the server holds too.
    pub bases: Vec<Base>,
    /// Whether another `Announce` follows.
    pub more: bool,
    /// Additions of later versions.
    pub extensions: Extensions,
}

impl Announce {
    /// Extension: how many ancestors of each commit the client has to offer, as a `u32`.
    pub const HISTORY: u16 = 1;

    /// Returns how many ancestors of each commit the client may offer.
    pub fn history(&self) -> u32 {
        let bytes = self.extensions.get(Self::HISTORY);
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }
}

/// Options of a push, a bit each. A server refuses unknown bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PushOptions(pub u32);

impl PushOptions {
    /// Move refs to commits that do not descend from their current ones, where the server allows
    /// it.
    pub const FORCE: Self = Self(1);
    /// Change nothing; report what would be done.
    pub const DRY_RUN: Self = Self(2);

    /// Never on the wire: a client of version 1 gives one commit several names, and knows nothing
    /// of bindings. A commit that is bound to one ref of the push may be set to its others.
    pub const ALIASES: Self = Self(1 << 31);

    const KNOWN: u32 = Self::FORCE.0 | Self::DRY_RUN.0;

    /// Returns these options and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether every set bit has a meaning.
    pub const fn is_known(self) -> bool {
        self.0 & !Self::KNOWN == 0
    }
}

/// A ref and its new value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The ref.
    pub name: RefName,
    /// Its new value.
    pub commit: Checksum,
    /// SHA-256 of the commit's detached metadata, if the client has some.
    pub detached: Option<Checksum>,
    /// The value that the ref must hold before.
    pub expect: Expect,
}

/// The value that a ref must hold before an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expect {
    /// Any value that it holds when the server answers the announcement.
    Any,
    /// Nothing: the update creates the ref.
    Absent,
    /// This commit.
    Is(Checksum),
}

/// A commit, and the ref whose current value it is believed to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The ref.
    pub name: RefName,
    /// The commit.
    pub commit: Checksum,
}

/// The server's answer to `Announce`: a state for each ref, in the order announced. If it does not
/// fit one frame, the server sends several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefStatus {
    /// The states of the next refs.
    pub refs: Vec<RefState>,
    /// Complete commits of the server that may serve as bases: proposed ones, and others that the
    /// server suggests. Only in the first `RefStatus`.
    pub complete: Vec<Checksum>,
}

/// The server's value of an announced ref, and its verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefState {
    /// The ref's current value. Publication compares the ref with it.
    pub current: Option<Checksum>,
    /// The server's decision on the update.
    pub verdict: Verdict,
}

/// The server's decision on an update, before the client sends anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The ref holds the commit, with the same detached metadata: nothing to do.
    UpToDate,
    /// The client may push it.
    Accepted,
    /// The update is refused.
    Refused(Refusal),
}

/// The reason why an update is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// The reason, for a person.
    pub text: Text,
}

impl Refusal {
    /// Combines a code and a text.
    pub fn new(code: RefusalCode, text: &str) -> Self {
        Self {
            code,
            text: Text::new(text),
        }
    }
}

/// The reason why an update is refused, for programs. Unknown codes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefusalCode(pub u16);

impl RefusalCode {
    /// The identity has no grant for it.
    pub const NOT_PERMITTED: Self = Self(1);
    /// The new commit does not descend from the current one.
    pub const NOT_FAST_FORWARD: Self = Self(2);
    /// The ref does not hold the expected value, or another push has moved it meanwhile.
    pub const LOST_RACE: Self = Self(3);
    /// The name is a directory of other refs, or a component of it is a ref.
    pub const NAME_CONFLICT: Self = Self(4);
    /// The commit is bound to other refs, so nobody could pull it by this one.
    pub const BINDING: Self = Self(5);
    /// Of a pull: there is no such ref for this client.
    pub const ABSENT: Self = Self(6);
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NOT_PERMITTED => "not permitted",
            Self::NOT_FAST_FORWARD => "not a fast-forward",
            Self::LOST_RACE => "lost race",
            Self::NAME_CONFLICT => "name conflict",
            Self::BINDING => "ref binding",
            Self::ABSENT => "no such ref",
            Self(code) => return write!(f, "refusal {code}"),
        };
        f.write_str(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_add_up_and_one_that_is_set_stays_so() {
        let both = PushOptions::FORCE.with(PushOptions::DRY_RUN);
        assert_eq!(both, PushOptions(3));
        assert_eq!(both.with(PushOptions::FORCE), both);
        assert!(both.contains(PushOptions::FORCE) && !PushOptions::FORCE.contains(both));
        assert!(both.is_known() && !PushOptions(4).is_known());
    }
}
