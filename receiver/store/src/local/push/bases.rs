//! Commits that are complete here: the server has every object below one, without looking at it.
//!
//! A commit is complete if it is the current value of a ref and not marked partial. A ref is
//! trusted in this until a damaged directory is met below it, and only as long as it holds the
//! commit, which is checked again under the repository's lock before anything that relies on it is
//! published.
//!
//! The objects below a base are found by a walk that ends at the wanted object. A walk takes longer
//! the larger the base, and somebody else may have made a base large that only this server has
//! proposed. So a push walks those only as far as its own size is worth, and a file below one
//! counts only if it was seen to exist.

use std::collections::HashSet;

use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::local::push::workspace::Workspace;
use crate::local::repository::{Repo, objects, refs};
use crate::local::staging::Staging;
use crate::tree;
use crate::tree::descent::{Descent, Levels, Next};
use crate::tree::id_set::IdSet;

/// The commits on which a session may rely, and the objects below them.
#[derive(Debug)]
pub(crate) struct Bases {
    // No commit occurs twice.
    list: Vec<Base>,
    // The commits on which the client relies; `None`, that is all, until it has said so.
    relied: Option<Vec<Checksum>>,
    // Objects that were requested and have not come: a base that reaches one is incomplete.
    unsent: HashSet<ObjectId>,
    // Objects found below the bases that count, each with everything below it.
    beneath: IdSet,
    // How many more objects may be looked at below suggested bases.
    budget: usize,
    // The number of bases lost so far.
    lost: usize,
}

#[derive(Debug)]
struct Base {
    commit: Checksum,
    // The refs seen to hold it.
    refs: Vec<RepoPath>,
    // The client neither named nor replaces it.
    suggested: bool,
    // Its walk used up all budget and does not go on.
    spent: bool,
    walk: Walk,
}

#[derive(Debug)]
enum Walk {
    NotBegun,
    Begun(Descent),
    Done,
    // The base proved incomplete, or no ref holds it any more.
    Lost,
}

/// The result of a step of a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Further,
    ToTheEnd,
    // A directory is missing or damaged, another object is known to be missing, or directories nest
    // too deeply.
    Astray,
}

impl Default for Bases {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            relied: None,
            unsent: HashSet::new(),
            beneath: IdSet::default(),
            budget: BUDGET,
            lost: 0,
        }
    }
}

impl Bases {
    /// Adds a commit that is complete and a ref's value, and that the client has named or replaces.
    pub(crate) fn add(&mut self, place: RepoPath, commit: Checksum) {
        self.insert(place, commit, false);
    }

    /// Adds a commit that may help: complete and a ref's value, whoever made it.
    pub(crate) fn suggest(&mut self, place: RepoPath, commit: Checksum) {
        self.insert(place, commit, true);
    }

    fn insert(&mut self, place: RepoPath, commit: Checksum, suggested: bool) {
        match self.list.iter_mut().find(|base| base.commit == commit) {
            Some(base) => base.refs.push(place),
            None => self.list.push(Base {
                commit,
                refs: vec![place],
                suggested,
                spent: false,
                walk: Walk::NotBegun,
            }),
        }
    }

    /// Returns the number of bases.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Returns the number of objects known to be below them.
    pub(crate) fn beneath(&self) -> usize {
        self.beneath.len()
    }

    /// Returns how many proved incomplete, or are no longer held.
    pub(crate) const fn lost(&self) -> usize {
        self.lost
    }

    /// Returns the commits, in order of addition.
    pub(crate) fn commits(&self) -> Vec<Checksum> {
        self.list.iter().map(|base| base.commit).collect()
    }

    /// From now on only these commits count. The client has them, so finding everything below them
    /// is worth its while.
    ///
    /// `lacks` tells, for commits that were only suggested so far, whether an object below is
    /// visibly missing: such commits do not count.
    ///
    /// Fails, by fault of the peer, when one of the commits was not added.
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

    /// Notes objects that are not here, whatever commit they are below.
    pub(crate) fn lack(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        self.unsent.extend(ids);
        self.walk_again();
    }

    /// Doubts bases that lack an object that had to be sent: an object that was sent and lies below
    /// a base was not here when it was requested. It would not be published if the base were
    /// believed complete.
    pub(crate) fn doubt<F: Fs>(&mut self, staging: &Staging<F>) {
        if self.beneath.len() > 0 && staging.any_new(|id| self.beneath.contains(id)) {
            self.walk_again();
        }
    }

    /// Notes objects that the client offers: the cost of looking for them may grow with their
    /// number.
    pub(crate) const fn offered(&mut self, objects: usize) {
        self.budget = self.budget.saturating_add(BUDGET_EACH * objects);
    }

