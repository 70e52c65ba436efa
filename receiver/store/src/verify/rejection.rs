//! Why an object is refused.

use artifact_formats::{Checksum, FormatError};

/// Why the bytes of an object are refused; whoever sent them is at fault, or the repository they
/// were read from.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// The bytes are of another object, or damaged.
    #[error("the object's checksum is {computed}, not {expected}: it is damaged, or another one")]
    ChecksumMismatch {
        /// The checksum it was sent under.
        expected: Checksum,
        /// The checksum it has.
        computed: Checksum,
    },
    /// The content of a file is not stored the way an archive repository stores it.
    #[error("the file object is not stored as it should be: {rule}")]
    Container {
        /// The rule that is broken.
        rule: &'static str,
    },
    /// The object, or the header of a file object, breaks a rule of its format.
    #[error("the object is not well-formed")]
    Structure(#[source] FormatError),
    /// The object is larger than an object may be, as stored or unpacked.
    #[error("the object is larger than {limit} bytes, the most that is accepted")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
}
