//! The reasons to refuse an object.

use artifact_formats::{Checksum, FormatError};

/// The reason to refuse the bytes of an object. Whoever sent them is at fault, or the repository
/// that they were read from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The bytes are damaged, or those of another object.
    #[error("the object's checksum is {computed}, not {expected}: it is damaged, or another one")]
    ChecksumMismatch {
        /// The checksum in its name.
        expected: Checksum,
        /// The checksum of its bytes.
        computed: Checksum,
    },
    /// The content of a file is not stored as an archive repository stores it.
    #[error("the file object is not stored correctly: {rule}")]
    Container {
        /// The broken rule.
        rule: &'static str,
    },
    /// The object, or the header of a file object, breaks a rule of its format.
    #[error("the object is not well-formed")]
    Structure(#[source] FormatError),
    /// The object is too large, as stored or as unpacked.
    #[error("the object is larger than {limit} bytes, the most that is accepted")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}
