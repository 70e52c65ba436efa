//! Serves the repository of an artifact cache over https, to pullers.
//!
//! It only reads, and only below the repository: it knows the shapes of the paths that pullers
//! request (`answer/paths.rs`), opens regular files and follows no link (`repository/files.rs`),
//! and answers any other request with an error. It changes nothing, takes no lock, and knows of
//! pushes only their order: objects exist before the commits that reach them, and commits before
//! the refs that name them.
//!
//! Everything that has to happen outside the sandbox happens in [`Server::open`], [`Socket::bind`]
//! and [`Notifier::from_env`]; only [`Server::run`] makes threads.
//!
//! ```text
//! connections/   socket -> gate (how many) -> connection (TLS, HTTP, timeouts)
//! answer/        -> heads, paths, conditions: what is asked, and whether it is given
//! pull/          -> the objects of a whole commit, in one stream
//! repository/    -> or a file, or the summary and its signature
//! reply/         -> body
//! ```
//!
//! `report/` and `limits/` accompany a request all the way: what the operator learns of it, and
//! what one client may hold.

mod answer;
mod connections;
mod error;
mod limits;
mod pull;
mod reply;
mod report;
mod repository;
mod server;

pub use crate::answer::Role;
pub use crate::connections::{CertificateFiles, Place, Socket};
pub use crate::error::{CertificateError, Error, ListenError, RepositoryError};
pub use crate::pull::Pulls;
pub use crate::report::{AccessLog, Format, Notifier};
pub use crate::server::{Config, Order, Server};
