//! The old protocols.

use crate::version::Version;

/// An old protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// ostree-push before 0.1: the server speaks first, and answers each object.
    V0,
    /// BuildStream 1.x: the client speaks first, and sends objects as a tar stream.
    V1,
}

impl Dialect {
    /// Returns the number in the header of its messages.
    pub const fn number(self) -> u8 {
        match self {
            Self::V0 => 0,
            Self::V1 => 1,
        }
    }

    /// Returns the dialect as a version.
    pub fn version(self) -> Version {
        Version(self.number().into())
    }

    /// Returns the dialect of a version, if that is an old one.
    pub const fn of_version(version: Version) -> Option<Self> {
        match version.0 {
            0 => Some(Self::V0),
            1 => Some(Self::V1),
            _ => None,
        }
    }
}
