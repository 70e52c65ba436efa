//! Checks that the bucket has everything that new commits reach (INV-2), from the memory of the
//! push.
//!
//! An object counts as present if this push or an earlier one of the same identity has put it, or
//! if it lies below a commit that the push relies on. The walk visits each object once, without
//! recursion. It finishes everything below a directory before the directory, whose height it then
//! knows (`descent.rs`).

use std::collections::BTreeSet;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::limits::MAX_MISSING_IDS;

use crate::bucket::push::known::{Below, Known};
use crate::error::Error;
use crate::tree::descent::Levels;
use crate::tree::{self, Look, Objects as _};

/// The result of a walk.
#[derive(Debug)]
pub(crate) enum Closure {
    /// Everything is present. These commits were sent, children before their parents.
    Complete(Vec<Checksum>),
    /// These objects are missing, and perhaps more: at most [`MAX_MISSING_IDS`] are returned
    /// (LIM-20).
    Missing(Vec<ObjectId>),
}

/// The objects below commits that the push relies on. A walk does not look beneath them.
pub(crate) trait Beneath {
    /// Begins a walk.
    fn begin_walk(&mut self);
    /// Returns the levels of directories below an object, if the object is below such a commit.
    fn cover(&mut self, id: &ObjectId) -> Option<Levels>;
}

/// Relies on no commit.
pub(crate) struct Nothing;

impl Beneath for Nothing {
    fn begin_walk(&mut self) {}

    fn cover(&mut self, _: &ObjectId) -> Option<Levels> {
        None
    }
}

/// The sources of a walk.
pub(crate) struct Ground<'a> {
    pub(crate) known: &'a mut Known,
    pub(crate) bases: &'a mut dyn Beneath,
    /// Returns the parent of a commit, if the commit is known and has one.
    pub(crate) parent: &'a mut dyn FnMut(Checksum) -> Result<Option<Checksum>, Error>,
    /// Reads the children of an object whose children `known` did not keep.
    pub(crate) read: &'a dyn Fn(ObjectId) -> Result<Vec<ObjectId>, Error>,
}

/// Walks everything that commits reach, but a parent only if it was sent. To find ancestors that
/// were sent, the walk follows up to `history` parents that were not.
///
/// Fails, by fault of the peer, if directories nest deeper than LIM-21 on any path, including paths
/// below commits that the push relies on.
pub(crate) fn walk(
    ground: Ground<'_>,
    commits: &[Checksum],
    history: usize,
) -> Result<Closure, Error> {
    ground.known.begin_walk();
    ground.bases.begin_walk();
    let mut walk = Walk {
        ground,
        commits: Vec::new(),
        missing: BTreeSet::new(),
    };
    for &commit in commits {
        walk.histories(commit)?;
        walk.follow(commit, history)?;
    }
    Ok(if walk.missing.is_empty() {
        Closure::Complete(walk.commits)
    } else {
        Closure::Missing(walk.missing.into_iter().collect())
    })
}

struct Walk<'a> {
    ground: Ground<'a>,
    // Commits that were sent.
    commits: Vec<Checksum>,
    missing: BTreeSet<ObjectId>,
}

impl Walk<'_> {
    /// Walks a commit, and those of its ancestors that were sent: the push publishes them, so they
    /// must be complete.
    fn histories(&mut self, commit: Checksum) -> Result<(), Error> {
        let mut next = Some(commit);
        while let Some(commit) = next.take() {
            let id = ObjectId::commit(commit);
            if matches!(self.look(id)?, Look::Settled(_)) {
                return Ok(());
            }
            self.commits.push(commit);
            self.ground.known.reach(&id, Levels::default());
            for child in self.children(id)? {
                match child.kind {
                    ObjectKind::Dirtree => tree::walk(self, child)?,
                    ObjectKind::File | ObjectKind::Dirmeta | ObjectKind::Commit => {
                        self.look(child)?;
                    }
                }
            }
            let parent = (self.ground.parent)(commit)?.map(ObjectId::commit);
            let sent = parent.filter(|parent| self.ground.known.holds(parent));
            next = sent.map(|parent| parent.checksum);
        }
        Ok(())
    }

    /// Looks for ancestors that were sent, beyond those that were not.
    fn follow(&mut self, commit: Checksum, history: usize) -> Result<(), Error> {
        let mut next = commit;
        for _ in 0..history {
            let Some(parent) = (self.ground.parent)(next)? else {
                break;
            };
            if self.ground.known.holds(&ObjectId::commit(parent)) {
                self.histories(parent)?;
            }
            next = parent;
        }
        Ok(())
    }
}

impl tree::Objects for Walk<'_> {
    fn look(&mut self, id: ObjectId) -> Result<Look, Error> {
        let missing = Look::Settled(Levels::default());
        if self.is_over() {
            return Ok(missing);
        }
        match self.ground.known.reached(&id) {
            Some(Some(levels)) => return Ok(Look::Settled(levels)),
            Some(None) => {}
            None => {
                if let Some(levels) = self.ground.bases.cover(&id) {
                    return Ok(Look::Settled(levels));
                }
                self.missing.insert(id);
                return Ok(missing);
            }
        }
        if id.kind.has_children() {
            return Ok(Look::Enter);
        }
        self.ground.known.reach(&id, Levels::default());
        Ok(missing)
    }

    fn children(&self, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
        let known = &self.ground.known;
        let below = known.find(&id).map(|number| known.below(number));
        match below {
            Some(Below::Names(names)) => Ok(names.iter().map(|name| known.id(*name)).collect()),
            Some(Below::Unknown) | None => (self.ground.read)(id),
        }
    }

    fn reach(&mut self, id: &ObjectId, levels: Levels) {
        self.ground.known.reach(id, levels);
    }

    fn is_over(&self) -> bool {
        self.missing.len() >= MAX_MISSING_IDS
    }
}
