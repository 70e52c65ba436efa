//! Protocol versions, optional features, and how two ends agree on them (SPEC "Versioning").

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version of the wire protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Version(pub u16);

impl Version {
    /// The oldest version that this crate speaks with the preamble. The old protocols, 0 and 1,
    /// have none.
    pub const OLDEST: Self = Self(2);
    /// The newest version this crate speaks.
    pub const NEWEST: Self = Self(2);

    /// Returns the newest version that both this crate and a peer's range contain.
    pub fn negotiate(peer_min: Self, peer_max: Self) -> Option<Self> {
        let version = peer_max.min(Self::NEWEST);
        (version >= peer_min.max(Self::OLDEST)).then_some(version)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Optional features, a bit each. Unknown bits are kept, so that a newer peer's are neither refused
/// nor lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Features(pub u64);

impl Features {
    /// The server answers requests for refs, beside pushes or instead of them.
    pub const PULL: Self = Self(1);
    /// The features that this crate has beyond version 2's base.
    pub const SUPPORTED: Self = Self::PULL;

    /// Returns the features that both ends have.
    #[must_use]
    pub const fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiate_takes_the_newest_common_version_or_none() {
        let range = |min, max| Version::negotiate(Version(min), Version(max));
        assert_eq!(range(2, 2), Some(Version(2)));
        assert_eq!(range(0, 9), Some(Version(2)));
        assert_eq!(range(3, 9), None);
        assert_eq!(range(0, 1), None);
        assert_eq!(range(9, 2), None, "an empty range holds nothing");
        assert_eq!(Version(2).to_string(), "2");
    }

    #[test]
    fn common_features_drop_what_one_side_does_not_know() {
        assert_eq!(Features(0b1010).common(Features(0b0110)), Features(0b0010));
    }
}
