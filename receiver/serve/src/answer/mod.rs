//! From a request to its answer: which requests are refused, what they ask for, and what they get.

mod admission;
mod context;
mod file;
mod heads;
mod monitoring;
mod page;
mod paths;
mod pullers;
mod ranges;

pub(crate) use self::admission::answer;
pub use self::context::Role;
pub(crate) use self::context::{Context, Peer, Shared};
