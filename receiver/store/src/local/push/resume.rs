//! Resume: objects that an earlier push of the same identity sent need not be sent again.
//!
//! An object that another session of this identity verified is linked into this session's staging
//! when it is first asked for, whether that session is dead or half-open. A dirtree or commit
//! follows when everything below it is here, because *have* claims that of it.
//!
//! Each object is verified again: a session makes nothing durable that it does not publish, and a
//! power cut, a disk or a person may have truncated or removed a file that is not durable.

use artifact_formats::ObjectId;
use artifact_formats::limits::{MAX_METADATA_LEN, MAX_TREE_DEPTH};

use crate::error::Error;
use crate::local::disk::{Fs, read_file};
use crate::local::push::adopt::take_over;
use crate::local::push::bases::Bases;
use crate::local::push::workspace::Workspace;
use crate::tree;
use crate::tree::id_set::IdSet;

/// The results of taking trees over.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    // Dirtrees and commits without everything below them: looked into once.
    incomplete: IdSet,
}

impl Resume {
    /// Takes a dirtree or commit over if everything below it is here or can be taken over; returns
    /// whether that is so. Objects found on the way are taken over in any case.
    pub(crate) fn take_over_whole<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        bases: &mut Bases,
        id: ObjectId,
    ) -> Result<bool, Error> {
        // The path from `id` to the current object, each with its children not looked at yet.
        let mut path = Vec::new();
        if !self.enter(work, id, &mut path)? {
            return Ok(false);
        }
        while let Some((id, below)) = path.last_mut() {
            let here = match (below.pop(), *id) {
                (None, id) => take_over(work, id)? && path.pop().is_some(),
                (Some(child), _) if work.staging.holds(&child) => true,
                (Some(child), _) if bases.cover(work, &child)?.is_some() => true,
                (Some(child), _) if !child.kind.has_children() => take_over(work, child)?,
                (Some(child), _) => self.enter(work, child, &mut path)?,
            };
            if !here {
                for (id, _) in path {
                    self.incomplete.insert(id);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Begins to look below a dirtree or commit; returns whether it may be complete.
    fn enter<F: Fs>(
        &self,
        work: &Workspace<F>,
        id: ObjectId,
        path: &mut Vec<(ObjectId, Vec<ObjectId>)>,
    ) -> Result<bool, Error> {
        if self.incomplete.contains(&id) || path.len() > MAX_TREE_DEPTH {
            return Ok(false);
        }
        let mode = work.repo.config.mode;
        for sibling in work.staging.siblings() {
            // Damaged or not: an object that misleads the walk is not taken over in the end.
            let found = read_file(work.fs(), &sibling.path(&id, mode), MAX_METADATA_LEN);
            let Ok(Some(content)) = found else {
                continue;
            };
            let Ok(below) = tree::children(id, &content) else {
                continue;
            };
            let pending: usize = path.iter().map(|(_, below)| below.len()).sum();
            if pending + below.len() <= MAX_PENDING {
                path.push((id, below));
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Ids kept at once while walking a tree; objects beyond that are sent again.
const MAX_PENDING: usize = 128 * 1024;
