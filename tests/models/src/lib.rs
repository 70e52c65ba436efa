//! Models of both ends without I/O, and the claims that property tests and fuzzing share.
//!
//! [`pair::Pair`] runs two sessions over queues, with [`model`]s of the store and the source.
//! [`props`] holds the claims that must be true of every input.

pub mod collection;
pub mod frames;
pub mod model;
pub mod pair;
pub mod props;
pub mod pull;
pub mod random;
