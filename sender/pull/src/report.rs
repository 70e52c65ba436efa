//! What a pull did, and what it says meanwhile.

use std::sync::Arc;

use artifact_formats::{Checksum, NameError, RefName};

use crate::error::Error;

/// The result of a pull.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// The refs that the cache has, of those that were wanted.
    pub refs: Vec<PulledRef>,
    /// Objects fetched; in a dry run, those that would be.
    pub objects: u64,
    /// Their stored bytes, without the protocol's overhead.
    pub bytes: u64,
    /// Names in the cache's summary that match the wanted pattern and are none that a ref may have.
    pub left_out: Vec<(String, NameError)>,
}

/// A ref of the cache, and what became of it here.
#[derive(Debug)]
pub struct PulledRef {
    /// Its name.
    pub name: RefName,
    /// The commit that it holds in the cache.
    pub commit: Checksum,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a ref.
#[derive(Debug)]
pub enum Outcome {
    /// The local ref holds the commit now, and everything it reaches is on the disk.
    Pulled,
    /// The local ref held it already.
    Unchanged,
    /// In a dry run: the local ref would be set.
    WouldPull,
    /// The local ref was left alone, since it holds what the user may want to keep.
    Refused(Refusal),
    /// The commit cannot be fetched, verified or stored.
    Failed(Arc<Error>),
}

/// The reason why a local ref was left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// It holds a commit that the history of the cache's does not lead to.
    HoldsWork {
        /// That commit.
        held: Checksum,
    },
    /// The store refuses the name, or the ref has just been set to something else.
    Store(String),
}

/// The progress of a pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The cache has this many of the wanted refs.
    Found {
        /// Their number.
        refs: u64,
    },
    /// So far this many objects are known to be wanted, those fetched included; more may follow.
    Wanted {
        /// Their number.
        objects: u64,
    },
    /// So much is wanted altogether, what has come included.
    Extent {
        /// Objects.
        objects: u64,
        /// Their stored bytes.
        bytes: u64,
    },
    /// An object was fetched and verified; these are the numbers so far.
    Fetched {
        /// Objects.
        objects: u64,
        /// Their stored bytes.
        bytes: u64,
    },
    /// Everything is here: it is written to the disk, and the refs are set.
    Publishing,
}
