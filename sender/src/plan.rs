//! Which objects to offer, and in which order: breadth first, what the server has left out.
//!
//! The plan walks the local repository from the commits to be pushed. Beneath commits that both
//! ends have (the basis) it offers nothing; of the rest it offers every object once. What is below a
//! directory is looked at as late as possible, since a server that has the directory has all of it.
//!
//! In memory there are 16 bytes of each object's name, and the directories whose turn has not come:
//! no paths, and no list of files longer than one directory's.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use artifact_formats::limits::MAX_HISTORY_LEN;
use artifact_formats::{Checksum, Dirtree, ObjectId, ObjectKind};
use artifact_protocol::session::SmallCommit;

use crate::{Error, Repository};

/// A commit to be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The commit.
    pub commit: Checksum,
    /// What the server's ref holds now. Whether it is complete there, it says itself.
    pub current: Option<Checksum>,
}

/// The objects still to be offered in one push.
///
/// **Ask [`Plan::next`] for more after every [`Plan::answer`]**: it may have had nothing to say
/// before, and have a lot to say after.
#[derive(Debug)]
pub struct Plan {
    repository: Arc<Repository>,
    planned: Vec<Checksum>, // what the server may be given, each with its closure
    basis: Vec<Checksum>,
    known: Known, // offered, in `ready`, or on the server as far as is known
    ready: VecDeque<ObjectId>,
    parent: Option<ObjectId>,       // what all of `ready` lies beneath
    wanted: VecDeque<ObjectId>,     // directories and commits the server lacks, not expanded
    open: HashSet<ObjectId>,        // directories and commits neither answered nor expanded
    open_order: VecDeque<ObjectId>, // as offered; contains all of `open`
    unanswered: usize,              // ids offered, of any kind
}

impl Plan {
    /// How many ids may be unanswered before directories the server may have are looked into: below
    /// it a slow link is kept busy, above it a fast link is kept free of what is not wanted.
    pub const SPECULATION_MAX: usize = 1024;

    /// Plans a push of `targets` to a server that has the commits `held`, each with everything
    /// beneath it.
    ///
    /// `depth` further ancestors of each commit go along, as far as they are complete here. So do
    /// the commits between a target and the `current` one, if that is an ancestor; without them the
    /// server could not see that the ref moves forward.
    ///
    /// Of a target that is partial here the server is to have the rest, or the plan comes to
    /// nothing.
    ///
    /// Fails if a target is missing here, or if something it needs cannot be read.
    pub fn new(
        repository: Arc<Repository>,
        targets: &[Target],
        held: &[Checksum],
        depth: u32,
    ) -> Result<Self, Error> {
        Self::after_offer(repository, targets, held, depth, &[])
    }

    /// Plans like [`Plan::new`] after all these were offered, each with everything beneath it.
    pub(crate) fn after_offer(
        repository: Arc<Repository>,
        targets: &[Target],
        held: &[Checksum],
        depth: u32,
        offered: &[ObjectId],
    ) -> Result<Self, Error> {
        let mut plan = Self {
            repository,
            planned: Vec::new(),
            basis: Vec::new(),
            known: Known::default(),
            ready: VecDeque::new(),
            parent: None,
            wanted: VecDeque::new(),
            open: HashSet::new(),
            open_order: VecDeque::new(),
            unanswered: 0,
        };
        for id in offered {
            plan.known.insert(*id);
        }
        let held: Vec<_> = held
            .iter()
            .copied()
            .filter(|commit| plan.known.insert(commit_id(*commit)))
            .collect();
        for target in targets {
            plan.planned.push(target.commit);
            for commit in history(&plan.repository, target, depth)? {
                plan.planned.push(commit);
                if plan.known.insert(commit_id(commit)) {
                    plan.ready.push_back(commit_id(commit));
                }
            }
        }
        if !plan.ready.is_empty() {
            let mut is_partial = false;
            for commit in held {
                is_partial |= plan.repository.is_partial(commit)?;
                plan.leave_out(commit);
            }
            // What is not here may lie beneath it. Without a basis the server relies on all that
            // it has complete.
            if is_partial {
                plan.basis.clear();
            }
        }
        Ok(plan)
    }

    /// Returns the commits that both ends have complete and beneath which nothing is offered.
    pub fn basis(&self) -> &[Checksum] {
        &self.basis
    }

    /// Returns the next ids to offer, at most `max`; fewer, or none, while answers are awaited.
    ///
    /// Fails if the local repository lacks an object or holds it damaged. The plan is of no use
    /// then.
    pub fn next(&mut self, max: usize) -> Result<Vec<ObjectId>, Error> {
        let mut batch = Vec::new();
        while batch.len() < max {
            if let Some(id) = self.ready.pop_front() {
                if has_children(id) {
                    self.open.insert(id);
                    self.open_order.push_back(id);
                }
                self.unanswered += 1;
                batch.push(id);
            } else if let Some((id, is_wanted)) = self.next_to_expand() {
                match self.expand(id) {
                    // Only a part of the commit is here. The server may have it all the same: it
                    // says so in its answer, which is waited for.
                    Err(Error::MissingObject { .. }) if !is_wanted => drop(self.open.insert(id)),
                    expanded => expanded?,
                }
            } else {
                break;
            }
        }
        Ok(batch)
    }

