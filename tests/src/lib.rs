//! What the tests share: a real sshd, real OSTree repositories, source trees and ways to compare;
//! and both sessions against each other in memory.
//!
//! The one half runs the programs a user would run, over the channels a user would use. It does not
//! imitate them, and it skips nothing: a program that is missing is a failure that names the Debian
//! package to install. [`cache::Cache`] is the whole scene: an archive repository that is served
//! over http and written through `sshd` with the manual's `ForceCommand`.
//!
//! The other half has no I/O: [`pair::Pair`] runs two sessions over queues, with [`model`]s of the
//! store and the source.
//!
//! [`chaos`] disturbs the real receiver and cuts the power of real file systems; [`invariants`]
//! judges what a repository looks like afterwards.
//!
//! [`mod@bench`] measures pushes, and what others need for the same.
//!
//! The tests are in `tests/tests`.

pub mod bench;
pub mod cache;
pub mod chaos;
pub mod exec;
pub mod frames;
pub mod hand;
pub mod http;
pub mod invariants;
pub mod link;
pub mod listing;
pub mod model;
pub mod pair;
pub mod processes;
pub mod programs;
pub mod props;
pub mod repo;
pub mod sshd;
pub mod tree;
