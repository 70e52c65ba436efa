//! The sending end of a push: commits of a local OSTree repository to an artifact cache.

mod driver;
mod error;
mod plan;
mod pool;
mod push;
mod remote;
mod source;
mod transport;

pub use artifact_protocol::frame::{Expect, RefOutcome, Refusal, SummaryDone, Welcome};
pub use artifact_protocol::session::{Error as SessionError, SenderEvent};
pub use artifact_protocol::{Checksum, RefName, Text};

pub use error::Error;
pub use plan::{Plan, Target};
pub use push::{Push, Report, greet};
pub use remote::{Remote, RemoteError, SshRemote};
pub use source::{LargeObject, Object, Repository};
pub use transport::{Connection, Connector, RECEIVER};