    /// Returns, for a commit that counts or an object below one, the levels of directories below
    /// it.
    ///
    /// An object that does not exist here is below no base, so new objects cost no walk, however
    /// large the bases. Bases are walked one after the other, until an existing object is found
    /// below one.
    pub(crate) fn cover<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        id: &ObjectId,
    ) -> Result<Option<Levels>, Error> {
        self.find(&work.repo, id, &|id| work.staging.holds_new(id))
    }

    fn find<F: Fs>(
        &mut self,
        repo: &Repo<F>,
        id: &ObjectId,
        has_come: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Option<Levels>, Error> {
        if let Some(levels) = self.found(id) {
            return Ok(Some(levels));
        }
        if self.next_to_walk().is_none() || !repo.has(id)? {
            return Ok(None);
        }
        while let Some(index) = self.next_to_walk() {
            match self.step(repo, index, has_come)? {
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
    /// are held.
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

    /// Returns the first base below which more objects may be found.
    fn next_to_walk(&self) -> Option<usize> {
        self.list.iter().position(|base| {
            counts(base, self.relied.as_deref())
                && !matches!(base.walk, Walk::Done)
                && !(base.suggested && (base.spent || self.budget == 0))
        })
    }

    /// Continues the walk of one base.
    fn step<F: Fs>(
        &mut self,
        repo: &Repo<F>,
        index: usize,
        has_come: &dyn Fn(&ObjectId) -> bool,
    ) -> Result<Step, Error> {
        let base = &mut self.list[index];
        let root = ObjectId::new(ObjectKind::Commit, base.commit);
        let next = match &mut base.walk {
            Walk::Begun(descent) => descent.next(),
            Walk::NotBegun | Walk::Done | Walk::Lost => {
                // The commit adds one level.
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
                if base.suggested && !spend(&mut self.budget, price(&*repo.fs, &id)?) {
                    base.spent = true;
                    return Ok(Step::Further);
                }
                let Some(content) = objects::read_metadata(&*repo.fs, id)? else {
                    let commit = base.commit;
                    tracing::warn!(%commit, %id, "a ref's commit is incomplete");
                    return Ok(Step::Astray);
                };
                let Ok(children) = tree::children(id, &content) else {
                    return Ok(Step::Astray);
                };
                let is_missing = |id: &&ObjectId| self.unsent.contains(*id) || has_come(id);
                if let Some(missing) = children.iter().find(is_missing) {
                    let commit = base.commit;
                    tracing::warn!(%commit, id = %missing, "a ref's commit is incomplete");
                    return Ok(Step::Astray);
                }
                for child in children.iter().filter(|id| id.kind != ObjectKind::Dirtree) {
                    if base.suggested && !self.beneath.contains(child) {
                        if !spend(&mut self.budget, 1) {
                            base.spent = true;
                            return Ok(Step::Further);
                        }
                        if !repo.has_content(child)? {
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

    /// Drops a base, and the objects found below it.
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
        for place in &self.refs {
            if refs::look(fs, place)?.commit() == Some(self.commit) {
                return objects::is_whole(fs, self.commit);
            }
        }
        Ok(false)
    }
}

/// Spends this much budget, if that much is left.
fn spend(budget: &mut usize, price: usize) -> bool {
    let left = budget.checked_sub(price);
    *budget = left.unwrap_or(*budget);
    left.is_some()
}

/// Returns the cost of reading a directory or commit, which may have megabytes.
fn price<F: Fs>(fs: &F, id: &ObjectId) -> Result<usize, Error> {
    let path = RepoPath::object(id);
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    let len = stat.map_or(0, |stat| stat.len / READ_LEN);
    Ok(usize::try_from(len).unwrap_or(usize::MAX).saturating_add(1))
}

/// Returns whether the objects below a base count as here. Losing the last relied-on base does not
/// make the others count.
fn counts(base: &Base, relied: Option<&[Checksum]>) -> bool {
    let lost = matches!(base.walk, Walk::Lost);
    !lost && relied.is_none_or(|relied| relied.contains(&base.commit))
}

fn found(beneath: &mut IdSet, id: ObjectId, levels: Levels) {
    beneath.insert(id);
    beneath.mark(&id, levels);
}

/// Objects looked at below suggested bases for any push: a fraction of a millisecond.
const BUDGET: usize = 16;
/// Further ones for each object that the push offers.
const BUDGET_EACH: usize = 4;
/// Bytes of a directory that cost as much as another object.
const READ_LEN: u64 = 4096;

#[cfg(test)]
mod tests;
