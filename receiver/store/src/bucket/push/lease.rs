//! The part of a push in collection: it keeps the push's lease, and learns of condemned objects.
//!
//! [`Member`] decides by the rules of [`collect`](crate::bucket::collect), and this module sends
//! its requests. The lease is not a lock: nobody waits for it to end (INV-7). A push that was given
//! up for dead is fenced and publishes nothing: its next renewal fails (R3). A push sets a ref only
//! while its last renewal is recent (R8), so that a suspended push cannot simply continue.

use std::time::Duration;

use artifact_formats::ObjectId;
use artifact_protocol::limits::{MAX_BUCKET_PUSH_SECS, MAX_LEASE_SECS};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::collect::{
    Ask, CLAIM_LIFE, Fate, Gc, Heard, LEASE_LIFE, LEASE_RENEWAL, Lease, Member, Nonce,
    condemned_key, decode_ids, encode_ids, spared_key,
};
use crate::bucket::records::layout::{self, SessionId};
use crate::bucket::requests::ask::get;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Answer, Class, Condition, Key, Request, Tag};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// The lease of this push, and its part in collection. Threads share it.
#[derive(Debug)]
pub(crate) struct Membership {
    client: Client,
    id: SessionId,
    begun: Duration,
    // Held while requests are sent, so that only one thread drives at a time.
    driving: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    member: Member<ObjectId>,
    // The tag of the lease as it was last stored or read.
    tag: Option<Tag>,
    // The lease as it was last sent.
    lease: Bytes,
    gc_tag: Option<Tag>,
    // The last state of collection, and when it was seen first.
    seen: Option<(Gc, Duration)>,
    // The clock before the last renewal was sent.
    renewed: Duration,
    sent: Duration,
}

impl Membership {
    /// Prepares the part of a new push.
    pub(crate) fn new(client: &Client, id: SessionId, identity: &str) -> Self {
        let now = client.clock().now();
        Self {
            client: client.clone(),
            id,
            begun: now,
            driving: Mutex::new(()),
            state: Mutex::new(State {
                member: Member::new(identity.to_owned()),
                tag: None,
                lease: Bytes::new(),
                gc_tag: None,
                seen: None,
                renewed: now,
                sent: now,
            }),
        }
    }

    /// Returns the name of the push.
    pub(crate) const fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the epoch of the last collection that the push keeps to.
    pub(crate) fn epoch(&self) -> u64 {
        self.state.lock().member.epoch()
    }

    /// Calls `act` if the push may put an object, before another list can condemn the object;
    /// otherwise returns the object's fate.
    pub(crate) fn judge<T>(&self, id: &ObjectId, act: impl FnOnce() -> T) -> Result<T, Fate> {
        let state = self.state.lock();
        match state.member.judge(id) {
            Fate::Free => Ok(act()),
            fate @ (Fate::Spare | Fate::Wait) => Err(fate),
        }
    }

    /// Returns the next request to send, if any. The caller may send it together with others, and
    /// must hand its answer to [`take`](Self::take).
    pub(crate) fn request(&self) -> Option<Request> {
        let mut state = self.state.lock();
        let ask = state.member.next()?;
        state.sent = self.client.clock().now();
        if let Ask::BeginLease(lease) | Ask::RenewLease(lease) = &ask {
            state.lease = lease.encode().into();
        }
        Some(self.request_for(&state, &ask))
    }

    /// Takes the answer to the last request. `relied` returns whether the push relies on an object,
    /// or has begun to put it.
    pub(crate) fn take(
        &self,
        answer: Result<Answer, BucketError>,
        relied: impl Fn(&ObjectId) -> bool,
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        let Some(ask) = state.member.next() else {
            return Ok(());
        };
        let heard = self.heard(&mut state, &ask, answer, relied)?;
        if matches!(heard, Heard::Stored) && matches!(ask, Ask::BeginLease(_) | Ask::RenewLease(_))
        {
            state.renewed = state.sent;
        }
        state.member.hear(heard);
        let now = self.client.clock().now();
        if let Some(gc) = state.member.gc()
            && state.seen.is_none_or(|(seen, _)| seen != gc)
        {
            state.seen = Some((gc, now));
        }
        Ok(())
    }

    /// Sends requests until the lease is stored (R1).
    pub(crate) fn settle_lease(&self) -> Result<(), Error> {
        let mut turns = 0;
        while self.is_at_lease()
            && let Some(request) = self.request()
        {
            self.pace(&mut turns)?;
            self.take(self.client.call(&request), |_| false)?;
        }
        match self.state.lock().member.is_lost() {
            true => Err(Error::Fenced),
            false => Ok(()),
        }
    }

