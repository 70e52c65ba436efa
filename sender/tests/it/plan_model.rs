//! Plans of random trees against a model of a server that has some of them, with answers that come
//! at once, late, or in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, ObjectId, ObjectKind, Xattrs,
};
use artifact_sender::{Plan, Repository, Target};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::{prop_assert, prop_assert_eq, proptest};
use sha2::{Digest, Sha256};

use crate::fixture::{Fixture, object_path};

/// The meaning of a name in a directory.
#[derive(Clone, Debug)]
enum Node {
    File(u8),
    Directory(Tree),
}

#[derive(Clone, Debug)]
struct Tree(u8, BTreeMap<String, Node>); // the mode's last digits

/// Trees of few different files, so that most files occur in many places.
fn trees() -> impl Strategy<Value = Tree> {
    let file = (0..20u8).prop_map(Node::File);
    let node = file.prop_recursive(5, 60, 6, |node| {
        prop_oneof![
            (0..20u8).prop_map(Node::File),
            (0..3u8, btree_map("[a-d]", node, 0..6)).prop_map(|(m, n)| Node::Directory(Tree(m, n))),
        ]
    });
    (0..3u8, btree_map("[a-h]", node, 1..8)).prop_map(|(mode, nodes)| Tree(mode, nodes))
}

/// Makes the parts of a repository that a plan reads; faster than the `ostree` program.
fn skeleton(fixture: &Fixture) -> PathBuf {
    let path = fixture.tree("local");
    fs::write(
        path.join("config"),
        "[core]\nrepo_version=1\nmode=archive-z2\n",
    )
    .unwrap();
    fs::create_dir(path.join("objects")).unwrap();
    path
}

/// Objects, and the objects directly below each.
#[derive(Default)]
struct Graph(BTreeMap<ObjectId, Vec<ObjectId>>);

impl Graph {
    fn store(
        &mut self,
        repo: &Path,
        kind: ObjectKind,
        bytes: &[u8],
        below: Vec<ObjectId>,
    ) -> Checksum {
        let checksum = Checksum::new(Sha256::digest(bytes).into());
        let id = ObjectId::new(kind, checksum);
        let path = object_path(repo, id, kind.archive_extension());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        self.0.insert(id, below);
        checksum
    }

    fn tree(&mut self, repo: &Path, tree: &Tree) -> (Checksum, Checksum) {
        let (mut files, mut dirs, mut below) = (Vec::new(), Vec::new(), Vec::new());
        for (name, node) in &tree.1 {
            match node {
                Node::File(number) => {
                    let checksum = Checksum::new([*number; 32]);
                    files.push((name.as_str(), checksum));
                    below.push(ObjectId::new(ObjectKind::File, checksum));
                    self.0
                        .insert(ObjectId::new(ObjectKind::File, checksum), Vec::new());
                }
                Node::Directory(tree) => {
                    let (tree, meta) = self.tree(repo, tree);
                    dirs.push((name.as_str(), tree, meta));
                    below.push(ObjectId::new(ObjectKind::Dirtree, tree));
                    below.push(ObjectId::new(ObjectKind::Dirmeta, meta));
                }
            }
        }
        let bytes = Dirtree::serialize(files, dirs);
        let dirtree = self.store(repo, ObjectKind::Dirtree, &bytes, below);
        let attributes = Attributes {
            uid: 0,
            gid: 0,
            mode: 0o040_750 + u32::from(tree.0),
            xattrs: Xattrs::default(),
        };
        let dirmeta = Dirmeta::new(attributes).unwrap().serialize();
        let dirmeta = self.store(repo, ObjectKind::Dirmeta, &dirmeta, Vec::new());
        (dirtree, dirmeta)
    }

    fn commit(&mut self, repo: &Path, tree: &Tree) -> Checksum {
        let (tree, meta) = self.tree(repo, tree);
        let commit = Commit::new(tree, meta);
        let below = vec![
            ObjectId::new(ObjectKind::Dirtree, tree),
            ObjectId::new(ObjectKind::Dirmeta, meta),
        ];
        self.store(repo, ObjectKind::Commit, &commit.serialize(), below)
    }

    /// Returns the commit and everything below it, except below objects for which `stop` is true.
    fn reach(&self, commit: Checksum, stop: impl Fn(&ObjectId) -> bool) -> BTreeSet<ObjectId> {
        let mut reached = BTreeSet::new();
        let mut stack = vec![ObjectId::new(ObjectKind::Commit, commit)];
        while let Some(id) = stack.pop() {
            if reached.insert(id) && !stop(&id) {
                stack.extend(&self.0[&id]);
            }
        }
        reached
    }

    fn closure(&self, commit: Checksum) -> BTreeSet<ObjectId> {
        self.reach(commit, |_| false)
    }
}

