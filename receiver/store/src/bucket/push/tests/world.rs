//! Objects to push, a push as a client does it, and checks that a bucket must pass at every
//! instant.

#[path = "../../../../tests/common/objects.rs"]
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, RefName, Summary};
use artifact_protocol::frame::{
    Base, Expect, PushOptions, RefOutcome, RefUpdate, SummaryDone, Verdict,
};
use artifact_protocol::session::{Announcement, Opened, Published};
use bytes::Bytes;

use self::objects::{directory, file};
use crate::bucket::records::accounts::Account;
use crate::bucket::records::closures::ClosureList;
use crate::bucket::records::layout;
use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::seam::{Bucket, Class, Key};
use crate::bucket::{BucketPush, BucketStore, Client};
use crate::config::{Allowance, StoreConfig};
use crate::error::Error;
use crate::seam::{Push, Stager, Store};
use crate::tree::children;
use crate::verify::{Scratch, verify};

/// Returns whether `make test-extra` runs, which has time for more.
pub(crate) fn is_extra() -> bool {
    std::env::var_os("ARTIFACT_CACHE_EXTRA").is_some_and(|value| value == "1")
}

/// Every object that exists.
#[derive(Debug, Default)]
pub(crate) struct Universe {
    stored: BTreeMap<ObjectId, Bytes>,
}

impl Universe {
    fn add(&mut self, kind: ObjectKind, stored: Vec<u8>) -> Checksum {
        let checksum = Checksum::of(&stored);
        self.stored
            .insert(ObjectId::new(kind, checksum), stored.into());
        checksum
    }

    pub(crate) fn file(&mut self, content: &str) -> Checksum {
        let (id, stored) = file(content.as_bytes());
        self.stored.insert(id, stored.into());
        id.checksum
    }

    fn meta(&mut self) -> Checksum {
        self.add(ObjectKind::Dirmeta, directory())
    }

    /// Adds a directory of files, given by path and content.
    pub(crate) fn tree(&mut self, files: &[(String, String)]) -> Checksum {
        let mut here = BTreeMap::new();
        let mut below: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        for (path, content) in files {
            match path.split_once('/') {
                None => _ = here.insert(path.clone(), self.file(content)),
                Some((dir, rest)) => {
                    let below = below.entry(dir.to_owned()).or_default();
                    below.push((rest.to_owned(), content.clone()));
                }
            }
        }
        let meta = self.meta();
        let dirs: BTreeMap<_, _> = below
            .into_iter()
            .map(|(dir, files)| (dir, self.tree(&files)))
            .collect();
        let files = here.iter().map(|(name, file)| (name.as_str(), *file));
        let dirs = dirs.iter().map(|(name, tree)| (name.as_str(), *tree, meta));
        let stored = Dirtree::serialize(files, dirs);
        self.add(ObjectKind::Dirtree, stored)
    }

    /// Adds a commit of files, given by path and content.
    pub(crate) fn commit(&mut self, parent: Option<Checksum>, files: &[(&str, &str)]) -> Checksum {
        let files: Vec<_> = files
            .iter()
            .map(|(path, content)| ((*path).to_owned(), (*content).to_owned()))
            .collect();
        let tree = self.tree(&files);
        self.commit_of(parent, tree, None)
    }

    pub(crate) fn commit_of(
        &mut self,
        parent: Option<Checksum>,
        tree: Checksum,
        bound: Option<&str>,
    ) -> Checksum {
        let meta = self.meta();
        let commit = Commit {
            parent,
            timestamp: 1_700_000_000,
            subject: "a commit".to_owned(),
            ref_bindings: bound.map(|name| vec![name.to_owned()]),
            ..Commit::new(tree, meta)
        };
        self.add(ObjectKind::Commit, commit.serialize())
    }

    /// Adds a directory with many names of files, of which none exists.
    pub(crate) fn wide(&mut self, names: usize, file: impl Fn(usize) -> Checksum) -> ObjectId {
        let names: Vec<_> = (0..names)
            .map(|at| (format!("{at:07}"), file(at)))
            .collect();
        let files = names.iter().map(|(name, file)| (name.as_str(), *file));
        let stored = Dirtree::serialize(files, []);
        ObjectId::new(ObjectKind::Dirtree, self.add(ObjectKind::Dirtree, stored))
    }

