//! The contents of a bucket: every name in it, and the records of the store beside the repository.

pub(crate) mod accounts;
pub(crate) mod closures;
pub(crate) mod commits;
pub(crate) mod config;
pub(crate) mod guards;
pub(crate) mod journal;
pub(crate) mod layout;
pub(crate) mod pending;
pub(crate) mod refs;
pub(crate) mod sealed;
