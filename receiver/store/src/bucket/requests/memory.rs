//! A bucket in memory. It answers like the best servers, or like worse ones if a test sets
//! [`Quirks`].
//!
//! It executes each request at once and one after the other, so its conditions are exact. Its clock
//! stands still unless a test moves it. The tests of the engine, in `receiver/bucket`, compare it
//! with a server. Faults between a client and its server are not here but in
//! [`Faulty`](crate::bucket::requests::faulty::Faulty), which works in front of any bucket.

mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::requests::memory::server::Server;
use crate::bucket::requests::seam::{Bucket, Class, Key, Request, Then};

pub use crate::bucket::requests::memory::server::{Quirks, Stored};

/// A bucket in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    server: Arc<Mutex<Server>>,
}

impl Memory {
    /// An empty bucket without quirks.
    pub fn new() -> Self {
        let server = Server::new();
        Self {
            server: Arc::new(Mutex::new(server)),
        }
    }

    /// Sets the server's faults from now on.
    pub fn set_quirks(&self, quirks: Quirks) {
        self.server.lock().quirks = quirks;
    }

    /// Returns the server's clock, in seconds since 1970.
    pub fn now(&self) -> u64 {
        self.server.lock().now
    }

    /// Sets the server's clock, in seconds since 1970.
    pub fn set_now(&self, now: u64) {
        self.server.lock().now = now;
    }

    /// Moves the server's clock forward.
    pub fn advance(&self, seconds: u64) {
        self.server.lock().now += seconds;
    }

    /// Returns a copy of all objects.
    pub fn objects(&self) -> BTreeMap<Key, Stored> {
        self.server.lock().objects.clone()
    }

    /// Returns the number of uploads that are neither completed nor aborted.
    pub fn open_uploads(&self) -> usize {
        self.server.lock().open_uploads()
    }

    /// Returns an independent copy of this bucket, without its open uploads.
    pub fn fork(&self) -> Self {
        let copy = self.server.lock().fork();
        Self {
            server: Arc::new(Mutex::new(copy)),
        }
    }

    /// Damages an object: replaces its content, or removes it.
    pub fn damage(&self, key: &Key, content: Option<Bytes>) {
        let mut server = self.server.lock();
        match content {
            Some(content) => {
                server.store(key, content, None, Class::Object);
            }
            None => server.remove(key),
        }
    }

    /// Writes every object to a file below `dir` named by its key, as a web server would show the
    /// bucket.
    pub fn export(&self, dir: &Path) -> io::Result<()> {
        for (key, stored) in self.objects() {
            let path = dir.join(key.as_str());
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, &stored.content)?;
        }
        Ok(())
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Bucket for Memory {
    fn start(&self, request: Request, then: Then) {
        let answer = self.server.lock().execute(request);
        then(answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::requests::client::{Client, Outcome};
    use crate::bucket::requests::clock::ManualClock;
    use crate::bucket::requests::seam::{Condition, Tag};

    fn client(memory: &Memory) -> Client {
        Client::new(Arc::new(memory.clone()), Arc::new(ManualClock::default()))
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    fn put(client: &Client, name: &str, content: &str, condition: Condition) -> Outcome {
        let content = Bytes::copy_from_slice(content.as_bytes());
        client
            .put(&key(name), content, condition, Class::Current)
            .unwrap()
    }

    fn names(client: &Client, prefix: &str) -> Vec<String> {
        let entries = client.list_all(prefix).unwrap();
        entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    #[test]
    fn conditions_are_ignored_only_when_that_was_asked_for() {
        let memory = Memory::new();
        let client = client(&memory);
        let wrong = || Condition::Is(Tag::new("wrong"));
        put(&client, "k", "old", Condition::New);
        assert_eq!(put(&client, "k", "new", Condition::New), Outcome::NotMet);
        assert_eq!(put(&client, "k", "new", wrong()), Outcome::NotMet);
        assert_eq!(put(&client, "absent", "new", wrong()), Outcome::NotMet);
        assert_eq!(memory.objects()[&key("k")].content, "old");
        memory.set_quirks(Quirks {
            ignores_new: true,
            ..Quirks::default()
        });
        assert_ne!(put(&client, "k", "by new", Condition::New), Outcome::NotMet);
        assert_eq!(put(&client, "k", "by is", wrong()), Outcome::NotMet);
        memory.set_quirks(Quirks {
            ignores_is: true,
            ..Quirks::default()
        });
        assert_ne!(put(&client, "k", "by is", wrong()), Outcome::NotMet);
    }

    #[test]
    fn a_list_is_in_order_by_pages_and_lags_only_when_that_was_asked_for() {
        let memory = Memory::new();
        let client = client(&memory);
        let lag = |list_lag| {
            memory.set_quirks(Quirks {
                list_lag,
                page_max: 2,
                ..Quirks::default()
            })
        };
        lag(0);
        for name in ["a/3", "a/1", "b", "a/2", "a", "a/10"] {
            put(&client, name, name, Condition::Always);
        }
        assert_eq!(names(&client, "a/"), ["a/1", "a/10", "a/2", "a/3"]);
        assert_eq!(names(&client, "").len(), 6);
        assert_eq!(
            client.list("a", Some(key("a/10")), 1000).unwrap().entries[0].key,
            key("a/2")
        );
        lag(3);
        put(&client, "a/4", "", Condition::Always);
        client.delete(&[key("a/1"), key("a/4")]).unwrap();
        assert_eq!(names(&client, "a/"), ["a/1", "a/10", "a/2", "a/3"]);
        put(&client, "c", "", Condition::Always);
        put(&client, "c", "again", Condition::Always);
        assert_eq!(names(&client, "a/"), ["a/10", "a/2", "a/3", "a/4"]);
        lag(0);
        assert_eq!(names(&client, "a/"), ["a/10", "a/2", "a/3"]);
    }

    #[test]
    fn the_time_of_an_object_is_that_of_the_servers_clock() {
        let memory = Memory::new();
        let client = client(&memory);
        put(&client, "k", "1", Condition::Always);
        memory.advance(60);
        put(&client, "l", "1", Condition::Always);
        let times: Vec<u64> = memory
            .objects()
            .values()
            .map(|stored| stored.modified)
            .collect();
        assert_eq!(times, [ManualClock::START, ManualClock::START + 60]);
    }
}
