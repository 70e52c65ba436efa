//! The receiving end of a push.

pub mod policy;
pub mod verify;