    /// Adds a directory of directories.
    pub(crate) fn above(&mut self, dirs: &[ObjectId]) -> Checksum {
        let meta = self.meta();
        let names: Vec<_> = (0..dirs.len()).map(|at| at.to_string()).collect();
        let mut names: Vec<_> = names.iter().map(String::as_str).zip(dirs).collect();
        names.sort_unstable();
        let dirs = names
            .into_iter()
            .map(|(name, dir)| (name, dir.checksum, meta));
        let stored = Dirtree::serialize([], dirs);
        self.add(ObjectKind::Dirtree, stored)
    }

    /// Puts one directory into another, so many times.
    pub(crate) fn nested(&mut self, mut tree: Checksum, levels: usize) -> Checksum {
        let meta = self.meta();
        for _ in 0..levels {
            let stored = Dirtree::serialize([], [("d", tree, meta)]);
            tree = self.add(ObjectKind::Dirtree, stored);
        }
        tree
    }

    pub(crate) fn stored(&self, id: ObjectId) -> Bytes {
        self.stored[&id].clone()
    }

    pub(crate) fn children(&self, id: ObjectId) -> Vec<ObjectId> {
        children(id, &self.stored(id)).unwrap()
    }

    /// Returns every object that a commit reaches.
    pub(crate) fn closure(&self, commit: Checksum) -> BTreeSet<ObjectId> {
        let (mut seen, mut stack) = (BTreeSet::new(), vec![ObjectId::commit(commit)]);
        while let Some(id) = stack.pop() {
            if seen.insert(id) {
                stack.extend(self.children(id));
            }
        }
        seen
    }
}

/// A client's push.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) refs: Vec<(&'static str, Checksum)>,
    pub(crate) detached: BTreeMap<Checksum, Bytes>,
    /// The refs that the client has, and proposes as bases.
    pub(crate) bases: Vec<(&'static str, Checksum)>,
    pub(crate) options: PushOptions,
    pub(crate) expect: Option<Expect>,
    pub(crate) history: u32,
    /// Objects that the client does not send at first.
    pub(crate) keeps: BTreeSet<ObjectId>,
}

impl Plan {
    pub(crate) fn one(name: &'static str, commit: Checksum) -> Self {
        Self {
            refs: vec![(name, commit)],
            options: PushOptions::FORCE,
            ..Self::default()
        }
    }

    pub(crate) fn announcement(&self) -> Announcement {
        let update = |(name, commit): &(&str, Checksum)| RefUpdate {
            name: name.parse().unwrap(),
            commit: *commit,
            detached: self.detached.get(commit).map(|bytes| Checksum::of(bytes)),
            expect: self.expect.unwrap_or(Expect::Any),
        };
        let base = |(name, commit): &(&str, Checksum)| Base {
            name: name.parse().unwrap(),
            commit: *commit,
        };
        Announcement {
            options: self.options,
            refs: self.refs.iter().map(update).collect(),
            bases: self.bases.iter().map(base).collect(),
            history: self.history,
        }
    }
}

/// The results of a push.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) opened: Opened,
    pub(crate) outcomes: Vec<RefOutcome>,
    pub(crate) summary: Option<SummaryDone>,
    pub(crate) sent: Vec<ObjectId>,
}

/// Pushes as a client does.
pub(crate) fn push(store: &BucketStore, all: &Universe, plan: &Plan) -> Result<Done, Error> {
    let (opened, mut push) = store.begin(&plan.announcement())?;
    let sent = send(&mut push, &opened, all, plan)?;
    finish(push, opened, all, sent)
}

/// Pushes a commit to a ref, as a second identity.
pub(crate) fn set(memory: &Memory, all: &Universe, name: &'static str, commit: Checksum) {
    let store = store_of(memory.clone(), "leo");
    let done = push(&store, all, &Plan::one(name, commit)).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
}

