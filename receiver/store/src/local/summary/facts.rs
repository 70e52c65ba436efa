//! The summary's data about one commit.

use artifact_formats::{Checksum, SummaryRef};

/// The data about a commit that is not partial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Length of the commit object in bytes.
    pub(crate) len: u64,
    /// Seconds since 1970.
    pub(crate) timestamp: u64,
    /// At most [`MAX_VERSION_LEN`] bytes.
    pub(crate) version: Option<Box<str>>,
    /// Stored bytes of everything that the commit reaches; nothing relies on it.
    pub(crate) size: Option<u64>,
}

impl Facts {
    /// Returns the summary's entry for a ref that holds this commit.
    pub(crate) fn entry(&self, commit: Checksum, timestamps: bool) -> SummaryRef {
        SummaryRef {
            commit,
            commit_len: self.len,
            timestamp: timestamps.then_some(self.timestamp),
            version: self.version.as_deref().map(str::to_owned),
            size: self.size.filter(|_| timestamps),
        }
    }
}
