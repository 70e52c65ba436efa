//! The server behind a bucket in memory: its objects, uploads and changes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};

use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::seam::{
    Answer, Class, Condition, DELETE_MAX, Entry, Found, Key, LIST_MAX, Listed, Request, Tag, Upload,
};
use crate::error::bucket::BucketError;

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

/// The state of the server.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) objects: BTreeMap<Key, Stored>,
    uploads: BTreeMap<String, Parts>,
    uploads_begun: u64,
    /// The last changes, each with the object that the key held before.
    changes: VecDeque<(Key, Option<Stored>)>,
    pub(crate) quirks: Quirks,
    pub(crate) now: u64,
}

#[derive(Debug)]
struct Parts {
    key: Key,
    class: Class,
    parts: BTreeMap<u32, (Bytes, Tag)>,
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

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            uploads_begun: 0,
            changes: VecDeque::new(),
            quirks: Quirks::default(),
            now: ManualClock::START,
        }
    }

    /// Returns an independent copy without open uploads.
    pub(crate) fn fork(&self) -> Self {
        Self {
            objects: self.objects.clone(),
            uploads: BTreeMap::new(),
            uploads_begun: self.uploads_begun,
            changes: VecDeque::new(),
            quirks: self.quirks,
            now: self.now,
        }
    }

    /// Returns the number of uploads that are neither completed nor aborted.
    pub(crate) fn open_uploads(&self) -> usize {
        self.uploads.len()
    }

    pub(crate) fn execute(&mut self, request: Request) -> Result<Answer, BucketError> {
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
    pub(crate) fn store(
        &mut self,
        key: &Key,
        content: Bytes,
        parts: Option<usize>,
        class: Class,
    ) -> Tag {
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

    pub(crate) fn remove(&mut self, key: &Key) {
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
