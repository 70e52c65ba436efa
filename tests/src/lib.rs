//! Shared by the tests: a real sshd, real OSTree repositories, source trees and comparisons.
//!
//! It runs the programs that a user would run, over the channels that a user would use. It imitates
//! nothing and skips nothing: a missing program is a failure that names the Debian package to
//! install. [`cache::Cache`] is the whole scene: an archive repository that is served over http and
//! written through `sshd` with the manual's `ForceCommand`.
//!
//! [`chaos`] disturbs the real receiver and cuts the power of real file systems; [`invariants`]
//! judges the repository afterwards. [`claims`] lists the fuzzed claims.
//!
//! The tests are in `tests/tests`; models without I/O are in `artifact-models`.

pub mod cache;
pub mod chaos;
pub mod claims;
pub mod exec;
pub mod hand;
pub mod http;
pub mod invariants;
pub mod libostree;
pub mod link;
pub mod listing;
pub mod old;
pub mod processes;
pub mod programs;
pub mod pulled;
pub mod repo;
pub mod serving;
pub mod sshd;
pub mod tree;
