//! Object storage for an artifact cache: everything between the store's requests
//! ([`artifact_store::bucket`]) and a server that speaks Amazon's protocol S3.
//!
//! [`Engine`] sends requests and holds the keys; [`open`] opens the bucket of a cache.
//! [`probe::probe`] finds out whether a server keeps what the store relies on. [`agent`] runs an
//! engine in a process of its own, so that the process that reads strangers' bytes has neither keys
//! nor connections. Nothing here knows what the keys of objects mean.

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
