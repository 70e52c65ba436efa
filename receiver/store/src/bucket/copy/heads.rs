//! The bucket's refs: what they hold, and moving them by compare-and-swap.
//!
//! Whoever moves a ref has read its tag **before** the repository's ref, and puts what he read there
//! only as long as the tag is the same. So of several mirrors at once, none replaces a newer value
//! by an older one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use artifact_formats::{Checksum, RefName};
use parking_lot::Mutex;

use crate::bucket::client::{Client, Outcome};
use crate::bucket::copy::record::Record;
use crate::bucket::copy::turn::Turn;
use crate::bucket::layout;
use crate::bucket::seam::{BucketError, Class, Condition, Found, Key, Tag};
use crate::bucket::window::Window;
use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::repository::refs;

/// The refs of a bucket when they were listed.
#[derive(Debug)]
pub(super) struct Heads {
    tags: BTreeMap<RefName, Tag>,
    /// What is known without reading them.
    known: BTreeMap<RefName, Checksum>,
}

/// What became of a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It holds the commit now, with this tag.
    Set(Tag),
    /// The repository's ref moved on meanwhile, and so did the bucket's: another mirror is at work.
    Overtaken,
}

impl Heads {
    /// Lists the refs.
    pub(super) fn list(client: &Client, record: &Record) -> Result<Self, Error> {
        let mut heads = Self {
            tags: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        for entry in client.list_each(layout::HEADS) {
            let entry = entry.map_err(Error::bucket("listing", &"refs"))?;
            let Some(name) = layout::head_of(&entry.key) else {
                continue;
            };
            if let Some((commit, tag)) = record.heads.get(&name)
                && *tag == entry.tag
            {
                heads.known.insert(name.clone(), *commit);
            }
            heads.tags.insert(name, entry.tag);
        }
        Ok(heads)
    }

    /// Reads the refs of these names whose values are not known.
    pub(super) fn learn<'n>(
        &mut self,
        client: &Client,
        names: impl Iterator<Item = &'n RefName>,
    ) -> Result<(), Error> {
        let unknown: Vec<_> = names
            .filter(|name| self.tags.contains_key(*name) && !self.known.contains_key(*name))
            .filter_map(|name| Some((name.clone(), layout::head(name)?)))
            .collect();
        let window = Window::new(client.clone());
        for some in unknown.chunks(READ_AT_ONCE) {
            let keys: Vec<Key> = some.iter().map(|(_, key)| key.clone()).collect();
            let found = window.get_all(&keys);
            let found = found.map_err(Error::bucket("reading", &"refs"))?;
            for ((name, _), found) in some.iter().zip(found) {
                match found {
                    Some(Found { content, tag, .. }) => {
                        if let Some(commit) = refs::parse(&content) {
                            self.known.insert(name.clone(), commit);
                        }
                        self.tags.insert(name.clone(), tag);
                    }
                    None => _ = self.tags.remove(name),
                }
            }
        }
        Ok(())
    }

    /// Returns the commit of a ref, as far as it is known.
    pub(super) fn commit(&self, name: &RefName) -> Option<Checksum> {
        self.known.get(name).copied()
    }

    /// Returns the tag of a ref, if there is such a ref.
    pub(super) fn tag(&self, name: &RefName) -> Option<&Tag> {
        self.tags.get(name)
    }

    /// Returns the names of all refs.
    pub(super) fn names(&self) -> impl Iterator<Item = &RefName> {
        self.tags.keys()
    }

    /// Sets refs, many at once, and hands each outcome to `then`. Everything that they reach must be
    /// in the bucket.
    pub(super) fn set<F: Fs>(
        &self,
        turn: &Turn<'_, F>,
        wanted: &[(&RefName, Checksum)],
        then: &(dyn Fn(&RefName, Checksum, Moved) + Sync),
    ) -> Result<(), Error> {
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Error>> = Mutex::new(None);
        let work = || {
            while let Some(&(name, commit)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                match self.set_one(turn, name, commit) {
                    Ok(moved) => then(name, commit, moved),
                    Err(error) => {
                        // The others end what they have begun.
                        next.store(wanted.len(), Ordering::Relaxed);
                        failed.lock().get_or_insert(error);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..wanted.len().min(SET_AT_ONCE) {
                scope.spawn(work);
            }
        });
        failed.into_inner().map_or(Ok(()), Err)
    }

    fn set_one<F: Fs>(
        &self,
        turn: &Turn<'_, F>,
        name: &RefName,
        commit: Checksum,
    ) -> Result<Moved, Error> {
        let Some(key) = layout::head(name) else {
            return Err(Error::Misuse {
                what: "set a ref whose name is too long for a bucket",
            });
        };
        let mut tag = self.tags.get(name).cloned();
        let client = turn.client;
        for _ in 0..TURNS_MAX {
            turn.check()?;
            let condition = tag.map_or(Condition::New, Condition::Is);
            match client.put(
                &key,
                refs::content(commit).into(),
                condition,
                Class::Current,
            ) {
                Ok(Outcome::Stored(tag)) => return Ok(Moved::Set(tag)),
                // It may have happened, or another mirror was quicker.
                Ok(Outcome::NotMet) | Err(BucketError::Unclear(_)) => {}
                Err(error) => return Err(Error::bucket("setting", name)(error)),
            }
            let found = client.get(&key).map_err(Error::bucket("reading", name))?;
            if let Some(found) = &found
                && refs::parse(&found.content) == Some(commit)
            {
                return Ok(Moved::Set(found.tag.clone()));
            }
            // Read after the tag: whoever put that value read the repository before.
            if turn.source.head(name)? != Some(commit) {
                return Ok(Moved::Overtaken);
            }
            tag = found.map(|found| found.tag);
        }
        Ok(Moved::Overtaken)
    }
}

/// Refs read at once: their values take little memory.
const READ_AT_ONCE: usize = 4096;
/// Refs set at once.
const SET_AT_ONCE: usize = 32;
/// How often a ref is set again after another mirror has set it.
const TURNS_MAX: u32 = 8;
