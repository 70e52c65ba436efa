//! Finds the objects that commits reach.
//!
//! An exact closure list names them. Any other list is only a guess, because it depends on the
//! lists of bases, which pushes replace. The walk reads the objects beneath a commit with such a
//! list, and a collector replaces the list with an exact one. It does so before it deletes objects
//! that the old list named, because pushes rely on the objects that lists name.

use std::collections::{BTreeMap, HashMap, HashSet};

use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind, Summary};

use crate::bucket::records::closures::{ClosureList, Heading};
use crate::bucket::records::{layout, refs};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Class, Condition, Key, Tag};
use crate::bucket::requests::window::Window;
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::tree;
use crate::tree::descent::Levels;

/// The closure lists of the bucket, by commit, with their lengths in bytes and the times when they
/// were stored.
///
/// A list is stored before its commit, which may therefore be missing.
#[derive(Debug, Default)]
pub(super) struct Lists(HashMap<Checksum, (u64, u64)>);

/// A walk over commits. A later walk skips what an earlier one has visited.
#[derive(Clone, Debug)]
pub(super) struct Reach<'a> {
    client: &'a Client,
    trust: Trust,
    /// Commits that were visited with everything beneath them.
    commits: HashSet<Checksum>,
    /// Commits whose closure lists stay, because the commit is reached or the list completes
    /// another.
    lists: HashSet<Checksum>,
}

/// How far the walk trusts a list that is not exact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Not at all: it reads the objects beneath the commit.
    OnlyExact,
    /// Not at all, and it replaces the list with an exact one.
    Mend,
    /// It counts the objects on the list as reached, as well as those beneath the commit.
    All,
}

/// A commit to visit.
#[derive(Clone, Copy, Debug)]
enum Next {
    /// The commit, and whether a ref leads to it: then it must be whole.
    Commit(Checksum, bool),
    /// Only the list of this commit, which completes another list.
    List(Checksum),
}

impl Lists {
    /// Lists all closure lists.
    pub(super) fn read(client: &Client) -> Result<Self, Error> {
        let mut lists = HashMap::new();
        for entry in client.list_each(layout::CLOSURES) {
            let entry = entry.map_err(Error::bucket("listing", &layout::CLOSURES))?;
            if let Some(commit) = layout::closure_of(&entry.key) {
                lists.insert(commit, (entry.len, entry.modified));
            }
        }
        Ok(Self(lists))
    }

    /// Returns the commits that have lists, and the time when each list was stored.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Checksum, u64)> {
        self.0
            .iter()
            .map(|(commit, (_, stored))| (*commit, *stored))
    }

    pub(super) fn has(&self, commit: &Checksum) -> bool {
        self.0.contains_key(commit)
    }

    fn len_of(&self, commit: &Checksum) -> u64 {
        self.0.get(commit).map_or(0, |(len, _)| *len)
    }
}

