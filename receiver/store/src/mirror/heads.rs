//! The bucket's refs: reads their values, and moves them by compare-and-swap.
//!
//! A mirror reads the tag of a bucket's ref **before** it reads the repository's ref, and puts the
//! repository's value only while the tag is still the same. Concurrent mirrors thus never replace a
//! newer value with an older one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use artifact_formats::{Checksum, RefName};
use parking_lot::Mutex;

use crate::bucket::records::guards::Guards;
use crate::bucket::records::layout;
use crate::bucket::records::refs::{self, Held};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Answer, Class, Condition, Key, Request, Tag};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::local::disk::Fs;

use crate::mirror::record::Record;
use crate::mirror::turn::Turn;

/// The refs of a bucket when they were listed.
#[derive(Debug)]
pub(crate) struct Heads {
    tags: BTreeMap<RefName, Tag>,
    /// The values that are known, from the record or because they were read.
    known: BTreeMap<RefName, Checksum>,
}

/// The outcome of setting a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// It holds the commit now, with this tag.
    Set(Tag),
    /// The bucket's ref moved, and perhaps the repository's as well: another mirror is at work.
    Overtaken,
}

impl Heads {
    /// Lists the refs.
    pub(crate) fn list(client: &Client, record: &Record) -> Result<Self, Error> {
        let mut heads = Self {
            tags: BTreeMap::new(),
            known: BTreeMap::new(),
        };
        for entry in refs::list(client) {
            let (name, entry) = entry?;
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
    pub(crate) fn learn<'n>(
        &mut self,
        client: &Client,
        names: impl Iterator<Item = &'n RefName>,
    ) -> Result<(), Error> {
        let keys: Vec<Key> = names
            .filter(|name| self.tags.contains_key(*name) && !self.known.contains_key(*name))
            .filter_map(layout::head)
            .collect();
        refs::read_each(client, &keys, |key, found| {
            let Some(name) = layout::head_of(key) else {
                return Ok(());
            };
            match Held::of(found.as_ref()) {
                Held::Commit(commit, tag) => {
                    self.known.insert(name.clone(), commit);
                    self.tags.insert(name, tag);
                }
                Held::Malformed(tag) => _ = self.tags.insert(name, tag),
                Held::Nothing => _ = self.tags.remove(&name),
            }
            Ok(())
        })
    }

    /// Returns the commit of a ref, if it is known.
    pub(crate) fn commit(&self, name: &RefName) -> Option<Checksum> {
        self.known.get(name).copied()
    }

    /// Returns the commits of all refs whose values are known.
    pub(crate) fn commits(&self) -> impl Iterator<Item = Checksum> {
        self.known.values().copied()
    }

    /// Returns the tag of a ref, if the ref exists.
    pub(crate) fn tag(&self, name: &RefName) -> Option<&Tag> {
        self.tags.get(name)
    }

    /// Returns the names of all refs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &RefName> {
        self.tags.keys()
    }

    /// Sets refs, many at once, and hands each outcome to `then`. Everything that they reach must
    /// be in the bucket.
    pub(crate) fn set<F: Fs>(
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
                        // The other threads finish the refs that they have begun.
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

    /// Reserves the names of new refs. Returns those whose names conflict with other refs, and why.
    pub(crate) fn guard<'n>(
        &self,
        client: &Client,
        names: &[&'n RefName],
    ) -> Result<Vec<(&'n RefName, &'static str)>, Error> {
        let mut guards = Guards::default();
        let new = || names.iter().filter(|name| !self.tags.contains_key(**name));
        guards.create(client, new().copied())?;
        let taken = new().filter_map(|name| Some((*name, guards.conflict(name)?)));
        Ok(taken.collect())
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
        let mut random = Random::new();
        let mut lost = None;
        for attempt in 0..TURNS_MAX {
            client.clock().sleep(PAUSE * ((1 << attempt) - 1));
            turn.check()?;
            let request = Request::Put {
                key: key.clone(),
                content: refs::content(commit, &mut random),
                condition: tag.map_or(Condition::New, Condition::Is),
                class: Class::Current,
            };
            match turn.ask(&[request]).pop() {
                Some(Ok(Answer::Stored(tag))) => return Ok(Moved::Set(tag)),
                // Another mirror was faster.
                Some(Ok(Answer::NotMet)) | None => lost = None,
                // The put may have taken place, or it was not sent.
                Some(Err(error @ (BucketError::Unclear(_) | BucketError::Busy(_)))) => {
                    lost = Some(error);
                }
                Some(Ok(other)) => {
                    let misfit = BucketError::misfit("a put", &other);
                    return Err(Error::bucket("setting", name)(misfit));
                }
                Some(Err(error)) => return Err(Error::bucket("setting", name)(error)),
            }
            let found = client.get(&key).map_err(Error::bucket("reading", name))?;
            if let Some(found) = &found
                && Checksum::from_ref(&found.content) == Some(commit)
            {
                return Ok(Moved::Set(found.tag.clone()));
            }
            // Read after the tag: the mirror that put that value had read the repository before.
            if turn.source.head(name)? != Some(commit) {
                return Ok(Moved::Overtaken);
            }
            tag = found.map(|found| found.tag);
        }
        match lost {
            Some(error) => Err(Error::bucket("setting", name)(error)),
            None => Ok(Moved::Overtaken),
        }
    }
}

/// Refs set at once.
const SET_AT_ONCE: usize = 32;
/// The most attempts to set a ref while other mirrors set it or answers are lost. The pauses
/// between them double.
const TURNS_MAX: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);
