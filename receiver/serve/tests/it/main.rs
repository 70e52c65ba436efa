//! The server over real sockets, in this process: what strangers send, and what they get.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod h2;
mod heads;
mod paths;
mod pulls;
mod serving;
mod support;
