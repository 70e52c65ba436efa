//! Both ends of a push as state machines without I/O.

mod error;
mod outputs;
mod receiver;
mod sender;
mod source;
mod store;

pub use self::error::{ApiMisuse, Error, Fault, Violation};
pub use self::receiver::{ReceiverConfig, ReceiverEvent, ReceiverOutput, ReceiverSession};
pub use self::sender::{SenderConfig, SenderEvent, SenderOutput, SenderSession, SmallCommit};
pub use self::source::{Fetched, PlanRequest, SourceDone, SourceOp, SourceOutcome, SourceRequest};
pub use self::store::{
    Announcement, Lane, Opened, Published, StoreDone, StoreOp, StoreOutcome, StoreRequest,
};
