//! A bucket in memory. It answers like the best servers, or like worse ones if a test sets
//! [`Quirks`].
//!
//! It executes each request at once and one after the other, so its conditions are exact. Its clock
//! stands still unless a test moves it. The tests of the engine, in `receiver/bucket`, compare it
//! with a server. Faults between a client and its server are not here but in
//! [`Faulty`](crate::bucket::faulty::Faulty), which works in front of any bucket.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::bucket::clock::ManualClock;
use crate::bucket::seam::{
    Answer, Bucket, BucketError, Class, Condition, DELETE_MAX, Entry, Found, Key, LIST_MAX, Listed,
    Request, Tag, Then, Upload,
};

/// A bucket in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct Memory {
    server: Arc<Mutex<Server>>,
}

/// An object as the bucket keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its content.
    pub content: Bytes,
    /// Its tag: a hash of the content, as with most servers.
    pub tag: Tag,
    /// When it was stored, in seconds since 1970.
    pub modified: u64,
    /// How long readers may keep it.
    pub class: Class,
}

/// Faults of servers: the store tolerates some, and must detect the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quirks {
    /// Puts take place although their key holds something already.
    pub ignores_new: bool,
    /// Puts take place although their key holds something else.
    pub ignores_is: bool,
    /// Lists lack this many of the last changes.
    pub list_lag: usize,
    /// The server refuses a part of an upload, except the last, with fewer bytes than this.
    pub part_min: usize,
    /// A list has at most this many entries, even if the request asks for more.
    pub page_max: u32,
}

#[derive(Debug)]
struct Server {
    objects: BTreeMap<Key, Stored>,
    uploads: BTreeMap<String, Parts>,
    uploads_begun: u64,
    /// The last changes, each with the object that the key held before.
    changes: VecDeque<(Key, Option<Stored>)>,
    quirks: Quirks,
    now: u64,
}

#[derive(Debug)]
struct Parts {
    key: Key,
    class: Class,
    parts: BTreeMap<u32, (Bytes, Tag)>,
}

impl Memory {
    /// An empty bucket without quirks.
    pub fn new() -> Self {
        let server = Server {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            uploads_begun: 0,
            changes: VecDeque::new(),
            quirks: Quirks::default(),
            now: ManualClock::START,
        };
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
        self.server.lock().uploads.len()
    }