    fn is_at_lease(&self) -> bool {
        matches!(
            self.state.lock().member.next(),
            Some(Ask::BeginLease(_) | Ask::ReadLease)
        )
    }

    /// Returns puts whose conditions do not hold. A server that executes one ignores conditions;
    /// the content that it then stores is the same as before.
    pub(crate) fn canary(&self) -> Vec<Request> {
        let state = self.state.lock();
        let conditions = [
            Condition::New,
            Condition::Is(Tag::new("of-another-content")),
        ];
        let put = |condition| Request::Put {
            key: layout::session(self.id),
            content: state.lease.clone(),
            condition,
            class: Class::Private,
        };
        conditions.into_iter().map(put).collect()
    }

    /// Sends requests until the push may go on. Fails if the push was given up for dead.
    pub(crate) fn drive(&self, relied: impl Fn(&ObjectId) -> bool) -> Result<(), Error> {
        let driving = self.driving.lock();
        let mut turns = 0;
        while let Some(request) = self.request() {
            self.pace(&mut turns)?;
            self.take(self.client.call(&request), &relied)?;
        }
        drop(driving);
        if self.state.lock().member.is_lost() {
            return Err(Error::Fenced);
        }
        Ok(())
    }

    /// Counts the requests for one step, and waits before all but the first ones. Fails when they
    /// lead nowhere, because something removed a record, or because a record keeps changing.
    fn pace(&self, turns: &mut u32) -> Result<(), Error> {
        *turns += 1;
        if *turns > TURNS {
            let why = format!("it comes to no end after {TURNS} requests; {HELP}");
            let lease = layout::session(self.id);
            return Err(Error::bucket("keeping", &lease)(BucketError::Broken(why)));
        }
        if *turns > QUICK_TURNS {
            self.client.clock().sleep(TURN_PAUSE);
        }
        Ok(())
    }

    /// Renews the lease if it is due, and learns how collection has gone on.
    /// Fails once the push has lasted longer than it may (LIM-29).
    pub(crate) fn renew_if_due(&self, relied: impl Fn(&ObjectId) -> bool) -> Result<(), Error> {
        if self.client.clock().now() >= self.begun + PUSH_MAX {
            return Err(Error::Fenced);
        }
        if self.age() < LEASE_RENEWAL {
            return Ok(());
        }
        self.state.lock().member.renew_now();
        self.drive(relied)
    }

    /// Returns the objects that the push [may not rely on](Member::doubtful): first those that it
    /// must [spare](Self::spare) before, then the others.
    pub(crate) fn doubtful(
        &self,
        ids: impl Iterator<Item = ObjectId>,
    ) -> (Vec<ObjectId>, Vec<ObjectId>) {
        self.state.lock().member.doubtful(ids)
    }

    /// Returns whether the push may rely on an object that it has just found.
    pub(crate) fn keeps(&self, id: &ObjectId) -> bool {
        self.state.lock().member.keeps(id)
    }

    /// Calls `act` if an object named by a journal still exists, before another list can condemn
    /// it. The journal's push kept to the collection of this epoch. Returns whether it exists.
    pub(crate) fn take_over(&self, epoch: u64, id: &ObjectId, act: impl FnOnce()) -> bool {
        let state = self.state.lock();
        let counts = state.member.counts(epoch, id);
        if counts {
            act();
        }
        counts
    }

    /// Spares condemned objects, as far as that is still possible.
    pub(crate) fn spare(
        &self,
        ids: Vec<ObjectId>,
        relied: impl Fn(&ObjectId) -> bool,
    ) -> Result<(), Error> {
        self.state.lock().member.spare(ids);
        self.drive(relied)
    }

    /// Reads the last list, so that journals from before it count.
    pub(crate) fn read_last_list(&self, relied: impl Fn(&ObjectId) -> bool) -> Result<(), Error> {
        self.state.lock().member.read_last_list();
        self.drive(relied)
    }

    /// Waits a little, and then checks whether the sweep is over.
    pub(crate) fn wait(&self, relied: impl Fn(&ObjectId) -> bool) -> Result<(), Error> {
        self.client.clock().sleep(SWEEP_LOOKED_AT_EVERY);
        let now = self.client.clock().now();
        {
            let mut state = self.state.lock();
            let since = state.seen.map_or(now, |(_, since)| since);
            // R22.
            if now.saturating_sub(since) > CLAIM_LIFE {
                let by = getrandom::u64().unwrap_or_default();
                state.member.end_dead_sweep(Nonce(by));
            } else {
                state.member.look();
            }
        }
        self.drive(&relied)?;
        self.renew_if_due(relied)
    }

