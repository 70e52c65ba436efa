//! Faults of a file or an object, without its name.

use std::io;
use std::path::PathBuf;

use artifact_formats::{Checksum, FormatError, ObjectId};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The reason why a file cannot be read.
#[derive(Debug)]
pub(super) enum FileFault {
    Io {
        action: &'static str,
        source: io::Error,
    },
    TooLarge {
        len: u64,
        limit: usize,
    },
}

impl FileFault {
    pub(super) fn io(action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::Io {
            action,
            source: source.into(),
        }
    }

    /// Adds the path.
    pub(super) fn at(self, path: PathBuf) -> Error {
        match self {
            Self::Io { action, source } => Error::Io {
                action,
                path,
                source,
            },
            Self::TooLarge { len, limit } => Error::TooLarge { path, len, limit },
        }
    }
}

/// The reason why an object cannot be sent.
#[derive(Debug)]
pub(super) enum ObjectFault {
    Missing,
    File(FileFault),
    Corrupt(&'static str),
    Unparsable(FormatError),
    /// The file no longer has this length in bytes.
    Changed {
        len: u64,
    },
}

impl ObjectFault {
    pub(super) fn io(action: &'static str, source: impl Into<io::Error>) -> Self {
        Self::File(FileFault::io(action, source))
    }
}

impl From<FileFault> for ObjectFault {
    fn from(fault: FileFault) -> Self {
        Self::File(fault)
    }
}

impl From<FormatError> for ObjectFault {
    fn from(source: FormatError) -> Self {
        Self::Unparsable(source)
    }
}

/// Checks that the hashed bytes have the checksum in the object's name.
pub(super) fn verify(checksum: Checksum, hasher: Sha256) -> Result<(), ObjectFault> {
    if hasher.finalize().as_slice() == checksum.as_bytes() {
        Ok(())
    } else {
        Err(ObjectFault::Corrupt("its content has another checksum"))
    }
}

/// The object being read, and its path.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(super) id: ObjectId,
    pub(super) path: PathBuf,
    /// The repository's parent, if it has one.
    pub(super) parent: Option<PathBuf>,
}

impl Place {
    /// Adds the object to a fault.
    pub(super) fn error(self, fault: ObjectFault) -> Error {
        let Self { id, path, parent } = self;
        match fault {
            ObjectFault::Missing => Error::MissingObject { id, path, parent },
            ObjectFault::File(fault) => fault.at(path),
            ObjectFault::Corrupt(reason) => Error::CorruptObject { id, path, reason },
            ObjectFault::Unparsable(source) => Error::UnparsableObject { id, path, source },
            ObjectFault::Changed { len } => Error::ChangedObject { id, path, len },
        }
    }
}
