//! Requests to a bucket: the seam to the engine, and how requests are sent, repeated and paced.
//!
//! Nothing here knows the meaning of a key. [`Bucket`](seam::Bucket) is the seam; no engine is in
//! this crate, only [`Memory`](memory::Memory), a bucket for tests, and
//! [`Faulty`](faulty::Faulty), which plants faults in front of any bucket. A
//! [`Client`](client::Client) waits for each answer, a [`Window`](window::Window) keeps many
//! requests in flight, and `ask.rs` sends some together.

pub(crate) mod ask;
pub(crate) mod client;
pub(crate) mod clock;
pub(crate) mod faulty;
pub(crate) mod memory;
pub(crate) mod random;
pub(crate) mod seam;
mod timer;
pub(crate) mod upload;
pub(crate) mod window;
