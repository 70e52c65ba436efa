//! Object storage for an artifact cache: everything between the store's requests
//! ([`artifact_store::bucket`]) and a server that speaks Amazon's protocol S3.
//!
//! [`Engine`] sends requests and holds the keys. [`probe::probe`] finds out whether a server keeps what
//! the store relies on. Nothing here knows what the keys of
//! objects mean.

mod address;

mod engine;
pub mod probe;

mod profile;
mod settings;

pub use crate::address::{Address, BadAddress};
pub use crate::engine::Engine;
pub use crate::settings::{Settings, SettingsError, TagForm};
