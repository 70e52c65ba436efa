//! The objects pushed, a push as a client does it, and the claims that always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use crate::session::Session;
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, Summary};
use artifact_protocol::frame::{Base, Expect, PushOptions, RefOutcome, RefUpdate, SummaryDone};
use artifact_protocol::session::{Announcement, Opened, Published};
use artifact_store::{Error, LockMode, StoreConfig};
use proptest::prelude::*;

use crate::disk::{Machine, Node};
use crate::files::{ModelFs, Script};
use crate::objects::{directory, file};

/// Every object that exists.
#[derive(Clone, Debug, Default)]
pub(crate) struct Universe {
    stored: BTreeMap<ObjectId, Vec<u8>>,
    paths: BTreeMap<String, ObjectId>,
    detached: BTreeMap<Checksum, Vec<Vec<u8>>>,
}

/// Files of a tree: directory (the second is in the first, the third in the second), name, content.
#[derive(Clone, Debug)]
pub(crate) struct Tree(pub(crate) Vec<(u8, u8, u8)>);

/// Any small tree.
pub(crate) fn any_tree() -> impl Strategy<Value = Tree> {
    proptest::collection::vec((0..3u8, 0..3u8, 0..6u8), 0..6).prop_map(Tree)
}

impl Universe {
    fn add(&mut self, kind: ObjectKind, stored: Vec<u8>) -> Checksum {
        let checksum = Checksum::of(&stored);
        self.insert(ObjectId::new(kind, checksum), stored);
        checksum
    }

    fn insert(&mut self, id: ObjectId, stored: Vec<u8>) {
        self.paths.insert(id.archive_path(), id);
        self.stored.insert(id, stored);
    }

    fn add_file(&mut self, content: u8) -> Checksum {
        let content = vec![content; 40 * usize::from(content)];
        let (id, stored) = file(&content);
        self.insert(id, stored);
        id.checksum
    }

    /// Adds a commit of a tree.
    pub(crate) fn commit(&mut self, parent: Option<Checksum>, tree: &Tree) -> Checksum {
        let meta = self.add(ObjectKind::Dirmeta, directory());
        let names = ["a", "b", "c"];
        let mut below = None;
        for dir in (0..3).rev() {
            let files = tree.0.iter().filter(|(place, ..)| *place == dir);
            let files = files.map(|(_, name, content)| (*name, *content));
            let files: BTreeMap<_, _> = files.collect();
            let files: Vec<_> = files
                .into_iter()
                .map(|(name, content)| (names[usize::from(name)], self.add_file(content)))
                .collect();
            if files.is_empty() && below.is_none() && dir > 0 {
                continue;
            }
            let dirs = below.map(|tree| ("dir", tree, meta));
            let stored = Dirtree::serialize(files, dirs);
            below = Some(self.add(ObjectKind::Dirtree, stored));
        }
        let commit = Commit {
            parent,
            timestamp: 1_700_000_000,
            subject: "a commit".to_owned(),
            ..Commit::new(below.unwrap(), meta)
        };
        self.add(ObjectKind::Commit, commit.serialize())
    }

    /// Adds detached metadata of a commit: an `a{sv}` with no entry, or with one of one byte.
    pub(crate) fn detach(&mut self, commit: Checksum, metadata: &[u8]) -> Vec<u8> {
        let all = self.detached.entry(commit).or_default();
        all.push(metadata.to_vec());
        metadata.to_vec()
    }

    pub(crate) fn stored(&self, id: ObjectId) -> &[u8] {
        &self.stored[&id]
    }

    pub(crate) fn children(&self, id: ObjectId) -> Vec<ObjectId> {
        match id.kind {
            ObjectKind::Commit => {
                let commit = Commit::parse(self.stored(id)).unwrap();
                let tree = ObjectId::new(ObjectKind::Dirtree, commit.tree);
                vec![tree, ObjectId::new(ObjectKind::Dirmeta, commit.meta)]
            }
            ObjectKind::Dirtree => {
                let tree = Dirtree::parse(self.stored(id)).unwrap();
                tree.children().collect()
            }
            ObjectKind::File | ObjectKind::Dirmeta => Vec::new(),
        }
    }

    /// Returns every object that `root` reaches, breadth first.
    pub(crate) fn closure(&self, root: ObjectId) -> Vec<ObjectId> {
        let (mut all, mut next) = (vec![root], 0);
        while let Some(&id) = all.get(next) {
            next += 1;
            for child in self.children(id) {
                if !all.contains(&child) {
                    all.push(child);
                }
            }
        }
        all
    }
}