    /// Takes the server's answer to an id that was offered: whether the server has it, and with a
    /// directory or commit everything beneath it.
    pub fn answer(&mut self, id: ObjectId, have: bool) {
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.open.remove(&id) && !have {
            self.wanted.push_back(id);
        }
        if have && self.parent == Some(id) {
            self.ready.clear();
        }
        while self
            .open_order
            .front()
            .is_some_and(|id| !self.open.contains(id))
        {
            self.open_order.pop_front();
        }
    }

    /// Returns whether the planned commits reach all of these, as far as they are here. All else is
    /// no business of the server's.
    ///
    /// Fails if the local repository holds an object damaged.
    pub fn reaches(&self, ids: &[ObjectId]) -> Result<bool, Error> {
        let mut sought: HashSet<_> = ids.iter().copied().collect();
        let mut seen = Known::default();
        let mut stack: Vec<_> = self.planned.iter().copied().map(commit_id).collect();
        while let Some(id) = stack.pop() {
            sought.remove(&id);
            if sought.is_empty() {
                break;
            }
            let below = match children(&self.repository, id) {
                Err(Error::MissingObject { .. }) => continue,
                below => below?,
            };
            for child in below {
                sought.remove(&child);
                if has_children(child) && seen.insert(child) {
                    stack.push(child);
                }
            }
        }
        Ok(sought.is_empty())
    }

    /// Takes up again what is beneath objects that the server found missing: what it had of that
    /// before may be gone.
    pub fn offer_again(&mut self, missing: &[ObjectId]) {
        self.known = Known::default();
        for id in missing.iter().copied().filter(|id| has_children(*id)) {
            if self.known.insert(id) {
                self.wanted.push_back(id);
            }
        }
    }

    /// Returns whether there is nothing left to offer, now or after any answer.
    pub fn is_exhausted(&self) -> bool {
        self.ready.is_empty() && self.wanted.is_empty() && self.open.is_empty()
    }

    /// Returns a directory or commit to look into, and whether the server is known to lack it.
    fn next_to_expand(&mut self) -> Option<(ObjectId, bool)> {
        if let Some(wanted) = self.wanted.pop_front() {
            return Some((wanted, true));
        }
        if self.unanswered >= Self::SPECULATION_MAX {
            return None;
        }
        loop {
            let id = self.open_order.pop_front()?;
            if self.open.remove(&id) {
                return Some((id, false));
            }
        }
    }

    /// Makes the children of a directory or commit ready, directories first: on their answers
    /// depends what comes after them.
    fn expand(&mut self, id: ObjectId) -> Result<(), Error> {
        let below = children(&self.repository, id)?;
        self.parent = Some(id);
        let new = below.into_iter().filter(|child| self.known.insert(*child));
        let (files, others): (Vec<_>, Vec<_>) = new.partition(|id| id.kind == ObjectKind::File);
        self.ready.extend(others);
        self.ready.extend(files);
        Ok(())
    }

    /// Leaves out everything beneath a commit that the server has, if it is here as well.
    ///
    /// Damage in it is no reason to fail: what was found before it is on the server all the same.
    fn leave_out(&mut self, commit: Checksum) {
        match self.try_leave_out(commit) {
            Ok(true) => self.basis.push(commit),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%commit, %error, "cannot compare with a commit the server has");
            }
        }
    }

    fn try_leave_out(&mut self, commit: Checksum) -> Result<bool, Error> {
        if self.repository.complete_commit(commit)?.is_none() {
            return Ok(false);
        }
        let mut stack = vec![commit_id(commit)];
        while let Some(id) = stack.pop() {
            for child in children(&self.repository, id)? {
                if self.known.insert(child) && has_children(child) {
                    stack.push(child);
                }
            }
        }
        Ok(true)
    }
}

/// Returns all that commits reach, if together it is at most `max` objects; each commit once. Of a
/// large commit it reads no more than that takes to see.
pub(crate) fn small_closures(
    repository: &Repository,
    commits: impl Iterator<Item = Checksum>,
    max: usize,
) -> Result<Option<Vec<SmallCommit>>, Error> {
    let mut small: Vec<SmallCommit> = Vec::new();
    let mut all = HashSet::new();
    for commit in commits {
        if small.iter().any(|known| known.commit == commit) {
            continue;
        }
        if repository.complete_commit(commit)?.is_none() {
            return Ok(None);
        }
        let mut closure = vec![commit_id(commit)];
        let mut seen = HashSet::from([commit_id(commit)]);
        let mut expanded = 0;
        while let Some(id) = closure.get(expanded).copied() {
            expanded += 1;
            closure.extend(
                children(repository, id)?
                    .into_iter()
                    .filter(|id| seen.insert(*id)),
            );
            if closure.len() > max {
                return Ok(None);
            }
        }
        all.extend(seen);
        if all.len() > max {
            return Ok(None);
        }
        small.push(SmallCommit { commit, closure });
    }
    Ok(Some(small))
}

