//! What the operator of a bucket does there: begin a cache, look at it, remove refs, check it.
//!
//! Each command reads the bucket as it is, beside pushes; what a push changes meanwhile is seen or
//! not.

mod fsck;
mod look;
mod remove;
mod resummarize;

pub use self::fsck::{fsck, repair};
pub use self::look::{BucketStatus, init, list_refs, status};
pub use self::remove::remove_refs;
pub use self::resummarize::rebuild_summary;