pub(crate) const fn commit_id(commit: Checksum) -> ObjectId {
    ObjectId::new(ObjectKind::Commit, commit)
}

/// An empty repository, all of it durable.
pub(crate) fn repository() -> Machine {
    let mut machine = Machine::new();
    for dir in [
        "objects",
        "refs",
        "refs/heads",
        "refs/mirrors",
        "state",
        "tmp",
        "extensions",
    ] {
        machine.make(dir, Node::Dir(BTreeMap::new())).unwrap();
    }
    let config = "[core]\nrepo_version=1\nmode=archive-z2\nlock-timeout-secs=0\n";
    let node = machine.make("config", Node::File(Arc::default())).unwrap();
    machine.append(node, 0, config.as_bytes());
    machine.sync(None);
    machine
}

/// A client's push.
#[derive(Clone, Debug, Default)]
pub(crate) struct Push {
    pub(crate) refs: Vec<(String, Checksum)>,
    pub(crate) detached: BTreeMap<Checksum, Vec<u8>>,
    pub(crate) bases: Vec<(String, Checksum)>,
    pub(crate) expect: Option<Expect>,
}

impl Push {
    pub(crate) fn one(name: &str, commit: Checksum) -> Self {
        Self {
            refs: vec![(name.to_owned(), commit)],
            ..Self::default()
        }
    }

    fn announcement(&self) -> Announcement {
        let update = |(name, commit): &(String, Checksum)| RefUpdate {
            name: name.parse().unwrap(),
            commit: *commit,
            detached: self.detached.get(commit).map(|bytes| Checksum::of(bytes)),
            expect: self.expect.unwrap_or(Expect::Any),
        };
        let base = |(name, commit): &(String, Checksum)| Base {
            name: name.parse().unwrap(),
            commit: *commit,
        };
        Announcement {
            options: PushOptions::FORCE,
            refs: self.refs.iter().map(update).collect(),
            bases: self.bases.iter().map(base).collect(),
            history: 0,
        }
    }

    /// Returns the refs after this push.
    pub(crate) fn apply(&self, refs: &BTreeMap<String, Checksum>) -> BTreeMap<String, Checksum> {
        let mut refs = refs.clone();
        refs.extend(self.refs.iter().cloned());
        refs
    }
}

/// One client's end of a push, a step at a time.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    universe: &'a Universe,
    push: &'a Push,
    fs: ModelFs,
    store: Session<ModelFs>,
    /// The objects this client sent.
    pub(crate) sent: Vec<ObjectId>,
}

impl<'a> Client<'a> {
    pub(crate) fn connect(
        universe: &'a Universe,
        push: &'a Push,
        fs: &ModelFs,
        identity: &str,
    ) -> Result<Self, Error> {
        let config = StoreConfig {
            identity: identity.to_owned(),
            ..StoreConfig::default()
        };
        Ok(Self {
            universe,
            push,
            store: Session::with_fs(fs.clone(), config)?,
            fs: fs.clone(),
            sent: Vec::new(),
        })
    }

    pub(crate) fn open(&self) -> Result<Opened, Error> {
        let opened = self.store.open(&self.push.announcement())?;
        let known = |commit: &&Checksum| self.push.bases.iter().any(|base| base.1 == **commit);
        let relied: Vec<_> = opened.complete.iter().filter(known).copied().collect();
        self.store.rely(&relied)?;
        Ok(opened)
    }

    /// Offers everything and returns the wanted objects.
    pub(crate) fn offer(&self) -> Result<Vec<ObjectId>, Error> {
        let (mut wanted, mut had) = (Vec::new(), BTreeSet::new());
        for (_, commit) in &self.push.refs {
            for id in self.universe.closure(commit_id(*commit)) {
                if wanted.contains(&id) || had.contains(&id) {
                    continue;
                }
                if self.store.have(&[id])?[0] {
                    had.extend(self.universe.closure(id));
                } else {
                    wanted.push(id);
                }
            }
        }
        wanted.retain(|id| !had.contains(id));
        Ok(wanted)
    }

    pub(crate) fn send(&mut self, ids: &[ObjectId]) -> Result<(), Error> {
        for &id in ids {
            let stored = self.universe.stored(id);
            self.sent.push(id);
            if id.checksum.as_bytes()[0].is_multiple_of(2) {
                self.store.stage(id, stored)?;
                continue;
            }
            let mut stream = self.store.begin(id)?;
            let (first, last) = stored.split_at(stored.len() / 2);
            // As the driver's threads do: when one piece fails, the rest of the object is already
            // queued.
            let appended = [first, last].map(|piece| stream.append(piece));
            let ended = stream.finish();
            appended
                .into_iter()
                .chain([ended])
                .collect::<Result<(), _>>()?;
        }
        Ok(())
    }

