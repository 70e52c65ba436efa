//! What an administrator does with a repository between pushes: check, remove, count.

pub(crate) mod fsck;
pub(crate) mod remove;
pub(crate) mod status;
