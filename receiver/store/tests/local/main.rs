//! The store on a local repository, judged by the real `ostree`.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod allowance;
mod catalogue;
mod mirror;
mod neighbours;
mod own;
mod prices;
mod publication;
mod races;
mod rereads;
mod rights;
mod room;
mod session;
mod signatures;
mod staging;
mod summary;
mod support;
