//! The confined end of an agent: a bucket whose requests another process sends.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufReader};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::thread;

use artifact_store::bucket::{Bucket, BucketError, Request, Then};
use parking_lot::Mutex;

use crate::agent::wire::{self, Asked, Ready, Told};
use crate::settings::Settings;

/// A bucket reached through an agent.
pub struct Agent {
    shared: Arc<Shared>,
    child: Child,
}

struct Shared {
    /// Locked while one message is written, so that messages do not mix.
    stream: Mutex<UnixStream>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    thens: HashMap<u64, Then>,
    next: u64,
    is_over: bool,
}

impl Agent {
    pub(super) fn new(
        mut stream: UnixStream,
        child: Child,
        settings: &Settings,
    ) -> io::Result<Self> {
        wire::write(&mut stream, settings, &[])?;
        let mut reader = BufReader::new(stream.try_clone()?);
        match wire::read::<Ready>(&mut reader)? {
            Some((Ok(()), _)) => {}
            Some((Err(why), _)) => return Err(io::Error::other(why)),
            None => {
                return Err(io::Error::other(
                    "the agent for object storage ended at once",
                ));
            }
        }
        let shared = Arc::new(Shared {
            stream: Mutex::new(stream),
            waiting: Mutex::new(Waiting {
                thens: HashMap::new(),
                next: 0,
                is_over: false,
            }),
        });
        let hears = Arc::clone(&shared);
        thread::Builder::new()
            .name("answers".to_owned())
            .spawn(move || {
                while let Ok(Some((told, content))) = wire::read::<Told>(&mut reader) {
                    hears.hear(told, content);
                }
                hears.end();
            })?;
        Ok(Self { shared, child })
    }

    /// Returns the agent's process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Bucket for Agent {
    fn start(&self, mut request: Request, then: Then) {
        if request.content_len() > wire::CONTENT_MAX {
            let what = request.describe();
            let why = format!(
                "{what}: {} bytes are too many for one request",
                request.content_len()
            );
            return then(Err(BucketError::Broken(why)));
        }
        let mut waiting = self.shared.waiting.lock();
        if waiting.is_over {
            drop(waiting);
            return then(Err(over()));
        }
        let number = waiting.next;
        waiting.next += 1;
        waiting.thens.insert(number, then);
        drop(waiting);
        let content = wire::content_of(&mut request)
            .map(std::mem::take)
            .unwrap_or_default();
        let asked = Asked { number, request };
        let mut stream = self.shared.stream.lock();
        let written = wire::write(&mut *stream, &asked, &content);
        drop(stream);
        if written.is_err() {
            self.shared.end();
        }
    }
}

impl Shared {
    fn hear(&self, mut told: Told, content: bytes::Bytes) {
        if let Some(place) = wire::content_of_answer(&mut told.answer) {
            *place = content;
        }
        let then = self.waiting.lock().thens.remove(&told.number);
        if let Some(then) = then {
            then(told.answer);
        }
    }

    /// Ends all requests without an answer: the agent is gone.
    fn end(&self) {
        let mut waiting = self.waiting.lock();
        waiting.is_over = true;
        let thens = std::mem::take(&mut waiting.thens);
        drop(waiting);
        for then in thens.into_values() {
            then(Err(over()));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The agent ends at the end of its input. Otherwise the end of this process closes the
        // connection.
        let _ = self.shared.stream.lock().shutdown(Shutdown::Both);
        let _ = self.child.wait();
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

fn over() -> BucketError {
    BucketError::Unclear("the process that holds the connection to it has ended".to_owned())
}
