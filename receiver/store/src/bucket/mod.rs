//! A cache in object storage: the bucket is the OSTree repository, and holds the store's whole
//! state.
//!
//! `requests/` sends requests to a server and knows no meaning of a key; `records/` defines every
//! name, and the records that save requests for objects.

pub mod collect;
mod push;
mod reach;
pub(crate) mod records;
pub(crate) mod requests;
mod store;
pub(crate) mod summary;
pub mod upkeep;

pub use crate::error::bucket::BucketError;

pub use self::push::{BucketPush, BucketStager, BucketStream};
pub use self::reach::Reach;
pub use self::requests::client::{Client, Outcome, Read};
pub use self::requests::clock::{Clock, ManualClock, SystemClock};
pub use self::requests::faulty::{Counts, Fate, Faults, Faulty};
pub use self::requests::memory::{Memory, Quirks, Stored};
pub use self::requests::seam::{
    Answer, BadKey, Bucket, Class, Condition, DELETE_MAX, Entry, Found, Key, LIST_MAX, Listed,
    Request, Tag, Then, Upload,
};
pub use self::requests::window::Window;
pub use self::store::BucketStore;
