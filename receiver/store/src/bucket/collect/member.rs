//! One session's part in collection, as a machine without I/O.
//!
//! The driver does what [`Member::next`] asks, and gives the answer to [`Member::hear`], until
//! nothing is left to do. In between, [`Member::judge`] decides for each object whether the session
//! may put it, and [`Member::keeps`] whether the session may rely on it. The driver holds one lock
//! for all of that, so that a session puts an object, or relies on it, under the same list under
//! which it was judged.

pub(super) mod judge;

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;

use super::record::{Gc, Lease, ListName, Nonce, Phase};

/// The state of a session's part in collection. `I` names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member<I> {
    /// The lease as the bucket holds it, as far as the session knows.
    lease: Lease,
    /// `None` until the session has read `gc`.
    known: Option<Known<I>>,
    /// The number of lists of spared objects written: each has a key of its own.
    parts: u32,
    step: Step<I>,
}

/// The last list that the session keeps to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Known<I> {
    gc: Gc,
    /// Sorted; `None` if the sweep was over before the session began, and the session has not
    /// needed the list.
    list: Option<Arc<[I]>>,
    /// Objects on the list that the session has spared in time.
    spared: BTreeSet<I>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step<I> {
    /// The first lease is being stored.
    Beginning,
    /// The answer to the put of the first lease was unclear: reads the lease.
    Doubting,
    /// Reads `gc`. A list of these objects was written; they are spared if the list was in time.
    Looking(Vec<I>, Then),
    /// Reads a list that is new to the session, or one whose sweep is over.
    Reading(Gc, Then),
    /// Writes the objects of a new list that the session relies on.
    Sparing {
        new: Known<I>,
        relied: Vec<I>,
    },
    /// Writes more objects to spare.
    SparingMore(Vec<I>),
    /// Renews the lease; `new` is the list that this acknowledges.
    Renewing {
        new: Option<Known<I>>,
        lease: Lease,
    },
    /// The answer to a renewal was unclear: reads the lease.
    Checking {
        new: Option<Known<I>>,
        lease: Lease,
    },
    /// Ends a sweep whose collector is dead.
    Ending {
        from: Gc,
        to: Gc,
    },
    Ready,
    Lost,
}

/// The step after a look at `gc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Then {
    Nothing,
    Renew,
}

/// A request to the driver, which sends one request to the bucket for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask<I> {
    /// Store the lease if its key holds nothing.
    BeginLease(Lease),
    /// Store the lease if its key holds the version last stored or read.
    RenewLease(Lease),
    /// Read the lease.
    ReadLease,
    /// Read `gc`.
    ReadGc,
    /// Read a list of condemned objects.
    ReadList(ListName),
    /// Write a list of spared objects, under the epoch and the session's own number for it. A
    /// number always has the same content.
    Spare {
        /// The epoch.
        epoch: u64,
        /// The number.
        part: u32,
        /// The objects.
        ids: Vec<I>,
    },
    /// Store the second record as `gc` if the key holds the first one.
    MoveGc(Gc, Gc),
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Heard<I> {
    /// It is stored.
    Stored,
    /// The condition did not hold.
    NotMet,
    /// The answer was lost: the content may be stored, now or later, or not.
    Unclear,
    /// The lease.
    Lease(Option<Lease>),
    /// The record `gc`.
    Gc(Option<Gc>),
    /// A sorted list, and the objects on it that the session relies on or has begun to put; `None`
    /// if no such list exists.
    List(Option<(Arc<[I]>, Vec<I>)>),
}

impl<I: Clone + Ord> Member<I> {
    /// A new session.
    pub const fn new(identity: String) -> Self {
        Self {
            lease: Lease::first(identity),
            known: None,
            parts: 0,
            step: Step::Beginning,
        }
    }

