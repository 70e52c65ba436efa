//! Decides which objects to offer, and in which order: breadth first, without objects that the
//! server has.
//!
//! The plan walks the local repository from the commits to push. It offers nothing beneath commits
//! that both ends have (the basis), and every other object once. It looks into a directory as late
//! as possible, because a server that has the directory has everything below it.
//!
//! Memory holds 16 bytes of each object's name, and the directories whose turn has not come: no
//! paths, and no list of files longer than one directory's.

mod history;
mod known;
mod small;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use self::history::history;
use crate::error::Error;
use crate::source::Repository;

pub use self::history::Target;
pub(crate) use self::history::descends;
pub(crate) use self::known::Known;
pub(crate) use self::small::small_closures;

/// The objects still to be offered in one push.
///
/// **Call [`Plan::next`] after every [`Plan::answer`]**: it may have had nothing to offer before,
/// and much after.
#[derive(Debug)]
pub struct Plan {
    repository: Arc<Repository>,
    planned: Vec<Checksum>, // the server may get these, each with its closure
    basis: Vec<Checksum>,
    known: Known, // offered, in `ready`, or known to be on the server
    ready: VecDeque<ObjectId>,
    parent: Option<ObjectId>,       // parent of all of `ready`
    wanted: VecDeque<ObjectId>,     // directories and commits the server lacks, not expanded
    open: HashSet<ObjectId>,        // directories and commits neither answered nor expanded
    open_order: VecDeque<ObjectId>, // as offered; contains all of `open`
    unanswered: usize,              // ids offered, of any kind
}

impl Plan {
    /// How many ids may be unanswered before the plan looks into directories that the server may
    /// have: a smaller number leaves a slow link idle, a larger one fills a fast link with useless
    /// offers.
    pub const SPECULATION_MAX: usize = 1024;

    /// Plans a push of `targets` to a server that has the commits `held`, each with everything
    /// beneath it.
    ///
    /// Up to `depth` further ancestors of each commit go along, as far as they are complete here.
    /// So do the commits between a target and its `current` one, if that is an ancestor; without
    /// them the server could not see that the ref moves forward.
    ///
    /// If a target is partial here, the server must have the rest, or the plan fails later.
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

    /// Plans like [`Plan::new`], after `offered` was offered, each commit with everything beneath
    /// it.
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
            // Missing objects may lie beneath a base. Without a basis the server relies on all of
            // its complete commits.
            if is_partial {
                plan.basis.clear();
            }
        }
        Ok(plan)
    }

    /// Returns the complete commits of both ends beneath which the plan offers nothing.
    pub fn basis(&self) -> &[Checksum] {
        &self.basis
    }

    /// Returns the next ids to offer, at most `max`; fewer, or none, while it waits for answers.
    ///
    /// Fails if the local repository lacks an object or has a damaged one. The plan is useless
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
                    // Only a part of the commit is here. The server may have this directory all the
                    // same: wait for its answer.
                    Err(Error::MissingObject { .. }) if !is_wanted => drop(self.open.insert(id)),
                    expanded => expanded?,
                }
            } else {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes the server's answer to an offered id: whether the server has it, and everything
    /// beneath it if it is a directory or commit.
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

    /// Returns whether the planned commits reach all of these objects, as far as they are here. The
    /// server has no right to others.
    ///
    /// Fails if the local repository has a damaged object.
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

    /// Offers again the objects beneath those that the server found missing: they may be gone as
    /// well.
    pub fn offer_again(&mut self, missing: &[ObjectId]) {
        self.known = Known::default();
        for id in missing.iter().copied().filter(|id| id.kind.has_children()) {
            if self.known.insert(id) {
                self.wanted.push_back(id);
            }
        }
    }

    /// Returns whether nothing is left to offer, now or after any answer.
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

    /// Makes the children of a directory or commit ready, directories first: their answers decide
    /// what comes next.
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
    /// Damage in it is not a reason to fail: the objects found before the damage are on the server
    /// all the same.
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
