//! The receiving end of a push: one session between a pair of byte streams and a store.
pub mod access;
pub mod audit;
pub mod config;
pub mod driver;
pub mod ulimits;
