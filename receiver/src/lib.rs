//! The receiving end of a push.

pub mod verify;
