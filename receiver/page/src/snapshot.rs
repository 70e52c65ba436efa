//! What is known of a cache at one moment, as pages show it.

use std::sync::Arc;

use artifact_store::Count;

use crate::health::Vitals;
use crate::shelf::Shelf;
use crate::trail::Push;

/// What there was when it was looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) pushes: Vec<Push>,
    pub(crate) has_audit: bool,
    pub(crate) vitals: Vitals,
}

/// What there is of files, which takes long to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stock {
    pub(crate) objects: Count,
    pub(crate) others: Count,
}
