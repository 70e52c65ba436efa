//! The collector's decisions, as a machine without I/O.
//!
//! The driver does what [`Collector::next`] asks, and gives the answer to [`Collector::hear`],
//! until the machine [has ended](Collector::end). Several collectors may run at once. They find
//! each other through `gc`, and each continues where another, even a dead one, has stopped.
//! Afterwards it makes a list of its own, unless it has already made one.
//!
//! ```text
//! idle --condemn--> condemned ----claim----> sweeping --close--> idle      an arrow moves `gc`
//!  mark, list        wait for sessions        read refs and spared lists,
//!                                             delete commits, directories, files
//! ```

use std::mem;
use std::sync::Arc;

use super::record::{Gc, Lease, ListName, Nonce, Phase};

/// A collection in progress. `I` names an object, `S` a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Collector<I, S> {
    me: Nonce,
    batch: usize,
    /// The epoch of the list that this collector made; 0 if it has made none.
    made: u64,
    step: Step<I, S>,
}

/// The name of an object that can be deleted.
pub trait Doomed: Clone + Ord {
    /// Returns the object's place in the order of deletion.
    fn rank(&self) -> Rank;
}

/// The order of deletion. A commit goes before the objects that it reaches, so that no commit ever
/// lacks a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Commits, with their detached metadata and closure lists.
    Commit,
    /// Dirtrees and dirmetas.
    Directory,
    /// Files.
    File,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step<I, S> {
    /// Reads `gc`, first of all and whenever somebody else has moved it.
    Looking,
    /// Finds garbage, and writes the list.
    Marking(Gc),
    /// Moves `gc`.
    Moving(Move, Then<I>),
    /// Reads `gc` because the answer to the move was lost.
    Doubting(Move, Then<I>),
    /// Reads the list that another collector made.
    Loading(Gc),
    /// Lists the sessions.
    Listing(Gc, Arc<[I]>),
    /// Waits until these sessions keep to the list, and looks at the first of them.
    Waiting(Gc, Arc<[I]>, Vec<S>),
    /// Fences the first of these sessions.
    Fencing(Gc, Arc<[I]>, Vec<S>, Lease),
    /// Finds the objects that are reached.
    Reaching(Gc, Arc<[I]>),
    /// Reads the objects that sessions have spared.
    Sparing(Gc, Vec<I>),
    /// Deletes these objects, the last ones first.
    Sweeping(Gc, Vec<I>),
    /// Waits until no request can take effect any more.
    Settling(Gc),
    /// Waits until another collector's sweep is over.
    Standing,
    Ended(End),
}

/// A compare-and-swap of `gc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Move {
    from: Option<Gc>,
    to: Gc,
}

/// The step after a move of `gc`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Then<I> {
    Mark,
    List(Arc<[I]>),
    Load,
    Reach(Arc<[I]>),
    Sweep(Vec<I>),
    End(End),
}

/// A request to the driver.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask<I, S> {
    /// Read `gc`: [`Heard::Gc`].
    ReadGc,
    /// Store the second record as `gc` if the key holds the first one, or nothing: one of
    /// [`Heard::Stored`], [`Heard::NotMet`], [`Heard::Unclear`].
    MoveGc(Option<Gc>, Gc),
    /// Find the objects that nothing reaches, and write them to a list of this name:
    /// [`Heard::List`]. An empty list need not be written.
    Condemn(ListName),
    /// Read a list: [`Heard::List`].
    ReadList(ListName),
    /// List the sessions: [`Heard::Sessions`].
    ListSessions,
    /// Read the lease of a session: [`Heard::Lease`]. Wait before reading the same one again.
    ReadLease(S),
    /// Store this as the session's lease if the lease has not changed since it was read: one of
    /// [`Heard::Stored`], [`Heard::NotMet`], [`Heard::Unclear`].
    Fence(S, Lease),
    /// Find the objects of this list that a ref reaches, or a commit that is not on the list. Read
    /// all refs again for that: [`Heard::Ids`].
    FindReached(Arc<[I]>),
    /// Read all lists of objects that sessions spare in this epoch: [`Heard::Ids`].
    ReadSpared(u64),
    /// Delete these objects now, in one request: [`Heard::Stored`] or [`Heard::Unclear`].
    Delete(Vec<I>),
    /// Wait until no request to delete whose answer was lost can still take effect:
    /// [`Heard::Stored`].
    Settle,
    /// Wait, and then read `gc`: [`Heard::Gc`].
    Wait,
}

