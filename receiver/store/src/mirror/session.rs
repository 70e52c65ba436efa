//! The session of a mirror. Its lease tells collectors that somebody relies on the bucket's
//! objects.
//!
//! A push [follows a collection](crate::bucket::collect) while the collection runs. A mirror can
//! restart at any time, so it keeps the same rules in a simpler way. It begins only while no
//! collection runs (R1, R2), and checks that again every few minutes and right before it sets refs.
//! If a collection has begun in the meantime, the mirror ends its session and starts again. It
//! never acknowledges a list, so the collector waits until the session has ended (R14).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::bucket::collect::{Gc, LEASE_LIFE, LEASE_RENEWAL, Lease, Phase};
use crate::bucket::records::commits::Doubt;
use crate::bucket::records::layout::{self, SessionId};
use crate::bucket::requests::client::{Client, Outcome};
use crate::bucket::requests::random::unique;
use crate::bucket::requests::seam::{Answer, Class, Condition, Entry, Key, Tag};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// The session of a mirror.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    key: Key,
    state: Mutex<State>,
    /// The state of collection when the session began.
    gc: Option<Gc>,
    /// The leases of other mirrors, running or interrupted.
    others: Vec<(Entry, Lease)>,
    /// A collection has begun, or a collector has fenced the session.
    disturbed: AtomicBool,
    doubt: Doubt,
}

#[derive(Debug)]
struct State {
    lease: Lease,
    tag: Tag,
    /// When the last renewal was sent.
    renewed: Duration,
}

impl Session {
    /// Waits until no collection runs, at most an hour, and begins a session.
    pub(crate) fn begin(client: &Client) -> Result<Self, Error> {
        for _ in 0..WAITS_MAX {
            let session = Self::take(client)?;
            if session.gc.is_none_or(|gc| gc.phase == Phase::Idle) {
                return Ok(session);
            }
            // The collector waits for this session as long as its lease exists.
            session.end()?;
            client.clock().sleep(PAUSE);
        }
        Err(Self::busy())
    }

    fn take(client: &Client) -> Result<Self, Error> {
        let others = others(client)?;
        let key = layout::session(SessionId::new(unique()?));
        let lease = Lease::first(IDENTITY.to_owned());
        let renewed = client.clock().now();
        let tag = put(client, &key, &lease, Condition::New)?.ok_or_else(Self::busy)?;
        let gc = collection(client)?;
        let state = Mutex::new(State {
            lease,
            tag,
            renewed,
        });
        Ok(Self {
            client: client.clone(),
            key,
            state,
            gc,
            others,
            disturbed: AtomicBool::new(false),
            doubt: Doubt::default(),
        })
    }

    /// Returns whether another mirror runs or was interrupted: the bucket may then have objects
    /// that no closure list names.
    pub(crate) fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// Renews the lease if it is due. Fails if the session [is disturbed](Self::is_disturbed).
    pub(crate) fn keep(&self) -> Result<(), Error> {
        if self.age() < LEASE_RENEWAL {
            return Ok(());
        }
        self.confirm()
    }

    /// Returns whether the put of a commit or a ref may be sent now (R8).
    pub(crate) fn is_fresh(&self) -> bool {
        self.age() < LEASE_LIFE / 2
    }

    /// Makes sure that a commit or a ref may be put, and renews the lease if necessary.
    pub(crate) fn check(&self) -> Result<(), Error> {
        match self.is_fresh() {
            true => Ok(()),
            false => self.confirm(),
        }
    }

    /// Renews the lease, and makes sure that no collection has begun since the session did.
    pub(crate) fn confirm(&self) -> Result<(), Error> {
        let mut state = self.state.lock();
        let lease = state.lease.renewed(self.gc.map_or(0, |gc| gc.epoch));
        let renewed = self.client.clock().now();
        let condition = Condition::Is(state.tag.clone());
        let stored = put(&self.client, &self.key, &lease, condition)?;
        let same = stored.is_some() && collection(&self.client)? == self.gc;
        match stored {
            Some(tag) if same => {
                *state = State {
                    lease,
                    tag,
                    renewed,
                };
                Ok(())
            }
            Some(_) | None => {
                self.disturbed.store(true, Ordering::Relaxed);
                Err(Self::busy())
            }
        }
    }

