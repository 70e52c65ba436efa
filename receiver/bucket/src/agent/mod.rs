//! An engine in a process of its own, and the connection to it.
//!
//! The process that parses strangers' bytes starts the agent while it still may, and then confines
//! itself. It can open neither sockets nor credentials files, and reaches the bucket only through
//! the agent. The agent serves requests of [`Bucket`](artifact_store::bucket::Bucket), many at
//! once, over its standard input, and ends when the other end closes or dies. It refuses to delete
//! objects and refs, because no push needs that.

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

/// The argument that turns a program into an agent. People do not use it.
pub const ARGUMENT: &str = "--agent-for-object-storage";

/// An agent that was started but is not connected yet.
#[derive(Debug)]
pub struct Started {
    stream: UnixStream,
    child: Child,
    settings: Settings,
}

/// Starts this program again as an agent for a bucket.
///
/// The program must call [`serve`] if [`ARGUMENT`] is its first argument. This function needs
/// rights that the sandbox removes; [`Started::connect`] does not.
pub fn start(settings: Settings) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    // The name that process lists show.
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
    /// Sends the settings of the bucket to the agent, and starts a thread that reads its answers,
    /// which is confined like the calling thread.
    ///
    /// Fails if the settings are wrong, or the agent is dead.
    pub fn connect(self) -> io::Result<Agent> {
        Agent::new(self.stream, self.child, &self.settings)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use artifact_store::bucket::{
        BucketError, Class, Client, Condition, Key, Memory, Outcome, SystemClock, Window,
    };
    use bytes::Bytes;

    use super::*;

    /// Runs an agent for a bucket in memory in a thread, and returns its client and that thread.
    fn agent(memory: &Memory) -> (Client, JoinHandle<io::Result<()>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let bucket = Arc::new(memory.clone());
        let serves = thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone()?);
            let settings = wire::read::<Settings>(&mut reader)?;
            assert!(settings.is_some());
            wire::write(&theirs, &wire::Ready::Ok(()), &[])?;
            serve::pass_on(&bucket, reader, theirs)
        });
        // Stands in for the agent's process, for which the client waits at the end.
        let child = Command::new("true").spawn().unwrap();
        let settings = Settings::new("s3://abc".parse().unwrap());
        let agent = Agent::new(ours, child, &settings).unwrap();
        (Client::new(Arc::new(agent), Arc::new(SystemClock)), serves)
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[test]
    fn many_requests_go_through_an_agent_which_ends_with_its_client() {
        let memory = Memory::new();
        let (client, serves) = agent(&memory);
        let window = Window::new(client.clone());
        for number in 0..300 {
            let content = Bytes::from(vec![7; number * 100]);
            window
                .put(key(&format!("k{number:03}")), content, Class::Object)
                .unwrap();
        }
        let keys: Vec<Key> = (0..300)
            .map(|number| key(&format!("k{number:03}")))
            .collect();
        let found = window.get_all(&keys).unwrap();
        for (number, found) in found.into_iter().enumerate() {
            assert_eq!(found.unwrap().content.len(), number * 100);
        }
        let put = client.put(&keys[0], Bytes::new(), Condition::New, Class::Current);
        assert_eq!(put, Ok(Outcome::NotMet));
        assert_eq!(client.list_all("k1").unwrap().len(), 100);
        drop((window, client));
        serves.join().unwrap().unwrap();
    }

    #[test]
    fn an_agent_deletes_nothing_that_readers_see() {
        let memory = Memory::new();
        let (client, _serves) = agent(&memory);
        let (own, visible) = (
            key("extensions/artifact-cache/pending/1"),
            key("refs/heads/a"),
        );
        for key in [&own, &visible] {
            client
                .put(key, Bytes::new(), Condition::Always, Class::Private)
                .unwrap();
        }
        client.delete(std::slice::from_ref(&own)).unwrap();
        let refused = client.delete(&[own, visible.clone()]);
        assert!(
            matches!(refused, Err(BucketError::Refused(_))),
            "{refused:?}"
        );
        assert!(memory.objects().contains_key(&visible));
    }

    #[test]
    fn the_death_of_an_agent_is_an_unclear_answer_to_everything() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let dies = thread::spawn(move || {
            let mut reader = BufReader::new(theirs.try_clone().unwrap());
            wire::read::<Settings>(&mut reader).unwrap();
            wire::write(&theirs, &wire::Ready::Ok(()), &[]).unwrap();
            wire::read::<wire::Asked>(&mut reader).unwrap();
        });
        let child = Command::new("true").spawn().unwrap();
        let settings = Settings::new("s3://abc".parse().unwrap());
        let agent = Agent::new(ours, child, &settings).unwrap();
        let client = Client::new(Arc::new(agent), Arc::new(SystemClock));
        let client = client.with_patience(std::time::Duration::ZERO);
        for _ in 0..2 {
            let error = client.get(&key("k")).unwrap_err();
            assert!(matches!(error, BucketError::Unclear(_)), "{error:?}");
        }
        dies.join().unwrap();
    }
}
