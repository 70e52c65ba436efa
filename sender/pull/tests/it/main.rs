//! Pulls from caches that are well, and from hostile ones.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod cache;
mod hostile;
mod lies;
mod loose;
mod server;
mod signatures;
mod streamed;
