//! The summary's data about one commit.

use artifact_formats::{Checksum, Commit, SummaryRef};
use serde::{Deserialize, Serialize};

/// The data about a commit that is not partial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Takes them from the content of a commit; `None` if the content is not a commit. Leaves the
    /// size unknown.
    pub(crate) fn of(content: &[u8]) -> Option<Self> {
        Commit::parse(content).ok().map(|parsed| Self {
            len: content.len() as u64,
            timestamp: parsed.timestamp,
            version: (parsed.version)
                .filter(|version| version.len() <= MAX_VERSION_LEN)
                .map(String::into_boxed_str),
            size: None,
        })
    }

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

/// A version longer than this, in bytes, is dropped: the summary would repeat it for each ref that
/// holds the commit. The price of a ref covers one of this length (`account.rs`).
const MAX_VERSION_LEN: usize = 64;
