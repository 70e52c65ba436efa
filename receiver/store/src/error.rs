//! The errors of a store, sorted by whose fault they are.

pub(crate) mod bucket;

use std::{fmt, io};

use artifact_formats::{Checksum, ConfigError, FormatError, ObjectId, RepoMode, with_causes};
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::Fault;
use nix::errno::Errno;

use crate::error::bucket::BucketError;
use crate::verify::Rejection;

/// The reason why a store could not execute a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's fault: an object's bytes do not match its name.
    #[error("{id} is refused")]
    Refused {
        /// The object.
        id: ObjectId,
        /// The rule that it breaks.
        source: Rejection,
    },
    /// The peer's fault: detached metadata is malformed.
    #[error("the detached metadata of commit {commit} is refused")]
    DetachedMalformed {
        /// The commit.
        commit: Checksum,
        /// The rule that it breaks.
        source: FormatError,
    },
    /// The peer's fault: detached metadata differs from the announced checksum.
    #[error("the detached metadata of commit {commit} differs from the announced checksum")]
    DetachedDiffers {
        /// The commit.
        commit: Checksum,
    },
    /// The peer's fault: it announced detached metadata, but did not send it, and it is not here.
    #[error("the detached metadata of commit {commit} was announced, but not sent")]
    DetachedMissing {
        /// The commit.
        commit: Checksum,
    },
    /// The peer's fault: it relies on a commit that the store did not call complete.
    #[error("the client relies on commit {commit}, which the server did not call complete")]
    NotComplete {
        /// The commit.
        commit: Checksum,
    },
    /// The peer's fault: directories nest too deep (LIM-21).
    #[error("directories nest deeper than {limit} levels at {id}")]
    TooDeep {
        /// The first object beyond the limit.
        id: ObjectId,
        /// The limit, in levels.
        limit: usize,
    },
    /// The peer's fault: too many directories along one path would have to be remembered.
    #[error("{id} and the directories above it contain too many directories")]
    TooWide {
        /// The directory that exceeds the limit.
        id: ObjectId,
    },
    /// The summary is as long as pullers accept, and does not list a ref that it should.
    #[error(
        "the summary has no room left for {name}: remove refs of the identities that have most \
         removed (`artifact-cache-admin prune`)"
    )]
    NoRoomInSummary {
        /// The ref.
        name: String,
    },
    /// Even without any ref the summary would be too long for pullers.
    #[error(
        "the summary would take {len} bytes even without any ref, but pullers accept at most 10 MiB"
    )]
    SummaryTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The peer's fault: the push has too many objects, with the directories that its refs need.
    #[error(
        "the push exceeds the limit of {limit} objects, to which new directories of refs count"
    )]
    TooManyObjects {
        /// The limit.
        limit: u64,
    },
    /// The peer's fault: the pushes of its identity bring more than its quota.
    #[error(
        "your pushes would hold {all} {what} on the server, and your quota is {max}; ask for old \
         refs to be removed (`artifact-cache-admin prune`), or for a larger `{setting}`"
    )]
    OverAllowance {
        /// Objects or bytes.
        what: &'static str,
        /// The setting that limits them.
        setting: &'static str,
        /// How many the identity would hold.
        all: u64,
        /// Its quota.
        max: u64,
    },
    /// The caller's fault: a request out of order.
    #[error("the store was asked to {what}")]
    Misuse {
        /// The request that is not allowed now.
        what: &'static str,
    },
    /// Another program holds a lock for longer than the store may wait.
    #[error("another program holds {lock}")]
    Busy {
        /// The lock's path in the repository.
        lock: String,
    },
    /// The server runs as many sessions as it may.
    #[error(
        "the server accepts only {max} pushes and pulls at once, and all are in use; \
         try again later"
    )]
    TooManySessions {
        /// The limit.
        max: u32,
    },
    /// The identity has as many sessions as it may.
    #[error("you may run only {max} pushes and pulls at once, and all are in use; try again later")]
    TooManyOfOne {
        /// The limit.
        max: u32,
    },
    /// The storage is full, a quota is exhausted, or a file would exceed a size limit.
    #[error("no space left while {doing} {what}")]
    Full {
        /// The failed action.
        doing: &'static str,
        /// Its object.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The storage has less free space than must stay free.
    #[error("only {free} {what} are free on the server's storage, but a push needs {needed}")]
    NoRoom {
        /// Bytes or inodes.
        what: &'static str,
        /// The free amount.
        free: u64,
        /// The required amount.
        needed: u64,
    },
    /// The storage failed.
    #[error("failed {doing} {what}")]
    Io {
        /// The failed action.
        doing: &'static str,
        /// Its object.
        what: String,
        /// The system's error.
        source: io::Error,
    },
    /// The object storage failed, or cannot be reached.
    #[error("failed {doing} {what}")]
    Bucket {
        /// The failed action.
        doing: &'static str,
        /// Its object.
        what: String,
        /// The error of the request.
        source: BucketError,
    },
    /// The object storage ignores conditions: of two pushes that set a ref at once, both would win.
    #[error(
        "the object storage ignores conditions, so pushes would undo each other; \
         `artifact-cache-admin check` says what it lacks"
    )]
    Unconditional,
    /// The push was silent for so long that it was given up, or took longer than a push may.
    #[error(
        "the push was given up, because it was silent for too long or took longer than a push may; \
         push again, which sends only what is missing"
    )]
    Fenced,
    /// The peer's fault: what waits in memory until it is published takes too much.
    #[error(
        "the commits of the push and their detached metadata take more than {limit} bytes: push \
         fewer refs, or less history, at once"
    )]
    TooMuchHeldBack {
        /// The limit in bytes.
        limit: usize,
    },
    /// An earlier sync of the staged objects failed, so none of them can be trusted.
    #[error("the staged objects are lost, because they could not be synced")]
    StagingLost,
    /// Something is missing or damaged beneath a commit that is not marked partial.
    #[error("commit {commit} lacks {id}, which is missing or damaged")]
    NotWhole {
        /// The commit.
        commit: Checksum,
        /// The missing object.
        id: ObjectId,
    },
    /// The repository's mode has no place for a part of a file object.
    #[error(
        "{id} cannot be stored in a repository of mode {mode}: {why}; use one of mode bare-user \
         (`ostree init --mode=bare-user`)",
        mode = mode.as_str()
    )]
    NoPlace {
        /// The object.
        id: ObjectId,
        /// The repository's mode.
        mode: RepoMode,
        /// The part.
        why: &'static str,
    },
    /// The user lacks the rights that a repository of mode bare needs.
    #[error(
        "{doing} a file was not permitted: a repository of mode bare needs root; use one of mode \
         bare-user (`ostree init --mode=bare-user`)"
    )]
    NeedsRoot {
        /// The action that was not permitted.
        doing: &'static str,
    },
    /// The file system has no extended attributes, which the repository's mode needs.
    #[error(
        "the file system keeps no extended attributes, which a repository of this mode needs; use \
         one of mode bare-user-only (`ostree init --mode=bare-user-only`), or another file system"
    )]
    NoXattrs,
    /// The directory is not a repository that can be used.
    #[error("not a repository: {why}")]
    NotARepository {
        /// The reason.
        why: &'static str,
    },
    /// The repository's `config` cannot be used.
    #[error("cannot use the repository's config")]
    Config {
        /// The reason.
        #[from]
        source: ConfigError,
    },
}

