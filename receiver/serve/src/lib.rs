//! Serves the repository of an artifact cache over https, to pullers.
//!
//! It only reads, and only below the repository: [`Server`] knows the shapes of the paths that
//! pullers request (`paths.rs`), opens regular files and follows no link (`files.rs`), and answers
//! any other request with an error. It changes nothing, takes no lock, and knows of pushes only
//! their order: objects exist before the commits that reach them, and commits before the refs that
//! name them.
//!
//! Everything that has to happen outside the sandbox happens in [`Server::open`], [`Socket::bind`]
//! and [`Notifier::from_env`]; only [`Server::run`] makes threads.
//!
//! ```text
//! socket -> gate (how many) -> connection (TLS, HTTP, timeouts) -> answer (paths, conditions)
//!                                                                    -> files, pairs, pull -> body
//! ```

mod activity;
mod answer;
mod body;
mod connection;
mod context;
mod error;
mod files;
mod gate;
mod heads;
mod limits;
mod listen;
mod log;
mod metrics;
mod notify;
mod page;
mod pairs;
mod paths;
mod pull;
mod puller;
mod ranges;
mod read;
mod replies;
mod server;
mod tls;

pub use crate::context::Role;
pub use crate::error::{CertificateError, Error, ListenError, RepositoryError};
pub use crate::listen::{Place, Socket};
pub use crate::log::{AccessLog, Format};
pub use crate::notify::Notifier;
pub use crate::puller::Pulls;
pub use crate::server::{Config, Order, Server};
pub use crate::tls::CertificateFiles;
