//! Which objects to offer, and in which order: breadth first, what the server has left out.
//!
//! The plan walks the local repository from the commits to be pushed. Beneath commits that both
//! ends have (the basis) it offers nothing; of the rest it offers every object once. What is below a
//! directory is looked at as late as possible, since a server that has the directory has all of it.
//!
//! In memory there are 16 bytes of each object's name, and the directories whose turn has not come:
//! no paths, and no list of files longer than one directory's.

mod history;
mod known;
mod small;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use self::history::history;
use self::known::Known;
use crate::error::Error;
use crate::source::Repository;

pub use self::history::Target;
pub(crate) use self::history::descends;
pub(crate) use self::small::small_closures;

/// The objects still to be offered in one push.
///
/// **Ask [`Plan::next`] for more after every [`Plan::answer`]**: it may have had nothing to say
/// before, and have a lot to say after.
#[derive(Debug)]
pub struct Plan {
    repository: Arc<Repository>,
    planned: Vec<Checksum>, // what the server may be given, each with its closure
    basis: Vec<Checksum>,
    known: Known, // offered, in `ready`, or on the server as far as is known
    ready: VecDeque<ObjectId>,
    parent: Option<ObjectId>,       // what all of `ready` lies beneath
    wanted: VecDeque<ObjectId>,     // directories and commits the server lacks, not expanded
    open: HashSet<ObjectId>,        // directories and commits neither answered nor expanded
    open_order: VecDeque<ObjectId>, // as offered; contains all of `open`
    unanswered: usize,              // ids offered, of any kind
}

impl Plan {
    /// How many ids may be unanswered before directories the server may have are looked into: below
    /// it a slow link is kept busy, above it a fast link is kept free of what is not wanted.
    pub const SPECULATION_MAX: usize = 1024;

    /// Plans a push of `targets` to a server that has the commits `held`, each with everything
    /// beneath it.
    ///
    /// `depth` further ancestors of each commit go along, as far as they are complete here. So do
    /// the commits between a target and the `current` one, if that is an ancestor; without them the
    /// server could not see that the ref moves forward.
    ///
    /// Of a target that is partial here the server is to have the rest, or the plan comes to
    /// nothing.
    ///
    /// Fails if a target is missing here, or if something it needs cannot be read.
    pub fn new(
        repository: Arc<Repository>,
        targets: &[Target],
        held: &[Checksum],
        depth: u32,
    ) -> Result<Self, Error> {
        Self::after_offer(repository, targets, held, depth, &[])
    }

    /// Plans like [`Plan::new`] after all these were offered, each with everything beneath it.
    pub(crate) fn after_offer(
        repository: Arc<Repository>,
        targets: &[Target],
        held: &[Checksum],
        depth: u32,
        offered: &[ObjectId],
    ) -> Result<Self, Error> {
        let mut plan = Self {
            repository,
            planned: Vec::new(),
            basis: Vec::new(),
            known: Known::default(),
            ready: VecDeque::new(),
            parent: None,
            wanted: VecDeque::new(),
            open: HashSet::new(),
            open_order: VecDeque::new(),
            unanswered: 0,
        };
        for id in offered {
            plan.known.insert(*id);
        }
        let held: Vec<_> = held
            .iter()
            .copied()
            .filter(|commit| plan.known.insert(ObjectId::commit(*commit)))
            .collect();
        for target in targets {
            plan.planned.push(target.commit);
            for commit in history(&plan.repository, target, depth)? {
                plan.planned.push(commit);
                if plan.known.insert(ObjectId::commit(commit)) {
                    plan.ready.push_back(ObjectId::commit(commit));
                }
            }
        }
        if !plan.ready.is_empty() {
            let mut is_partial = false;
            for commit in held {
                is_partial |= plan.repository.is_partial(commit)?;
                plan.leave_out(commit);
            }
            // What is not here may lie beneath it. Without a basis the server relies on all that
            // it has complete.
            if is_partial {
                plan.basis.clear();
            }
        }
        Ok(plan)
    }

    /// Returns the commits that both ends have complete and beneath which nothing is offered.
    pub fn basis(&self) -> &[Checksum] {
        &self.basis
    }

