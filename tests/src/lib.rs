//! What the tests share.

pub mod frames;
pub mod model;
pub mod pair;