impl<'a> Reach<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            trust: Trust::OnlyExact,
            commits: HashSet::new(),
            lists: HashSet::new(),
        }
    }

    /// Sets the trust in lists from now on.
    pub(super) const fn trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// Returns whether the closure list of a commit has to stay.
    pub(super) fn keeps_list(&self, commit: &Checksum) -> bool {
        self.lists.contains(commit)
    }

    /// Calls `visit` with every object that commits reach, sometimes repeatedly. The commits of
    /// `refs` must be whole; those of `others` need not be. Commits reach their parents if the
    /// bucket has these.
    pub(super) fn walk(
        &mut self,
        lists: &Lists,
        refs: impl IntoIterator<Item = Checksum>,
        others: impl IntoIterator<Item = Checksum>,
        visit: &mut dyn FnMut(ObjectId),
    ) -> Result<(), Error> {
        let refs = refs.into_iter().map(|commit| Next::Commit(commit, true));
        let others = others.into_iter().map(|commit| Next::Commit(commit, false));
        let mut next: Vec<Next> = refs.chain(others).collect();
        let mut unfinished = Vec::new();
        while !next.is_empty() {
            let batch = self.take_batch(lists, &mut next);
            for step in &batch {
                if let Next::Commit(commit, _) = step {
                    visit(ObjectId::commit(*commit));
                }
            }
            let keys: Vec<Key> = batch
                .iter()
                .map(|next| layout::closure(next.list()))
                .collect();
            let found = Window::new(self.client.clone())
                .get_all(&keys)
                .map_err(Error::bucket("reading", &"closure lists"))?;
            for (step, found) in batch.into_iter().zip(found) {
                let tag = found.as_ref().map(|found| found.tag.clone());
                let list = found.and_then(|found| ClosureList::decode(step.list(), &found.content));
                let heading = list.as_ref().map(ClosureList::heading);
                let parents = heading.map(|heading| heading.parents.clone());
                let is_exact = list.as_ref().is_some_and(|list| list.heading().exact);
                let mut parent = None;
                if let Some(list) = list
                    && (is_exact || self.trust == Trust::All)
                {
                    list.objects().for_each(|(id, _)| visit(id));
                    let heading = list.heading();
                    let bases = heading.bases.iter();
                    next.extend(bases.map(|base| Next::List(*base)));
                    parent = heading.parents.first().copied();
                }
                if let (Next::Commit(commit, must_be_whole), false) = (step, is_exact) {
                    let is_whole;
                    (parent, is_whole) =
                        self.descend(commit, must_be_whole, tag.zip(parents), visit)?;
                    if !is_whole {
                        // A push may be about to complete it, so a later walk must visit it again.
                        unfinished.push(commit);
                    }
                }
                if let (Next::Commit(..), Some(parent)) = (step, parent)
                    && self.is_there(lists, parent)?
                {
                    next.push(Next::Commit(parent, false));
                }
            }
        }
        for commit in unfinished {
            self.commits.remove(&commit);
            self.lists.remove(&commit);
        }
        Ok(())
    }

    fn is_there(&self, lists: &Lists, commit: Checksum) -> Result<bool, Error> {
        if lists.has(&commit) {
            return Ok(true);
        }
        let key = layout::object(&ObjectId::commit(commit));
        let found = self.client.get(&key);
        Ok(found.map_err(Error::bucket("reading", &key))?.is_some())
    }

    /// Takes commits that were not visited yet and whose lists fit into memory together.
    fn take_batch(&mut self, lists: &Lists, next: &mut Vec<Next>) -> Vec<Next> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(step) = next.pop() {
            let is_new = match step {
                Next::Commit(commit, _) => self.commits.insert(commit),
                Next::List(base) => !self.lists.contains(&base),
            };
            if !is_new {
                continue;
            }
            self.lists.insert(step.list());
            bytes += lists.len_of(&step.list());
            batch.push(step);
            if bytes >= BATCH_BYTES || batch.len() >= BATCH_LISTS {
                break;
            }
        }
        batch
    }

    /// Reads the objects beneath a commit, and replaces its list with an exact one if `trust` says
    /// so. Returns the commit's parent, and whether no object is missing.
    fn descend(
        &self,
        commit: Checksum,
        must_be_whole: bool,
        mended: Option<(Tag, Vec<Checksum>)>,
        visit: &mut dyn FnMut(ObjectId),
    ) -> Result<(Option<Checksum>, bool), Error> {
        let mut tree = Tree::default();
        let mut level = vec![ObjectId::commit(commit)];
        let (mut parent, mut is_whole) = (None, true);
        while !level.is_empty() {
            let mut below = Vec::new();
            for ids in level.chunks(BATCH_OBJECTS) {
                let keys: Vec<Key> = ids.iter().map(layout::object).collect();
                let found = Window::new(self.client.clone())
                    .get_all(&keys)
                    .map_err(Error::bucket("reading", &format!("what {commit} reaches")))?;
                for (id, found) in ids.iter().zip(found) {
                    let content = found.map(|found| found.content).unwrap_or_default();
                    let Ok(children) = tree::children(*id, &content) else {
                        if must_be_whole {
                            return Err(Error::NotWhole { commit, id: *id });
                        }
                        is_whole = false;
                        continue;
                    };
                    if id.kind == ObjectKind::Commit {
                        parent = Commit::parse(&content)
                            .ok()
                            .and_then(|commit| commit.parent);
                    }
                    for child in &children {
                        if tree.insert(*child) {
                            visit(*child);
                            below.extend(child.kind.has_children().then_some(*child));
                        }
                    }
                    tree.note(*id, &children);
                }
            }
            level = below;
        }
        // The condition keeps this put from bringing back a list whose commit is gone.
        if let (Trust::Mend, true, Some((tag, parents))) = (self.trust, is_whole, mended) {
            let heading = Heading::exact(parents);
            let list = ClosureList::encode(commit, &heading, tree.into_objects());
            let key = layout::closure(commit);
            match self
                .client
                .put(&key, list, Condition::Is(tag), Class::Private)
            {
                Ok(_) | Err(BucketError::Unclear(_)) => {}
                Err(error) => return Err(Error::bucket("storing", &key)(error)),
            }
        }
        Ok((parent, is_whole))
    }
}