/// The names of objects, shortened to their first 16 bytes: kind, and 120 bits of checksum.
///
/// Whole names would be 70 bytes an object in a large push. Should two ever agree in 120 bits, the
/// second is not offered, and the server asks for it at the end as for any object that is missing.
///
/// Sorted arrays, of which each grows by itself and by little: a hash set of a million names takes 36
/// bytes for each, and half as much again while it grows.
#[derive(Debug, Default)]
struct Known(Vec<Vec<[u8; 16]>>);

impl Known {
    /// Returns whether the name is new.
    fn insert(&mut self, id: ObjectId) -> bool {
        if self.0.is_empty() {
            self.0.resize_with(ARRAYS, Vec::new);
        }
        let mut short = [0; 16];
        short.copy_from_slice(id.to_wire().split_at(16).0);
        let [.., high, low] = short;
        let array = &mut self.0[usize::from(u16::from_be_bytes([high, low])) % ARRAYS];
        let Err(place) = array.binary_search(&short) else {
            return false;
        };
        if array.len() == array.capacity() {
            array.reserve_exact(array.len() / 16 + 4);
        }
        array.insert(place, short);
        true
    }
}

/// At a million names an array has about 250, so that an insertion moves 2 KiB.
const ARRAYS: usize = 4 * 1024;

/// Says of each pair whether the first commit descends from the second, as far as history is here.
pub(crate) fn descends(
    repository: &Repository,
    pairs: &[(Checksum, Checksum)],
) -> Result<Vec<bool>, Error> {
    pairs
        .iter()
        .map(|(commit, ancestor)| {
            let mut parent = Some(*commit);
            for _ in 0..=MAX_HISTORY_LEN {
                match parent {
                    Some(commit) if commit == *ancestor => return Ok(true),
                    Some(commit) => {
                        let commit = repository.complete_commit(commit)?;
                        parent = commit.and_then(|commit| commit.parent);
                    }
                    None => break,
                }
            }
            Ok(false)
        })
        .collect()
}

/// Returns the commits to push for a target, newest first.
fn history(repository: &Repository, target: &Target, depth: u32) -> Result<Vec<Checksum>, Error> {
    // Of what the ref holds already only the ancestors are of use.
    let is_there = target.current == Some(target.commit);
    if is_there && depth == 0 {
        return Ok(Vec::new());
    }
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    let commit = target.commit;
    let newest = repository.commit(commit).map_err(|error| match error {
        Error::MissingObject { .. } => Error::NoSuchCommit { commit },
        error => error,
    })?;
    let mut commits = vec![target.commit];
    let mut parent = newest.parent;
    // REQ-20.
    let mut between = None; // how many commits are newer than the current one
    while let Some(ancestor) = parent {
        if target.current == Some(ancestor) {
            between = Some(commits.len());
        }
        let searching = target.current.is_some() && between.is_none() && !is_there;
        if commits.len() > depth && !(searching && commits.len() <= MAX_HISTORY_LEN) {
            break;
        }
        let Some(commit) = repository.complete_commit(ancestor)? else {
            break;
        };
        commits.push(ancestor);
        parent = commit.parent;
    }
    commits.truncate(between.unwrap_or(1).max(depth.saturating_add(1)));
    if is_there {
        commits.remove(0);
    }
    Ok(commits)
}

/// Reads what lies directly beneath a directory or commit; the parent of a commit does not.
fn children(repository: &Repository, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
    let unparsable = |source| repository.unparsable(id, source);
    match id.kind {
        ObjectKind::Commit => {
            let commit = repository.commit(id.checksum)?;
            Ok(vec![
                ObjectId::new(ObjectKind::Dirtree, commit.tree),
                ObjectId::new(ObjectKind::Dirmeta, commit.meta),
            ])
        }
        ObjectKind::Dirtree => {
            let bytes = repository.metadata(id)?;
            let dirtree = Dirtree::parse(&bytes).map_err(unparsable)?;
            Ok(dirtree.children().collect())
        }
        ObjectKind::Dirmeta | ObjectKind::File => Ok(Vec::new()),
    }
}

const fn has_children(id: ObjectId) -> bool {
    matches!(id.kind, ObjectKind::Commit | ObjectKind::Dirtree)
}

const fn commit_id(commit: Checksum) -> ObjectId {
    ObjectId::new(ObjectKind::Commit, commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_names_take_less_than_20_bytes_each() {
        let mut known = Known::default();
        let id = |number: u32| {
            let mut digest = [0; 32];
            // As evenly spread as the bytes of a checksum.
            let spread = (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            digest[7..15].copy_from_slice(&spread.to_be_bytes());
            ObjectId::new(ObjectKind::File, Checksum::new(digest))
        };
        for number in 0..1_000_000 {
            assert!(known.insert(id(number)));
        }
        assert!((0..1_000_000).step_by(1000).all(|n| !known.insert(id(n))));
        let room: usize = known.0.iter().map(|array| array.capacity() * 16 + 24).sum();
        assert!(room < 20_000_000, "{room}");
    }
}
