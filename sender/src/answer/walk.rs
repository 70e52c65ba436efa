//! Lists what a client lacks: breadth first, parents before children, each object once.
//!
//! Everything beneath the commits that the client holds is left out. Objects that it holds besides
//! are left out alone: what lies beneath them is walked all the same.

use std::collections::VecDeque;
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::Prefix;

use crate::error::Error;
use crate::plan::Known;
use crate::source::Repository;

/// The objects of one answer.
#[derive(Debug)]
pub(super) struct Walk {
    repository: Arc<Repository>,
    known: Known,
    known_count: u64,
    objects_max: u64,
    /// Sorted.
    held: Vec<Prefix>,
    /// Directories and commits that the client has and whose children are not known yet.
    left_out: Vec<ObjectId>,
    /// Commits to list once everything that is left out is known.
    commits: VecDeque<Checksum>,
    /// Directories and commits that were found and not looked into.
    open: VecDeque<ObjectId>,
}

impl Walk {
    /// Begins a walk from `commits`, of which none is listed that lies beneath a `left_out` one.
    pub(super) fn new(
        repository: Arc<Repository>,
        commits: Vec<Checksum>,
        left_out: &[Checksum],
        mut held: Vec<Prefix>,
        objects_max: u64,
    ) -> Self {
        held.sort_unstable();
        let mut walk = Self {
            repository,
            known: Known::default(),
            known_count: 0,
            objects_max,
            held,
            left_out: Vec::new(),
            commits: VecDeque::new(),
            open: VecDeque::new(),
        };
        let is_left_out = |commit: &Checksum| left_out.contains(commit);
        let commits: VecDeque<_> = commits.into_iter().filter(|c| !is_left_out(c)).collect();
        if !commits.is_empty() {
            let all = left_out.iter().copied().map(ObjectId::commit);
            for id in all {
                if walk.known.insert(id) {
                    walk.left_out.push(id);
                }
            }
            walk.commits = commits;
        }
        walk
    }

    /// Returns whether every object was listed.
    pub(super) fn is_done(&self) -> bool {
        self.left_out.is_empty() && self.commits.is_empty() && self.open.is_empty()
    }

    /// Looks into one directory or commit; hands out the objects found that the client lacks.
    ///
    /// Fails if the repository lacks an object, or if it has too many.
    pub(super) fn step(&mut self, found: &mut impl Extend<ObjectId>) -> Result<(), Error> {
        if let Some(id) = self.left_out.pop() {
            return self.leave_out(id);
        }
        if let Some(commit) = self.commits.pop_front() {
            return self.find(ObjectId::commit(commit), found);
        }
        let Some(id) = self.open.pop_front() else {
            return Ok(());
        };
        for child in self.repository.children(id)? {
            self.find(child, found)?;
        }
        Ok(())
    }

    fn find(&mut self, id: ObjectId, found: &mut impl Extend<ObjectId>) -> Result<(), Error> {
        if !self.know(id)? {
            return Ok(());
        }
        if id.kind.has_children() {
            self.open.push_back(id);
        }
        let prefix = Prefix::of(&id.checksum);
        if self.held.binary_search(&prefix).is_err() {
            found.extend([id]);
        }
        Ok(())
    }

    /// Leaves out what the client has. Damage in it is not a reason to fail: what is found before
    /// the damage is at the client all the same.
    fn leave_out(&mut self, id: ObjectId) -> Result<(), Error> {
        let children = match self.repository.children(id) {
            Ok(children) => children,
            Err(error) => {
                tracing::warn!(%id, %error, "cannot compare with a commit that the client has");
                return Ok(());
            }
        };
        for child in children {
            if self.know(child)? && child.kind.has_children() {
                self.left_out.push(child);
            }
        }
        Ok(())
    }

    /// Returns whether an object is new.
    fn know(&mut self, id: ObjectId) -> Result<bool, Error> {
        if !self.known.insert(id) {
            return Ok(false);
        }
        self.known_count += 1;
        if self.known_count > self.objects_max {
            return Err(Error::TooMuchAsked(format!(
                "this pull reaches more than the {} objects that the server looks at for one: ask \
                 for fewer refs at once",
                self.objects_max
            )));
        }
        Ok(true)
    }
}
