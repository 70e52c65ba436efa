//! `Announce` and `RefStatus`: what the client wants of refs, and what the server says to it
//! (SPEC "Announce", "RefStatus").

use std::fmt;

use artifact_formats::{Checksum, RefName};
use serde::{Deserialize, Serialize};

use super::greeting::Extensions;
use crate::text::Text;

/// What a push is to do. Sent once or, when it does not fit one frame, several times in a row; then
/// refs and bases add up and `options` is the same in each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announce {
    /// How the push is to be done.
    pub options: PushOptions,
    /// Refs to set, each at most once in a push.
    pub refs: Vec<RefUpdate>,
    /// Commits the client holds, where it believes the server holds them too.
    pub bases: Vec<Base>,
    /// Whether another `Announce` follows.
    pub more: bool,
    /// What later versions add.
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

/// Options of a push, a bit each. A server refuses bits it does not know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PushOptions(pub u32);

impl PushOptions {
    /// Move refs to commits that do not descend from their current ones, where the server lets.
    pub const FORCE: Self = Self(1);
    /// Change nothing; say what would be done.
    pub const DRY_RUN: Self = Self(2);

    /// Not of the wire: a client of version 1 gives one commit several names, and does not know of
    /// bindings. A commit that is bound to one ref of the push may be set to its others.
    pub const ALIASES: Self = Self(1 << 31);

    const KNOWN: u32 = Self::FORCE.0 | Self::DRY_RUN.0;

    /// Returns these options and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns whether all of `other` is set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether every bit that is set has a meaning.
    pub const fn is_known(self) -> bool {
        self.0 & !Self::KNOWN == 0
    }
}

/// One ref and what it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefUpdate {
    /// The ref.
    pub name: RefName,
    /// Its new value.
    pub commit: Checksum,
    /// SHA-256 of the commit's detached metadata, where the client has some.
    pub detached: Option<Checksum>,
    /// What the ref must hold before.
    pub expect: Expect,
}

/// What a ref must hold for an update to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Expect {
    /// Whatever it holds when the server answers the announcement.
    Any,
    /// Nothing: the ref is to be created.
    Absent,
    /// This commit.
    Is(Checksum),
}

/// A commit, and the ref it is believed to be the current value of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The ref.
    pub name: RefName,
    /// The commit.
    pub commit: Checksum,
}

/// The server's answer to `Announce`: a state for each ref, in the order announced. Sent several
/// times when it does not fit one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefStatus {
    /// The states of the next refs.
    pub refs: Vec<RefState>,
    /// Commits that are complete on the server and may serve as bases: of those proposed, and
    /// others that the server suggests. Only in the first `RefStatus`.
    pub complete: Vec<Checksum>,
}

/// What the server holds and thinks of one announced ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefState {
    /// The ref's current value, which the update is compared with when it is published.
    pub current: Option<Checksum>,
    /// What will become of the update.
    pub verdict: Verdict,
}

/// What the server says to an update before anything is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// The ref holds the commit, and the detached metadata is the same: nothing to do.
    UpToDate,
    /// It may be pushed.
    Accepted,
    /// It will not be done.
    Refused(Refusal),
}

/// Why an update of a ref is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The reason, for programs.
    pub code: RefusalCode,
    /// The reason, for a person.
    pub text: Text,
}

impl Refusal {
    /// Joins a code and a text.
    pub fn new(code: RefusalCode, text: &str) -> Self {
        Self {
            code,
            text: Text::new(text),
        }
    }
}

/// Why an update of a ref is not done, for programs. Unknown codes are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RefusalCode(pub u16);

impl RefusalCode {
    /// The identity has no grant for it.
    pub const NOT_PERMITTED: Self = Self(1);
    /// The new commit does not descend from the current one.
    pub const NOT_FAST_FORWARD: Self = Self(2);
    /// The ref does not hold what was expected, or was moved by another push meanwhile.
    pub const LOST_RACE: Self = Self(3);
    /// The name is a directory of other refs, or a component of it is a ref.
    pub const NAME_CONFLICT: Self = Self(4);
    /// The commit is bound to other refs, so that nobody could pull it by this one.
    pub const BINDING: Self = Self(5);
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::NOT_PERMITTED => "not permitted",
            Self::NOT_FAST_FORWARD => "not a fast-forward",
            Self::LOST_RACE => "lost race",
            Self::NAME_CONFLICT => "name conflict",
            Self::BINDING => "ref binding",
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