    /// Returns the next request; `None` if the session may go on, or [is lost](Self::is_lost).
    pub fn next(&self) -> Option<Ask<I>> {
        Some(match &self.step {
            Step::Beginning => Ask::BeginLease(self.lease.clone()),
            Step::Doubting | Step::Checking { .. } => Ask::ReadLease,
            Step::Looking(..) => Ask::ReadGc,
            Step::Reading(gc, _) => Ask::ReadList(gc.list()),
            Step::Sparing { new, relied } => Ask::Spare {
                epoch: new.gc.epoch,
                part: self.parts,
                ids: relied.clone(),
            },
            Step::SparingMore(ids) => Ask::Spare {
                epoch: self.epoch(),
                part: self.parts,
                ids: ids.clone(),
            },
            Step::Renewing { lease, .. } => Ask::RenewLease(lease.clone()),
            Step::Ending { from, to } => Ask::MoveGc(*from, *to),
            Step::Ready | Step::Lost => return None,
        })
    }

    /// Takes the answer to the request of [`next`](Self::next).
    pub fn hear(&mut self, heard: Heard<I>) {
        self.step = match (mem::replace(&mut self.step, Step::Lost), heard) {
            (Step::Beginning, Heard::Stored) => Step::Looking(Vec::new(), Then::Nothing),
            (Step::Beginning, Heard::NotMet | Heard::Unclear) => Step::Doubting,
            (Step::Doubting, Heard::Lease(None)) => Step::Beginning,
            (Step::Doubting, Heard::Lease(Some(lease))) if lease == self.lease => {
                Step::Looking(Vec::new(), Then::Nothing)
            }
            (Step::Looking(ids, then), Heard::Gc(gc)) => self.saw(gc, ids, then),
            (Step::Reading(gc, then), Heard::List(Some((list, relied)))) => {
                self.read(gc, list, relied, then)
            }
            // The list is gone because `gc` has moved on.
            (Step::Reading(_, then), Heard::List(None)) => Step::Looking(Vec::new(), then),
            (Step::Sparing { mut new, relied }, Heard::Stored) => {
                self.parts += 1;
                new.spared = relied.into_iter().collect();
                self.renew(Some(new))
            }
            // The put has no condition, so it can be repeated.
            (step @ (Step::Sparing { .. } | Step::SparingMore(_)), Heard::Unclear) => step,
            (Step::SparingMore(ids), Heard::Stored) => {
                self.parts += 1;
                Step::Looking(ids, Then::Nothing)
            }
            (Step::Renewing { new, lease }, Heard::Stored) => self.renewed(new, lease),
            (Step::Renewing { new, lease }, Heard::NotMet | Heard::Unclear) => {
                Step::Checking { new, lease }
            }
            (Step::Checking { new, lease }, Heard::Lease(Some(found))) if !found.is_fenced => {
                if found == lease {
                    self.renewed(new, lease)
                } else {
                    Step::Renewing { new, lease }
                }
            }
            (Step::Ending { .. }, Heard::Stored | Heard::NotMet | Heard::Unclear) => {
                Step::Looking(Vec::new(), Then::Nothing)
            }
            // The lease is fenced or removed, or the answer belongs to another request.
            (_, _) => Step::Lost,
        };
    }

    /// Begins to renew the lease, and to learn how collection has gone on. Call this at least every
    /// sixth of a lease's life, and before publication once half of its life is over.
    pub fn renew_now(&mut self) {
        if self.is_ready() {
            self.step = Step::Looking(Vec::new(), Then::Renew);
        }
    }

    /// Begins to read `gc`, for instance to see whether a sweep has ended.
    pub fn look(&mut self) {
        if self.is_ready() {
            self.step = Step::Looking(Vec::new(), Then::Nothing);
        }
    }

    /// Begins to spare objects [that need it](judge::Fate::Spare). Afterwards judge each again: one
    /// that [must wait](judge::Fate::Wait) was spared too late.
    pub fn spare(&mut self, ids: Vec<I>) {
        if self.is_ready() && !ids.is_empty() {
            self.step = Step::SparingMore(ids);
        }
    }

    /// Begins to end a sweep whose collector is dead, because `gc` has stayed the same for longer
    /// than a claim lives. The objects left on the list stay. `by` is random.
    pub fn end_dead_sweep(&mut self, by: Nonce) {
        if let (true, Some(Known { gc: from, .. })) = (self.is_ready(), &self.known)
            && from.phase == Phase::Sweeping
        {
            let (from, to) = (*from, from.moved(Phase::Idle, by));
            self.step = Step::Ending { from, to };
        }
    }

