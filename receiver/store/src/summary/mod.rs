//! The parts of making a summary that all stores share.

pub(crate) mod config;
pub(crate) mod facts;
pub(crate) mod fit;
pub(crate) mod key;

/// A new summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MadeSummary {
    /// The refs it names, without those of other collections.
    pub refs: usize,
    /// Its length in bytes; 0 if the configuration asks for none.
    pub len: usize,
    /// Refs that it should name but has no room for.
    pub left_out: usize,
    /// Whether the previous one differed, or was not signed as configured.
    pub replaced: bool,
}
