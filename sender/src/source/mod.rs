//! The local repository that a push reads.
//!
//! ```text
//! Repository -> Object -> archive: read as it is stored
//!                      -> bare: hashed, then compressed block by block
//!                               files: access to the operating system
//! ```
//!
//! Every object comes out in the form that an archive repository stores. Everything takes `&self`
//! and may be called from many threads. Nothing is written and no lock is taken: a named object
//! never changes, and an object that vanishes meanwhile causes an error that names it.
//!
//! Metadata and the content of bare repositories are hashed again on their way out, so that local
//! damage shows here and not at the server. The content of an archive repository is not hashed: it
//! is sent as stored, and the server checks it.
//!
//! Code below [`Repository`] does not know which object it reads: a fault gets the object's id and
//! path once, where it leaves.

mod archive;
mod bare;
mod deflate;
mod fault;
mod files;
mod heads;
mod object;
mod refs;
mod repository;

pub(crate) use self::heads::Looks;
pub(crate) use self::object::Piece;
pub use self::object::{LargeObject, Object};
pub use self::repository::Repository;
