//! Commands of a bucket's operator: create a cache, look at it, remove refs, check it.
//!
//! Each command reads the bucket while pushes run, and may or may not see their changes.

mod fsck;
mod look;
mod remove;
mod resummarize;

pub use self::fsck::{fsck, repair};
pub use self::look::{BucketStatus, init, list_refs, status};
pub(crate) use self::remove::free;
pub use self::remove::{remove_refs, settle_removals};
pub use self::resummarize::rebuild_summary;
