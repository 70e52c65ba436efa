//! Paths in the configuration.

use std::path::PathBuf;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Reads an absolute path: it means the same in whatever directory the program runs.
pub(super) fn absolute<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(deserializer)?;
    if path.is_absolute() {
        Ok(Some(path))
    } else {
        Err(D::Error::custom("expected an absolute path"))
    }
}
