//! Claims about the source tree: seeds, seeded faults and tables match what is there, files are
//! short, and imports form no circles.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

mod circles;
mod controls;
mod lengths;
mod seeds;
mod sources;
mod threats;
