//! Drives a [`Collector`]: sends its requests to a bucket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{ObjectId, ObjectKind, RefName};

use super::collector::{Ask, Collector, End, Heard};
use super::garbage::Garbage;
use super::lists::{condemned_key, decode_ids, encode_ids};
use super::lives::{CLAIM_LIFE, LEASE_LIFE, REQUEST_LIFE};
use super::mark::mark;
use super::reach::Reach;
use super::record::{Gc, Lease, ListName, Nonce, damaged};
use super::recount::Groups;
use super::server_clock::ServerClock;
use super::tidy::tidy;
use crate::bucket::records::layout;
use crate::bucket::requests::client::{Client, Outcome};
use crate::bucket::requests::random::unique;
use crate::bucket::requests::seam::{Answer, Class, Condition, DELETE_MAX, Key, Request, Tag};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// The options of a collection.
#[derive(Clone, Copy, Debug)]
pub struct CollectOptions {
    /// How long objects that nothing reaches stay after they were last put. It should be more than
    /// twice as long as a push takes.
    pub grace: Duration,
}

/// The progress of a collection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CollectEvent {
    /// Some objects will be deleted unless a push needs them.
    Condemned {
        /// The number of all objects.
        objects: u64,
        /// The number of condemned objects.
        condemned: u64,
    },
    /// The collection waits until running pushes know the list. Each reads it within five minutes,
    /// or is given up half an hour after its last renewal.
    WaitsForPushes {
        /// The names of their sessions.
        sessions: Vec<String>,
    },
    /// Another program is deleting objects, or died while it did.
    WaitsForCollector,
    /// Some condemned objects are deleted.
    Deleted {
        /// The number of objects so far.
        objects: u64,
    },
}

/// The results of a collection: the objects that it deleted or, in a dry run, would delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The number of objects before; 0 if another collector counted them.
    pub objects: u64,
    /// The number of objects deleted.
    pub removed: u64,
    /// Their bytes, without objects that another collector condemned.
    pub bytes: u64,
}

/// Deletes objects that nothing reaches, while pushes and other collectors run, and completes the
/// collection of a collector that died.
///
/// Counts anew what the refs of each identity hold, for the quotas.
///
/// Needs about 40 bytes of memory for each object in the bucket, and 16 MiB.
pub fn collect(
    client: &Client,
    options: &CollectOptions,
    report: &dyn Fn(CollectEvent),
) -> Result<Collected, Error> {
    let me = Nonce(unique()?);
    let mut run = Run {
        client,
        options,
        report,
        clock: ServerClock::new(client, me),
        gc: None,
        claimed: None,
        lease: None,
        looked: HashSet::new(),
        unsettled: None,
        failures: 0,
        garbage: Garbage::new(client),
        done: Collected::default(),
    };
    let mut machine = Collector::new(me, DELETE_MAX);
    let result = loop {
        let is_fresh = run.is_fresh();
        let waits_for = machine.waits_for().to_vec();
        let Some(ask) = machine.next(is_fresh) else {
            break Ok(());
        };
        match run.answer(ask, &waits_for) {
            Ok(heard) => machine.hear(heard),
            Err(error) => break Err(error),
        }
    };
    let tidied = match (&result, machine.end()) {
        (Ok(()), Some(End::Swept | End::Clean)) => {
            let epoch = run.gc.as_ref().map_or(0, |(gc, _)| gc.epoch);
            let counted = run.garbage.recount().store(client, options.grace);
            let now = run.clock.now();
            let tidied = now.and_then(|now| tidy(client, epoch, now, options.grace));
            tidied.and(counted)
        }
        _ => Ok(()),
    };
    run.clock.remove();
    result.and(tidied)?;
    Ok(run.done)
}

/// Returns what [`collect`] would delete if the refs `going` were removed and nobody
/// pushed. Changes nothing.
pub fn would_collect(
    client: &Client,
    options: &CollectOptions,
    going: &[RefName],
) -> Result<Collected, Error> {
    let now = client.clock().wall();
    let mut reach = Reach::new(client);
    let skipped: HashSet<Key> = going.iter().filter_map(layout::head).collect();
    let groups = Groups::of_nobody();
    let marked = mark(client, &mut reach, options.grace, now, &skipped, groups)?;
    Ok(Collected {
        objects: marked.objects,
        removed: marked.garbage.len() as u64,
        bytes: marked.garbage.iter().map(|(_, len)| len).sum(),
    })
}

