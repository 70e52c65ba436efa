//! The errors of a push.
//!
//! Every error of the local side names the path or the object that it is about. None prints its
//! source, which [`std::error::Error::source`] returns.

use std::io;
use std::path::{Path, PathBuf};

use artifact_formats::{Checksum, ConfigError, FormatError, NameError, ObjectId, RefName};
use artifact_protocol::session::Error as SessionError;

/// The reason why a push failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session failed; the source tells whose fault it is.
    #[error("the push failed")]
    Session(#[source] SessionError),
    /// The session ended between the request to publish and its answer: the refs may be set or not.
    /// The same push again tells, and completes what is missing.
    #[error("the server was asked to set the refs, but the connection ended before it answered")]
    Unsettled(#[source] SessionError),
    /// The program that connects to the server cannot be started.
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
    /// The client of a pull asked for more than the server answers at once.
    #[error("the client asked for too much: {0}")]
    TooMuchAsked(String),
    /// The user named a place that is not an OSTree repository.
    #[error("{} is not an OSTree repository: it has no {missing}", path.display())]
    NotARepository {
        /// The place.
        path: PathBuf,
        /// The missing file or directory.
        missing: &'static str,
    },
    /// The repository's `config` is malformed, or has an unsupported mode or version.
    #[error("cannot use the repository's configuration {}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The operating system refused to read a file of the local repository.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed action.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The user gave neither the checksum of a commit nor the name of a ref.
    #[error("{text:?} is neither the name of a ref nor the checksum of a commit")]
    BadRevision {
        /// The given text.
        text: String,
        /// The reason why it is not a ref name.
        source: NameError,
    },
    /// The user named a ref that the local repository does not have.
    #[error("the local repository has no ref {name}")]
    NoSuchRef {
        /// The name.
        name: RefName,
    },
    /// A ref file of the local repository contains something other than a checksum and a line end.
    #[error("{} does not hold the checksum of a commit", path.display())]
    BadRef {
        /// The file.
        path: PathBuf,
    },
    /// The local repository does not have a commit to push.
    #[error("the local repository has no commit {commit}; pull it or commit it first")]
    NoSuchCommit {
        /// The commit.
        commit: Checksum,
    },
    /// The server lacks an object, and so does the local repository, which has only a part of a
    /// commit.
    #[error(
        "only a part of commit {commit} is in the local repository, and the server has not all of \
         the rest: neither has {id}; pull the whole commit first (`ostree pull`, without --subpath \
         and --commit-metadata-only)"
    )]
    PartialCommit {
        /// The commit: one to push, or another partial one.
        commit: Checksum,
        /// The object that neither side has.
        id: ObjectId,
    },
    /// An object beneath a commit that is marked complete is missing.
    #[error(
        "the local repository lacks {id} ({}){}; `ostree fsck` lists what else is missing",
        path.display(), and_its_parent(parent.as_deref())
    )]
    MissingObject {
        /// The object.
        id: ObjectId,
        /// Its expected path.
        path: PathBuf,
        /// The repository's parent, which lacks it too.
        parent: Option<PathBuf>,
    },
    /// The repository that the local one depends on cannot be read.
    #[error("cannot use {}, which {} names as core.parent", parent.display(), path.display())]
    Parent {
        /// The local repository's `config`.
        path: PathBuf,
        /// Its parent.
        parent: PathBuf,
        /// The reason.
        source: Box<Self>,
    },
    /// An object's bytes do not match its checksum.
    #[error("the local repository is corrupt: {id} ({}): {reason}", path.display())]
    CorruptObject {
        /// The object.
        id: ObjectId,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An object has the right checksum, or an unverified one, but is not a valid object of its
    /// kind.
    #[error("the local repository holds a malformed object: {id} ({})", path.display())]
    UnparsableObject {
        /// The object.
        id: ObjectId,
        /// Its path.
        path: PathBuf,
        /// The rule that it breaks.
        source: FormatError,
    },
    /// A file's length has changed since it was opened.
    #[error(
        "the local repository is damaged or changing: {id} ({}) no longer has {len} bytes",
        path.display()
    )]
    ChangedObject {
        /// The object.
        id: ObjectId,
        /// Its path.
        path: PathBuf,
        /// Its length when it was opened, in bytes.
        len: u64,
    },
    /// A file of the local repository exceeds a limit of the protocol.
    #[error("{} has {len} bytes, but at most {limit} can be pushed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        len: u64,
        /// The limit in bytes.
        limit: usize,
    },
}

fn and_its_parent(parent: Option<&Path>) -> String {
    parent.map_or_else(String::new, |parent| {
        format!(", and so does its parent {}", parent.display())
    })
}
