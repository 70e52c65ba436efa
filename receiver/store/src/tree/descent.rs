//! A depth-first walk through directories that finishes everything below a directory before the
//! directory itself. So the height of a directory is known when it is finished, whichever way it
//! was reached first.
//!
//! It does not recurse, and keeps only the path to its position: never more levels than allowed,
//! nor more pending directories.

use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{ObjectId, ObjectKind};

/// The position of a walk.
#[derive(Debug)]
pub(crate) struct Descent {
    // From the root to the current directory.
    path: Vec<Step>,
    // Directories of all steps that are still to be visited.
    pending: usize,
    levels_max: usize,
}

#[derive(Debug)]
struct Step {
    id: ObjectId,
    // Directories in it that are still to be visited.
    rest: Vec<ObjectId>,
    levels: Levels,
}

/// The next event of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A directory is named: enter it or, if its levels are known, settle it.
    Look(ObjectId),
    /// A directory is finished, with everything below it.
    Done(ObjectId, Levels),
}

/// The number of levels of directories below one, up to the number that counts as too many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Levels(u8);

/// The walk exceeds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMuch {
    /// Directories nest deeper than allowed.
    Deep,
    /// More directories are pending than the walk may keep.
    Wide,
}

impl Levels {
    const TOO_MANY: u8 = u8::MAX;

    /// Returns whether a directory with this many levels below it nests deeper than a push may
    /// (LIM-21).
    pub(crate) const fn are_too_many(self) -> bool {
        self.0 == Self::TOO_MANY
    }

    /// Reads levels that were written down.
    pub(crate) const fn of_byte(levels: u8) -> Self {
        Self(levels)
    }

    /// Returns the levels to write down.
    pub(crate) const fn to_byte(self) -> u8 {
        self.0
    }

    /// Returns the levels below a directory that contains a directory with these levels.
    const fn above(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Descent {
    /// Creates a walk that goes at most `levels_max` levels deep.
    pub(crate) const fn new(levels_max: usize) -> Self {
        Self {
            path: Vec::new(),
            pending: 0,
            levels_max,
        }
    }

    /// Enters a directory, given everything it names. The first one is the root.
    pub(crate) fn enter(
        &mut self,
        id: ObjectId,
        children: impl IntoIterator<Item = ObjectId>,
    ) -> Result<(), TooMuch> {
        if self.path.len() >= self.levels_max {
            return Err(TooMuch::Deep);
        }
        let dirs = children.into_iter();
        let mut rest: Vec<_> = dirs.filter(|id| id.kind == ObjectKind::Dirtree).collect();
        rest.sort_unstable();
        rest.dedup();
        rest.shrink_to_fit();
        self.pending += rest.len();
        if self.pending > MAX_PENDING {
            return Err(TooMuch::Wide);
        }
        let levels = Levels::default();
        self.path.push(Step { id, rest, levels });
        Ok(())
    }

    /// Settles a directory without entering it: it has these levels below it.
    pub(crate) fn settle(&mut self, levels: Levels) {
        if let Some(step) = self.path.last_mut() {
            step.levels = step.levels.max(levels.above());
        }
    }

    /// Returns the next event; `None` when the root is finished.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let step = self.path.last_mut()?;
        if let Some(child) = step.rest.pop() {
            self.pending -= 1;
            return Some(Next::Look(child));
        }
        let Step { id, levels, .. } = self.path.pop()?;
        self.settle(levels);
        Some(Next::Done(id, levels))
    }
}

const _: () = assert!(MAX_TREE_DEPTH == Levels::TOO_MANY as usize);

/// The most pending ids: 17 MiB.
const MAX_PENDING: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use artifact_formats::Checksum;
    use proptest::prelude::*;

    use super::*;

    fn dir(number: u16) -> ObjectId {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        ObjectId::new(ObjectKind::Dirtree, Checksum::new(digest))
    }

    /// Walks directories that contain each other; returns the levels below each, or the exceeded
    /// limit.
    fn walk(
        dirs: &BTreeMap<ObjectId, Vec<ObjectId>>,
        root: ObjectId,
        levels_max: usize,
    ) -> Result<BTreeMap<ObjectId, Levels>, TooMuch> {
        let mut known = BTreeMap::new();
        let mut descent = Descent::new(levels_max);
        descent.enter(root, dirs[&root].clone())?;
        while let Some(next) = descent.next() {
            match next {
                Next::Look(id) => match known.get(&id) {
                    Some(levels) => descent.settle(*levels),
                    None => descent.enter(id, dirs[&id].clone())?,
                },
                Next::Done(id, levels) => assert_eq!(known.insert(id, levels), None),
            }
        }
        Ok(known)
    }

    proptest! {
        #[test]
        fn each_directory_is_done_once_with_its_longest_way_down(
            names in proptest::collection::vec((0..60u16, 0..60u16), 1..200)
        ) {
            // A directory contains only directories of higher numbers, so that no circles arise.
            let mut dirs: BTreeMap<_, Vec<_>> = (0..60).map(|n| (dir(n), Vec::new())).collect();
            for (a, b) in names.into_iter().filter(|(a, b)| a != b) {
                dirs.entry(dir(a.min(b))).or_default().push(dir(a.max(b)));
            }
            let mut longest: BTreeMap<ObjectId, usize> = BTreeMap::new();
            for (id, below) in dirs.iter().rev() {
                let levels = below.iter().map(|child| longest[child] + 1).max().unwrap_or(0);
                longest.insert(*id, levels);
            }
            let found = walk(&dirs, dir(0), 60).unwrap();
            for (id, levels) in found {
                prop_assert_eq!(usize::from(levels.0), longest[&id]);
            }
        }
    }

    #[test]
    fn levels_are_counted_however_a_chain_is_met_and_no_path_is_longer_than_it_may_be() {
        // Each one contains the next, and the root contains all of them.
        let dirs: BTreeMap<_, _> = (0..=300u16)
            .map(|n| match n {
                0 => (dir(0), (1..=300).map(dir).collect()),
                300 => (dir(300), Vec::new()),
                _ => (dir(n), vec![dir(n + 1)]),
            })
            .collect();
        let found = walk(&dirs, dir(0), 1000).unwrap();
        assert!(found[&dir(0)].are_too_many() && found[&dir(45)].are_too_many());
        assert!(!found[&dir(46)].are_too_many());
        assert_eq!(walk(&dirs, dir(1), MAX_TREE_DEPTH), Err(TooMuch::Deep));
        assert!(walk(&dirs, dir(46), MAX_TREE_DEPTH).is_ok());
    }

    #[test]
    fn no_more_directories_wait_than_may() {
        let many: Vec<_> = (0..=u16::MAX).map(dir).collect();
        let mut descent = Descent::new(MAX_TREE_DEPTH);
        let mut entered = 0;
        while descent.enter(dir(0), many.clone()).is_ok() {
            entered += 1;
            assert!(descent.next().is_some());
        }
        assert_eq!(entered, MAX_PENDING / many.len());
    }
}