    /// Returns an independent copy of this bucket, without its open uploads.
    pub fn fork(&self) -> Self {
        let server = self.server.lock();
        let copy = Server {
            objects: server.objects.clone(),
            uploads: BTreeMap::new(),
            uploads_begun: server.uploads_begun,
            changes: VecDeque::new(),
            quirks: server.quirks,
            now: server.now,
        };
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

impl Default for Quirks {
    fn default() -> Self {
        Self {
            ignores_new: false,
            ignores_is: false,
            list_lag: 0,
            part_min: 5 * 1024 * 1024,
            page_max: LIST_MAX,
        }
    }
}

impl Bucket for Memory {
    fn start(&self, request: Request, then: Then) {
        let answer = self.server.lock().execute(request);
        then(answer);
    }
}

impl Server {
    fn execute(&mut self, request: Request) -> Result<Answer, BucketError> {
        match request {
            Request::Get { key, unless } => Ok(match self.objects.get(&key) {
                None => Answer::Absent,
                Some(stored) if unless.as_ref() == Some(&stored.tag) => Answer::Unchanged,
                Some(stored) => stored.found(stored.content.clone()),
            }),
            Request::GetRange { key, from, most } => Ok(match self.objects.get(&key) {
                None => Answer::Absent,
                Some(stored) => {
                    let len = stored.content.len();
                    let begin = usize::try_from(from).map_or(len, |from| from.min(len));
                    let most = usize::try_from(most).unwrap_or(len);
                    let end = begin.saturating_add(most).min(len);
                    stored.found(stored.content.slice(begin..end))
                }
            }),
            Request::Put {
                key,
                content,
                condition,
                class,
            } => Ok(if self.is_met(&key, &condition) {
                Answer::Stored(self.store(&key, content, None, class))
            } else {
                Answer::NotMet
            }),
            Request::BeginUpload { key, class } => Ok(self.begin(key, class)),
            Request::PutPart {
                upload,
                number,
                content,
            } => self.put_part(&upload, number, content),
            Request::CompleteUpload { upload, parts } => self.complete(&upload, &parts),
            Request::AbortUpload { upload } => {
                self.uploads.remove(&upload.id);
                Ok(Answer::Deleted)
            }
            Request::List {
                prefix,
                after,
                most,
            } => Ok(self.list(&prefix, after.as_ref(), most)),
            Request::Delete { keys } if keys.len() > DELETE_MAX => Err(BucketError::Broken(
                format!("a request to delete {} objects", keys.len()),
            )),
            Request::Delete { keys } => {
                for key in &keys {
                    self.remove(key);
                }
                Ok(Answer::Deleted)
            }
        }
    }

    fn is_met(&self, key: &Key, condition: &Condition) -> bool {
        let stored = self.objects.get(key);
        match condition {
            Condition::Always => true,
            Condition::New => stored.is_none() || self.quirks.ignores_new,
            Condition::Is(tag) => {
                stored.is_some_and(|stored| stored.tag == *tag) || self.quirks.ignores_is
            }
        }
    }

    /// Stores an object; `parts` is the number of its parts if it was uploaded in parts.
    fn store(&mut self, key: &Key, content: Bytes, parts: Option<usize>, class: Class) -> Tag {
        let tag = match parts {
            None => tag_of(&content),
            Some(parts) => Tag::new(&format!("{}-{parts}", tag_of(&content).as_str())),
        };
        let stored = Stored {
            content,
            tag: tag.clone(),
            modified: self.now,
            class,
        };
        let before = self.objects.insert(key.clone(), stored);
        self.note(key, before);
        tag
    }

    fn remove(&mut self, key: &Key) {
        let before = self.objects.remove(key);
        if before.is_some() {
            self.note(key, before);
        }
    }

    /// Remembers a change for as long as lists may lack it.
    fn note(&mut self, key: &Key, before: Option<Stored>) {
        if self.quirks.list_lag > 0 {
            self.changes.push_back((key.clone(), before));
        }
        while self.changes.len() > self.quirks.list_lag {
            self.changes.pop_front();
        }
    }

    fn list(&self, prefix: &str, after: Option<&Key>, most: u32) -> Answer {
        let start = match after {
            Some(after) if after.as_str() >= prefix => Bound::Excluded(after.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut old: BTreeMap<Key, Option<&Stored>> = BTreeMap::new();
        for (key, before) in self.changes.iter().rev().take(self.quirks.list_lag) {
            // The oldest of several changes to a key comes last, and wins.
            old.insert(key.clone(), before.as_ref());
        }
        let most = usize::try_from(most.min(self.quirks.page_max)).unwrap_or(usize::MAX);
        let current = self.objects.range::<str, _>((start, Bound::Unbounded));
        let current = current.filter(|(key, _)| !old.contains_key(*key));
        let lagging = old.range::<str, _>((start, Bound::Unbounded));
        let lagging = lagging.filter_map(|(key, before)| Some((key, (*before)?)));
        let mut seen: Vec<(&Key, &Stored)> = current.take(most + 1).chain(lagging).collect();
        seen.retain(|(key, _)| key.as_str().starts_with(prefix));
        seen.sort_by_key(|(key, _)| *key);
        let more = seen.len() > most;
        seen.truncate(most);
        let entries = seen.into_iter().map(|(key, stored)| Entry {
            key: key.clone(),
            len: stored.content.len() as u64,
            tag: stored.tag.clone(),
            modified: stored.modified,
        });
        Answer::Listed(Listed {
            entries: entries.collect(),
            more,
        })
    }

    fn begin(&mut self, key: Key, class: Class) -> Answer {
        self.uploads_begun += 1;
        let id = format!("upload-{}", self.uploads_begun);
        let parts = Parts {
            key: key.clone(),
            class,
            parts: BTreeMap::new(),
        };
        self.uploads.insert(id.clone(), parts);
        Answer::Upload(Upload { key, id })
    }

    fn put_part(
        &mut self,
        upload: &Upload,
        number: u32,
        content: Bytes,
    ) -> Result<Answer, BucketError> {
        if !(1..=PARTS_MAX).contains(&number) {
            return Err(BucketError::Broken(format!("part number {number}")));
        }
        let Some(parts) = self.uploads.get_mut(&upload.id) else {
            return Ok(Answer::Absent);
        };
        let tag = tag_of(&content);
        parts.parts.insert(number, (content, tag.clone()));
        Ok(Answer::Part(tag))
    }

    fn complete(&mut self, upload: &Upload, tags: &[Tag]) -> Result<Answer, BucketError> {
        let Some(parts) = self.uploads.get(&upload.id) else {
            return Ok(Answer::Absent);
        };
        let mut content = BytesMut::new();
        for (number, tag) in (1..).zip(tags) {
            match parts.parts.get(&number) {
                Some((part, known)) if known == tag => {
                    let is_last = usize::try_from(number).ok() == Some(tags.len());
                    if !is_last && part.len() < self.quirks.part_min {
                        return Err(BucketError::Broken(format!("part {number} is too small")));
                    }
                    content.extend_from_slice(part);
                }
                _ => return Err(BucketError::Broken(format!("there is no part {number}"))),
            }
        }
        if tags.is_empty() || parts.key != upload.key {
            return Err(BucketError::Broken("no such upload of parts".to_owned()));
        }
        let (key, class) = (parts.key.clone(), parts.class);
        self.uploads.remove(&upload.id);
        let tag = self.store(&key, content.freeze(), Some(tags.len()), class);
        Ok(Answer::Stored(tag))
    }
}

impl Stored {
    fn found(&self, content: Bytes) -> Answer {
        Answer::Found(Found {
            content,
            tag: self.tag.clone(),
            modified: self.modified,
        })
    }
}

fn tag_of(content: &[u8]) -> Tag {
    let hash = Sha256::digest(content);
    Tag::new(&hex::encode(&hash[..16]))
}

const PARTS_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::client::{Client, Outcome};
    use crate::bucket::clock::ManualClock;

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
