//! An operator's commands: their results, and the limit on removals, in whatever store.

pub(crate) mod rails;

use artifact_formats::{Checksum, RefName};

/// A ref, its commit, and when it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRef {
    /// The ref's name.
    pub name: RefName,
    /// The ref's commit.
    pub commit: Checksum,
    /// Seconds and nanoseconds since 1970 when it was set.
    pub set: (i64, u64),
    /// An alias that leads to it.
    pub alias: Option<String>,
}

/// The result of removing a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is removed, durably.
    Removed(Checksum),
    /// It was an alias, or held no commit, and is removed, durably.
    RemovedOther,
    /// It did not exist.
    NotThere,
    /// This alias leads to it and would lead nowhere: it stays.
    LedTo(String),
    /// It holds another commit than expected, or is no ref, and stays.
    Kept,
    /// It was removed, and a push that ran at the same time has set it again.
    SetAgain,
}

/// A difference between a repository and what pushes leave there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its importance.
    pub weight: Weight,
    /// Its place: a path in the repository, a ref, or an object.
    pub what: String,
    /// The difference.
    pub why: String,
}

/// The importance of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// Pushed data is damaged or missing, or other programs fail because of the finding.
    Fault,
    /// Pushed data is not affected.
    Remark,
}

/// The counts of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects.
    pub objects: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// Commits that are not marked partial.
    pub commits: u64,
    /// Refs.
    pub refs: u64,
    /// Reported faults.
    pub faults: u64,
    /// Reported remarks.
    pub remarks: u64,
}

/// A number of files, and their length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The number of files.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, len: u64) {
        self.files += 1;
        self.bytes += len;
    }
}