/// The answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Heard<I, S> {
    /// It is done.
    Stored,
    /// The condition did not hold.
    NotMet,
    /// The answer was lost: the request may be done, now or later, or not.
    Unclear,
    /// The record, and whether it is older than the life of a claim.
    Gc(Option<Gc>, bool),
    /// A list, sorted; `None` if no list has this name.
    List(Option<Arc<[I]>>),
    /// The sessions.
    Sessions(Vec<S>),
    /// A lease, and whether it is older than its life.
    Lease(Option<Lease>, bool),
    /// Objects in any order.
    Ids(Vec<I>),
}

/// How a collection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// The bucket has no garbage.
    Clean,
    /// The sweep is over.
    Swept,
    /// Another collector has ended it.
    Overtaken,
}

impl<I: Doomed, S: Clone> Collector<I, S> {
    /// A collector that deletes up to `batch` objects in one request. `me` is random.
    pub const fn new(me: Nonce, batch: usize) -> Self {
        Self {
            me,
            batch,
            made: 0,
            step: Step::Looking,
        }
    }

    /// Returns the next request; `None` after the end. `is_fresh` says whether less than half of a
    /// claim's life has passed since this collector sent its last successful move of `gc`.
    pub fn next(&mut self, is_fresh: bool) -> Option<Ask<I, S>> {
        if let (Step::Sweeping(gc, doomed), false) = (&mut self.step, is_fresh) {
            let renewed = Move {
                from: Some(*gc),
                to: gc.moved(Phase::Sweeping, self.me),
            };
            let doomed = mem::take(doomed);
            self.step = Step::Moving(renewed, Then::Sweep(doomed));
        }
        Some(match &self.step {
            Step::Looking | Step::Doubting(..) => Ask::ReadGc,
            Step::Marking(gc) => Ask::Condemn(gc.condemned(self.me).list()),
            Step::Moving(Move { from, to }, _) => Ask::MoveGc(*from, *to),
            Step::Loading(gc) => Ask::ReadList(gc.list()),
            Step::Listing(..) => Ask::ListSessions,
            Step::Waiting(_, _, sessions) => Ask::ReadLease(sessions.first()?.clone()),
            Step::Fencing(_, _, sessions, lease) => {
                Ask::Fence(sessions.first()?.clone(), lease.fenced())
            }
            Step::Reaching(_, list) => Ask::FindReached(list.clone()),
            Step::Sparing(gc, _) => Ask::ReadSpared(gc.epoch),
            Step::Sweeping(_, doomed) => Ask::Delete(self.next_batch(doomed).to_vec()),
            Step::Settling(_) => Ask::Settle,
            Step::Standing => Ask::Wait,
            Step::Ended(_) => return None,
        })
    }

    /// Takes the answer to the request of [`next`](Self::next).
    pub fn hear(&mut self, heard: Heard<I, S>) {
        let step = mem::replace(&mut self.step, Step::Looking);
        self.step = match (step, heard) {
            (Step::Looking | Step::Standing, Heard::Gc(gc, is_dead)) => self.saw(gc, is_dead),
            (Step::Moving(moved, then), Heard::Stored) => self.arrived(moved.to, then),
            (Step::Moving(moved, then), Heard::Unclear) => Step::Doubting(moved, then),
            (Step::Moving(..), Heard::NotMet) => Step::Looking,
            (Step::Doubting(moved, then), Heard::Gc(gc, is_dead)) => {
                if gc == Some(moved.to) {
                    self.arrived(moved.to, then)
                } else if gc == moved.from {
                    Step::Moving(moved, then)
                } else {
                    self.saw(gc, is_dead)
                }
            }
            (Step::Marking(gc), Heard::List(Some(list))) => {
                if list.is_empty() {
                    Step::Ended(End::Clean)
                } else {
                    self.moving(gc, gc.condemned(self.me), Then::List(list))
                }
            }
            (Step::Loading(gc), Heard::List(list)) => match (list, gc.phase) {
                (Some(list), Phase::Condemned) => Step::Listing(gc, list),
                (Some(list), Phase::Sweeping) => Step::Reaching(gc, list),
                // Somebody removed the list, or moved `gc`; then the swap fails.
                (_, Phase::Idle) | (None, _) => {
                    let to = gc.moved(Phase::Idle, self.me);
                    self.moving(gc, to, Then::End(End::Overtaken))
                }
            },
            (Step::Listing(gc, list), Heard::Sessions(sessions)) => {
                self.wait_for(gc, list, sessions)
            }
            (Step::Waiting(gc, list, mut sessions), Heard::Lease(lease, is_dead)) => match lease {
                Some(lease) if !lease.is_fenced && lease.acknowledged < gc.epoch => {
                    if is_dead {
                        Step::Fencing(gc, list, sessions, lease)
                    } else {
                        sessions.rotate_left(1);
                        Step::Waiting(gc, list, sessions)
                    }
                }
                Some(_) | None => {
                    sessions.remove(0);
                    self.wait_for(gc, list, sessions)
                }
            },
            (Step::Fencing(gc, list, mut sessions, _), Heard::Stored) => {
                sessions.remove(0);
                self.wait_for(gc, list, sessions)
            }
            (Step::Fencing(gc, list, sessions, _), Heard::NotMet | Heard::Unclear) => {
                Step::Waiting(gc, list, sessions)
            }
            (Step::Reaching(gc, list), Heard::Ids(reached)) => {
                Step::Sparing(gc, without(&list, reached))
            }
            (Step::Sparing(gc, doomed), Heard::Ids(spared)) => {
                let mut doomed = without(&doomed, spared);
                doomed.sort_by(|a, b| (b.rank(), b).cmp(&(a.rank(), a)));
                self.sweep(gc, doomed)
            }
            (Step::Sweeping(gc, mut doomed), Heard::Stored) => {
                let gone = self.next_batch(&doomed).len();
                doomed.truncate(doomed.len() - gone);
                self.sweep(gc, doomed)
            }
            (Step::Settling(gc), Heard::Stored) => {
                let to = gc.moved(Phase::Idle, self.me);
                self.moving(gc, to, Then::End(End::Swept))
            }
            // Deletes once more, if the claim is still fresh. Ignores answers to other requests.
            (step, _) => step,
        };
    }

