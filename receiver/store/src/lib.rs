//! The store of pushed objects: it verifies, stages, and publishes them all at once. The objects go
//! into a cache that many share, or are pulled into a repository of one's own
//! ([`LocalStore::open_own`]).
//!
//! A store is synchronous and knows nothing of frames or of the session's state; threads drive it.
//! It trusts nothing a peer says: it has hashed everything it calls verified, and it sets a ref
//! only when everything the ref reaches is in the repository and durable. Start with [`Store`].
//!
//! There are two stores: `local/` on a disk, whose access goes through [`Fs`], and `bucket/` in
//! object storage, whose access goes through [`bucket::Bucket`]. Neither knows the other; `tree/`,
//! `summary/`, `update/` and `upkeep/` hold their common parts, and `mirror/` copies a repository
//! from a disk to a bucket. In each store, `push/publish.rs` has the order of publication.

pub mod bucket;
mod config;
mod error;
mod local;
pub mod mirror;
mod nowhere;
pub mod policy;
mod quota;
mod seam;
mod summary;
mod tree;
mod update;
mod upkeep;
pub mod verify;

pub use crate::config::{Allowance, HeadRoom, Places, StoreConfig};
pub use crate::error::Error;
pub use crate::local::disk::path::RepoPath;
pub use crate::local::disk::real::RealFs;
pub use crate::local::disk::{DirEntry, FileKind, Fs, LockMode, Room, Stat, Xattr};
pub use crate::local::own::{Own, Ref, create, is_unfinished};
pub use crate::local::push::{LocalPush, LocalStager, LocalStream};
pub use crate::local::repository::mend;
pub use crate::local::summary::catalogue::{Catalogue, CatalogueRef, SummaryFile};
pub use crate::local::terms::RefPlace;
pub use crate::local::upkeep::fsck::fsck;
pub use crate::local::upkeep::prune::{Pruned, prune, would_prune};
pub use crate::local::upkeep::remove::{list_refs, remove_refs, tidy};
pub use crate::local::upkeep::repair::{Repaired, repair};
pub use crate::local::upkeep::status::{Status, broken_refs, count_objects, status};
pub use crate::local::{LocalStore, SessionPlace};
pub use crate::nowhere::{Nowhere, Refused};
pub use crate::seam::{ObjectStream, Push, Stager, Store};
pub use crate::summary::MadeSummary;
pub use crate::summary::config::{SummaryConfig, SummaryMode};
pub use crate::summary::key::{KeyError, SummaryKey};
pub use crate::upkeep::rails::too_much;
pub use crate::upkeep::{Checked, Count, Finding, Removal, StoredRef, Weight};
