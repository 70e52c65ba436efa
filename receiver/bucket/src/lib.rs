//! Object storage for an artifact cache: everything between the store's requests
//! ([`artifact_store::bucket`]) and a server that speaks Amazon's protocol S3.
//!
//! [`Engine`] sends requests and holds the credentials; [`open`] opens the bucket of a cache.
//! [`probe::probe`] tests whether a server keeps the promises that the store relies on. [`agent`]
//! runs an engine in a process of its own, so that the process that parses strangers' bytes has
//! neither credentials nor connections. Nothing here knows the meaning of a key.

mod address;

pub mod agent;
mod builder;
mod engine;
mod open;
pub mod probe;

mod profile;
mod settings;

pub use crate::address::{Address, BadAddress};
pub use crate::engine::Engine;
pub use crate::open::{OpenError, check, open};
pub use crate::settings::{Settings, SettingsError, TagForm};
