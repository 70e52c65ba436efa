//! The state of a cache at one moment, as pages show it.

use std::sync::Arc;

use artifact_store::Count;

use crate::health::Vitals;
use crate::shelf::Shelf;
use crate::trail::Push;

/// The state of the cache at its last reading.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) pushes: Vec<Push>,
    pub(crate) has_audit: bool,
    pub(crate) vitals: Vitals,
}

/// The numbers of files, which take long to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stock {
    pub(crate) objects: Count,
    pub(crate) others: Count,
}
