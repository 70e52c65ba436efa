//! Whether everything that new commits reach is here, and which objects are to be published
//! (INV-2).
//!
//! An object is here if it was verified in this session or in an earlier one of the same identity
//! (`resume.rs`), or lies below a commit that is relied on. An object that merely exists is first
//! verified and linked into staging, and its children are looked at like those of a new one: its
//! presence proves nothing about them.
//!
//! Each object is looked at once, without recursion, however the directories share each other;
//! everything below a directory comes before it, so that its height is known (`descent.rs`).

use std::collections::{BTreeSet, HashSet};

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, Commit, FormatError, ObjectId, ObjectKind};
use artifact_protocol::limits::MAX_MISSING_IDS;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::push::adopt;
use crate::local::push::ancestors::read_commit;
use crate::local::push::bases::Bases;
use crate::local::push::workspace::Workspace;
use crate::tree::descent::Levels;
use crate::tree::{self, Look, Objects as _};
use crate::verify::Rejection;

/// The result of a walk.
#[derive(Debug)]
pub(crate) enum Closure {
    /// Everything is here; these objects are to be published.
    Complete(Reached),
    /// These are missing; at most [`MAX_MISSING_IDS`], perhaps more (LIM-20).
    Missing(Vec<ObjectId>),
}

/// The staged objects that new commits reach.
///
/// The commits are listed. All others are marked in staging, which holds every id already: another
/// list of a million ids would take 33 MB more.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Children before their parents.
    pub(crate) commits: Vec<Checksum>,
}

impl Reached {
    /// Returns whether nothing is to be published.
    pub(crate) const fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }
}

/// Walks everything that commits reach; a parent only if it is staged. The walk looks for staged
/// parents past up to `history` that are not.
///
/// Fails, by fault of the peer, when directories nest deeper than LIM-21 on any path, including
/// those below commits that are relied on.
pub(crate) fn walk<F: Fs>(
    work: &Workspace<F>,
    bases: &mut Bases,
    commits: &[Checksum],
    history: usize,
) -> Result<Closure, Error> {
    loop {
        let lost = bases.lost();
        let mut walk = Walk {
            work,
            bases,
            commits: Vec::new(),
            missing: BTreeSet::new(),
        };
        work.staging.begin_walk();
        for &commit in commits {
            walk.histories(commit)?;
        }
        walk.follow(commits, history)?;
        let (commits, missing) = (walk.commits, walk.missing);
        if bases.lost() != lost {
            // Some objects below it counted as here. Each base is lost only once, so that this
            // ends.
            continue;
        }
        return Ok(if missing.is_empty() {
            Closure::Complete(Reached { commits })
        } else {
            Closure::Missing(missing.into_iter().collect())
        });
    }
}

struct Walk<'a, F: Fs> {
    work: &'a Workspace<F>,
    bases: &'a mut Bases,
    // The staged ones.
    commits: Vec<Checksum>,
    missing: BTreeSet<ObjectId>,
}

impl<F: Fs> Walk<'_, F> {
    /// Walks a commit, and its staged parents: a parent that was sent is published, and so must be
    /// complete; one that was not sent is not needed.
    fn histories(&mut self, commit: Checksum) -> Result<(), Error> {
        let mut next = Some(commit);
        while let Some(commit) = next.take() {
            let id = ObjectId::new(ObjectKind::Commit, commit);
            if matches!(self.look(id)?, Look::Settled(_)) {
                return Ok(());
            }
            self.commits.push(commit);
            self.work.staging.reach(&id, Levels::default());
            let content = self.read(&id)?;
            let commit = Commit::parse(&content).map_err(refused(id))?;
            self.look(ObjectId::new(ObjectKind::Dirmeta, commit.meta))?;
            tree::walk(self, ObjectId::new(ObjectKind::Dirtree, commit.tree))?;
            next = commit.parent.filter(|&parent| {
                let id = ObjectId::new(ObjectKind::Commit, parent);
                self.work.staging.holds(&id)
            });
        }
        Ok(())
    }

    /// Looks for staged ancestors beyond existing ones: generation after generation, so that a
    /// history which many commits share is read once.
    fn follow(&mut self, commits: &[Checksum], history: usize) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let all = commits.iter().copied();
        let mut generation: Vec<_> = all.filter(|commit| seen.insert(*commit)).collect();
        for _ in 0..history {
            let mut parents = Vec::new();
            for commit in generation {
                let known = read_commit(self.work, commit)?;
                let Some(parent) = known.and_then(|commit| commit.parent) else {
                    continue;
                };
                if !seen.insert(parent) || seen.len() > FOLLOWED_MAX {
                    continue;
                }
                if (self.work.staging).holds(&ObjectId::new(ObjectKind::Commit, parent)) {
                    self.histories(parent)?;
                }
                parents.push(parent);
            }
            if parents.is_empty() {
                break;
            }
            generation = parents;
        }
        Ok(())
    }

    fn read(&self, id: &ObjectId) -> Result<Vec<u8>, Error> {
        self.work
            .staging
            .read(id, MAX_METADATA_LEN)?
            .ok_or(Error::StagingLost)
    }
}

impl<F: Fs> tree::Objects for Walk<'_, F> {
    // Only existing objects wait to be read.
    fn look(&mut self, id: ObjectId) -> Result<Look, Error> {
        let missing = Look::Settled(Levels::default());
        if self.is_over() {
            return Ok(missing);
        }
        match self.work.staging.reached(&id) {
            Some(Some(levels)) => return Ok(Look::Settled(levels)),
            Some(None) => {}
            None => {
                if let Some(levels) = self.bases.cover(self.work, &id)? {
                    return Ok(Look::Settled(levels));
                }
                let gone = self.missing.contains(&id);
                if gone || !(adopt::take_over(self.work, id)? || adopt::adopt(self.work, id)?) {
                    self.missing.insert(id);
                    return Ok(missing);
                }
            }
        }
        Ok(match id.kind {
            ObjectKind::Commit | ObjectKind::Dirtree => Look::Enter,
            ObjectKind::File | ObjectKind::Dirmeta => {
                self.work.staging.reach(&id, Levels::default());
                missing
            }
        })
    }

    fn children(&self, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
        tree::children(id, &self.read(&id)?).map_err(refused(id))
    }

    fn reach(&mut self, id: &ObjectId, levels: Levels) {
        self.work.staging.reach(id, levels);
    }

    fn is_over(&self) -> bool {
        self.missing.len() >= MAX_MISSING_IDS
    }
}

fn refused(id: ObjectId) -> impl Fn(FormatError) -> Error {
    move |rule| Error::Refused {
        id,
        source: Rejection::Structure(rule),
    }
}

/// Commits read in search of staged ancestors, in some seconds.
const FOLLOWED_MAX: usize = 100_000;
