//! Both ends of a push, and of a [pull], as state machines without I/O.

mod backlog;
mod error;
mod greeting;
pub(crate) mod machine;
pub(crate) mod outputs;
mod packer;
pub mod pull;
mod receiver;
mod sender;
mod source;
mod store;

pub(crate) use self::backlog::Backlog;
pub use self::error::{ApiMisuse, Error, Fault, Violation};
pub use self::greeting::ReceiverConfig;
pub use self::receiver::{ReceiverEvent, ReceiverOutput, ReceiverSession};
pub use self::sender::{SenderConfig, SenderEvent, SenderOutput, SenderSession, SmallCommit};
pub use self::source::{Fetched, PlanRequest, SourceDone, SourceOp, SourceOutcome, SourceRequest};
pub use self::store::{
    Announcement, Lane, Opened, Published, RefQuery, StoreDone, StoreOp, StoreOutcome, StoreRequest,
};
