//! Drives a [`Collector`]: sends its requests to a bucket.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};

use super::collector::{Ask, Collector, End, Heard};
use super::lists::{
    condemned_epoch, condemned_key, decode_ids, encode_ids, spared_epoch, spared_in,
};
use super::mark::mark;
use super::reach::{Lists, Reach, Trust, read_refs, read_summary};
use super::record::{Gc, Lease, ListName, Nonce};
use super::{CLAIM_LIFE, LEASE_LIFE, REQUEST_LIFE};
use crate::bucket::client::{Client, Outcome};
use crate::bucket::layout;
use crate::bucket::random::unique;
use crate::bucket::seam::{Answer, BucketError, Class, Condition, DELETE_MAX, Key, Request, Tag};
use crate::error::Error;

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
        /// How many so far.
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
        key: layout::collector(me.0),
        clock: None,
        gc: None,
        claimed: None,
        lease: None,
        looked: HashSet::new(),
        unsettled: None,
        failures: 0,
        reach: Reach::new(client),
        own: None,
        sizes: Vec::new(),
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
        (Ok(()), Some(End::Swept | End::Clean)) => run.tidy(),
        _ => Ok(()),
    };
    // After a failure, a later collection deletes it.
    let _ = client.delete(std::slice::from_ref(&run.key));
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
    let marked = mark(client, &mut reach, options.grace, now, &skipped)?;
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
    /// The key by which this collector reads the server's clock.
    key: Key,
    /// The server's time, and our time when it was read.
    clock: Option<(u64, Duration)>,
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
    /// The commits visited by the last walk from the refs.
    reach: Reach<'a>,
    /// The list that this collector made, and the commits visited for it: it names nothing that
    /// these reach.
    own: Option<(ListName, Reach<'a>)>,
    /// The lengths of the objects on that list.
    sizes: Vec<(ObjectId, u64)>,
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
            Ask::FindReached(list) => Heard::Ids(self.find_reached(&list)?),
            Ask::ReadSpared(epoch) => Heard::Ids(self.read_spared(epoch)?),
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

    /// Returns the server's time in seconds, from the time of an object that this collector puts.
    fn server_now(&mut self) -> Result<u64, Error> {
        let now = self.client.clock().now();
        if let Some((server, read)) = self.clock
            && now.saturating_sub(read) < CLOCK_READ_EVERY
        {
            return Ok(server + now.saturating_sub(read).as_secs());
        }
        let failed = || Error::bucket("telling the time of", &"the server");
        let content = format!("{} {}\n", std::process::id(), now.as_millis());
        let put = self
            .client
            .put(&self.key, content.into(), Condition::Always, Class::Private);
        put.map_err(failed())?;
        let found = self.client.get(&self.key).map_err(failed())?;
        let Some(found) = found else {
            let why = format!("{} is gone right after it was stored", self.key);
            return Err(failed()(BucketError::Broken(why)));
        };
        self.clock = Some((found.modified, now));
        Ok(found.modified)
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
        let is_dead = found.modified + CLAIM_LIFE.as_secs() < self.server_now()?;
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
        let now = self.server_now()?;
        self.reach = Reach::new(self.client);
        self.reach.trust(Trust::Mend);
        let marked = mark(
            self.client,
            &mut self.reach,
            self.options.grace,
            now,
            &HashSet::new(),
        )?;
        let list: Arc<[ObjectId]> = marked.garbage.iter().map(|(id, _)| *id).collect();
        self.done.objects = marked.objects;
        self.own = Some((name, self.reach.clone()));
        self.sizes = marked.garbage;
        if !list.is_empty() {
            let key = condemned_key(name);
            let put = self
                .client
                .put(&key, encode_ids(&list), Condition::Always, Class::Private);
            put.map_err(Error::bucket("storing", &key))?;
        }
        (self.report)(CollectEvent::Condemned {
            objects: marked.objects,
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
        let is_dead = found.modified + LEASE_LIFE.as_secs() < self.server_now()?;
        Ok(Heard::Lease(Some(lease), is_dead))
    }

    /// Returns the objects of the list that are reached now (R17, R19).
    fn find_reached(&mut self, list: &[ObjectId]) -> Result<Vec<ObjectId>, Error> {
        // Each walk continues from the mark, because an earlier walk's visits count only for that
        // walk. Another collector's list may name objects that the mark for our list has visited.
        let name = self.gc.as_ref().map(|(gc, _)| gc.list());
        self.reach = match &self.own {
            Some((own, marked)) if Some(*own) == name => marked.clone(),
            Some(_) | None => {
                self.sizes = Vec::new();
                Reach::new(self.client)
            }
        };
        let is_listed = |commit: &Checksum| list.binary_search(&ObjectId::commit(*commit)).is_ok();
        let refs = read_refs(self.client, &HashSet::new())?;
        let lists = Lists::read(self.client)?;
        let others = lists.iter().map(|(commit, _)| commit);
        let others = others.filter(|commit| !is_listed(commit));
        let others: Vec<_> = others.chain(read_summary(self.client)?).collect();
        let mut reached = HashSet::new();
        // A push that began before the mark may rely on objects that a list named then.
        self.reach.trust(Trust::All);
        self.reach.walk(&lists, refs, others, &mut |id| {
            if list.binary_search(&id).is_ok() {
                reached.insert(id);
            }
        })?;
        Ok(reached.into_iter().collect())
    }

    /// Returns the objects that sessions spare, and everything that spared commits reach. An
    /// earlier push may have left such a commit complete, and the session that spares it may not
    /// have spared the objects beneath it yet.
    fn read_spared(&mut self, epoch: u64) -> Result<Vec<ObjectId>, Error> {
        let prefix = spared_in(epoch);
        let entries = self.client.list_all(&prefix);
        let entries = entries.map_err(Error::bucket("listing", &prefix))?;
        let mut spared = Vec::new();
        for entry in entries {
            let found = self.client.get(&entry.key);
            let found = found.map_err(Error::bucket("reading", &entry.key))?;
            let list = found.and_then(|found| decode_ids(&found.content));
            spared.extend(list.ok_or_else(|| damaged(&entry.key))?.iter());
        }
        let is_commit = |id: &&ObjectId| id.kind == ObjectKind::Commit;
        let commits: Vec<_> = spared
            .iter()
            .filter(is_commit)
            .map(|id| id.checksum)
            .collect();
        let below = &mut |id| spared.push(id);
        self.reach.walk(&Lists::default(), [], commits, below)?;
        Ok(spared)
    }

    fn delete(&mut self, ids: &[ObjectId]) -> Result<Heard<ObjectId, Key>, Error> {
        let mut keys = Vec::new();
        for id in ids {
            keys.push(layout::object(id));
            if id.kind == ObjectKind::Commit {
                keys.push(layout::detached(id.checksum));
                if !self.reach.keeps_list(&id.checksum) {
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
        for id in ids {
            let found = self.sizes.binary_search_by_key(id, |(id, _)| *id);
            self.done.bytes += found.map_or(0, |at| self.sizes[at].1);
        }
        (self.report)(CollectEvent::Deleted {
            objects: self.done.removed,
        });
        Ok(Heard::Stored)
    }

    /// Deletes the records that collections and dead sessions have left.
    fn tidy(&mut self) -> Result<(), Error> {
        let now = self.server_now()?;
        let is_old = |modified: u64, life: Duration| modified + life.as_secs() < now;
        let epoch = self.gc.as_ref().map_or(0, |(gc, _)| gc.epoch);
        let mut keys = Vec::new();
        for prefix in [
            layout::CONDEMNED,
            layout::SPARED,
            layout::JOURNALS,
            layout::COLLECTORS,
            layout::SESSIONS,
        ] {
            for entry in self.client.list_each(prefix) {
                let entry = entry.map_err(Error::bucket("listing", &prefix))?;
                let key = &entry.key;
                let is_over = match prefix {
                    // Readers of journals need the last list (R10).
                    layout::CONDEMNED => condemned_epoch(key).is_some_and(|of| of < epoch),
                    layout::SPARED => spared_epoch(key).is_some_and(|of| of <= epoch),
                    layout::SESSIONS => {
                        is_old(entry.modified, 2 * LEASE_LIFE) && self.is_over(key)?
                    }
                    _ => is_old(entry.modified, self.options.grace.max(2 * LEASE_LIFE)),
                };
                if is_over {
                    keys.push(entry.key);
                }
            }
        }
        self.client.delete(&keys).map_err(deleting)
    }

    /// Returns whether a lease has been fenced.
    fn is_over(&self, key: &Key) -> Result<bool, Error> {
        let found = self
            .client
            .get(key)
            .map_err(Error::bucket("reading", key))?;
        let lease = found.and_then(|found| Lease::decode(&found.content));
        Ok(lease.is_some_and(|lease| lease.is_fenced))
    }
}

fn damaged(key: &Key) -> Error {
    let why = format!("{key} is damaged: if no push and no other collection is running, delete it");
    Error::bucket("reading", key)(BucketError::Broken(why))
}

fn deleting(error: BucketError) -> Error {
    Error::bucket("deleting", &"what nothing reaches")(error)
}

/// The pause between two looks at the state of other programs.
const PAUSE: Duration = Duration::from_secs(2);
const CLOCK_READ_EVERY: Duration = Duration::from_secs(60);
/// The most failures in a row; the growing pauses between them take about two minutes.
const FAILURES_MAX: u32 = 10;
