//! What all parts of a mirror share: what is mirrored, where to, how, and what came of it.

use artifact_formats::{Checksum, RefName};

use crate::bucket::client::Client;
use crate::bucket::copy::session::Session;
use crate::bucket::copy::source::Source;
use crate::bucket::push::ask::ask_once;
use crate::bucket::seam::{Answer, BucketError, Request};
use crate::error::Error;
use crate::local::disk::Fs;

/// How to mirror a repository.
#[derive(Clone, Debug)]
pub struct MirrorOptions {
    /// The bucket's address, under which the repository remembers what it has mirrored there.
    pub address: String,
    /// Only find out what would be done.
    pub dry_run: bool,
    /// Remove refs that the repository does not have.
    pub delete: bool,
    /// Remove refs even if these are all refs of a project, or more than half of all.
    pub allow_remove_all: bool,
    /// Larger objects are faults, in bytes.
    pub object_len_max: u64,
}

/// Something to tell while a repository is mirrored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MirrorEvent {
    /// Something of the repository is damaged or missing, and what needs it is not mirrored.
    Fault {
        /// The commit, ref or file.
        what: String,
        /// Its fault.
        why: String,
    },
    /// Some objects are in the bucket.
    Copied {
        /// How many so far.
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
    /// Refs of the bucket stay that the repository does not have.
    Refused {
        /// The reason.
        why: String,
    },
}

/// What mirroring has done or, in a dry run, would do.
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
pub(super) struct Turn<'a, F: Fs> {
    pub(super) source: &'a Source<F>,
    pub(super) client: &'a Client,
    pub(super) options: &'a MirrorOptions,
    pub(super) report: &'a (dyn Fn(MirrorEvent) + Sync),
    /// `None` in a dry run.
    pub(super) session: Option<&'a Session>,
}

impl<F: Fs> Turn<'_, F> {
    /// Keeps the session alive.
    pub(super) fn keep(&self) -> Result<(), Error> {
        self.session.map_or(Ok(()), Session::keep)
    }

    /// Makes sure right before a commit or a ref is put that it still may be.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.session.map_or(Ok(()), Session::check)
    }

    /// Sends puts of commits or refs, each once and only while it may be sent (R8), and returns
    /// what became of them.
    pub(super) fn ask(&self, requests: &[Request]) -> Vec<Result<Answer, BucketError>> {
        let Some(session) = self.session else {
            return ask_once(self.client, requests, || false);
        };
        let answers = ask_once(self.client, requests, || session.is_fresh());
        session.heard(&answers);
        answers
    }

    /// Makes sure that nothing was collected since the session began.
    pub(super) fn confirm(&self) -> Result<(), Error> {
        self.session.map_or(Ok(()), Session::confirm)
    }

    /// Reports something that cannot be mirrored.
    pub(super) fn fault(&self, done: &mut Mirrored, what: &str, why: &str) {
        done.faults += 1;
        (self.report)(MirrorEvent::Fault {
            what: what.to_owned(),
            why: why.to_owned(),
        });
    }
}
