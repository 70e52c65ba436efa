//! Both ends of a push as state machines without I/O.

mod store;

pub use self::store::{
    Announcement, Lane, Opened, Published, StoreDone, StoreFault, StoreOp, StoreOutcome,
    StoreRequest,
};
