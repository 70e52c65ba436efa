//! The receiving end of a push.
pub mod audit;
pub mod config;
pub mod driver;
pub mod error;
pub mod identity;
pub mod policy;
pub mod privilege;
pub mod sandbox;
pub mod store;
pub mod verify;