struct Run<'a> {
    client: &'a Client,
    options: &'a CollectOptions,
    report: &'a dyn Fn(CollectEvent),
    clock: ServerClock<'a>,
    /// `gc` as it was last read or stored.
    gc: Option<(Gc, Tag)>,
    /// Our time before the last successful move of `gc` was sent.
    claimed: Option<Duration>,
    /// The tag of the lease that was last read.
    lease: Option<Tag>,
    /// Leases that were read since the last pause.
    looked: HashSet<Key>,
    /// Our time when the last request to delete whose answer was lost was sent.
    unsettled: Option<Duration>,
    /// Requests to delete that failed in a row.
    failures: u32,
    garbage: Garbage<'a>,
    done: Collected,
}

impl Run<'_> {
    fn answer(
        &mut self,
        ask: Ask<ObjectId, Key>,
        waits_for: &[Key],
    ) -> Result<Heard<ObjectId, Key>, Error> {
        Ok(match ask {
            Ask::ReadGc => self.read_gc()?,
            Ask::Wait => {
                (self.report)(CollectEvent::WaitsForCollector);
                self.client.clock().sleep(PAUSE);
                self.read_gc()?
            }
            Ask::MoveGc(from, to) => self.move_gc(from, to)?,
            Ask::Condemn(name) => Heard::List(Some(self.condemn(name)?)),
            Ask::ReadList(name) => {
                let key = condemned_key(name);
                let found = self.client.get(&key);
                let found = found.map_err(Error::bucket("reading", &key))?;
                let list =
                    found.map(|found| decode_ids(&found.content).ok_or_else(|| damaged(&key)));
                Heard::List(list.transpose()?)
            }
            Ask::ListSessions => {
                let entries = self.client.list_all(layout::SESSIONS);
                let entries = entries.map_err(Error::bucket("listing", &layout::SESSIONS))?;
                Heard::Sessions(entries.into_iter().map(|entry| entry.key).collect())
            }
            Ask::ReadLease(key) => self.read_lease(key, waits_for)?,
            Ask::Fence(key, lease) => {
                let tag = self.lease.take().ok_or_else(|| damaged(&key))?;
                self.swap(&key, lease.encode(), Condition::Is(tag))?.0
            }
            Ask::FindReached(list) => {
                let name = self.gc.as_ref().map(|(gc, _)| gc.list());
                Heard::Ids(self.garbage.find_reached(name, &list)?)
            }
            Ask::ReadSpared(epoch) => Heard::Ids(self.garbage.read_spared(epoch)?),
            Ask::Delete(ids) => self.delete(&ids)?,
            Ask::Settle => {
                if let Some(sent) = self.unsettled.take() {
                    let age = self.client.clock().now().saturating_sub(sent);
                    self.client.clock().sleep(REQUEST_LIFE.saturating_sub(age));
                }
                Heard::Stored
            }
        })
    }

    /// Returns whether requests to delete may be sent (R21).
    fn is_fresh(&self) -> bool {
        let now = self.client.clock().now();
        let age = self.claimed.map(|claimed| now.saturating_sub(claimed));
        age.is_some_and(|age| age < CLAIM_LIFE / 2)
    }

    fn read_gc(&mut self) -> Result<Heard<ObjectId, Key>, Error> {
        let key = layout::gc();
        let found = self
            .client
            .get(&key)
            .map_err(Error::bucket("reading", &key))?;
        let Some(found) = found else {
            self.gc = None;
            return Ok(Heard::Gc(None, false));
        };
        let gc = Gc::decode(&found.content).ok_or_else(|| damaged(&key))?;
        self.gc = Some((gc, found.tag));
        let is_dead = found.modified + CLAIM_LIFE.as_secs() < self.clock.now()?;
        Ok(Heard::Gc(Some(gc), is_dead))
    }

    fn move_gc(&mut self, from: Option<Gc>, to: Gc) -> Result<Heard<ObjectId, Key>, Error> {
        let condition = match (from, &self.gc) {
            (None, _) => Condition::New,
            (Some(from), Some((gc, tag))) if *gc == from => Condition::Is(tag.clone()),
            // Somebody else has moved it since.
            (Some(_), _) => return Ok(Heard::NotMet),
        };
        let sent = self.client.clock().now();
        let (heard, tag) = self.swap(&layout::gc(), to.encode(), condition)?;
        if let Some(tag) = tag {
            self.gc = Some((to, tag));
            self.claimed = Some(sent);
        }
        Ok(heard)
    }

    fn swap(
        &self,
        key: &Key,
        content: String,
        condition: Condition,
    ) -> Result<(Heard<ObjectId, Key>, Option<Tag>), Error> {
        match self
            .client
            .put(key, content.into(), condition, Class::Private)
        {
            Ok(Outcome::Stored(tag)) => Ok((Heard::Stored, Some(tag))),
            Ok(Outcome::NotMet) => Ok((Heard::NotMet, None)),
            Err(BucketError::Unclear(_)) => Ok((Heard::Unclear, None)),
            Err(error) => Err(Error::bucket("storing", key)(error)),
        }
    }

    fn condemn(&mut self, name: ListName) -> Result<Arc<[ObjectId]>, Error> {
        let now = self.clock.now()?;
        let (objects, list) = self.garbage.find(name, self.options.grace, now)?;
        self.done.objects = objects;
        if !list.is_empty() {
            let key = condemned_key(name);
            let put = self
                .client
                .put(&key, encode_ids(&list), Condition::Always, Class::Private);
            put.map_err(Error::bucket("storing", &key))?;
        }
        (self.report)(CollectEvent::Condemned {
            objects,
            condemned: list.len() as u64,
        });
        Ok(list)
    }

    fn read_lease(&mut self, key: Key, waits_for: &[Key]) -> Result<Heard<ObjectId, Key>, Error> {
        if !self.looked.insert(key.clone()) {
            let name = |key: &Key| {
                key.as_str()
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .to_owned()
            };
            let sessions = waits_for.iter().map(name).collect();
            (self.report)(CollectEvent::WaitsForPushes { sessions });
            self.client.clock().sleep(PAUSE);
            self.looked.clear();
            self.looked.insert(key.clone());
        }
        let found = self
            .client
            .get(&key)
            .map_err(Error::bucket("reading", &key))?;
        let Some(found) = found else {
            return Ok(Heard::Lease(None, false));
        };
        // A damaged lease counts as one that has acknowledged nothing, and is fenced once it is
        // old.
        let lease = Lease::decode(&found.content);
        let lease = lease.unwrap_or_else(|| Lease::first(String::new()));
        self.lease = Some(found.tag);
        let is_dead = found.modified + LEASE_LIFE.as_secs() < self.clock.now()?;
        Ok(Heard::Lease(Some(lease), is_dead))
    }

    fn delete(&mut self, ids: &[ObjectId]) -> Result<Heard<ObjectId, Key>, Error> {
        let mut keys = Vec::new();
        for id in ids {
            keys.push(layout::object(id));
            if id.kind == ObjectKind::Commit {
                keys.push(layout::detached(id.checksum));
                if !self.garbage.keeps_list(&id.checksum) {
                    keys.push(layout::closure(id.checksum));
                }
            }
        }
        for keys in keys.chunks(DELETE_MAX) {
            let sent = self.client.clock().now();
            if !self.is_fresh() {
                return Ok(Heard::Unclear);
            }
            let request = Request::Delete {
                keys: keys.to_vec(),
            };
            // Whether it may be sent again depends on the claim.
            match self.client.once(request) {
                Ok(Answer::Deleted) => self.failures = 0,
                Ok(other) => return Err(deleting(BucketError::misfit("a deletion", &other))),
                Err(error @ (BucketError::Unclear(_) | BucketError::Busy(_))) => {
                    if matches!(error, BucketError::Unclear(_)) {
                        self.unsettled = Some(sent);
                    }
                    self.failures += 1;
                    if self.failures > FAILURES_MAX {
                        return Err(deleting(error));
                    }
                    self.client.clock().sleep(PAUSE * self.failures);
                    return Ok(Heard::Unclear);
                }
                Err(error) => return Err(deleting(error)),
            }
        }
        self.done.removed += ids.len() as u64;
        let lens = ids.iter().map(|id| self.garbage.len_of(id));
        self.done.bytes += lens.sum::<u64>();
        (self.report)(CollectEvent::Deleted {
            objects: self.done.removed,
        });
        Ok(Heard::Stored)
    }
}

fn deleting(error: BucketError) -> Error {
    Error::bucket("deleting", &"what nothing reaches")(error)
}

/// The pause between two looks at the state of other programs.
const PAUSE: Duration = Duration::from_secs(2);
/// The most failures in a row; the growing pauses between them take about two minutes.
const FAILURES_MAX: u32 = 10;
