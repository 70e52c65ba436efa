//! The sending end of a push.
//!
//! What is here reads the local repository; it is synchronous, prints nothing, and needs no C
//! library.

mod error;
mod plan;
mod source;

pub use error::Error;
pub use plan::{Plan, Target};
pub use source::{LargeObject, Object, Repository};
