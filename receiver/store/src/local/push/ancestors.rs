//! The ancestors of pushed commits: which of them the server has, complete.
//!
//! A client that was asked for history offers all of it each time, so that ancestors that were
//! pruned or never sent are filled in. They are looked up by name and not read, except directories:
//! no new object is made to rely on them, complete ancestors are only not sent again.

use std::collections::{HashMap, HashSet};

use artifact_formats::limits::{MAX_HISTORY_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::push::workspace::Workspace;
use crate::local::repository::{Repo, objects};
use crate::tree;
use crate::tree::id_set::IdSet;

/// A session's view of the history of its refs.
#[derive(Debug, Default)]
pub(crate) struct Ancestors {
    depth: usize,
    // The commits and directories looked at, and whether everything they reach is here.
    known: HashMap<ObjectId, bool>,
    // The objects that the complete ones reach.
    beneath: IdSet,
    looked: usize,
    // Whether the ancestors of the refs' commits are here: thousands of refs may hold one commit.
    filled: HashMap<Checksum, bool>,
    // How many commits were read for that.
    followed: usize,
}

impl Ancestors {
    /// Prepares for a client that offers this many ancestors of each commit.
    pub(crate) fn new(depth: u32) -> Self {
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        Self {
            depth: depth.min(MAX_HISTORY_LEN),
            ..Self::default()
        }
    }

    pub(crate) const fn depth(&self) -> usize {
        self.depth
    }

    /// Returns whether all ancestors of a commit that the client may offer are here, complete.
    pub(crate) fn is_filled<F: Fs>(
        &mut self,
        repo: &Repo<F>,
        commit: Checksum,
    ) -> Result<bool, Error> {
        if let Some(filled) = self.filled.get(&commit) {
            return Ok(*filled);
        }
        let filled = self.follow(repo, commit)?;
        self.filled.insert(commit, filled);
        Ok(filled)
    }

    fn follow<F: Fs>(&mut self, repo: &Repo<F>, mut commit: Checksum) -> Result<bool, Error> {
        for _ in 0..self.depth {
            self.followed += 1;
            if self.followed > FOLLOWED_MAX {
                return Ok(false);
            }
            let id = ObjectId::new(ObjectKind::Commit, commit);
            let content = objects::read_metadata(&*repo.fs, id)?;
            let Some(parent) = content.and_then(|content| Commit::parse(&content).ok()?.parent)
            else {
                break;
            };
            if !self.holds(repo, ObjectId::new(ObjectKind::Commit, parent))? {
                return Ok(false);
            }
            commit = parent;
        }
        Ok(true)
    }

    /// Returns whether a commit or directory is here, complete. Without history in this push, it
    /// looks at none.
    pub(crate) fn holds<F: Fs>(&mut self, repo: &Repo<F>, id: ObjectId) -> Result<bool, Error> {
        if self.depth == 0 {
            return Ok(false);
        }
        if let Some(known) = self.known.get(&id) {
            return Ok(*known);
        }
        let may_be_whole = match id.kind {
            ObjectKind::Commit => objects::is_whole(&*repo.fs, id.checksum)?,
            _ => repo.has(&id)?,
        };
        let holds = may_be_whole && self.walk(repo, id)?;
        self.known.insert(id, holds);
        Ok(holds)
    }

    /// Returns whether an object was seen below a complete ancestor. A client may offer it before
    /// it hears that the server has the ancestor. Objects that a new commit needs are still
    /// verified.
    pub(crate) fn covers(&self, id: &ObjectId) -> bool {
        self.beneath.contains(id)
    }

    fn walk<F: Fs>(&mut self, repo: &Repo<F>, root: ObjectId) -> Result<bool, Error> {
        let mut new = HashSet::new();
        let mut stack = vec![root];
        while let Some(id) = stack.pop() {
            let children = match objects::read_metadata(&*repo.fs, id)? {
                Some(content) => tree::children(id, &content),
                None => return Ok(false),
            };
            let Ok(children) = children else {
                return Ok(false);
            };
            for child in children {
                if self.beneath.contains(&child) || !new.insert(child) {
                    continue;
                }
                self.looked += 1;
                if self.looked > LOOKED_MAX || !repo.has(&child)? {
                    return Ok(false);
                }
                if child.kind == ObjectKind::Dirtree {
                    stack.push(child);
                }
            }
        }
        for id in new {
            self.beneath.insert(id);
        }
        Ok(true)
    }
}

/// Reads a commit that is staged, or in the repository, whether complete or not.
pub(crate) fn read_commit<F: Fs>(
    work: &Workspace<F>,
    commit: Checksum,
) -> Result<Option<Commit>, Error> {
    let id = ObjectId::new(ObjectKind::Commit, commit);
    let content = match work.staging.read(&id, MAX_METADATA_LEN)? {
        Some(content) => Some(content),
        None => objects::read_metadata(work.fs(), id)?,
    };
    Ok(content.and_then(|content| Commit::parse(&content).ok()))
}

/// Objects looked up in a session; further ancestors are sent again.
const LOOKED_MAX: usize = 1_000_000;
/// Commits read in a session to find out whether histories are here, in some seconds. Those beyond
/// are offered, and not sent again.
const FOLLOWED_MAX: usize = 100_000;
