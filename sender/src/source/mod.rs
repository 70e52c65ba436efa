//! The local repository a push reads from.
//!
//! ```text
//! Repository -> Object -> archive: read as it lies
//!                      -> bare: hashed, then compressed block by block
//!                               files: what the operating system gives
//! ```
//!
//! Every object comes out in the form an archive repository stores. Everything takes `&self` and
//! may be called from many threads. Nothing is written and no lock is taken: an object never
//! changes once it has its name, and an object that vanishes meanwhile is an error that names it.
//!
//! Metadata and the content of bare repositories are hashed again on their way out, so that local
//! damage shows here and not at the server. The content of an archive repository is not hashed: it
//! travels as it lies, and the server checks it.
//!
//! Below [`Repository`] nobody knows which object is being read: a fault gets the object's id and
//! path once, where it leaves.

mod archive;
mod bare;
mod deflate;
mod fault;
mod files;
mod object;
mod refs;
mod repository;

pub(crate) use self::object::Piece;
pub use self::object::{LargeObject, Object};
pub use self::repository::Repository;
