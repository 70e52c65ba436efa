//! What can go wrong in a store, sorted by whose fault it is.

use std::{fmt, io};

use artifact_formats::{Checksum, ConfigError, FormatError, ObjectId};
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::Fault;
use nix::errno::Errno;

use crate::verify::Rejection;

/// Why a store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The peer's fault: an object's bytes are not what its name says.
    #[error("{id} is refused")]
    Refused {
        /// The object.
        id: ObjectId,
        /// What is wrong with it.
        source: Rejection,
    },
    /// The peer's fault: detached metadata is malformed.
    #[error("the detached metadata of commit {commit} is refused")]
    DetachedMalformed {
        /// The commit.
        commit: Checksum,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The peer's fault: detached metadata is not what was announced.
    #[error("the detached metadata of commit {commit} is not the one that was announced")]
    DetachedDiffers {
        /// The commit.
        commit: Checksum,
    },
    /// The peer's fault: detached metadata was announced and neither sent nor here.
    #[error("the detached metadata of commit {commit} was announced and not sent")]
    DetachedMissing {
        /// The commit.
        commit: Checksum,
    },
    /// The peer's fault: it relies on a commit that was not called complete.
    #[error("commit {commit} was not called complete")]
    NotComplete {
        /// The commit.
        commit: Checksum,
    },
    /// The peer's fault: directories nest too deep.
    #[error("directories nest deeper than {limit} levels at {id}")]
    TooDeep {
        /// The first object below the limit.
        id: ObjectId,
        /// The limit, in levels.
        limit: usize,
    },
    /// The peer's fault: more directories have to be kept in mind along one path than may be.
    #[error("too many directories are in and above {id}")]
    TooWide {
        /// The directory where there are too many.
        id: ObjectId,
    },
    /// The summary is as long as pullers read, and does not name a ref that it ought to.
    #[error(
        "the summary has no room left to name {name}: those who have most refs must have some \
         removed (`artifact-cache-admin prune`)"
    )]
    NoRoomInSummary {
        /// The ref.
        name: String,
    },
    /// Not even without refs were the summary short enough to be read.
    #[error("the summary would take {len} bytes without any ref, and pullers read 10 MiB")]
    SummaryTooLong {
        /// Its length.
        len: usize,
    },
    /// The peer's fault: its objects, and the directories its refs need, are more than a push may have.
    #[error("objects and new directories of refs in a push: more than the limit of {limit}")]
    TooManyObjects {
        /// The limit.
        limit: u64,
    },
    /// The caller's fault: it asked out of order.
    #[error("the store was asked to {what}")]
    Misuse {
        /// What may not be asked now.
        what: &'static str,
    },
    /// Another program holds a lock for longer than is to be waited.
    #[error("another program holds {lock}")]
    Busy {
        /// The lock's path in the repository.
        lock: String,
    },
    /// As many sessions as there may be are at work.
    #[error("the server takes {max} pushes at once, and has as many; try again later")]
    TooManySessions {
        /// How many there may be.
        max: u32,
    },
    /// As many sessions as one identity may have are at work.
    #[error("you have {max} pushes under way at once, and may have no more; try again later")]
    TooManyOfOne {
        /// How many there may be.
        max: u32,
    },
    /// The storage is full, a quota is used up, or a file may not be that large.
    #[error("no room left while {doing} {what}")]
    Full {
        /// What was being done.
        doing: &'static str,
        /// To what.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// Less room is left on the storage than is to be kept free.
    #[error("{free} {what} are free on the server's storage, and {needed} must be for a push")]
    NoRoom {
        /// Bytes or inodes.
        what: &'static str,
        /// How many are free.
        free: u64,
        /// How many must be.
        needed: u64,
    },
    /// The storage failed.
    #[error("failed {doing} {what}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// What was staged could not be made durable before, so that none of it can be trusted.
    #[error("what was staged is lost, since it could not be made durable")]
    StagingLost,
    /// Something is missing or damaged beneath a commit that counts as whole.
    #[error("commit {commit} is not whole: {id} is missing or damaged")]
    NotWhole {
        /// The commit.
        commit: Checksum,
        /// What is missing.
        id: ObjectId,
    },
    /// The directory is no archive repository.
    #[error("not a repository: {why}")]
    NotARepository {
        /// What is not as it should be.
        why: &'static str,
    },
    /// The repository's `config` cannot be used.
    #[error("the repository's config cannot be used")]
    Config {
        /// What is wrong with it.
        #[from]
        source: ConfigError,
    },
}

