//! Pushes commits of a local OSTree repository to a shared artifact cache.
//!
//! A [`Push`] says which refs to set to which commits. [`Push::over`] executes it over any byte
//! stream with a receiver at the other end; a [`Connector`] opens such a stream, by running the
//! user's own `ssh` or a receiver on this machine. Progress arrives as [`SenderEvent`]s, and the
//! result is a [`Report`].
//!
//! ```no_run
//! use artifact_sender::{Connector, Push, Remote, RefOutcome, Repository};
//!
//! # async fn share() -> Result<(), Box<dyn std::error::Error>> {
//! let remote: Remote = "ssh://artifacts@cache.example.com/artifacts".parse()?;
//! let push = Push::new(Repository::open("/home/me/repo")?)
//!     .reference(&"project/element/key".parse()?)?;
//!
//! let mut connection = Connector::default().connect(&remote)?;
//! let report = push.over(&mut connection, |event| println!("{event:?}")).await?;
//! connection.finish().await?;
//!
//! for (name, outcome) in &report.refs {
//!     match outcome {
//!         RefOutcome::Updated | RefOutcome::Unchanged => println!("{name} is on the server"),
//!         RefOutcome::WouldUpdate => println!("{name} would be updated"),
//!         RefOutcome::Refused(why) => println!("{name} was refused: {}", why.text.escaped()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `Updated` means durable: the server has verified everything, and has it on its disk. If a push
//! ends before that, with an error here or a cut connection, the server's repository stays as it
//! was; the same push again sends the missing objects.
//!
//! The library reads archive, bare, bare-user and bare-user-only repositories without libostree or,
//! unless the feature `libdeflate` is on, any other C library. It prints nothing, reads no
//! configuration and has no global state; it needs a tokio runtime with time and, for a
//! [`Connector`], I/O enabled. Threads of its own read and compress. `examples/embed.rs` is a
//! complete program.
//!
//! Text from the server is [`Text`], which can only be shown escaped.

mod answer;
mod cipher;
mod error;
mod openssh;
mod plan;
mod push;
mod reading;
mod remote;
mod report;
mod run;
mod source;
mod transport;

// The public interface is:

pub use answer::{Answers, Terms};
pub use artifact_formats::{Checksum, RefName};
pub use artifact_protocol::dialect::Dialect;
pub use artifact_protocol::frame::{Expect, RefOutcome, Refusal, SummaryDone, Welcome};
pub use artifact_protocol::session::{Error as SessionError, SenderEvent};
pub use artifact_protocol::{Text, escape};
pub use error::Error;
pub use plan::{Plan, Target};
pub use push::{Push, greet, inquire};
pub use remote::{Remote, RemoteError, SshRemote};
pub use report::Report;
pub use source::{LargeObject, Object, Repository};
pub use transport::{Connection, Connector, RECEIVER};
