//! Commits that are complete here: what lies beneath one is had without looking at it.
//!
//! Complete means: the current value of a ref, and not marked partial. Refs are trusted like that
//! until a damaged directory is met beneath one; and only as long as the ref holds the commit,
//! which is looked at again under the repository's lock before anything that relies on it is
//! published.
//!
//! What is beneath a base is found by walking it, no further than to what is looked for. That takes as
//! long as the base is large; of one that nobody but this server has named, somebody else may have
//! made it large. So those are walked only as far as it is worth it to a push of that size, and a
//! file beneath one counts only when it was seen to be there.

use std::collections::HashSet;

use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::local::push::glance::has_content;
use crate::local::push::workspace::Workspace;
use crate::local::repository::descent::{Descent, Levels, Next};
use crate::local::repository::id_set::IdSet;
use crate::local::repository::{objects, refs};
use crate::local::staging::Staging;

/// The commits a session may rely on, and what is beneath them.
#[derive(Debug)]
pub(crate) struct Bases {
    // No commit is there twice.
    list: Vec<Base>,
    // Those that the client relies on; all, where it has not said.
    relied: Option<Vec<Checksum>>,
    // Objects that were asked for and have not come: a base that reaches one is not whole.
    unsent: HashSet<ObjectId>,
    // What was found beneath those of them that count, each with all below it.
    beneath: IdSet,
    // Objects that may still be looked at beneath suggested bases.
    patience: usize,
    // How many were lost so far.
    lost: usize,
}

#[derive(Debug)]
struct Base {
    commit: Checksum,
    // Refs that were seen to hold it.
    names: Vec<RefName>,
    // The client neither named it nor replaces it.
    suggested: bool,
    // There was no patience left in the middle of its walk, which does not go on.
    spent: bool,
    walk: Walk,
}

#[derive(Debug)]
enum Walk {
    NotBegun,
    Begun(Descent),
    Done,
    // It was found not to be whole, or no ref holds it any more.
    Lost,
}

/// How far a walk came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Further,
    ToTheEnd,
    // A directory is missing or damaged, another object is known to be missing, or there are too
    // many directories in one another.
    Astray,
}

impl Default for Bases {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            relied: None,
            unsent: HashSet::new(),
            beneath: IdSet::default(),
            patience: PATIENCE,
            lost: 0,
        }
    }
}

impl Bases {
    /// Adds a commit that was seen to be complete and the value of a ref: one that the client has
    /// named, or that it replaces.
    pub(crate) fn add(&mut self, name: RefName, commit: Checksum) {
        self.insert(name, commit, false);
    }

    /// Adds a commit that may help: complete and the value of a ref, by whomever it was made.
    pub(crate) fn suggest(&mut self, name: RefName, commit: Checksum) {
        self.insert(name, commit, true);
    }