impl Error {
    /// Returns a function that wraps the system's error while `doing` something to `what`.
    pub(crate) fn io(
        doing: &'static str,
        what: &impl fmt::Display,
    ) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let what = what.to_string();
            match source.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge => Self::Full {
                    doing,
                    what,
                    source,
                },
                _ => Self::Io {
                    doing,
                    what,
                    source,
                },
            }
        }
    }

    /// Returns a function that wraps the error of a request to object storage while `doing`
    /// something to `what`.
    pub fn bucket(
        doing: &'static str,
        what: &impl fmt::Display,
    ) -> impl FnOnce(BucketError) -> Self {
        move |source| Self::Bucket {
            doing,
            what: what.to_string(),
            source,
        }
    }

    /// Returns the fault to send to the client: whose fault it is and, if it is the client's, the
    /// rule that it broke. Contains no path of the server, and nothing that the system said.
    pub fn to_fault(&self) -> Fault {
        let (code, text) = match self {
            Self::Refused { .. }
            | Self::DetachedMalformed { .. }
            | Self::DetachedDiffers { .. } => (CloseCode::OBJECT_REFUSED, with_causes(self)),
            Self::DetachedMissing { .. } => (CloseCode::INCOMPLETE, self.to_string()),
            Self::NotComplete { .. } => (CloseCode::VIOLATION, self.to_string()),
            Self::TooDeep { .. }
            | Self::TooWide { .. }
            | Self::TooManyObjects { .. }
            | Self::TooMuchHeldBack { .. } => (CloseCode::LIMIT, self.to_string()),
            Self::Fenced => (CloseCode::BUSY, self.to_string()),
            Self::Misuse { .. } => (CloseCode::INTERNAL, "a fault of the server".to_owned()),
            Self::Busy { .. } => (
                CloseCode::BUSY,
                "the repository is locked by another program; try again later".to_owned(),
            ),
            Self::TooManySessions { .. } | Self::TooManyOfOne { .. } => {
                (CloseCode::BUSY, self.to_string())
            }
            Self::Full { source, .. } => (
                CloseCode::STORAGE_FULL,
                limit_of(source)
                    .unwrap_or("the server's storage is full")
                    .to_owned(),
            ),
            Self::NoRoom { .. }
            | Self::NoRoomInSummary { .. }
            | Self::SummaryTooLong { .. }
            | Self::OverAllowance { .. } => (CloseCode::STORAGE_FULL, self.to_string()),
            Self::Io { source, .. } if limit_of(source).is_some() => (
                CloseCode::STORAGE_FAILED,
                limit_of(source).unwrap_or_default().to_owned(),
            ),
            Self::Bucket {
                source: BucketError::Busy(_),
                ..
            } => (
                CloseCode::BUSY,
                "the server's object storage has too much to do; try again later".to_owned(),
            ),
            Self::Io { .. } | Self::Bucket { .. } | Self::StagingLost => (
                CloseCode::STORAGE_FAILED,
                "the server's storage failed; its log says how".to_owned(),
            ),
            Self::NoPlace { .. }
            | Self::NeedsRoot { .. }
            | Self::NoXattrs
            | Self::NotWhole { .. }
            | Self::NotARepository { .. }
            | Self::Unconditional
            | Self::Config { .. } => (
                CloseCode::STORAGE_FAILED,
                "the server's repository cannot be used; its log says why".to_owned(),
            ),
        };
        Fault { code, text }
    }
}

/// Returns the limit of the receiver's process or user that caused an error, if one did. The
/// operator can raise it, and a client that knows it can tell the operator.
fn limit_of(error: &io::Error) -> Option<&'static str> {
    let by_kind = match error.kind() {
        io::ErrorKind::QuotaExceeded => Some("the disk quota of the server's user is used up"),
        io::ErrorKind::FileTooLarge => {
            Some("the server may not write a file that large (ulimit -f, LimitFSIZE)")
        }
        io::ErrorKind::OutOfMemory => {
            Some("the server may not use as much memory as it needs (ulimit -v, LimitAS)")
        }
        _ => None,
    };
    by_kind.or(match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EMFILE) => {
            Some("the server may not open as many files as it needs (ulimit -n, LimitNOFILE)")
        }
        Some(Errno::ENFILE) => Some("the server's machine has too many files open"),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
