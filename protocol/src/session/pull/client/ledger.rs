//! Counts what the promised commits reach and what has come of it, and enforces the limits on a
//! server's objects (INV-6).

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind};

use super::super::super::error::Violation;
use super::read::ReadRequest;
use crate::frame::{Prefix, Sent};
use crate::limits::Limits;

#[derive(Debug)]
pub(super) struct Ledger {
    limits: Limits,
    /// Everything that a promise or a verified object names.
    known: HashMap<Key, State>,
    /// How many of these must come and have not.
    awaited: u64,
    /// The commits among them.
    commits: HashMap<Checksum, Ancestry>,
    /// Commits that are complete here.
    basis: Vec<Checksum>,
    /// Other objects that are here, sorted.
    held: Vec<Prefix>,
    /// Known objects that are here and may name what is to come.
    unread: Vec<ObjectId>,
    received: Sent,
}

/// Names an object in as few bytes as are safe: a million whole ids take 70 MiB.
/// Whoever finds two objects with the same 88 bits gets one staged for nothing.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Key([u8; 11], ObjectKind);

/// What is known of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It comes, unless it is here.
    Awaited,
    /// It is an ancestor, which comes if the server has it.
    Optional,
    Came,
}

/// A commit's place among the ancestors of the promised commits.
#[derive(Clone, Copy, Debug, Default)]
struct Ancestry {
    /// How many generations of its ancestors may come.
    generations: u32,
    /// Its parent, once that is known.
    parent: Option<Checksum>,
}

impl Ledger {
    /// Makes a ledger of nothing. `held` is sorted.
    pub(super) fn new(limits: Limits, basis: Vec<Checksum>, held: Vec<Prefix>) -> Self {
        Self {
            limits,
            known: HashMap::new(),
            awaited: 0,
            commits: HashMap::new(),
            basis,
            held,
            unread: Vec::new(),
            received: Sent::default(),
        }
    }

    /// Expects a promised commit and so many generations of its ancestors.
    pub(super) fn promise(&mut self, commit: Checksum, generations: u32) -> Result<(), Violation> {
        let state = match self.basis.contains(&commit) {
            true => State::Optional,
            false => State::Awaited,
        };
        self.know(ObjectId::commit(commit), state)?;
        self.descend(commit, generations)
    }

    /// Counts an object of which all `len` stored bytes have come.
    pub(super) fn receive(&mut self, id: ObjectId, len: usize) -> Result<(), Violation> {
        self.begin(id)?;
        self.count_bytes(len, len as u64)
    }

    /// Counts an object of which no byte has come.
    pub(super) fn begin(&mut self, id: ObjectId) -> Result<(), Violation> {
        // REQ-52.
        let state = self.known.get_mut(&Key::of(&id));
        let before = state.map(|state| std::mem::replace(state, State::Came));
        match before {
            Some(State::Awaited) => self.awaited -= 1,
            Some(State::Optional) => {}
            Some(State::Came) | None => return Err(Violation::NotWanted { id }),
        }
        self.received.objects += 1;
        limit(
            "objects in a pull",
            self.limits.push_objects_max,
            self.received.objects,
        )
    }

    /// Counts stored bytes of an object that has `object_len` of them so far.
    pub(super) fn count_bytes(&mut self, len: usize, object_len: u64) -> Result<(), Violation> {
        self.received.bytes = self.received.bytes.saturating_add(len as u64);
        limit("bytes of an object", self.limits.object_len_max, object_len)?;
        self.check_bytes(self.received.bytes)
    }

    /// Checks that detached metadata of `len` bytes does not exceed the limit either.
    pub(super) fn check_bytes(&self, len: u64) -> Result<(), Violation> {
        limit("bytes in a pull", self.limits.push_len_max, len)
    }

    /// Verifies a commit or dirtree, and expects what it names.
    pub(super) fn learn(&mut self, id: ObjectId, stored: &[u8]) -> Result<(), Violation> {
        let bad = |reason: &dyn ToString| Violation::BadObject {
            id,
            reason: reason.to_string(),
        };
        // The store verifies the others.
        if !id.kind.has_children() {
            return Ok(());
        }
        if Checksum::of(stored) != id.checksum {
            return Err(bad(&"its checksum is another one"));
        }
        match id.kind {
            ObjectKind::Commit => {
                let commit = Commit::parse(stored).map_err(|error| bad(&error))?;
                self.expect(ObjectId::new(ObjectKind::Dirtree, commit.tree))?;
                self.expect(ObjectId::new(ObjectKind::Dirmeta, commit.meta))?;
                self.learn_parent(id.checksum, commit.parent)
            }
            ObjectKind::Dirtree => {
                let tree = Dirtree::parse(stored).map_err(|error| bad(&error))?;
                tree.children().try_for_each(|child| self.expect(child))
            }
            ObjectKind::Dirmeta | ObjectKind::File => Ok(()),
        }
    }

