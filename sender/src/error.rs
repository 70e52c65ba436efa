//! What can go wrong with a push.
//!
//! Every error of the local side names the path or the object it is about; none prints its source,
//! which [`std::error::Error::source`] has.

use std::io;
use std::path::{Path, PathBuf};

use artifact_formats::{Checksum, ConfigError, FormatError, NameError, ObjectId, RefName};
use artifact_protocol::session::Error as SessionError;

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session ended: the source says whose fault it is.
    #[error("the push was not done")]
    Session(#[source] SessionError),
    /// The session ended between the request to publish and its answer: the refs may be set or not.
    /// The same push again tells, and does what was not done.
    #[error("the server was asked to set the refs and did not say whether it has")]
    Unsettled(#[source] SessionError),
    /// The program that leads to the server cannot be run.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A bug of this library.
    #[error("internal fault: {0}")]
    Internal(&'static str),
    /// The user named a place that holds no OSTree repository.
    #[error("{} is not an OSTree repository: it has no {missing}", path.display())]
    NotARepository {
        /// The place.
        path: PathBuf,
        /// What every repository has.
        missing: &'static str,
    },
    /// The repository's `config` is malformed, or of a mode or version that is not read here.
    #[error("cannot use {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The operating system refused to read something of the local repository.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The user gave what is neither the checksum of a commit nor the name of a ref.
    #[error("{text:?} is neither the name of a ref nor the checksum of a commit")]
    BadRevision {
        /// What was given.
        text: String,
        /// Why it is no ref name.
        source: NameError,
    },
    /// The user named a ref the local repository does not have.
    #[error("the local repository has no ref {name}")]
    NoSuchRef {
        /// The name.
        name: RefName,
    },
    /// A ref file of the local repository holds something else than a checksum and a line end.
    #[error("{} does not hold the checksum of a commit", path.display())]
    BadRef {
        /// The file.
        path: PathBuf,
    },
    /// The local repository does not have a commit that is to be pushed.
    #[error("the local repository has no commit {commit}; pull or make it first")]
    NoSuchCommit {
        /// The commit.
        commit: Checksum,
    },
    /// The server lacks an object, and so does the local repository, since only a part of a commit
    /// is there.
    #[error(
        "only a part of commit {commit} is in the local repository, and the server has not all of \
         the rest: neither has {id}; pull the whole commit first (`ostree pull`, without --subpath \
         and --commit-metadata-only)"
    )]
    PartialCommit {
        /// The commit: one that is pushed, or another that is partial.
        commit: Checksum,
        /// What neither side has.
        id: ObjectId,
    },
    /// An object beneath a commit that is marked complete is not there.
    #[error(
        "the local repository lacks {id} ({}){}; `ostree fsck` shows what else",
        path.display(), and_its_parent(parent.as_deref())
    )]
    MissingObject {
        /// The object.
        id: ObjectId,
        /// Where it should be.
        path: PathBuf,
        /// The repository's parent, where it is not either.
        parent: Option<PathBuf>,
    },
    /// The repository that the local one leans on cannot be read.
    #[error("cannot use {}, which {} names as core.parent", parent.display(), path.display())]
    Parent {
        /// The local repository's `config`.
        path: PathBuf,
        /// Its parent.
        parent: PathBuf,
        /// What is wrong with that.
        source: Box<Self>,
    },
    /// An object's bytes are not what its checksum says.
    #[error("the local repository is corrupt: {id} ({}): {reason}", path.display())]
    CorruptObject {
        /// The object.
        id: ObjectId,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An object has the right checksum, or none that was verified, but is no object of its kind.
    #[error("the local repository holds a malformed object: {id} ({})", path.display())]
    UnparsableObject {
        /// The object.
        id: ObjectId,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// A file's length was not what it had been a moment before.
    #[error(
        "the local repository is damaged or changing: {id} ({}) has not the {len} bytes it had",
        path.display()
    )]
    ChangedObject {
        /// The object.
        id: ObjectId,
        /// Where it is.
        path: PathBuf,
        /// Its length when it was opened, in bytes.
        len: u64,
    },
    /// Something in the local repository is larger than the protocol carries.
    #[error("{} has {len} bytes, more than the {limit} that can be pushed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The most that is carried, in bytes.
        limit: usize,
    },
}

fn and_its_parent(parent: Option<&Path>) -> String {
    parent.map_or_else(String::new, |parent| {
        format!(", and so does its parent {}", parent.display())
    })
}