    pub(crate) fn transfer(&mut self) -> Result<(), Error> {
        for (commit, metadata) in &self.push.detached {
            self.store.stage_detached(*commit, metadata)?;
        }
        let wanted = self.offer()?;
        self.send(&wanted)
    }

    /// Finalizes, sends the missing objects, and returns the outcome of each ref.
    pub(crate) fn finalize(&mut self) -> Result<Vec<RefOutcome>, Error> {
        for _ in 0..16 {
            match self.store.publish()? {
                Published::Done(outcomes) => {
                    self.fs.acknowledge();
                    return Ok(outcomes);
                }
                Published::Missing(missing) => self.send(&missing)?,
            }
        }
        panic!("something is always missing");
    }

    pub(crate) fn summarize(&self) -> SummaryDone {
        self.store.summarize()
    }
}

/// Runs a push from beginning to end.
pub(crate) fn run(
    universe: &Universe,
    push: &Push,
    fs: &ModelFs,
) -> Result<Vec<RefOutcome>, Error> {
    let mut client = Client::connect(universe, push, fs, "somebody")?;
    client.open()?;
    client.transfer()?;
    let outcomes = client.finalize()?;
    client.summarize();
    Ok(outcomes)
}

/// Returns whether every ref was set, now or before.
pub(crate) fn all_set(outcomes: &[RefOutcome]) -> bool {
    let set = [RefOutcome::Updated, RefOutcome::Unchanged];
    outcomes.iter().all(|outcome| set.contains(outcome))
}

/// A repository with an earlier push, and a push that moves on from it.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) universe: Universe,
    pub(crate) machine: Machine,
    pub(crate) old: BTreeMap<String, Checksum>,
    pub(crate) push: Push,
}

/// Any first push, or a second one to another ref and perhaps the same, perhaps with detached
/// metadata, perhaps relying on the first: the arguments of [`scenario`].
pub(crate) fn any_scenario() -> impl Strategy<Value = ([Tree; 3], [bool; 4])> {
    ([any_tree(), any_tree(), any_tree()], any::<[bool; 4]>())
}

/// Makes a scenario; the flags are: a second push, two refs, detached metadata, relying on the
/// first.
pub(crate) fn scenario((trees, flags): ([Tree; 3], [bool; 4])) -> Scenario {
    let [second, two, detached, relies] = flags;
    let mut universe = Universe::default();
    let [first, next, another] = trees;
    let first = universe.commit(None, &first);
    let next = universe.commit(second.then_some(first), &next);
    let mut push = Push::one("p/e/2", next);
    if two {
        let another = universe.commit(Some(first), &another);
        push.refs.push(("p/e/1".to_owned(), another));
    }
    if detached {
        push.detached.insert(next, universe.detach(next, &[]));
    }
    let (mut machine, mut old) = (repository(), BTreeMap::new());
    if second {
        let push = Push::one("p/e/1", first);
        machine = pushed(&universe, &push, machine);
        old = push.apply(&old);
    }
    if relies && second {
        push.bases.push(("p/e/1".to_owned(), first));
    }
    Scenario {
        universe,
        machine,
        old,
        push,
    }
}

/// Runs a push that cannot fail, and returns the machine.
pub(crate) fn pushed(universe: &Universe, push: &Push, machine: Machine) -> Machine {
    let fs = ModelFs::alone(machine, Script::Nothing);
    let outcomes = run(universe, push, &fs).unwrap();
    assert!(all_set(&outcomes), "{outcomes:?}");
    fs.machine().clone()
}

