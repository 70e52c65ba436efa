//! What must hold of every input, whoever makes it up.
//!
//! Each claim is a function of bytes that panics when it is false. The property tests of this
//! package, the seeds of `fuzz/seeds` and the targets of `fuzz/` call the same functions, so what the
//! one finds is a test of the other. Where the input is more than bytes to be parsed, they are read
//! as decisions: what a client says next, where a connection breaks, which call fails.

pub mod container;
pub mod dialects;
pub mod draw;
pub mod frames;
pub mod objects;
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
