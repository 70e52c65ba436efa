//! The arguments that the steps of making a summary share.

use crate::local::disk::Fs;
use crate::local::repository::Repo;
use crate::local::staging::Staging;
use crate::summary::config::SummaryConfig;

/// The parts needed to make a summary.
#[derive(Debug)]
pub(crate) struct Maker<'a, F: Fs> {
    pub(crate) repo: &'a Repo<F>,
    pub(crate) config: &'a SummaryConfig,
    /// Files are written here before they get their names.
    pub(crate) scratch: &'a Staging<F>,
}

impl<F: Fs> Clone for Maker<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Fs> Copy for Maker<'_, F> {}

impl<'a, F: Fs> Maker<'a, F> {
    pub(super) fn fs(self) -> &'a F {
        &self.repo.fs
    }
}