proptest! {
    #[test]
    fn every_object_the_server_lacks_is_offered_once_and_nothing_beneath_the_basis(
        wanted in vec(trees(), 1..3),
        base in vec(trees(), 0..3),
        elsewhere in vec(trees(), 0..3),
        related in any::<bool>(),
        steps in vec((1..40usize, 0..40usize), 1..20),
    ) {
        let fixture = Fixture::in_memory();
        let local = skeleton(&fixture);
        let mut graph = Graph::default();
        let targets: Vec<_> = wanted.iter().map(|tree| graph.commit(&local, tree)).collect();
        let mut held: Vec<_> = base.iter().map(|tree| graph.commit(&local, tree)).collect();
        held.retain(|commit| !targets.contains(commit));
        // Other objects the server has: other trees, and perhaps a part of the pushed one.
        let mut others: Vec<_> = elsewhere.iter().map(|tree| graph.commit(&local, tree)).collect();
        if related {
            let below = wanted[0].1.values().filter_map(|node| match node {
                Node::Directory(tree) => Some(tree),
                Node::File(_) => None,
            });
            others.extend(below.map(|tree| graph.commit(&local, tree)).collect::<Vec<_>>());
        }
        others.retain(|commit| !targets.contains(commit));
        let beneath_basis: BTreeSet<_> = held.iter().flat_map(|c| graph.closure(*c)).collect();
        let mut server: BTreeSet<_> = others.iter().flat_map(|c| graph.closure(*c)).collect();
        server.extend(&beneath_basis);

        let repository = Arc::new(Repository::open(&local).unwrap());
        let announced: Vec<_> = targets
            .iter()
            .map(|commit| Target { commit: *commit, current: None })
            .collect();
        let mut plan = Plan::new(Arc::clone(&repository), &announced, &held, 0).unwrap();
        let mut offered = BTreeSet::new();
        let mut unanswered = VecDeque::new();
        for (offer, answer) in steps.iter().cycle() {
            let batch = plan.next(*offer).unwrap();
            prop_assert!(batch.len() <= *offer);
            for id in &batch {
                prop_assert!(offered.insert(*id), "{id} is offered twice");
            }
            unanswered.extend(batch);
            // When the plan has nothing to offer, answers arrive.
            for _ in 0..=*answer {
                if let Some(id) = unanswered.pop_front() {
                    plan.answer(id, server.contains(&id));
                }
            }
            if plan.is_exhausted() {
                break;
            }
        }
        prop_assert!(plan.next(usize::MAX).unwrap().is_empty());
        let needed: BTreeSet<_> = targets.iter().flat_map(|c| graph.closure(*c)).collect();
        prop_assert!(offered.is_subset(&needed));
        prop_assert!(offered.is_disjoint(&beneath_basis));
        prop_assert!(needed.difference(&server).all(|id| offered.contains(id)));

        // When answers arrive at once, a plan does not even offer objects below one that the server
        // has.
        let mut plan = Plan::new(repository, &announced, &held, 0).unwrap();
        let mut offered = BTreeSet::new();
        while let Some(id) = plan.next(1).unwrap().pop() {
            offered.insert(id);
            plan.answer(id, server.contains(&id));
        }
        let reached = targets.iter().flat_map(|c| graph.reach(*c, |id| server.contains(id)));
        let least: BTreeSet<_> = reached.filter(|id| !beneath_basis.contains(id)).collect();
        prop_assert_eq!(offered, least);
        prop_assert!(plan.is_exhausted());
    }
}

#[test]
fn directories_are_looked_into_unasked_only_while_few_answers_are_missing() {
    let fixture = Fixture::in_memory();
    let local = skeleton(&fixture);
    let mut graph = Graph::default();
    let leaf = |name: String| Node::Directory(Tree(0, BTreeMap::from([(name, Node::File(0))])));
    let wide = |name: usize| {
        let leaves = (0..100).map(|n| (format!("{n:03}"), leaf(format!("{name}-{n}"))));
        Node::Directory(Tree(0, leaves.collect()))
    };
    let root = Tree(0, (0..50).map(|n| (format!("{n:03}"), wide(n))).collect());
    let commit = graph.commit(&local, &root);
    let target = Target {
        commit,
        current: None,
    };
    let repository = Arc::new(Repository::open(&local).unwrap());
    let mut plan = Plan::new(repository, &[target], &[], 0).unwrap();
    let first = plan.next(usize::MAX).unwrap();
    assert!(first.len() >= Plan::SPECULATION_MAX);
    assert!(
        first.len() <= Plan::SPECULATION_MAX + 102,
        "{}",
        first.len()
    );
    assert!(plan.next(usize::MAX).unwrap().is_empty());
    assert!(!plan.is_exhausted());
    // The plan descends into a wanted directory at once, whatever other answers are outstanding.
    let last = *first
        .iter()
        .rfind(|id| id.kind == ObjectKind::Dirtree)
        .unwrap();
    plan.answer(last, false);
    let below = plan.next(usize::MAX).unwrap();
    assert!(graph.0[&last].ends_with(&below) && !below.is_empty());
}

#[test]
fn a_late_have_takes_back_what_was_not_offered_yet() {
    let fixture = Fixture::in_memory();
    let local = skeleton(&fixture);
    let mut graph = Graph::default();
    let files = (0..5).map(|number| (number.to_string(), Node::File(number)));
    let commit = graph.commit(&local, &Tree(0, files.collect()));
    let target = Target {
        commit,
        current: None,
    };
    let repository = Arc::new(Repository::open(&local).unwrap());
    let mut plan = Plan::new(repository, &[target], &[], 0).unwrap();
    let first = plan.next(4).unwrap();
    let kinds: Vec<_> = first.iter().map(|id| id.kind).collect();
    let [commit, dirtree, dirmeta] = [ObjectKind::Commit, ObjectKind::Dirtree, ObjectKind::Dirmeta];
    assert_eq!(kinds, [commit, dirtree, dirmeta, ObjectKind::File]);
    plan.answer(first[0], false);
    assert!(!plan.is_exhausted());
    plan.answer(first[1], true);
    assert!(plan.is_exhausted());
    assert!(plan.next(usize::MAX).unwrap().is_empty());
}
