//! Claims about the protocol crate: its frames, and both sessions against each other.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

mod collection;
mod frames;
mod pushes;
mod transcripts;
mod trips;
