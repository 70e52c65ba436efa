//! Refs that a cache has.

use std::collections::BTreeMap;

use artifact_sender::{Checksum, RefName};

/// Refs of a cache.
pub(super) type Found = BTreeMap<RefName, Checksum>;