/// Sends everything that a client sends before it finalizes.
pub(crate) fn send(
    push: &mut BucketPush,
    opened: &Opened,
    all: &Universe,
    plan: &Plan,
) -> Result<Vec<ObjectId>, Error> {
    let bases: Vec<_> = plan.bases.iter().map(|(_, commit)| *commit).collect();
    let relied: Vec<_> = (opened.complete.iter().copied())
        .filter(|commit| bases.contains(commit))
        .collect();
    if !relied.is_empty() {
        push.rely(&relied)?;
    }
    let accepted: Vec<_> = plan
        .refs
        .iter()
        .zip(&opened.refs)
        .filter(|(_, state)| state.verdict == Verdict::Accepted)
        .map(|((_, commit), _)| *commit)
        .collect();
    let (stager, mut sent) = (push.stager(), Vec::new());
    let (mut offered, mut next) = (BTreeSet::new(), Vec::new());
    for &commit in &accepted {
        // The client offers all history, whatever part of it the server has.
        let mut commit = Some(commit);
        for _ in 0..=plan.history {
            let Some(id) = commit.map(ObjectId::commit) else {
                break;
            };
            if offered.insert(id) {
                next.push(id);
            }
            commit = Commit::parse(&all.stored(id)).unwrap().parent;
        }
    }
    while !next.is_empty() {
        let have = push.have(&next)?;
        let wanted = next.iter().zip(have).filter(|(_, has)| !has);
        let wanted: Vec<_> = wanted.map(|(id, _)| *id).collect();
        next = Vec::new();
        for id in wanted {
            if !plan.keeps.contains(&id) {
                stager.stage(id, all.stored(id))?;
                sent.push(id);
            }
            let below = all.children(id).into_iter();
            next.extend(below.filter(|id| offered.insert(*id)));
        }
    }
    push.lack(&plan.keeps.iter().copied().collect::<Vec<_>>())?;
    for (commit, metadata) in &plan.detached {
        if accepted.contains(commit) {
            push.stage_detached(*commit, metadata)?;
        }
    }
    Ok(sent)
}

/// Finalizes, and sends the objects that turn out to be missing.
pub(crate) fn finish(
    mut push: BucketPush,
    opened: Opened,
    all: &Universe,
    mut sent: Vec<ObjectId>,
) -> Result<Done, Error> {
    let is_over = !(opened.refs.iter()).any(|state| state.verdict == Verdict::Accepted);
    if is_over {
        return Ok(Done {
            opened,
            outcomes: Vec::new(),
            summary: None,
            sent,
        });
    }
    loop {
        match push.publish()? {
            Published::Done(outcomes) => {
                let updated = outcomes.contains(&RefOutcome::Updated);
                return Ok(Done {
                    opened,
                    outcomes,
                    summary: updated.then(|| push.summarize()),
                    sent,
                });
            }
            Published::Missing(ids) => {
                assert!(!ids.is_empty());
                let stager = push.stager();
                let mut next = ids;
                while let Some(id) = next.pop() {
                    stager.stage(id, all.stored(id))?;
                    sent.push(id);
                    let below = all.children(id);
                    let have = push.have(&below)?;
                    next.extend(
                        below
                            .into_iter()
                            .zip(have)
                            .filter(|(_, h)| !h)
                            .map(|(id, _)| id),
                    );
                }
            }
        }
    }
}

/// A bucket that holds an empty repository.
pub(crate) fn empty() -> Memory {
    let memory = Memory::new();
    let config = "[core]\nrepo_version=1\nmode=archive-z2\n";
    memory.damage(&layout::config(), Some(config.into()));
    memory
}

/// The configuration of an identity with quotas that no push reaches.
pub(crate) fn config_of(identity: &str) -> StoreConfig {
    StoreConfig {
        identity: identity.to_owned(),
        allowance: Allowance {
            refs_max: Some(1 << 40),
            objects_max: Some(1 << 40),
            bytes_max: None,
        },
        ..StoreConfig::default()
    }
}

pub(crate) fn store_of(bucket: impl Bucket, identity: &str) -> BucketStore {
    store_with(bucket, ManualClock::default(), config_of(identity))
}

pub(crate) fn store_with(
    bucket: impl Bucket,
    clock: impl crate::bucket::Clock,
    config: StoreConfig,
) -> BucketStore {
    let client = Client::new(Arc::new(bucket), Arc::new(clock));
    BucketStore::open(client, config).unwrap()
}

pub(crate) fn client_of(bucket: &Memory) -> Client {
    Client::new(Arc::new(bucket.clone()), Arc::new(ManualClock::default()))
}

/// Returns the refs of a bucket.
pub(crate) fn refs(memory: &Memory) -> BTreeMap<String, Checksum> {
    let objects = memory.objects();
    let refs = objects.iter().filter_map(|(key, stored)| {
        let name: RefName = layout::head_of(key)?;
        let text = std::str::from_utf8(&stored.content).unwrap();
        Some((name.to_string(), text.trim_end().parse().unwrap()))
    });
    refs.collect()
}

