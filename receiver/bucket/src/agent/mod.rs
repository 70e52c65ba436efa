//! An engine in a process of its own, and the way to it.
//!
//! The process that reads strangers' bytes starts the agent while it still may, and confines itself
//! afterwards: it can open neither sockets nor files with keys, and reaches the bucket only through
//! the agent. The agent speaks requests of [`Bucket`], many at once, over its standard input; it
//! ends when the other end is closed, also by death. It refuses to delete anything that readers
//! see, because no push needs that.

mod client;
mod serve;
mod wire;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::settings::Settings;

pub use self::client::Agent;
pub use self::serve::serve;

/// The argument that makes a program an agent. It is for no person to write.
pub const ARGUMENT: &str = "--agent-for-object-storage";

/// An agent that was started, and was not spoken to.
#[derive(Debug)]
pub struct Started {
    stream: UnixStream,
    child: Child,
    settings: Settings,
}

/// Starts this program again as an agent for a bucket.
///
/// The program must call [`serve`] when [`ARGUMENT`] is its first argument. Starting it needs
/// rights that a sandbox takes away, [`Started::connect`] needs none.
pub fn start(settings: Settings) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    // Tools that show processes show this name.
    command.arg0("artifact-cache-bucket").arg(ARGUMENT);
    command.stdin(Stdio::from(OwnedFd::from(theirs)));
    let child = command.stdout(Stdio::null()).spawn()?;
    Ok(Started {
        stream: ours,
        child,
        settings,
    })
}

impl Started {
    /// Tells the agent which bucket to reach. Starts a thread that reads the answers; it is
    /// confined as this one is.
    ///
    /// Fails if the settings are wrong, or the agent is dead.
    pub fn connect(self) -> io::Result<Agent> {
        Agent::new(self.stream, self.child, &self.settings)
    }
}