/// The objects beneath a commit.
#[derive(Default)]
struct Tree {
    objects: BTreeMap<ObjectId, ()>,
    /// The directories in each directory.
    dirs: HashMap<ObjectId, Vec<ObjectId>>,
}

impl Tree {
    /// Adds an object; returns whether it is new.
    fn insert(&mut self, id: ObjectId) -> bool {
        self.objects.insert(id, ()).is_none()
    }

    fn note(&mut self, id: ObjectId, children: &[ObjectId]) {
        let dirs = children.iter().filter(|id| id.kind == ObjectKind::Dirtree);
        self.dirs.insert(id, dirs.copied().collect());
    }

    /// Returns the objects, sorted, each with the levels of directories below it.
    fn into_objects(self) -> impl Iterator<Item = (ObjectId, Levels)> {
        let mut levels: HashMap<ObjectId, u8> = HashMap::new();
        for id in self.dirs.keys() {
            let mut path = vec![*id];
            while let Some(id) = path.last().copied() {
                let below = self.dirs.get(&id).map(Vec::as_slice).unwrap_or_default();
                if let Some(next) = below.iter().find(|dir| !levels.contains_key(dir)) {
                    path.push(*next);
                    continue;
                }
                let above = |dir: &ObjectId| levels[dir].saturating_add(1);
                let most = below.iter().map(above).max().unwrap_or_default();
                levels.insert(id, most);
                path.pop();
            }
        }
        let level = move |id: &ObjectId| levels.get(id).copied().unwrap_or_default();
        let objects = self.objects.into_keys();
        objects.map(move |id| (id, Levels::of_byte(level(&id))))
    }
}

impl Next {
    /// Returns the commit whose list to read.
    const fn list(self) -> Checksum {
        match self {
            Self::Commit(commit, _) | Self::List(commit) => commit,
        }
    }
}

/// Returns the commits that the summary names, which stay as long as it names them. A missing or
/// damaged summary names none.
pub(super) fn read_summary(client: &Client) -> Result<Vec<Checksum>, Error> {
    let key = layout::summary();
    let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
    let summary = found.and_then(|found| Summary::parse(&found.content).ok());
    let refs = summary.map(|summary| summary.refs).unwrap_or_default();
    Ok(refs.into_values().map(|entry| entry.commit).collect())
}

/// Reads all refs except the skipped ones: their keys and their commits.
pub(super) fn read_refs(
    client: &Client,
    skipped: &HashSet<Key>,
) -> Result<Vec<(Key, Checksum)>, Error> {
    let entries = client.list_all(layout::HEADS);
    let entries = entries.map_err(Error::bucket("listing", &"refs"))?;
    let keys = entries.into_iter().map(|entry| entry.key);
    let keys: Vec<Key> = keys.filter(|key| !skipped.contains(key)).collect();
    let mut refs = Vec::new();
    refs::read_each(client, &keys, |key, found| {
        // A ref may have been removed in the meantime.
        let Some(found) = found else { return Ok(()) };
        let commit = Checksum::from_ref(&found.content).ok_or_else(|| {
            let why = format!("{key} holds no commit; remove it, or push it again");
            Error::bucket("reading", &"refs")(BucketError::Broken(why))
        })?;
        refs.push((key.clone(), commit));
        Ok(())
    })?;
    Ok(refs)
}

/// The most bytes of closure lists in memory, unless a single one is longer.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;
const BATCH_LISTS: usize = 1000;
const BATCH_OBJECTS: usize = 1000;
