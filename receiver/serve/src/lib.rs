//! Serves the repository of an artifact cache over https, to those who pull.
//!
//! Read only, and beneath the repository only: [`Server`] knows the shapes of the paths that a puller
//! asks for (`paths.rs`), opens regular files and follows no link (`files.rs`), and answers all else
//! with an error. It never changes anything, takes no lock, and knows nothing of pushes but their
//! order: what a commit reaches is there before it, and a commit before the refs that name it.
//!
//! Everything that has to happen outside the sandbox happens in [`Server::open`], [`Socket::bind`]
//! and [`Notifier::from_env`]; threads are made by [`Server::run`] and not before.
//!
//! ```text
//! socket -> gate (how many) -> connection (TLS, HTTP, patience) -> answer (paths, conditions)
//!                                                                    -> files, pairs -> body
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
mod lines;
mod listen;
mod log;
mod metrics;
mod notify;
mod page;
mod pairs;
mod paths;
mod ranges;
mod replies;
mod server;
mod tls;

pub use crate::error::{CertificateError, Error, ListenError, RepositoryError};
pub use crate::lines::Lines;
pub use crate::listen::{Place, Role, Socket};
pub use crate::log::{AccessLog, Format};
pub use crate::notify::Notifier;
pub use crate::server::{Config, Order, Server};
pub use crate::tls::CertificateFiles;
