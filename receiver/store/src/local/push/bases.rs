//! Commits that are complete here: what lies beneath one is had without looking at it.
//!
//! Complete means: the current value of a ref, and not marked partial. Refs are trusted like that
//! until a damaged directory is met beneath one; and only as long as the ref holds the commit,
//! which is looked at again under the repository's lock before anything that relies on it is
//! published.

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::id_set::IdSet;
use crate::local::repository::{objects, refs};

/// The commits a session may rely on, and what is beneath them.
#[derive(Debug, Default)]
pub(crate) struct Bases {
    // No commit is there twice.
    list: Vec<Base>,
    relied: Vec<Checksum>,
    // How many of the list were walked; none again when a base is lost.
    walked: usize,
    // What is beneath those of them that count.
    beneath: IdSet,
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
    pub(crate) fn add(&mut self, name: RefName, commit: Checksum) {
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
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns how many objects are known to be beneath them.
    pub(crate) fn beneath(&self) -> usize {
        self.beneath.len()
    }

    /// Returns the commits, in the order they were added.
    pub(crate) fn commits(&self) -> Vec<Checksum> {
        self.list.iter().map(|base| base.commit).collect()
    }

    /// From now on only these count; none means all.
    ///
    /// Fails, by fault of the peer, when one of them was not added.
    pub(crate) fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error> {
        let known = |commit| self.list.iter().any(|base| base.commit == commit);
        if let Some(&commit) = commits.iter().find(|&&commit| !known(commit)) {
            return Err(Error::NotComplete { commit });
        }
        self.relied.extend_from_slice(commits);
        self.walk_again();
        Ok(())
    }

    /// Returns whether an object is one of the commits that count, or beneath one.
    ///
    /// What is not here at all is beneath none, so that new objects, however large the bases, cost no
    /// walk. One base after the other is walked, until an object that is here is found beneath it.
    pub(crate) fn cover<F: Fs>(&mut self, fs: &F, id: &ObjectId) -> Result<bool, Error> {
        if self.beneath.contains(id) {
            return Ok(true);
        }
        if self.walked == self.list.len() || !objects::is_there(fs, &RepoPath::object(id))? {
            return Ok(false);
        }
        while let Some(base) = self.list.get_mut(self.walked) {
            self.walked += 1;
            if !counts(base, &self.relied) {
                continue;
            }
            if !walk_one(fs, base.commit, &mut self.beneath)? {
                // What was collected of it must not count.
                base.lost = true;
                self.walk_again();
            } else if self.beneath.contains(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Loses the commits that counted so far and that no ref holds any more; returns whether all
    /// were held.
    pub(crate) fn confirm<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let mut confirmed = true;
        for base in self.list.iter_mut().take(self.walked) {
            if counts(base, &self.relied) && !base.is_held(fs)? {
                base.lost = true;
                confirmed = false;
            }
        }
        if !confirmed {
            self.walk_again();
        }
        Ok(confirmed)
    }

    fn walk_again(&mut self) {
        self.walked = 0;
        self.beneath = IdSet::default();
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

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::local::disk::RealFs;

    #[test]
    fn no_base_is_walked_for_what_is_not_here() {
        let dir = TempDir::new().unwrap();
        let fs = RealFs::open(dir.path()).unwrap();
        let mut bases = Bases::default();
        // There is nothing of it, which a walk would find out.
        bases.add("a/b".parse().unwrap(), Checksum::new([1; 32]));
        let id = ObjectId::new(ObjectKind::File, Checksum::new([2; 32]));
        assert!(!bases.cover(&fs, &id).unwrap());
        assert!(!bases.list[0].lost);
        fs.mkdir(&RepoPath::objects(), 0o700).unwrap();
        fs.mkdir(&RepoPath::fan_out(2), 0o700).unwrap();
        fs.create(&RepoPath::object(&id), 0o644).unwrap();
        assert!(!bases.cover(&fs, &id).unwrap());
        assert!(bases.list[0].lost);
    }
}