    /// Fails unless the lease is so young that nobody has given the push up, and nobody can before
    /// a request sent now has ended.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let is_old = self.client.clock().now() >= self.begun + PUSH_MAX;
        if is_old || self.age() >= LEASE_LIFE / 2 || self.state.lock().member.is_lost() {
            return Err(Error::Fenced);
        }
        Ok(())
    }

    fn age(&self) -> Duration {
        let renewed = self.state.lock().renewed;
        self.client.clock().now().saturating_sub(renewed)
    }

    fn request_for(&self, state: &State, ask: &Ask<ObjectId>) -> Request {
        let key = layout::session(self.id);
        let put = |key: Key, content: Bytes, condition| Request::Put {
            key,
            content,
            condition,
            class: Class::Private,
        };
        let is = |tag: &Option<Tag>| {
            Condition::Is(tag.clone().unwrap_or_else(|| Tag::new("never-seen")))
        };
        match ask {
            Ask::BeginLease(_) => put(key, state.lease.clone(), Condition::New),
            Ask::RenewLease(_) => put(key, state.lease.clone(), is(&state.tag)),
            Ask::MoveGc(_, to) => put(layout::gc(), to.encode().into(), is(&state.gc_tag)),
            Ask::ReadLease => get(&key),
            Ask::ReadGc => get(&layout::gc()),
            Ask::ReadList(name) => get(&condemned_key(*name)),
            Ask::Spare { epoch, part, ids } => {
                let key = spared_key(*epoch, self.id, *part);
                put(key, encode_ids(ids), Condition::Always)
            }
        }
    }

    fn heard(
        &self,
        state: &mut State,
        ask: &Ask<ObjectId>,
        answer: Result<Answer, BucketError>,
        relied: impl Fn(&ObjectId) -> bool,
    ) -> Result<Heard<ObjectId>, Error> {
        let is_put = matches!(
            ask,
            Ask::BeginLease(_) | Ask::RenewLease(_) | Ask::Spare { .. } | Ask::MoveGc(..)
        );
        let lease = layout::session(self.id);
        let failed = || Error::bucket("keeping", &lease);
        let found = match answer {
            Ok(Answer::Stored(tag)) if is_put => {
                match ask {
                    Ask::BeginLease(_) | Ask::RenewLease(_) => state.tag = Some(tag),
                    Ask::MoveGc(..) => state.gc_tag = Some(tag),
                    Ask::Spare { .. } | Ask::ReadLease | Ask::ReadGc | Ask::ReadList(_) => {}
                }
                return Ok(Heard::Stored);
            }
            Ok(Answer::NotMet) if is_put => return Ok(Heard::NotMet),
            Err(BucketError::Unclear(_)) if is_put => return Ok(Heard::Unclear),
            Ok(Answer::Found(found)) if !is_put => Some(found),
            Ok(Answer::Absent) if !is_put => None,
            Ok(other) => return Err(failed()(BucketError::misfit("a request", &other))),
            Err(error) => return Err(failed()(error)),
        };
        let damaged = || {
            let why = format!("a record of collection, or the lease itself, is damaged; {HELP}");
            failed()(BucketError::Broken(why))
        };
        Ok(match ask {
            Ask::ReadGc => Heard::Gc(match found {
                Some(found) => {
                    state.gc_tag = Some(found.tag);
                    Some(Gc::decode(&found.content).ok_or_else(damaged)?)
                }
                None => None,
            }),
            Ask::ReadList(_) => Heard::List(match found {
                Some(found) => {
                    let list = decode_ids(&found.content).ok_or_else(damaged)?;
                    let relied = list.iter().filter(|id| relied(id)).copied().collect();
                    Some((list, relied))
                }
                None => None,
            }),
            Ask::ReadLease
            | Ask::BeginLease(_)
            | Ask::RenewLease(_)
            | Ask::Spare { .. }
            | Ask::MoveGc(..) => Heard::Lease(match found {
                Some(found) => {
                    state.tag = Some(found.tag);
                    Some(Lease::decode(&found.content).ok_or_else(damaged)?)
                }
                None => None,
            }),
        })
    }
}

/// The longest time that a push may take.
pub(crate) const PUSH_MAX: Duration = Duration::from_secs(MAX_BUCKET_PUSH_SECS);
const _: () = assert!(LEASE_LIFE.as_secs() == MAX_LEASE_SECS);
/// The advice to an operator whose records of collection are missing or damaged.
const HELP: &str = "`artifact-cache-admin prune` on the bucket ends a collection that is stuck, or \
                    names what is to be deleted by hand";
/// The most requests for one step; most steps take five.
const TURNS: u32 = 60;
/// The requests of a step that are sent without a pause.
const QUICK_TURNS: u32 = 12;
const TURN_PAUSE: Duration = Duration::from_secs(1);
const SWEEP_LOOKED_AT_EVERY: Duration = Duration::from_secs(2);
