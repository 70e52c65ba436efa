//! Commits that are complete here: what lies beneath one is had without looking at it.
//!
//! Complete means: the current value of a ref, and not marked partial. Refs are trusted like that
//! until a damaged directory is met beneath one; and only as long as the ref holds the commit,
//! which is looked at again under the repository's lock before anything that relies on it is
//! published.

use artifact_protocol::{Checksum, ObjectId, ObjectKind, RefName};

use super::fs::Fs;
use super::idset::IdSet;
use super::{objects, refs};
use crate::error::Error;

/// The commits a session may rely on, and what is beneath them.
#[derive(Debug, Default)]
pub(super) struct Bases {
    // No commit is there twice.
    list: Vec<Base>,
    relied: Vec<Checksum>,
    // Built when first asked for; `None` before that, and again when a base is lost.
    beneath: Option<IdSet>,
}

#[derive(Debug)]
struct Base {
    commit: Checksum,
    // Refs that were seen to hold it.
    names: Vec<RefName>,
    // It was found not to be whole, or no ref holds it any more.
    lost: bool,
}

impl Bases {
    /// Adds a commit that was seen to be complete and the value of a ref.
    pub(super) fn add(&mut self, name: RefName, commit: Checksum) {
        match self.list.iter_mut().find(|base| base.commit == commit) {
            Some(base) => base.names.push(name),
            None => self.list.push(Base {
                commit,
                names: vec![name],
                lost: false,
            }),
        }
    }

    /// Returns how many there are.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the commits, in the order they were added.
    pub(super) fn commits(&self) -> Vec<Checksum> {
        self.list.iter().map(|base| base.commit).collect()
    }

    /// From now on only these count; none means all.
    ///
    /// Fails, by fault of the peer, when one of them was not added.
    pub(super) fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error> {
        let known = |commit| self.list.iter().any(|base| base.commit == commit);
        if let Some(&commit) = commits.iter().find(|&&commit| !known(commit)) {
            return Err(Error::NotComplete { commit });
        }
        self.relied.extend_from_slice(commits);
        self.beneath = None;
        Ok(())
    }

    /// Returns whether an object is one of the commits that count, or beneath one.
    pub(super) fn cover<F: Fs>(&mut self, fs: &F, id: &ObjectId) -> Result<bool, Error> {
        if let Some(beneath) = &self.beneath {
            return Ok(beneath.contains(id));
        }
        let beneath = self.walk(fs)?;
        let covered = beneath.contains(id);
        self.beneath = Some(beneath);
        Ok(covered)
    }

    /// Loses the commits that count and that no ref holds any more; returns whether all were held.
    pub(super) fn confirm<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        if self.beneath.is_none() {
            return Ok(true);
        }
        let mut confirmed = true;
        for base in &mut self.list {
            if counts(base, &self.relied) && !base.is_held(fs)? {
                base.lost = true;
                confirmed = false;
            }
        }
        if !confirmed {
            self.beneath = None;
        }
        Ok(confirmed)
    }

    /// Collects what is beneath the commits that count; those that are not whole are lost.
    fn walk<F: Fs>(&mut self, fs: &F) -> Result<IdSet, Error> {
        'again: loop {
            let mut beneath = IdSet::default();
            for base in &mut self.list {
                if counts(base, &self.relied) && !walk_one(fs, base.commit, &mut beneath)? {
                    // What was collected of it must not count.
                    base.lost = true;
                    continue 'again;
                }
            }
            return Ok(beneath);
        }
    }
}

impl Base {
    fn is_held<F: Fs>(&self, fs: &F) -> Result<bool, Error> {
        for name in &self.names {
            if refs::look(fs, name)?.commit() == Some(self.commit) {
                return objects::is_whole(fs, self.commit);
            }
        }
        Ok(false)
    }
}

/// Returns whether what is beneath a base counts as here. Losing the last one that is relied on does
/// not make all others count.
fn counts(base: &Base, relied: &[Checksum]) -> bool {
    !base.lost && (relied.is_empty() || relied.contains(&base.commit))
}

/// Adds a commit and all it reaches; returns false if a directory is missing or damaged.
fn walk_one<F: Fs>(fs: &F, commit: Checksum, beneath: &mut IdSet) -> Result<bool, Error> {
    let root = ObjectId::new(ObjectKind::Commit, commit);
    beneath.insert(root);
    let mut stack = vec![root];
    while let Some(id) = stack.pop() {
        let Some(content) = objects::read_metadata(fs, id)? else {
            tracing::warn!(%commit, %id, "a commit is not whole though a ref holds it");
            return Ok(false);
        };
        let Ok(children) = objects::children(id, &content) else {
            return Ok(false);
        };
        for child in children {
            if beneath.insert(child) && child.kind == ObjectKind::Dirtree {
                stack.push(child);
            }
        }
    }
    Ok(true)
}
