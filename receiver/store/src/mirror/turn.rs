//! The data that all parts of a mirror share: its source, its bucket, its options and its results.

use artifact_formats::{Checksum, RefName};

use crate::bucket::requests::ask::ask_once;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Answer, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::local::disk::Fs;
use crate::mirror::session::Session;
use crate::mirror::source::Source;

/// The options of a mirror.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// The bucket's address, under which the repository remembers what it has mirrored there.
    pub address: String,
    /// Report what a mirror would do, and change nothing.
    pub dry_run: bool,
    /// Remove the bucket's refs that the repository does not have.
    pub delete: bool,
    /// Remove refs even if they are all refs of a project, or more than half of all refs.
    pub allow_remove_all: bool,
    /// The longest object in bytes; a longer one is a fault.
    pub object_len_max: u64,
}

/// The progress of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorEvent {
    /// A part of the repository is missing or damaged, and the commits and refs that need it are
    /// not mirrored.
    Fault {
        /// The commit, ref or file.
        what: String,
        /// Its fault.
        why: String,
    },
    /// Some objects are in the bucket.
    Copied {
        /// The number of objects so far.
        objects: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A ref of the bucket is set.
    Set {
        /// The ref.
        name: RefName,
        /// Its commit.
        commit: Checksum,
    },
    /// A ref of the bucket is removed, because the repository does not have it.
    Removed {
        /// The ref.
        name: RefName,
        /// The commit that it held, if it held one.
        commit: Option<Checksum>,
    },
    /// Refs that the repository does not have stay in the bucket, because they are too many.
    Refused {
        /// The reason.
        why: String,
    },
}

/// The results of a mirror: its changes or, in a dry run, the changes that it would make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrored {
    /// Objects that were put.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Commits that were put.
    pub commits: u64,
    /// Refs that were set.
    pub refs_set: u64,
    /// Refs that held the right commit already.
    pub refs_unchanged: u64,
    /// Refs that were removed.
    pub refs_removed: u64,
    /// Whether the summary was replaced or removed.
    pub summary_replaced: bool,
    /// Refs, commits and files that could not be mirrored.
    pub faults: u64,
}

/// One pass over everything.
pub(crate) struct Turn<'a, F: Fs> {
    pub(crate) source: &'a Source<F>,
    pub(crate) client: &'a Client,
    pub(crate) options: &'a MirrorOptions,
    pub(crate) report: &'a (dyn Fn(MirrorEvent) + Sync),
    /// `None` in a dry run.
    pub(crate) session: Option<&'a Session>,
}

impl<F: Fs> Turn<'_, F> {
    /// Keeps the session alive.
    pub(crate) fn keep(&self) -> Result<(), Error> {
        self.session.map_or(Ok(()), Session::keep)
    }

    /// Makes sure that a commit or a ref may be put now.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.session.map_or(Ok(()), Session::check)
    }

    /// Sends puts of commits or refs, each once and only while that is allowed (R8), and returns
    /// their answers.
    pub(crate) fn ask(&self, requests: &[Request]) -> Vec<Result<Answer, BucketError>> {
        let Some(session) = self.session else {
            return ask_once(self.client, requests, || false);
        };
        let answers = ask_once(self.client, requests, || session.is_fresh());
        session.heard(&answers);
        answers
    }

    /// Makes sure that no collection has begun since the session did.
    pub(crate) fn confirm(&self) -> Result<(), Error> {
        self.session.map_or(Ok(()), Session::confirm)
    }

    /// Reports a ref, commit or file that cannot be mirrored.
    pub(crate) fn fault(&self, done: &mut Mirrored, what: &str, why: &str) {
        done.faults += 1;
        (self.report)(MirrorEvent::Fault {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }
}
