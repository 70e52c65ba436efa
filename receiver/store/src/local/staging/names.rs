//! The names in a staging directory that belong to no object.

use crate::local::disk::path::STAGED_TMP;

/// The file in a staging directory whose lock the live session holds.
pub(super) const LOCK: &str = "lock";
/// The file in a staging directory that names its identity.
pub(super) const IDENTITY: &str = "identity";
/// The subdirectory of files still being written, and of everything else that ends with the
/// session.
pub(super) const TMP: &str = STAGED_TMP;
