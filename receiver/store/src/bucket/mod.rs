//! A cache in object storage: the bucket is the OSTree repository, and holds all that its store
//! knows.
//!
//! [`Bucket`] is the seam to the engine, which this crate does not contain. A [`Client`] waits for answers. None of this knows what the keys mean.

mod client;
mod clock;
mod random;
pub(crate) mod seam;

pub use self::client::{Client, Outcome, Read};
pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::seam::{
    Answer, BadKey, Bucket, BucketError, Class, Condition, DELETE_MAX, Entry, Found, Key, LIST_MAX,
    Listed, Request, Tag, Then, Upload,
};
