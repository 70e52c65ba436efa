//! A cache in object storage: the bucket is the OSTree repository, and holds all that its store
//! knows.
//!
//! [`Bucket`] is the seam to the engine, which this crate does not contain: only [`Memory`], a
//! bucket for tests, and [`Faulty`], which breaks the way to any. A [`Client`] waits for answers,
//! a [`Window`] has many requests in flight. None of this knows what the keys mean: `layout.rs` has
//! every name, and `closures.rs` the lists that save asking for objects.

mod client;
mod clock;
pub(crate) mod closures;
pub mod collect;
mod copy;
mod faulty;
mod journal;
pub(crate) mod layout;
mod lease;
mod memory;
mod pending;
mod push;
mod random;
mod reach;
pub(crate) mod seam;
mod store;
pub(crate) mod summary;
mod timer;
pub mod upkeep;
mod window;

pub use self::client::{Client, Outcome, Read};
pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::copy::{MirrorEvent, MirrorOptions, Mirrored, mirror};
pub use self::faulty::{Counts, Fate, Faults, Faulty};
pub use self::memory::{Memory, Quirks, Stored};
pub use self::push::{BucketPush, BucketStager, BucketStream};
pub use self::reach::Reach;
pub use self::seam::{
    Answer, BadKey, Bucket, BucketError, Class, Condition, DELETE_MAX, Entry, Found, Key, LIST_MAX,
    Listed, Request, Tag, Then, Upload,
};
pub use self::store::BucketStore;
pub use self::window::Window;