    /// Returns whether a collection has begun, or has fenced the session: the mirror may go on in a
    /// new session.
    pub(crate) fn is_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed)
    }

    /// Notes whether an answer to a put of a commit or a ref was lost.
    pub(crate) fn heard(&self, answers: &[Result<Answer, BucketError>]) {
        self.doubt.hear(answers);
    }

    fn age(&self) -> Duration {
        let now = self.client.clock().now();
        now.saturating_sub(self.state.lock().renewed)
    }

    /// Ends the session. Removes the lease unless the answer to a put was lost, which may still
    /// take effect (R9).
    pub(crate) fn end(self) -> Result<(), Error> {
        if self.doubt.is_there() {
            return Ok(());
        }
        let ended = self.client.delete(std::slice::from_ref(&self.key));
        ended.map_err(Error::bucket("removing", &self.key))
    }

    /// Ends the session of a complete mirror. It also removes the leases of interrupted mirrors,
    /// because this one has completed their work.
    pub(crate) fn complete(self) -> Result<(), Error> {
        if !self.others.is_empty() {
            let own = self.client.get(&self.key);
            let own = own.map_err(Error::bucket("reading", &self.key))?;
            // By the server's clock.
            let now = own.map_or(0, |found| found.modified);
            for (entry, lease) in &self.others {
                if entry.modified.saturating_add(LEASE_LIFE.as_secs()) < now {
                    self.forget(entry, lease)?;
                }
            }
        }
        self.end()
    }

    /// Fences a dead session and removes its lease, unless it has renewed the lease since (R15).
    fn forget(&self, entry: &Entry, lease: &Lease) -> Result<(), Error> {
        let condition = Condition::Is(entry.tag.clone());
        if put(&self.client, &entry.key, &lease.fenced(), condition)?.is_some() {
            let removed = self.client.delete(std::slice::from_ref(&entry.key));
            removed.map_err(Error::bucket("removing", &entry.key))?;
        }
        Ok(())
    }

    fn busy() -> Error {
        Error::Busy {
            lock: "the bucket, to collect what nothing reaches".to_owned(),
        }
    }
}

/// Returns the leases of other mirrors.
fn others(client: &Client) -> Result<Vec<(Entry, Lease)>, Error> {
    let all = client.list_all(layout::SESSIONS);
    let all = all.map_err(Error::bucket("listing", &"sessions"))?;
    let mut others = Vec::new();
    for mut entry in all {
        let found = client.get(&entry.key);
        let found = found.map_err(Error::bucket("reading", &entry.key))?;
        let Some(found) = found else { continue };
        if let Some(lease) = Lease::decode(&found.content)
            && lease.identity == IDENTITY
        {
            (entry.tag, entry.modified) = (found.tag, found.modified);
            others.push((entry, lease));
        }
    }
    Ok(others)
}

/// Reads the state of collection.
fn collection(client: &Client) -> Result<Option<Gc>, Error> {
    let key = layout::gc();
    let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
    match found.map(|found| Gc::decode(&found.content)) {
        None => Ok(None),
        Some(Some(gc)) => Ok(Some(gc)),
        // A later version of this program, perhaps, may delete objects that this one relies on.
        Some(None) => Err(Error::NotARepository {
            why: "the bucket's record of its collection is damaged, or of a later version",
        }),
    }
}

/// Stores a lease; `None` if the key holds something unexpected. Reads the key after an unclear
/// answer.
fn put(
    client: &Client,
    key: &Key,
    lease: &Lease,
    condition: Condition,
) -> Result<Option<Tag>, Error> {
    let content = lease.encode();
    for _ in 0..PUTS_MAX {
        let bytes = content.clone().into();
        match client.put(key, bytes, condition.clone(), Class::Private) {
            Ok(Outcome::Stored(tag)) => return Ok(Some(tag)),
            Ok(Outcome::NotMet) | Err(BucketError::Unclear(_)) => {}
            Err(error) => return Err(Error::bucket("storing", key)(error)),
        }
        let found = client.get(key).map_err(Error::bucket("reading", key))?;
        match (found, &condition) {
            (Some(found), _) if found.content == content.as_bytes() => {
                return Ok(Some(found.tag));
            }
            // The put did not take place: it was lost, or the server was busy with another.
            (None, Condition::New) => {}
            (Some(found), Condition::Is(tag)) if found.tag == *tag => {}
            (_, _) => return Ok(None),
        }
    }
    Ok(None)
}

/// The most attempts to store a lease.
const PUTS_MAX: u32 = 5;
/// The identity of all mirrors.
const IDENTITY: &str = "artifact-cache-admin mirror";
/// The pause between two looks at a collection: an hour in all.
const PAUSE: Duration = Duration::from_secs(10);
const WAITS_MAX: u32 = 360;
