//! The local side of a push, tested against repositories that the `ostree` program made.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answer;
mod fixture;
mod hostile;
mod plan;
mod plan_model;
mod source;