/// Checks INV-1, INV-2, INV-4 and INV-8: every ref has one of its possible values and is complete,
/// and so is every commit that is not marked partial. `refs` are the possible values of each ref.
pub(crate) fn check(
    machine: &Machine,
    universe: &Universe,
    refs: &BTreeMap<String, Vec<Option<Checksum>>>,
) -> Result<BTreeMap<String, Checksum>, String> {
    let held = held(machine)?;
    for name in held.keys().chain(refs.keys()) {
        let possible = refs.get(name).ok_or(format!("nobody pushed {name}"))?;
        if !possible.contains(&held.get(name).copied()) {
            return Err(format!("{name} holds {:?} of {possible:?}", held.get(name)));
        }
    }
    let objects = objects(machine, universe)?;
    let partial = |commit: &Checksum| machine.resolve(&format!("state/{commit}.commitpartial"));
    let commits = objects.iter().filter(|id| id.kind == ObjectKind::Commit);
    let whole = commits
        .map(|id| id.checksum)
        .filter(|c| partial(c).is_err());
    for commit in whole.chain(held.values().copied()) {
        for id in universe.closure(commit_id(commit)) {
            if !objects.contains(&id) {
                return Err(format!("{commit} lacks {id}"));
            }
        }
    }
    if let Ok(node) = machine.resolve("summary")
        && let Node::File(content) = machine.node(node)
    {
        let summary = Summary::parse(content).map_err(|error| format!("summary: {error}"))?;
        for (name, entry) in &summary.refs {
            if !objects.contains(&commit_id(entry.commit)) {
                return Err(format!("the summary has {name} at {}", entry.commit));
            }
        }
    }
    Ok(held)
}

/// Returns the refs of a machine.
pub(crate) fn held(machine: &Machine) -> Result<BTreeMap<String, Checksum>, String> {
    let mut refs = BTreeMap::new();
    for (name, content) in machine.files_below("refs/heads") {
        let text = String::from_utf8_lossy(&content).into_owned();
        let commit = text
            .strip_suffix('\n')
            .and_then(|digits| digits.parse().ok());
        refs.insert(
            name.clone(),
            commit.ok_or(format!("{name} holds {text:?}"))?,
        );
    }
    Ok(refs)
}

/// Returns the objects of a machine, each of which must match its name.
fn objects(machine: &Machine, universe: &Universe) -> Result<BTreeSet<ObjectId>, String> {
    let mut objects = BTreeSet::new();
    for (name, content) in machine.files_below("objects") {
        let node = machine
            .resolve(&format!("objects/{name}"))
            .expect("it is there");
        if machine.mode(node) != 0o644 {
            return Err(format!("not everybody can read objects/{name}"));
        }
        let good = match universe.paths.get(&name) {
            Some(id) => {
                objects.insert(*id);
                *universe.stored(*id) == **content
            }
            None => universe.detached.iter().any(|(commit, all)| {
                let path = commit_id(*commit).loose_path("commitmeta");
                path == name && all.contains(&content)
            }),
        };
        if !good {
            return Err(format!("objects/{name} is damaged"));
        }
    }
    Ok(objects)
}

/// Returns the values each ref may hold while `push` moves it from `old`; once the push is done,
/// only the new one.
pub(crate) fn possible(
    old: &BTreeMap<String, Checksum>,
    push: &Push,
    is_done: bool,
) -> BTreeMap<String, Vec<Option<Checksum>>> {
    let new = push.apply(old);
    let values = |name: &String, new: Checksum| match is_done {
        true => vec![Some(new)],
        false => vec![Some(new), old.get(name).copied()],
    };
    new.iter()
        .map(|(name, commit)| (name.clone(), values(name, *commit)))
        .collect()
}

/// Removes every object that no ref reaches, as `ostree prune --refs-only` does; does nothing while
/// another process publishes.
pub(crate) fn prune(machine: &Arc<Mutex<Machine>>, universe: &Universe) -> bool {
    let mut machine = machine.lock().unwrap();
    let lock = match machine.resolve(".lock") {
        Ok(node) => node,
        Err(_) => machine.make(".lock", Node::File(Arc::default())).unwrap(),
    };
    let Some(token) = machine.lock(lock, None, LockMode::Exclusive) else {
        return false;
    };
    let mut live = BTreeSet::new();
    for commit in held(&machine).unwrap().values() {
        live.extend(universe.closure(commit_id(*commit)));
        live.insert(commit_id(*commit));
    }
    let kept: BTreeSet<_> = live.iter().map(ObjectId::archive_path).collect();
    for (name, _) in machine.files_below("objects") {
        if !kept.contains(&name) {
            let path = format!("objects/{name}");
            let (dir, name, _) = machine.place(&path).unwrap();
            machine.name(&[(dir, name, None)]);
        }
    }
    machine.unlock(token);
    true
}

/// Returns the number of cases, where one run of the tests uses `usual`.
pub(crate) fn cases(usual: u32) -> u32 {
    let times = std::env::var("MODEL_CASES").map_or(1, |text| text.parse().unwrap());
    usual * times
}
