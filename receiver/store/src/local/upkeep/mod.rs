//! The operator's work on a repository between pushes: check, repair, remove, prune, count.

pub(crate) mod damage;
pub(crate) mod fsck;
pub(crate) mod prune;
pub(crate) mod remove;
pub(crate) mod repair;
pub(crate) mod status;