    /// Returns whether an object that is here must be read before the next one is received.
    pub(super) const fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Returns the next objects to read.
    pub(super) fn take_unread(&mut self) -> Vec<ObjectId> {
        let count = self.unread.len().min(ReadRequest::MAX);
        self.unread.drain(..count).collect()
    }

    /// Returns what has come.
    pub(super) const fn received(&self) -> Sent {
        self.received
    }

    /// Checks that everything has come that is not here, as far as that is known.
    pub(super) fn check_whole(
        &self,
        mut promised: impl Iterator<Item = Checksum>,
    ) -> Result<(), Violation> {
        // What lies beneath a basis or a held object is not known; the store will tell.
        if self.basis.is_empty() && self.held.is_empty() && self.awaited > 0 {
            return Err(Violation::Rule(
                "Sent came before an object that a promised commit reaches",
            ));
        }
        let has_come = |commit: Checksum| {
            let state = self.known.get(&Key::of(&ObjectId::commit(commit)));
            state.is_some_and(|state| *state != State::Awaited) || self.is_held(&commit)
        };
        match promised.all(has_come) {
            true => Ok(()),
            false => Err(Violation::Rule("Sent came before a promised commit")),
        }
    }

    fn expect(&mut self, id: ObjectId) -> Result<(), Violation> {
        self.know(id, State::Awaited)
    }

    fn know(&mut self, id: ObjectId, state: State) -> Result<(), Violation> {
        let Entry::Vacant(entry) = self.known.entry(Key::of(&id)) else {
            return Ok(());
        };
        entry.insert(state);
        self.awaited += u64::from(state == State::Awaited);
        if id.kind.has_children() && self.is_held(&id.checksum) {
            self.unread.push(id);
        }
        let what = "objects that the promised commits reach";
        limit(what, self.limits.push_objects_max, self.known.len() as u64)
    }

    fn learn_parent(
        &mut self,
        commit: Checksum,
        parent: Option<Checksum>,
    ) -> Result<(), Violation> {
        let ancestry = self.commits.entry(commit).or_default();
        ancestry.parent = parent;
        let (Some(parent), Some(left)) = (parent, ancestry.generations.checked_sub(1)) else {
            return Ok(());
        };
        self.know(ObjectId::commit(parent), State::Optional)?;
        self.descend(parent, left)
    }

    /// Lets so many generations of a commit's ancestors come, as far as these are known.
    fn descend(&mut self, mut commit: Checksum, mut generations: u32) -> Result<(), Violation> {
        loop {
            let ancestry = self.commits.entry(commit).or_default();
            if generations <= ancestry.generations {
                return Ok(());
            }
            let before = std::mem::replace(&mut ancestry.generations, generations);
            let Some(parent) = ancestry.parent else {
                // Only this commit tells its parent, and the server does not send it.
                if before == 0 && self.basis.contains(&commit) {
                    self.unread.push(ObjectId::commit(commit));
                }
                return Ok(());
            };
            self.know(ObjectId::commit(parent), State::Optional)?;
            (commit, generations) = (parent, generations - 1);
        }
    }

    fn is_held(&self, checksum: &Checksum) -> bool {
        self.held.binary_search(&Prefix::of(checksum)).is_ok()
    }
}

impl Key {
    fn of(id: &ObjectId) -> Self {
        let mut beginning = [0; 11];
        let bytes = id.checksum.as_bytes().iter();
        beginning
            .iter_mut()
            .zip(bytes)
            .for_each(|(to, from)| *to = *from);
        Self(beginning, id.kind)
    }
}

const fn limit(what: &'static str, limit: u64, got: u64) -> Result<(), Violation> {
    if got <= limit {
        Ok(())
    } else {
        Err(Violation::Limit { what, limit, got })
    }
}
