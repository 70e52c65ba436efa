//! The promise on a file system in memory that loses, tears and reorders what was not synced, fails
//! when it is told to, and lets others work at any of its operations (SPEC "Invariants").
//!
//! `MODEL_CASES` multiplies how much is tried; 1 if it is not set.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod conformance;
mod crashes;
mod disk;
mod failures;
mod files;
mod interleavings;
mod resume;
mod summary;
mod world;
