//! Pulls: one POST carries the whole request, and its answer streams the objects (SPEC "Pulling").
//!
//! What may be pulled so is what the loose files show as well. A client that cannot be answered in
//! frames, because there are too many pulls or its request is none, gets a status that makes it
//! fall back to them.

mod answer;
mod puller;
mod refusal;
mod request;

pub(crate) use self::answer::{HEADER, answer};
pub(crate) use self::puller::Puller;
pub use self::puller::Pulls;
