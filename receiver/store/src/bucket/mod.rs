//! A cache in object storage: the bucket is the OSTree repository, and holds the store's whole
//! state.
//!
//! [`Bucket`] is the seam to the engine. This crate contains no engine, only [`Memory`], a bucket
//! for tests, and [`Faulty`], which plants faults in front of any bucket. A [`Client`] waits for
//! each answer, and a [`Window`] keeps many requests in flight. None of these knows the meaning of
//! a key: `layout.rs` defines every name, and `closures.rs` the lists that save requests for
//! objects.

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
mod sealed;
pub(crate) mod seam;
mod store;
pub(crate) mod summary;
mod timer;
pub mod upkeep;
mod upload;
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
