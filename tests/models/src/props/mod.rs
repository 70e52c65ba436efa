//! The claims that must hold of every input.
//!
//! Each claim is a function of bytes that panics if it is false. The property tests of this
//! package, the seeds of `fuzz/seeds` and the targets of `fuzz/` call the same functions, so a
//! finding of one is a test of the others. Inputs that are more than bytes to parse are read as
//! decisions: what a client says next, where a connection breaks, which call fails.

pub mod container;
pub mod dialects;
pub mod draw;
pub mod frames;
pub mod objects;
pub mod pull;
pub mod pull_client;
pub mod pull_server;
pub mod push;
pub mod receiver;
pub mod sender;
pub mod text;
mod world;

/// Yields the same 500 random inputs each time.
#[cfg(test)]
fn noise() -> impl Iterator<Item = Vec<u8>> {
    (0..500).map(|seed| crate::random::Random(seed).bytes(300))
}
