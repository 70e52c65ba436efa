//! Whether everything that new commits reach is here, and what of it is to be published.
//!
//! An object is here when it was verified in this session or an earlier one of the same identity
//! (`resume.rs`), or lies beneath a commit that is relied on. One that merely exists is verified and
//! linked into staging first, and its children are looked at like those of a new one: its presence
//! proves nothing about them.
//!
//! Each object is looked at once, without recursion, however the directories share each other.

use std::collections::BTreeSet;

use artifact_formats::limits::{MAX_METADATA_LEN, MAX_TREE_DEPTH};
use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind};
use artifact_protocol::limits::MAX_MISSING_IDS;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::bases::Bases;
use crate::local::push::resume;
use crate::local::repository::{Repo, objects};
use crate::verify::Rejection;

/// What became of a walk.
#[derive(Debug)]
pub(crate) enum Closure {
    /// Everything is here; what is staged of it is marked there. These are the commits among that,
    /// children before their parents.
    Whole(Vec<Checksum>),
    /// These are not; at most [`MAX_MISSING_IDS`], there may be more.
    Missing(Vec<ObjectId>),
}

/// Walks what commits reach; of a parent only if it is staged.
///
/// Fails, by fault of the peer, when directories nest too deep, as far as they are walked: what is
/// beneath a commit that is relied on was measured when that was pushed.
pub(crate) fn walk<F: Fs>(
    repo: &Repo<F>,
    bases: &mut Bases,
    commits: impl Iterator<Item = Checksum>,
) -> Result<Closure, Error> {
    let mut walk = Walk {
        repo,
        bases,
        commits: Vec::new(),
        missing: BTreeSet::new(),
        stack: Vec::new(),
    };
    repo.staging.begin_walk();
    for commit in commits {
        walk.reach(ObjectId::new(ObjectKind::Commit, commit), 0)?;
        walk.descend()?;
    }
    if walk.missing.is_empty() {
        Ok(Closure::Whole(walk.commits))
    } else {
        Ok(Closure::Missing(walk.missing.into_iter().collect()))
    }
}

/// Verifies an object that exists in the repository and links it into staging; returns whether that
/// could be done. A damaged one is as good as none.
pub(crate) fn adopt<F: Fs>(repo: &Repo<F>, id: ObjectId) -> Result<bool, Error> {
    if !repo.may_have_had(&id) {
        return Ok(false);
    }
    match repo.staging.link(&RepoPath::object(&id))? {
        Some(linked) => accept_if_good(repo, &linked, id),
        None => Ok(false),
    }
}

/// Verifies what was linked into staging, under the name that nobody else replaces.
pub(crate) fn accept_if_good<F: Fs>(
    repo: &Repo<F>,
    linked: &RepoPath,
    id: ObjectId,
) -> Result<bool, Error> {
    let verified = objects::verify_file(&*repo.fs, linked, id, repo.limits.object_len_max)
        .map_err(Error::io("reading", linked))?;
    match verified {
        Ok(verified) => repo.staging.accept(linked, &verified).map(|()| true),
        Err(rejection) => {
            tracing::warn!(%id, %rejection, "a stored object is damaged");
            repo.staging.forget(linked);
            Ok(false)
        }
    }
}

struct Walk<'a, F: Fs> {
    repo: &'a Repo<F>,
    bases: &'a mut Bases,
    // Those that are staged.
    commits: Vec<Checksum>,
    missing: BTreeSet<ObjectId>,
    // Commits and dirtrees that are here and not read yet, with the levels above them.
    stack: Vec<(ObjectId, usize)>,
}

impl<F: Fs> Walk<'_, F> {
    fn descend(&mut self) -> Result<(), Error> {
        while let Some((id, depth)) = self.stack.pop() {
            let content = self.read(&id)?;
            let refused = |rule| Error::Refused {
                id,
                source: Rejection::Structure(rule),
            };
            for child in objects::children(id, &content).map_err(refused)? {
                self.reach(child, depth + 1)?;
            }
            if id.kind == ObjectKind::Commit {
                let commit = Commit::parse(&content).map_err(refused)?;
                self.reach_parent(commit.parent)?;
            }
            if self.missing.len() >= MAX_MISSING_IDS {
                self.stack.clear();
            }
        }
        Ok(())
    }

    /// Decides about an object when it is first named, so that the stack holds only what is here.
    fn reach(&mut self, id: ObjectId, depth: usize) -> Result<(), Error> {
        let reached = self.repo.staging.reach(&id);
        if self.missing.len() >= MAX_MISSING_IDS || reached == Some(true) {
            return Ok(());
        }
        if id.kind == ObjectKind::Dirtree && depth > MAX_TREE_DEPTH {
            return Err(Error::TooDeep {
                id,
                limit: MAX_TREE_DEPTH,
            });
        }
        if reached.is_none() {
            if self.bases.cover(&*self.repo.fs, &id)? {
                return Ok(());
            }
            let gone = self.missing.contains(&id);
            if gone || !(resume::take_over(self.repo, id)? || adopt(self.repo, id)?) {
                self.missing.insert(id);
                return Ok(());
            }
            self.repo.staging.reach(&id);
        }
        match id.kind {
            ObjectKind::Commit => {
                self.commits.push(id.checksum);
                self.stack.push((id, depth));
            }
            ObjectKind::Dirtree => self.stack.push((id, depth)),
            ObjectKind::File | ObjectKind::Dirmeta => {}
        }
        Ok(())
    }

    /// A parent that was sent is published, and then must be whole; one that was not is not needed.
    fn reach_parent(&mut self, parent: Option<Checksum>) -> Result<(), Error> {
        let Some(parent) = parent else {
            return Ok(());
        };
        let id = ObjectId::new(ObjectKind::Commit, parent);
        if self.repo.staging.holds(&id) {
            self.reach(id, 0)?;
        }
        Ok(())
    }

    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, Error> {
        self.repo
            .staging
            .read(id, MAX_METADATA_LEN)?
            .ok_or(Error::StagingLost)
    }
}