/// Returns the refs that the summary names.
pub(crate) fn named(memory: &Memory) -> BTreeMap<String, Checksum> {
    let Some(stored) = memory.objects().remove(&layout::summary()) else {
        return BTreeMap::new();
    };
    let summary = Summary::parse(&stored.content).unwrap();
    let refs = summary.refs.into_iter();
    refs.map(|(name, entry)| (name, entry.commit)).collect()
}

/// Checks what [`assert_sound`] does, that closure lists name all that refs reach, and that every
/// ref is on the account of an identity, if there are accounts.
pub(crate) fn assert_whole(memory: &Memory, all: &Universe) {
    assert_sound(memory, all);
    let objects = memory.objects();
    let accounts: Vec<_> = (objects.iter())
        .filter(|(key, _)| key.as_str().starts_with(layout::ACCOUNTS))
        .map(|(_, stored)| Account::parse(&stored.content).unwrap())
        .collect();
    let has = |name: &str| {
        accounts
            .iter()
            .any(|account| account.refs.contains_key(name))
    };
    for name in refs(memory).keys() {
        assert!(accounts.is_empty() || has(name), "nobody pays for {name}");
    }
    for (name, commit) in refs(memory) {
        let decode = |commit: Checksum| {
            let content = &objects.get(&layout::closure(commit))?.content;
            ClosureList::decode(commit, content)
        };
        let Some(list) = decode(commit) else {
            continue;
        };
        let bases = list.heading().bases.clone();
        let lists = bases.into_iter().map(|base| decode(base).unwrap());
        let lists: Vec<_> = lists.chain([list]).collect();
        for id in all.closure(commit) {
            let named = lists.iter().any(|list| list.levels(&id).is_some());
            assert!(named, "no list of {name} names {id}");
        }
    }
}

/// Checks that every ref's closure is there byte for byte, that no object's key holds other bytes
/// than its name says, that a commit is there only with all that it reaches, that closure lists
/// name what is there, and that the summary names only commits that exist.
pub(crate) fn assert_sound(memory: &Memory, all: &Universe) {
    let objects = memory.objects();
    let is_there = |id: &ObjectId| objects.contains_key(&layout::object(id));
    let closure_is_there = |commit: Checksum, why: &str| {
        for id in all.closure(commit) {
            assert!(is_there(&id), "{why} {commit} lacks {id}");
        }
    };
    for (key, stored) in &objects {
        if let Some(id) = layout::object_of(key) {
            let verified = verify(id, &stored.content, u64::MAX, &mut Scratch::default());
            assert!(verified.is_ok(), "{key} holds something else");
            assert_eq!(stored.class, Class::Object);
            if id.kind == ObjectKind::Commit {
                closure_is_there(id.checksum, "commit");
            }
        }
    }
    for (name, commit) in refs(memory) {
        closure_is_there(commit, &name);
        let list = objects
            .get(&layout::closure(commit))
            .map(|stored| &stored.content);
        if let Some(content) = list {
            let list = ClosureList::decode(commit, content).unwrap();
            for (id, _) in list.objects() {
                assert!(
                    is_there(&id),
                    "the list of {name} names {id}, which is not there"
                );
            }
            for base in &list.heading().bases {
                let Some(stored) = objects.get(&layout::closure(*base)) else {
                    continue;
                };
                let list = ClosureList::decode(*base, &stored.content);
                for (id, _) in list.unwrap().objects() {
                    assert!(
                        is_there(&id),
                        "a list of {name} names {id}, which is not there"
                    );
                }
            }
        }
    }
    for (name, commit) in named(memory) {
        assert!(
            is_there(&ObjectId::commit(commit)),
            "the summary names {name}"
        );
    }
}

/// Returns the records that pushes have left: leases, journals, notes.
pub(crate) fn leftovers(memory: &Memory) -> Vec<Key> {
    let own = [layout::SESSIONS, layout::JOURNALS, layout::PENDING];
    let objects = memory.objects().into_keys();
    let is_left = |key: &Key| own.iter().any(|prefix| key.as_str().starts_with(prefix));
    objects.filter(is_left).collect()
}
