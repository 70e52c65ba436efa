//! The errors of a pull, sorted by whose fault they are.
//!
//! None prints its source, which [`std::error::Error::source`] returns.

use std::io;
use std::path::PathBuf;

use artifact_formats::{Checksum, ConfigError, FormatError, ObjectId, RefName, RepoMode};
use artifact_protocol::Text;
use artifact_protocol::session::Error as SessionError;

use crate::verify::reason::Unverified;
use crate::web::WebError;

/// The reason why a pull failed, or a ref of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A web server does not send a file.
    #[error(transparent)]
    Web(#[from] WebError),
    /// A repository on this machine, to be pulled from, cannot be read.
    #[error("cannot read the cache")]
    Source(#[source] artifact_sender::Error),
    /// The cache is not an OSTree repository.
    #[error("{origin} is not an OSTree repository: it has no config")]
    NotARepository {
        /// The cache.
        origin: String,
    },
    /// The cache stores its objects in a way that cannot be read over the web.
    #[error("{origin} has mode {}, but only an archive can be pulled over the web", mode.as_str())]
    NotAnArchive {
        /// The cache.
        origin: String,
        /// Its mode.
        mode: RepoMode,
    },
    /// The configuration of the cache cannot be used.
    #[error("cannot use {origin}/config")]
    Config {
        /// The cache.
        origin: String,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// A file of the cache is malformed.
    #[error("cannot use {origin}/{file}: {reason}")]
    BadFile {
        /// The cache.
        origin: String,
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The cache has no summary, which alone lists its refs.
    #[error("{origin} has no summary, so its refs cannot be listed")]
    NoSummary {
        /// The cache.
        origin: String,
    },
    /// The cache lacks an object that one of its commits needs.
    #[error("the cache lacks {id}: {origin} answers 404 Not Found for it")]
    Lacking {
        /// The cache.
        origin: String,
        /// The object.
        id: ObjectId,
    },
    /// The cache has an object whose bytes are not those that its name says.
    #[error("the cache is damaged: it holds a bad object {id}")]
    Damaged {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        source: Box<artifact_store::Error>,
    },
    /// A commit or the summary lacks a signature that the configuration demands.
    #[error(transparent)]
    Unverified(#[from] Unverified),
    /// A commit is bound to other refs than the one that the cache gives it.
    #[error("commit {commit} is bound to other refs: the cache must not give it the name {name}")]
    Binding {
        /// The commit.
        commit: Checksum,
        /// The ref.
        name: RefName,
    },
    /// The refs of the cache change faster than they can be pulled, or it contradicts itself.
    #[error("the cache does not send {id}, though it said that it would")]
    StillMissing {
        /// An object that is missing.
        id: ObjectId,
    },
    /// The local repository cannot be used.
    #[error("cannot use {} as a repository", path.display())]
    Local {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: Box<artifact_store::Error>,
    },
    /// The local repository's configuration cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    LocalConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused to read or write a file of the local repository.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The failed action.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The local repository cannot store what was pulled.
    #[error("cannot store the objects")]
    Store(#[source] artifact_store::Error),
    /// A commit, read from the local repository or the cache, is malformed.
    #[error("commit {commit} is malformed")]
    BadCommit {
        /// The commit.
        commit: Checksum,
        /// The rule that it breaks.
        source: FormatError,
    },
    /// The server answers no pulls; its files must do.
    #[error("the server answers no pulls")]
    NotServed {
        /// Where it says that its files are.
        pull_url: Option<Text>,
    },
    /// The session with a server failed; the source tells whose fault it is.
    #[error("the pull failed")]
    Session(#[source] SessionError),
    /// A bug of this library, or the runtime is going down.
    #[error("internal fault: {0}")]
    Internal(&'static str),
}

impl From<SessionError> for Error {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

/// Who can do something about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody answers, or the connection was lost.
    Connection,
    /// The operator of the cache: it is damaged, incomplete, or no cache.
    Cache,
    /// Whoever signs the commits, or the user who demands signatures.
    Signature,
    /// The user: the local repository cannot be used or written.
    Local,
    /// The developers.
    Bug,
}

impl Error {
    /// Returns who can do something about it.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Web(error) if error.is_of_connection() => Fault::Connection,
            Self::Web(_)
            | Self::Source(_)
            | Self::NotARepository { .. }
            | Self::NotAnArchive { .. }
            | Self::Config { .. }
            | Self::BadFile { .. }
            | Self::NoSummary { .. }
            | Self::Lacking { .. }
            | Self::Damaged { .. }
            | Self::StillMissing { .. }
            | Self::BadCommit { .. }
            | Self::Binding { .. } => Fault::Cache,
            Self::Unverified(_) => Fault::Signature,
            Self::Local { .. } | Self::LocalConfig { .. } | Self::Io { .. } | Self::Store(_) => {
                Fault::Local
            }
            Self::Session(_) | Self::NotServed { .. } => Fault::Connection,
            Self::Internal(_) => Fault::Bug,
        }
    }

    /// Returns whether the same pull may succeed in a while.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Web(error) => error.may_pass(),
            Self::Store(artifact_store::Error::Busy { .. }) | Self::StillMissing { .. } => true,
            _ => false,
        }
    }
}