impl Error {
    /// Returns a function that wraps what the system said while `doing` something to `what`.
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

    /// Returns what to tell the client: whose fault it is and, where it is the client's, what is
    /// wrong. No path of the server, and nothing the system said.
    pub fn to_fault(&self) -> Fault {
        let (code, text) = match self {
            Self::Refused { .. }
            | Self::DetachedMalformed { .. }
            | Self::DetachedDiffers { .. } => (CloseCode::OBJECT_REFUSED, with_causes(self)),
            Self::DetachedMissing { .. } => (CloseCode::INCOMPLETE, self.to_string()),
            Self::NotComplete { .. } => (CloseCode::VIOLATION, self.to_string()),
            Self::TooDeep { .. } | Self::TooWide { .. } | Self::TooManyObjects { .. } => {
                (CloseCode::LIMIT, self.to_string())
            }
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
            Self::NoRoom { .. } | Self::NoRoomInSummary { .. } | Self::SummaryTooLong { .. } => {
                (CloseCode::STORAGE_FULL, self.to_string())
            }
            Self::Io { source, .. } if limit_of(source).is_some() => (
                CloseCode::STORAGE_FAILED,
                limit_of(source).unwrap_or_default().to_owned(),
            ),
            Self::Io { .. } | Self::StagingLost => (
                CloseCode::STORAGE_FAILED,
                "the server's storage failed; its log says how".to_owned(),
            ),
            Self::NotWhole { .. } | Self::NotARepository { .. } | Self::Config { .. } => (
                CloseCode::STORAGE_FAILED,
                "the server's repository cannot be used; its log says why".to_owned(),
            ),
        };
        Fault { code, text }
    }
}

/// Returns which limit of the receiver's process or user an error comes of, if it does; that is for
/// the server's operator to mend, and a client that is told so can say it.
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

/// Joins what an error and its causes say.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_or_quota_is_told_from_a_broken_one() {
        let fault =
            |kind: io::ErrorKind| Error::io("writing", &"/srv/secret")(kind.into()).to_fault();
        assert_eq!(
            fault(io::ErrorKind::StorageFull).code,
            CloseCode::STORAGE_FULL
        );
        assert_eq!(
            fault(io::ErrorKind::QuotaExceeded).code,
            CloseCode::STORAGE_FULL
        );
        assert_eq!(
            fault(io::ErrorKind::PermissionDenied).code,
            CloseCode::STORAGE_FAILED
        );
        assert!(!fault(io::ErrorKind::Other).text.contains("secret"));
    }

    #[test]
    fn a_limit_of_the_process_is_named_and_is_no_broken_disk() {
        use nix::libc;
        let fault = |errno| {
            let error = io::Error::from_raw_os_error(errno);
            Error::io("writing", &"/srv/secret")(error).to_fault()
        };
        for (errno, code, named) in [
            (libc::ENOSPC, CloseCode::STORAGE_FULL, "storage is full"),
            (libc::EDQUOT, CloseCode::STORAGE_FULL, "quota"),
            (libc::EFBIG, CloseCode::STORAGE_FULL, "ulimit -f"),
            (libc::EMFILE, CloseCode::STORAGE_FAILED, "ulimit -n"),
            (libc::ENFILE, CloseCode::STORAGE_FAILED, "too many files"),
            (libc::ENOMEM, CloseCode::STORAGE_FAILED, "ulimit -v"),
            (libc::EIO, CloseCode::STORAGE_FAILED, "its log says how"),
        ] {
            let fault = fault(errno);
            assert_eq!(fault.code, code, "{errno}");
            assert!(fault.text.contains(named), "{}", fault.text);
        }
    }
}
