//! What a push leaves for others to read, walk and rewrite, and what a check of one path would miss.

use std::collections::BTreeMap;

use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind};
use artifact_protocol::frame::{CloseCode, PushOptions, RefOutcome};
use artifact_protocol::session::Announcement;
use artifact_store::{Error, Store};

use crate::support::{Op, Pair, done, open, update};

/// Directories and commits made by hand, with their bytes.
pub(crate) struct Made {
    meta: Checksum,
    model: Commit,
    objects: BTreeMap<ObjectId, Vec<u8>>,
}

impl Made {
    pub(crate) fn new(pair: &Pair) -> Self {
        let commit = pair.commit(None, &[("a", "a")]);
        let stored = |id: ObjectId| pair.stored(id);
        let closure = pair.closure(commit);
        let meta = closure.iter().find(|id| id.kind == ObjectKind::Dirmeta);
        let meta = *meta.unwrap();
        Self {
            meta: meta.checksum,
            model: Commit::parse(&stored(closure[0])).unwrap(),
            objects: BTreeMap::from([(meta, stored(meta))]),
        }
    }

    fn add(&mut self, kind: ObjectKind, content: Vec<u8>) -> Checksum {
        let checksum = Checksum::of(&content);
        self.objects.insert(ObjectId::new(kind, checksum), content);
        checksum
    }

    /// Makes a directory of directories.
    pub(crate) fn dir(&mut self, dirs: &[(&str, Checksum)]) -> Checksum {
        let meta = self.meta;
        let dirs = dirs.iter().map(|&(name, tree)| (name, tree, meta));
        self.add(ObjectKind::Dirtree, Dirtree::serialize([], dirs))
    }

    /// Makes a directory that leads to another one by so many levels, itself included.
    pub(crate) fn chain(&mut self, end: Checksum, levels: usize) -> Checksum {
        (0..levels).fold(end, |tree, _| self.dir(&[("d", tree)]))
    }

    pub(crate) fn commit(&mut self, tree: Checksum) -> Checksum {
        self.commit_as(Commit {
            tree,
            ..self.model.clone()
        })
    }

    pub(crate) fn commit_as(&mut self, commit: Commit) -> Checksum {
        self.add(ObjectKind::Commit, commit.serialize())
    }

    pub(crate) fn model(&self) -> Commit {
        self.model.clone()
    }

    /// Stages all that was made.
    pub(crate) fn stage(&self, store: &impl Store) {
        for (id, content) in &self.objects {
            store.stage(*id, content).unwrap();
        }
    }

    /// Stages those of these kinds and forgets all, so that later pushes must find them.
    pub(crate) fn push(
        &mut self,
        pair: &Pair,
        name: &str,
        commit: Checksum,
    ) -> Result<RefOutcome, Error> {
        let store = pair.store();
        open(&store, PushOptions::default(), &[update(name, commit)]);
        self.stage(&store);
        self.objects.retain(|id, _| id.kind == ObjectKind::Dirmeta);
        store.publish().map(|published| done(published).remove(0))
    }
}

fn is_too_deep(pushed: Result<RefOutcome, Error>) -> bool {
    match pushed {
        Ok(RefOutcome::Updated) => false,
        Err(error @ Error::TooDeep { .. }) => {
            assert_eq!(error.to_fault().code, CloseCode::LIMIT);
            true
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_height_of_a_tree_is_that_of_its_longest_path_however_it_is_met() {
    // Chains, each of which ends in the next, and whose heads the root names: the last first, or the
    // first. No directory is first met deep.
    for reverse in [false, true] {
        for (chains, deep) in [(2, false), (30, true)] {
            let pair = Pair::new();
            let mut made = Made::new(&pair);
            let mut end = made.dir(&[]);
            let mut heads = Vec::new();
            for number in 0..chains {
                end = made.chain(end, 100);
                let number = if reverse { chains - number } else { number };
                heads.push((format!("{number:03}"), end));
            }
            heads.sort();
            let heads: Vec<_> = heads.iter().map(|(name, c)| (name.as_str(), *c)).collect();
            let root = made.dir(&heads);
            let commit = made.commit(root);
            assert_eq!(is_too_deep(made.push(&pair, "a", commit)), deep);
            if !deep {
                pair.assert_sound(&["a"]);
            }
        }
    }
}

#[test]
fn what_is_beneath_a_base_counts_into_the_height_of_what_is_put_atop_it() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let mut tree = made.dir(&[]);
    let mut levels = 1;
    // 1, 101, 201: the third atop would have 301.
    loop {
        let commit = made.commit(tree);
        let store = pair.store();
        let refs = vec![update(&format!("p/a/{levels}"), commit)];
        let announcement = Announcement {
            refs,
            ..Announcement::default()
        };
        // The last one is suggested, and relied on.
        let opened = store.open(&announcement).unwrap();
        store.rely(&opened.complete).unwrap();
        made.stage(&store);
        made.objects.retain(|id, _| id.kind == ObjectKind::Dirmeta);
        let pushed = store.publish().map(|published| done(published).remove(0));
        assert_eq!(is_too_deep(pushed), levels > MAX_TREE_DEPTH);
        if levels > MAX_TREE_DEPTH {
            break;
        }
        tree = made.chain(tree, 100);
        levels += 100;
    }
    // The same by a new commit of an old tree: it may be as high as that was.
    pair.assert_sound(&["p/a/1", "p/a/201"]);
    let mut made = Made::new(&pair);
    let exact = MAX_TREE_DEPTH - 1;
    let leaf = made.dir(&[]);
    let high = made.chain(leaf, exact);
    let commit = made.commit(high);
    assert!(!is_too_deep(made.push(&pair, "p/b/1", commit)));
    let other = Commit {
        subject: "other".into(),
        tree: high,
        ..made.model()
    };
    let commit = made.commit_as(other);
    assert!(!is_too_deep(made.push(&pair, "p/b/2", commit)));
    let higher = made.dir(&[("d", high)]);
    let commit = made.commit(higher);
    assert!(is_too_deep(made.push(&pair, "p/b/3", commit)));
}

#[test]
fn a_neighbours_tree_costs_a_small_push_no_walk_of_it() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let leaf = made.dir(&[]);
    let dirs: Vec<_> = (0..3_000)
        .map(|number| {
            (
                format!("{number:05}"),
                made.dir(&[(&format!("{number}"), leaf)]),
            )
        })
        .collect();
    let dirs: Vec<_> = dirs
        .iter()
        .map(|(name, tree)| (name.as_str(), *tree))
        .collect();
    let root = made.dir(&dirs);
    let commit = made.commit(root);
    assert_eq!(
        made.push(&pair, "p/a/large", commit).unwrap(),
        RefOutcome::Updated
    );

    // What is here already, but not beneath that: it might be.
    let known = pair.commit(None, &[("a", "known")]);
    assert_eq!(pair.push("elsewhere", known), RefOutcome::Updated);
    let (store, record) = pair.recorded();
    open(
        &store,
        PushOptions::default(),
        &[update("p/a/small", known)],
    );
    let before = record.ops.lock().unwrap().len();
    store.have(&pair.closure(known)).unwrap();
    pair.stage_all(&store, known);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    let opened = |op: &&Op| matches!(op, Op::Open(path) if path.ends_with(".dirtree"));
    let ops = record.ops.lock().unwrap();
    let read = ops[before..].iter().filter(opened).count();
    assert!(read < 300, "{read} directories were read");
    drop(ops);
    pair.assert_sound(&["p/a/small"]);
}
