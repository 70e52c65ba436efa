//! The invariants on a file system in memory that loses, tears and reorders everything not synced,
//! fails on request, and lets others act at any of its operations (SPEC "Invariants").
//!
//! `MODEL_CASES` multiplies the number of cases; the default is 1.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod conformance;
mod crashes;
mod disk;
mod failures;
mod files;
mod interleavings;
#[path = "../common/objects.rs"]
mod objects;
mod resume;
#[path = "../local/session.rs"]
mod session;
mod summary;
mod world;
