//! The store of pushed objects: it verifies, stages, and publishes them all at once. The objects go
//! into a cache that many share, or are pulled into a repository of one's own
//! ([`LocalStore::open_own`]).
//!
//! A store is synchronous and knows nothing of frames or of the session's state; threads drive it.
//! It trusts nothing a peer says: it has hashed everything it calls verified, and it sets a ref
//! only when everything the ref reaches is in the repository and durable. Start with [`Store`]; the
//! order of publication is in `publish.rs`, all names on disk are in `path.rs`, and all access to
//! them goes through [`Fs`].

pub mod bucket;
mod error;
mod local;
mod nowhere;
pub mod policy;
mod rails;
mod seam;
mod tree;
mod update;
pub mod verify;

pub use crate::error::Error;
pub use crate::local::disk::path::RepoPath;
pub use crate::local::disk::real::RealFs;
pub use crate::local::disk::space::HeadRoom;
pub use crate::local::disk::{DirEntry, FileKind, Fs, LockMode, Room, Stat, Xattr};
pub use crate::local::own::{Own, Ref, create, is_unfinished};
pub use crate::local::push::session_limit::Places;
pub use crate::local::push::{LocalPush, LocalStager, LocalStream};
pub use crate::local::repository::load::Allowance;
pub use crate::local::repository::mend;
pub use crate::local::summary::MadeSummary;
pub use crate::local::summary::catalogue::{Catalogue, CatalogueRef, SummaryFile};
pub use crate::local::summary::config::{SummaryConfig, SummaryMode};
pub use crate::local::summary::key::{KeyError, SummaryKey};
pub use crate::local::terms::RefPlace;
pub use crate::local::upkeep::fsck::{Checked, Finding, Weight, fsck};
pub use crate::local::upkeep::prune::{Pruned, prune, would_prune};
pub use crate::local::upkeep::remove::{Removal, StoredRef, list_refs, remove_refs, tidy};
pub use crate::local::upkeep::repair::{Repaired, repair};
pub use crate::local::upkeep::status::{Count, Status, broken_refs, count_objects, status};
pub use crate::local::{LocalStore, SessionPlace, StoreConfig};
pub use crate::nowhere::{Nowhere, Refused};
pub use crate::rails::too_much;
pub use crate::seam::{ObjectStream, Push, Stager, Store};