    /// Returns the next ids to offer, at most `max`; fewer, or none, while answers are awaited.
    ///
    /// Fails if the local repository lacks an object or holds it damaged. The plan is of no use
    /// then.
    pub fn next(&mut self, max: usize) -> Result<Vec<ObjectId>, Error> {
        let mut batch = Vec::new();
        while batch.len() < max {
            if let Some(id) = self.ready.pop_front() {
                if id.kind.has_children() {
                    self.open.insert(id);
                    self.open_order.push_back(id);
                }
                self.unanswered += 1;
                batch.push(id);
            } else if let Some((id, is_wanted)) = self.next_to_expand() {
                match self.expand(id) {
                    // Only a part of the commit is here. The server may have it all the same: it
                    // says so in its answer, which is waited for.
                    Err(Error::MissingObject { .. }) if !is_wanted => drop(self.open.insert(id)),
                    expanded => expanded?,
                }
            } else {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes the server's answer to an id that was offered: whether the server has it, and with a
    /// directory or commit everything beneath it.
    pub fn answer(&mut self, id: ObjectId, have: bool) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.open.remove(&id) && !have {
            self.wanted.push_back(id);
        }
        if have && self.parent == Some(id) {
            self.ready.clear();
        }
        while self
            .open_order
            .front()
            .is_some_and(|id| !self.open.contains(id))
        {
            self.open_order.pop_front();
        }
    }

    /// Returns whether the planned commits reach all of these, as far as they are here. All else is
    /// no business of the server's.
    ///
    /// Fails if the local repository holds an object damaged.
    pub fn reaches(&self, ids: &[ObjectId]) -> Result<bool, Error> {
        let mut sought: HashSet<_> = ids.iter().copied().collect();
        let mut seen = Known::default();
        let mut stack: Vec<_> = self.planned.iter().copied().map(ObjectId::commit).collect();
        while let Some(id) = stack.pop() {
            sought.remove(&id);
            if sought.is_empty() {
                break;
            }
            let below = match self.repository.children(id) {
                Err(Error::MissingObject { .. }) => continue,
                below => below?,
            };
            for child in below {
                sought.remove(&child);
                if child.kind.has_children() && seen.insert(child) {
                    stack.push(child);
                }
            }
        }
        Ok(sought.is_empty())
    }

    /// Takes up again what is beneath objects that the server found missing: what it had of that
    /// before may be gone.
    pub fn offer_again(&mut self, missing: &[ObjectId]) {
        self.known = Known::default();
        for id in missing.iter().copied().filter(|id| id.kind.has_children()) {
            if self.known.insert(id) {
                self.wanted.push_back(id);
            }
        }
    }

    /// Returns whether there is nothing left to offer, now or after any answer.
    pub fn is_exhausted(&self) -> bool {
        self.ready.is_empty() && self.wanted.is_empty() && self.open.is_empty()
    }

    /// Returns a directory or commit to look into, and whether the server is known to lack it.
    fn next_to_expand(&mut self) -> Option<(ObjectId, bool)> {
        if let Some(wanted) = self.wanted.pop_front() {
            return Some((wanted, true));
        }
        if self.unanswered >= Self::SPECULATION_MAX {
            return None;
        }
        loop {
            let id = self.open_order.pop_front()?;
            if self.open.remove(&id) {
                return Some((id, false));
            }
        }
    }

    /// Makes the children of a directory or commit ready, directories first: on their answers
    /// depends what comes after them.
    fn expand(&mut self, id: ObjectId) -> Result<(), Error> {
        let below = self.repository.children(id)?;
        self.parent = Some(id);
        let new = below.into_iter().filter(|child| self.known.insert(*child));
        let (files, others): (Vec<_>, Vec<_>) = new.partition(|id| id.kind == ObjectKind::File);
        self.ready.extend(others);
        self.ready.extend(files);
        Ok(())
    }

    /// Leaves out everything beneath a commit that the server has, if it is here as well.
    ///
    /// Damage in it is no reason to fail: what was found before it is on the server all the same.
    fn leave_out(&mut self, commit: Checksum) {
        match self.try_leave_out(commit) {
            Ok(true) => self.basis.push(commit),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%commit, %error, "cannot compare with a commit the server has");
            }
        }
    }

    fn try_leave_out(&mut self, commit: Checksum) -> Result<bool, Error> {
        if self.repository.complete_commit(commit)?.is_none() {
            return Ok(false);
        }
        let mut stack = vec![ObjectId::commit(commit)];
        while let Some(id) = stack.pop() {
            for child in self.repository.children(id)? {
                if self.known.insert(child) && child.kind.has_children() {
                    stack.push(child);
                }
            }
        }
        Ok(true)
    }
}
