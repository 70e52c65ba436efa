//! Why a configuration cannot be used.

use std::io;
use std::path::PathBuf;

use artifact_store::KeyError;

use crate::config::trust::Untrusted;

/// The reason why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Other users of the machine could change the file and give themselves rights.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The signing key of the summary is invalid.
    #[error("{} cannot sign the summary", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyError,
    },
    /// The text is not a valid configuration.
    #[error("{}:{line}: {why}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// The mistake.
        why: String,
    },
}
