use std::collections::BTreeMap;

use artifact_sender::{Checksum, RefName};

/// Refs that a cache has.
pub(super) type Found = BTreeMap<RefName, Checksum>;
