//! The receiving end of a push.
pub mod driver;
pub mod error;
pub mod policy;
pub mod sandbox;
pub mod store;
pub mod verify;