    fn insert(&mut self, name: RefName, commit: Checksum, suggested: bool) {
        match self.list.iter_mut().find(|base| base.commit == commit) {
            Some(base) => base.names.push(name),
            None => self.list.push(Base {
                commit,
                names: vec![name],
                suggested,
                spent: false,
                walk: Walk::NotBegun,
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

    /// Returns how many were found not to be whole, or not held any more.
    pub(crate) const fn lost(&self) -> usize {
        self.lost
    }

    /// Returns the commits, in the order they were added.
    pub(crate) fn commits(&self) -> Vec<Checksum> {
        self.list.iter().map(|base| base.commit).collect()
    }

    /// From now on only these count. The client has them, so that it is worth its while to find all
    /// that is beneath.
    ///
    /// `lacks` says of those that were only suggested so far whether something can be seen to be missing
    /// beneath: then they do not count.
    ///
    /// Fails, by fault of the peer, when one of them was not added.
    pub(crate) fn rely(
        &mut self,
        commits: &[Checksum],
        mut lacks: impl FnMut(Checksum) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let known = |commit| self.list.iter().any(|base| base.commit == commit);
        if let Some(&commit) = commits.iter().find(|&&commit| !known(commit)) {
            return Err(Error::NotComplete { commit });
        }
        self.relied = Some(commits.to_vec());
        for base in &mut self.list {
            if base.suggested && commits.contains(&base.commit) {
                base.suggested = false;
                if lacks(base.commit)? {
                    base.walk = Walk::Lost;
                    self.lost += 1;
                }
            }
        }
        self.walk_again();
        Ok(())
    }

    /// Takes note of objects that are not here, whatever they lie beneath.
    pub(crate) fn lack(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        self.unsent.extend(ids);
        self.walk_again();
    }

    /// Finds bases that lack what had to be sent: what came and lies beneath one was not here when
    /// it was asked for. Nothing would publish it, were its base believed to be whole.
    pub(crate) fn doubt<F: Fs>(&mut self, staging: &Staging<F>) {
        if self.beneath.len() > 0 && staging.any_new(|id| self.beneath.contains(id)) {
            self.walk_again();
        }
    }

    /// Takes note of objects that the client offers: what it costs to look for them may grow with them.
    pub(crate) const fn offered(&mut self, objects: usize) {
        self.patience = self.patience.saturating_add(PATIENCE_EACH * objects);
    }

    /// Returns, for an object that is one of the commits that count or beneath one, the levels of
    /// directories below it.
    ///
    /// What is not here at all is beneath none, so that new objects, however large the bases, cost no
    /// walk. One base after the other is walked, until an object that is here is found beneath it.
    pub(crate) fn cover<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        id: &ObjectId,
    ) -> Result<Option<Levels>, Error> {
        self.find(work.fs(), id, &|id| work.staging.holds_new(id))
    }

    fn find<F: Fs>(
        &mut self,
        fs: &F,
        id: &ObjectId,
        has_come: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Option<Levels>, Error> {
        if let Some(levels) = self.found(id) {
            return Ok(Some(levels));
        }
        if self.next_to_walk().is_none() || !objects::is_there(fs, &RepoPath::object(id))? {
            return Ok(None);
        }
        while let Some(index) = self.next_to_walk() {
            match self.step(fs, index, has_come)? {
                Step::Further => {}
                Step::ToTheEnd => self.list[index].walk = Walk::Done,
                Step::Astray => self.lose(index),
            }
            if let Some(levels) = self.found(id) {
                return Ok(Some(levels));
            }
        }
        Ok(None)
    }

    /// Loses the commits that counted so far and that no ref holds any more; returns whether all
    /// were held.
    pub(crate) fn confirm<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let lost = self.lost;
        for index in 0..self.list.len() {
            let base = &self.list[index];
            let walked = matches!(base.walk, Walk::Begun(_) | Walk::Done);
            if walked && counts(base, self.relied.as_deref()) && !base.is_held(fs)? {
                self.lose(index);
            }
        }
        Ok(self.lost == lost)
    }

    fn found(&self, id: &ObjectId) -> Option<Levels> {
        self.beneath.look(id).flatten()
    }

    /// Returns the first base beneath which more may be found.
    fn next_to_walk(&self) -> Option<usize> {
        self.list.iter().position(|base| {
            counts(base, self.relied.as_deref())
                && !matches!(base.walk, Walk::Done)
                && !(base.suggested && (base.spent || self.patience == 0))
        })
    }

    /// Walks one base a little further.
    fn step<F: Fs>(
        &mut self,
        fs: &F,
        index: usize,
        has_come: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Step, Error> {
        let base = &mut self.list[index];
        let root = ObjectId::new(ObjectKind::Commit, base.commit);
        let next = match &mut base.walk {
            Walk::Begun(descent) => descent.next(),
            Walk::NotBegun | Walk::Done | Walk::Lost => {
                // The commit is one level more.
                base.walk = Walk::Begun(Descent::new(MAX_TREE_DEPTH + 1));
                Some(Next::Look(root))
            }
        };
        let Walk::Begun(descent) = &mut base.walk else {
            return Ok(Step::ToTheEnd);
        };
        match next {
            None => return Ok(Step::ToTheEnd),
            Some(Next::Done(id, levels)) if levels.are_too_many() && id != root => {
                return Ok(Step::Astray);
            }
            Some(Next::Done(id, levels)) => found(&mut self.beneath, id, levels),
            Some(Next::Look(id)) => {
                if let Some(levels) = self.beneath.look(&id).flatten() {
                    descent.settle(levels);
                    return Ok(Step::Further);
                }
                if base.suggested && !spend(&mut self.patience, price(fs, &id)?) {
                    base.spent = true;
                    return Ok(Step::Further);
                }
                let Some(content) = objects::read_metadata(fs, id)? else {
                    let commit = base.commit;
                    tracing::warn!(%commit, %id, "a commit is not whole though a ref holds it");
                    return Ok(Step::Astray);
                };
                let Ok(children) = objects::children(id, &content) else {
                    return Ok(Step::Astray);
                };
                let is_missing = |id: &&ObjectId| self.unsent.contains(*id) || has_come(id);
                if let Some(missing) = children.iter().find(is_missing) {
                    let commit = base.commit;
                    tracing::warn!(%commit, id = %missing, "a commit is not whole though a ref holds it");
                    return Ok(Step::Astray);
                }
                for child in children.iter().filter(|id| id.kind != ObjectKind::Dirtree) {
                    if base.suggested && !self.beneath.contains(child) {
                        if !spend(&mut self.patience, 1) {
                            base.spent = true;
                            return Ok(Step::Further);
                        }
                        if !has_content(fs, child)? {
                            return Ok(Step::Astray);
                        }
                    }
                    found(&mut self.beneath, *child, Levels::default());
                }
                if descent.enter(id, children).is_err() {
                    return Ok(Step::Astray);
                }
            }
        }
        Ok(Step::Further)
    }

    /// Has a base not count any more, nor what was found beneath it.
    fn lose(&mut self, index: usize) {
        self.list[index].walk = Walk::Lost;
        self.lost += 1;
        self.walk_again();
    }

    fn walk_again(&mut self) {
        for base in &mut self.list {
            if !matches!(base.walk, Walk::Lost) {
                base.walk = Walk::NotBegun;
            }
        }
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

/// Takes away so much patience, if there is that much.
fn spend(patience: &mut usize, price: usize) -> bool {
    let left = patience.checked_sub(price);
    *patience = left.unwrap_or(*patience);
    left.is_some()
}

/// Returns what it costs to read a directory or commit, which may have megabytes.
fn price<F: Fs>(fs: &F, id: &ObjectId) -> Result<usize, Error> {
    let path = RepoPath::object(id);
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    let len = stat.map_or(0, |stat| stat.len / READ_LEN);
    Ok(usize::try_from(len).unwrap_or(usize::MAX).saturating_add(1))
}

/// Returns whether what is beneath a base counts as here. Losing the last one that is relied on does
/// not make all others count.
fn counts(base: &Base, relied: Option<&[Checksum]>) -> bool {
    let lost = matches!(base.walk, Walk::Lost);
    !lost && relied.is_none_or(|relied| relied.contains(&base.commit))
}

fn found(beneath: &mut IdSet, id: ObjectId, levels: Levels) {
    beneath.insert(id);
    beneath.mark(&id, levels);
}

/// Objects that are looked at beneath suggested bases for any push: a fraction of a millisecond.
const PATIENCE: usize = 16;
/// And for each object that it offers.
const PATIENCE_EACH: usize = 4;
/// Bytes of a directory that count as much as another object.
const READ_LEN: u64 = 4096;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::local::disk::real::RealFs;

    #[test]
    fn no_base_is_walked_for_what_is_not_here() {
        let dir = TempDir::new().unwrap();
        let fs = RealFs::open(dir.path()).unwrap();
        let mut bases = Bases::default();
        // There is nothing of it, which a walk would find out.
        bases.add("a/b".parse().unwrap(), Checksum::new([1; 32]));
        let id = ObjectId::new(ObjectKind::File, Checksum::new([2; 32]));
        assert_eq!(bases.find(&fs, &id, &|_| false).unwrap(), None);
        assert_eq!(bases.lost(), 0);
        fs.mkdir(&RepoPath::objects(), 0o700).unwrap();
        fs.mkdir(&RepoPath::fan_out(2), 0o700).unwrap();
        fs.create(&RepoPath::object(&id), 0o644).unwrap();
        assert_eq!(bases.find(&fs, &id, &|_| false).unwrap(), None);
        assert_eq!(bases.lost(), 1);
    }
}