    /// Returns how the collection ended.
    pub const fn end(&self) -> Option<End> {
        match self.step {
            Step::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Returns the sessions that the collector waits for.
    pub fn waits_for(&self) -> &[S] {
        match &self.step {
            Step::Waiting(_, _, sessions) | Step::Fencing(_, _, sessions, _) => sessions,
            _ => &[],
        }
    }

    /// Continues from the state of `gc`.
    fn saw(&mut self, gc: Option<Gc>, is_dead: bool) -> Step<I, S> {
        let Some(gc) = gc else {
            let to = Gc::first(self.me);
            return Step::Moving(Move { from: None, to }, Then::Mark);
        };
        let is_over = gc.epoch > self.made || gc.phase == Phase::Idle;
        if self.made > 0 && is_over {
            return Step::Ended(End::Overtaken);
        }
        match gc.phase {
            Phase::Idle => {
                // An unused list may exist under the old name, which must not be used again (R13).
                self.me = Nonce(self.me.0.wrapping_add(1));
                Step::Marking(gc)
            }
            Phase::Condemned => Step::Loading(gc),
            Phase::Sweeping if is_dead => {
                self.moving(gc, gc.moved(Phase::Sweeping, self.me), Then::Load)
            }
            Phase::Sweeping => Step::Standing,
        }
    }

    fn arrived(&mut self, gc: Gc, then: Then<I>) -> Step<I, S> {
        match then {
            Then::Mark => Step::Marking(gc),
            Then::List(list) => {
                self.made = gc.epoch;
                Step::Listing(gc, list)
            }
            Then::Load => Step::Loading(gc),
            Then::Reach(list) => Step::Reaching(gc, list),
            Then::Sweep(doomed) => self.sweep(gc, doomed),
            Then::End(end) if gc.epoch == self.made => Step::Ended(end),
            // That was another collector's list. By now there may be more garbage.
            Then::End(_) => self.saw(Some(gc), false),
        }
    }

    const fn moving(&self, from: Gc, to: Gc, then: Then<I>) -> Step<I, S> {
        let from = Some(from);
        Step::Moving(Move { from, to }, then)
    }

    fn wait_for(&self, gc: Gc, list: Arc<[I]>, sessions: Vec<S>) -> Step<I, S> {
        if sessions.is_empty() {
            let to = gc.moved(Phase::Sweeping, self.me);
            self.moving(gc, to, Then::Reach(list))
        } else {
            Step::Waiting(gc, list, sessions)
        }
    }

    fn sweep(&self, gc: Gc, doomed: Vec<I>) -> Step<I, S> {
        if doomed.is_empty() {
            Step::Settling(gc)
        } else {
            Step::Sweeping(gc, doomed)
        }
    }

    /// Returns the objects to delete next: the last ones, up to a batch, that have the same rank.
    fn next_batch<'a>(&self, doomed: &'a [I]) -> &'a [I] {
        let rank = doomed.last().map(Doomed::rank);
        let same = doomed.iter().rev().take(self.batch);
        let count = same.take_while(|id| Some(id.rank()) == rank).count();
        &doomed[doomed.len() - count..]
    }
}

/// Returns the objects of a list that are not in another.
fn without<I: Doomed>(list: &[I], mut others: Vec<I>) -> Vec<I> {
    others.sort_unstable();
    let stays = |id: &&I| others.binary_search(id).is_err();
    list.iter().filter(stays).cloned().collect()
}