    /// Begins to read the last list although its sweep is over: [`counts`](Self::counts) needs it
    /// for journals written before that list.
    pub fn read_last_list(&mut self) {
        if let (true, Some(known)) = (self.is_ready(), &self.known)
            && known.list.is_none()
            && known.gc.epoch > 0
        {
            self.step = Step::Reading(known.gc, Then::Nothing);
        }
    }

    /// Returns whether no request is pending.
    pub const fn is_ready(&self) -> bool {
        matches!(self.step, Step::Ready)
    }

    /// Returns whether a collector has fenced this session, which must then publish nothing.
    pub const fn is_lost(&self) -> bool {
        matches!(self.step, Step::Lost)
    }

    /// Returns the epoch of the last list that the session keeps to, which its journal states.
    pub fn epoch(&self) -> u64 {
        self.known.as_ref().map_or(0, |known| known.gc.epoch)
    }

    /// Returns the state of collection as last seen.
    pub fn gc(&self) -> Option<Gc> {
        self.known.as_ref().map(|known| known.gc)
    }

    fn saw(&mut self, gc: Option<Gc>, ids: Vec<I>, then: Then) -> Step<I> {
        let Some(gc) = gc else {
            return match &self.known {
                // Somebody removed `gc`, so what this session knows about lists no longer holds.
                Some(known) if known.gc.epoch > 0 => Step::Lost,
                Some(_) => self.go_on(then),
                None => {
                    self.known = Some(Known::new(Gc::first(Nonce(0)), None));
                    self.go_on(then)
                }
            };
        };
        let Some(known) = &mut self.known else {
            return match gc.phase {
                Phase::Idle => {
                    self.known = Some(Known::new(gc, None));
                    self.go_on(then)
                }
                Phase::Condemned | Phase::Sweeping => Step::Reading(gc, then),
            };
        };
        if gc.epoch == known.gc.epoch {
            known.gc = gc;
            if gc.phase == Phase::Condemned {
                known.spared.extend(ids);
            }
            return self.go_on(then);
        }
        // No list is swept before each session keeps to it, so this one must have been fenced.
        match gc.phase {
            Phase::Condemned if gc.epoch == known.gc.epoch + 1 => Step::Reading(gc, then),
            Phase::Idle | Phase::Condemned | Phase::Sweeping => Step::Lost,
        }
    }

    fn read(&mut self, gc: Gc, list: Arc<[I]>, relied: Vec<I>, then: Then) -> Step<I> {
        let list = Some(list);
        match &mut self.known {
            Some(known) if known.gc.epoch == gc.epoch => {
                known.list = list;
                self.go_on(then)
            }
            _ if gc.phase != Phase::Condemned => {
                self.known = Some(Known::new(gc, list));
                self.go_on(then)
            }
            _ => {
                let new = Known::new(gc, list);
                if relied.is_empty() {
                    self.renew(Some(new))
                } else {
                    Step::Sparing { new, relied }
                }
            }
        }
    }

    fn go_on(&self, then: Then) -> Step<I> {
        match then {
            Then::Nothing => Step::Ready,
            Then::Renew => self.renew(None),
        }
    }

    fn renew(&self, new: Option<Known<I>>) -> Step<I> {
        let epoch = new
            .as_ref()
            .map_or_else(|| self.epoch(), |new| new.gc.epoch);
        let lease = self.lease.renewed(epoch);
        Step::Renewing { new, lease }
    }

    fn renewed(&mut self, new: Option<Known<I>>, lease: Lease) -> Step<I> {
        self.lease = lease;
        if new.is_some() {
            self.known = new;
        }
        Step::Ready
    }
}

impl<I> Known<I> {
    const fn new(gc: Gc, list: Option<Arc<[I]>>) -> Self {
        Self {
            gc,
            list,
            spared: BTreeSet::new(),
        }
    }
}
