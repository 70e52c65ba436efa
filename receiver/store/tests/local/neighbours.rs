//! Objects that a push leaves for others to read, walk and rewrite, where a check of one path would
//! not suffice.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use crate::session::Session;
use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, Summary};
use artifact_protocol::frame::{CloseCode, PushOptions, RefOutcome, RefusalCode, SummaryDone};
use artifact_protocol::limits::Limits;
use artifact_protocol::session::Announcement;
use artifact_store::{
    Allowance, Error, Fs, StoreConfig, SummaryConfig, SummaryMode, list_refs, remove_refs, tidy,
};

use crate::support::{Op, Pair, done, open, ostree, update};

/// Handmade directories and commits, with their bytes.
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

    /// Makes a directory that is `levels` levels above another one, itself included.
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

    /// Stages every object made so far.
    pub(crate) fn stage<F: Fs>(&self, store: &Session<F>) {
        for (id, content) in &self.objects {
            store.stage(*id, content).unwrap();
        }
    }

    /// Stages the objects of these kinds and forgets all, so that later pushes must find them.
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
    // Chains, each ending in the one before, whose heads the root names. Two are not too high. Of
    // three, only the sum is: the walk knows one or two chains already when it comes to the last.
    // It meets the heads in the order of their checksums, so that this takes several trees.
    for salt in ["a", "b", "c", "e"] {
        for (chains, deep) in [(2, false), (3, true)] {
            let pair = Pair::new();
            let mut made = Made::new(&pair);
            let empty = made.dir(&[]);
            let mut end = made.dir(&[(salt, empty)]);
            let mut heads = Vec::new();
            for number in 0..chains {
                end = made.chain(end, 100);
                heads.push((format!("{number:03}"), end));
            }
            let heads: Vec<_> = heads.iter().map(|(name, c)| (name.as_str(), *c)).collect();
            let root = made.dir(&heads);
            let commit = made.commit(root);
            assert_eq!(is_too_deep(made.push(&pair, "x", commit)), deep);
            if !deep {
                pair.assert_sound(&["x"]);
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
    // Heights 1, 101, 201: the third would make 301.
    loop {
        let commit = made.commit(tree);
        let store = pair.store();
        let refs = vec![update(&format!("p/a/{levels}"), commit)];
        let announcement = Announcement {
            refs,
            ..Announcement::default()
        };
        // The server suggests the last one, and the client relies on it.
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
    // The same through a new commit of an old tree: its tree may be as high as before.
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

    // Objects that the server has, but not below that commit, where they might be.
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

/// The longest summary that clients on Debian 12 read.
const READABLE: usize = 10 * 1024 * 1024;

fn summary(pair: &Pair) -> Summary {
    let content = fs::read(pair.target().join("summary")).unwrap();
    assert!(content.len() <= READABLE, "{} bytes", content.len());
    Summary::parse(&content).unwrap()
}

/// Opens the target for an identity.
fn store_of(pair: &Pair, identity: &str, refs_max: Option<u64>, mode: SummaryMode) -> Session {
    let config = StoreConfig {
        identity: identity.to_owned(),
        allowance: Allowance {
            refs_max,
            ..Allowance::default()
        },
        summary: SummaryConfig {
            mode,
            sign_key: None,
        },
        ..StoreConfig::default()
    };
    Session::at(&pair.target(), config).unwrap()
}

/// Pushes refs to one commit; returns the outcome of each, and of the summary.
fn push_refs(
    pair: &Pair,
    store: &Session,
    names: &[String],
    commit: Checksum,
) -> (Vec<RefOutcome>, SummaryDone) {
    let updates: Vec<_> = names.iter().map(|name| update(name, commit)).collect();
    open(store, PushOptions::default(), &updates);
    for id in pair.closure(commit) {
        store.stage(id, &pair.stored(id)).unwrap();
    }
    let outcomes = done(store.publish().unwrap());
    (outcomes, store.summarize())
}

/// Returns a name of some 1,000 bytes, in directories shared with names of other numbers.
fn long_name(top: &str, number: usize) -> String {
    let dirs = format!("{}/", "x".repeat(199)).repeat(5);
    format!("{top}/{dirs}{number:06}")
}

#[test]
fn a_long_version_is_in_no_summary_and_costs_a_ref_no_more_than_a_short_one() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let tree = made.dir(&[]);
    for (len, is_said) in [(64, true), (65, false), (3_000_000, false)] {
        let commit = Commit {
            tree,
            version: Some("9".repeat(len)),
            ..made.model()
        };
        let commit = made.commit_as(commit);
        let store = pair.store();
        let names: Vec<_> = (0..20).map(|n| format!("alpha/{len}/{n}")).collect();
        let updates: Vec<_> = names.iter().map(|name| update(name, commit)).collect();
        open(&store, PushOptions::default(), &updates);
        made.stage(&store);
        done(store.publish().unwrap());
        assert_eq!(store.summarize(), SummaryDone::Current);
        let summary = summary(&pair);
        let said = |name: &String| summary.refs[name].version.is_some();
        assert_eq!(names.iter().all(said), is_said);
        let record = pair
            .target()
            .join("extensions/artifact-cache/summary.record");
        assert!(fs::metadata(record).unwrap().len() < 100_000);
    }
    // A rebuilt summary is the same.
    let rebuilt = pair.store().rebuild_summary(|made| *made).unwrap();
    assert!(!rebuilt.replaced && rebuilt.len < 100_000, "{rebuilt:?}");
}

#[test]
fn a_summary_that_grows_too_long_names_those_who_have_few_and_stock_ostree_pulls_them() {
    let pair = Pair::new();
    let bobs = pair.commit(None, &[("a", "bob")]);
    let names = |names: &[&str]| names.iter().map(|&n| n.to_owned()).collect::<Vec<_>>();
    let bob = names(&["beta/x", "beta/y"]);
    let (_, told) = push_refs(
        &pair,
        &store_of(&pair, "bob", Some(9), SummaryMode::Full),
        &bob,
        bobs,
    );
    assert_eq!(told, SummaryDone::Current);
    // A repository without a limit, or of so many identities that the limits do not help; made by
    // hand, since so many pushes take a while.
    let commit = pair.commit(None, &[("a", "mallory")]);
    let first = [long_name("alpha", 0)];
    let mallory = || store_of(&pair, "mallory", None, SummaryMode::Full);
    push_refs(&pair, &mallory(), &first, commit);
    let heads = pair.target().join("refs/heads");
    for number in 1..10_000 {
        let path = heads.join(long_name("alpha", number));
        fs::write(path, format!("{commit}\n")).unwrap();
    }
    let store = mallory();
    open(
        &store,
        PushOptions::default(),
        &[update(&long_name("alpha", 1), commit)],
    );
    let told = store.summarize();
    assert!(
        matches!(told, SummaryDone::Failed(_)),
        "the oldest is left out: {told:?}"
    );
    let modes = [
        SummaryMode::Full,
        SummaryMode::WithoutTimestamps,
        SummaryMode::Matching(vec!["**".parse().unwrap()]),
    ];
    for (number, mode) in modes.into_iter().enumerate() {
        let last = names(&[&format!("beta/{number}")]);
        let store = store_of(&pair, "bob", Some(90), mode.clone());
        let (outcomes, told) = push_refs(&pair, &store, &last, bobs);
        assert_eq!(
            (&outcomes[..], told),
            (&[RefOutcome::Updated][..], SummaryDone::Current)
        );
        let summary = summary(&pair);
        for name in bob.iter().chain(&last) {
            assert!(summary.refs.contains_key(name), "{name}");
        }
        let named = summary.refs.len();
        assert!((8_000..10_000).contains(&named), "{named} refs");
        let rebuilt = store_of(&pair, "admin", None, mode).rebuild_summary(|made| *made);
        let rebuilt = rebuilt.unwrap();
        assert!(!rebuilt.replaced && rebuilt.left_out > 0, "{rebuilt:?}");
    }
    pull_http(&pair, &["beta/x"]);
}

/// Pulls refs with stock ostree over HTTP, summary included.
fn pull_http(pair: &Pair, refs: &[&str]) {
    let puller = tempfile::TempDir::new().unwrap();
    ostree(&["init", "--mode=bare-user"], puller.path());
    let url = format!("file://{}", pair.target().display());
    ostree(
        &["remote", "add", "--no-gpg-verify", "cache", &url],
        puller.path(),
    );
    let mut args = vec!["pull", "cache"];
    args.extend(refs);
    ostree(&args, puller.path());
}

#[test]
fn an_identity_has_no_more_refs_than_it_may_until_some_are_removed() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let push = |identity: &str, names: &[String]| {
        let store = store_of(&pair, identity, Some(100), SummaryMode::Full);
        let (outcomes, told) = push_refs(&pair, &store, names, commit);
        assert_eq!(told, SummaryDone::Current);
        outcomes
    };
    let refused = |outcome: &RefOutcome| match outcome {
        RefOutcome::Refused(refusal) => {
            assert_eq!(refusal.code, RefusalCode::NOT_PERMITTED);
            assert!(format!("{refusal:?}").contains("refs-max"), "{refusal:?}");
            true
        }
        RefOutcome::Updated => false,
        other => panic!("{other:?}"),
    };
    let count = |outcomes: &[RefOutcome]| outcomes.iter().filter(|o| !refused(o)).count();
    // A directory counts as 4 refs.
    let names = |top: &str| (0..200).map(|n| format!("{top}/{n}")).collect::<Vec<_>>();
    assert_eq!(count(&push("mallory", &names("alpha"))), 96);
    assert_eq!(count(&push("mallory", &names("more"))), 0);
    // An existing ref may be pushed again, and other identities are not affected.
    assert!(matches!(
        push("mallory", &names("alpha")[..1])[0],
        RefOutcome::Unchanged
    ));
    assert_eq!(count(&push("bob", &names("beta"))), 96);
    // Long names and directories count for their cost.
    let long: Vec<_> = (0..200).map(|n| long_name("long", n)).collect();
    let got = count(&push("carol", &long));
    assert!(got <= 10, "{got}");
    let deep: Vec<_> = (0..200)
        .map(|n| format!("deep/{n}/{}x", "d/".repeat(13)))
        .collect();
    assert_eq!(count(&push("dave", &deep)), 1);
    // Removing a ref, by whatever means, frees its share.
    let gone = format!("alpha/{}", 3);
    let name = gone.parse().unwrap();
    remove_refs(&pair.target(), SummaryConfig::default(), &[(name, None)]).unwrap();
    fs::remove_file(pair.target().join("refs/heads/alpha/4")).unwrap();
    assert_eq!(
        count(&push("mallory", &names("new")[..1])),
        0,
        "a directory more"
    );
    let again: Vec<_> = (200..300).map(|n| format!("alpha/{n}")).collect();
    assert_eq!(count(&push("mallory", &again)), 2);
    pair.assert_sound(&["alpha/0", "beta/0"]);
}

#[test]
fn sessions_of_one_identity_at_once_share_its_allowance() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let stores: Vec<_> = (0..3)
        .map(|number| {
            let store = store_of(&pair, "mallory", Some(14), SummaryMode::Full);
            let updates: Vec<_> = (0..10)
                .map(|n| update(&format!("alpha/{number}-{n}"), commit))
                .collect();
            open(&store, PushOptions::default(), &updates);
            pair.stage_all(&store, commit);
            store
        })
        .collect();
    for store in &stores {
        done(store.publish().unwrap());
    }
    assert_eq!(list_refs(&pair.target()).unwrap().len(), 10);
}

/// Counts all files and directories, and their bytes, except those that belong to no push.
fn left(dir: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let stat = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if stat.is_dir() {
                dirs.push(path);
                found.insert(name, 0);
            } else {
                found.insert(name, stat.size());
            }
        }
    }
    found
}

#[test]
fn nothing_is_left_of_refs_that_are_removed_and_a_neighbour_that_sets_one_meanwhile_loses_nothing()
{
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let bob = store_of(&pair, "bob", Some(50), SummaryMode::Full);
    push_refs(&pair, &bob, &["beta/x".to_owned()], commit);
    drop(bob);
    let before = left(&pair.target());
    let names: Vec<_> = (0..50)
        .map(|n| format!("alpha/{}/{n}/{}x", n % 3, "d/".repeat(n % 12)))
        .collect();
    let mallory = store_of(&pair, "mallory", Some(5_000), SummaryMode::Full);
    let (outcomes, _) = push_refs(&pair, &mallory, &names, commit);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == RefOutcome::Updated)
    );
    drop(mallory);
    // And the remains of a session that was cut.
    let cut = store_of(&pair, "mallory", Some(5_000), SummaryMode::Full);
    let other = pair.commit(None, &[("a", "never published")]);
    open(&cut, PushOptions::default(), &[update("alpha/cut", other)]);
    pair.stage_all(&cut, other);
    drop(cut);
    pair.age_staging(Duration::from_secs(3600));
    assert!(left(&pair.target()).len() > before.len() + 100);
    let wanted: Vec<_> = names
        .iter()
        .map(|name| (name.parse().unwrap(), None))
        .collect();
    remove_refs(&pair.target(), SummaryConfig::default(), &wanted).unwrap();
    tidy(&pair.target()).unwrap();
    ostree(&["prune", "--refs-only"], &pair.target());
    let after = left(&pair.target());
    let differ: Vec<_> = after
        .iter()
        .filter(|(name, len)| before.get(*name) != Some(len))
        .collect();
    // The record contains times, whose encoding may differ by a byte.
    assert!(
        differ
            .iter()
            .all(|(name, _)| name.ends_with("summary.record")),
        "{differ:?}"
    );
    assert_eq!(before.len(), after.len());
    pair.assert_sound(&["beta/x"]);
}

#[test]
fn refs_and_directories_that_an_earlier_version_or_another_program_left_can_be_removed() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    assert_eq!(pair.push("good/x", commit), RefOutcome::Updated);
    let deep = format!("alpha/{}x", "d/".repeat(60));
    let path = pair.target().join("refs/heads").join(&deep);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("{commit}\n")).unwrap();
    let hollow = pair.target().join("refs/heads/hollow/a/b/c");
    fs::create_dir_all(&hollow).unwrap();
    let listed = list_refs(&pair.target()).unwrap();
    let found = listed.iter().find(|r| r.name.as_str() == deep).unwrap();
    let wanted = [(found.name.clone(), Some(commit))];
    remove_refs(&pair.target(), SummaryConfig::default(), &wanted).unwrap();
    assert!(!pair.target().join("refs/heads/alpha").exists());
    tidy(&pair.target()).unwrap();
    let heads = fs::read_dir(pair.target().join("refs/heads")).unwrap();
    assert_eq!(heads.count(), 1);
    pair.assert_sound(&["good/x"]);
}

#[test]
fn a_commit_that_is_gone_is_in_no_summary_that_is_made_from_then_on() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "1")]);
    let second = pair.commit(None, &[("a", "2")]);
    for (name, commit) in [("p/first", first), ("p/second", second), ("q/first", first)] {
        assert_eq!(pair.push(name, commit), RefOutcome::Updated);
        assert_eq!(pair.store().summarize(), SummaryDone::Current);
    }
    // The record has settled, so that its entries are carried over.
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    let id = ObjectId::new(ObjectKind::Commit, first);
    fs::remove_file(pair.target().join("objects").join(id.archive_path())).unwrap();
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    let named: Vec<_> = summary(&pair).refs.into_keys().collect();
    assert_eq!(named, ["p/second"]);
    // The ref comes back with its commit.
    assert_eq!(pair.push("p/first", first), RefOutcome::Updated);
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    assert_eq!(summary(&pair).refs.len(), 3);
}

#[test]
fn directories_for_refs_are_counted_with_the_objects_of_a_push() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let objects = pair.closure(commit).len() as u64;
    let push = |dirs: u64, max: u64| {
        let limits = Limits {
            push_objects_max: max,
            ..Limits::default()
        };
        let config = StoreConfig {
            limits,
            ..StoreConfig::default()
        };
        let store = Session::at(&pair.target(), config).unwrap();
        // The directory above them all counts as one.
        let refs = (1..dirs).map(|n| update(&format!("{dirs}-{max}/{n}/x"), commit));
        let announcement = Announcement {
            refs: refs.collect(),
            ..Announcement::default()
        };
        store.open(&announcement)?;
        pair.stage_all(&store, commit);
        store.publish()
    };
    for (dirs, max, fits) in [
        (20, 20 + objects, true),
        (20, 19 + objects, false),
        (20, 19, false),
    ] {
        match push(dirs, max) {
            Ok(published) => assert!(fits && done(published)[0] == RefOutcome::Updated),
            Err(error) => {
                assert_eq!(error.to_fault().code, CloseCode::LIMIT, "{error}");
                assert!(!fits);
                assert!(
                    !pair
                        .target()
                        .join(format!("refs/heads/{dirs}-{max}"))
                        .exists()
                );
            }
        }
    }
}

#[test]
fn a_history_that_many_refs_share_is_read_once_in_a_push() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let tree = made.dir(&[]);
    // The refs' current commits are not in the history of their new ones.
    let old = made.commit(tree);
    let mut parent = None;
    let history: Vec<_> = (0..1_000u64)
        .map(|number| {
            let commit = Commit {
                tree,
                parent,
                timestamp: number,
                ..made.model()
            };
            parent = Some(made.commit_as(commit));
            parent.unwrap()
        })
        .collect();
    let names: Vec<_> = (0..100).map(|n| format!("alpha/{n}")).collect();
    let mut updates: Vec<_> = names.iter().map(|name| update(name, old)).collect();
    let kept = history[900..].iter().enumerate();
    updates.extend(kept.map(|(n, commit)| update(&format!("kept/{n}"), *commit)));
    let store = pair.store();
    open(&store, PushOptions::default(), &updates);
    made.stage(&store);
    done(store.publish().unwrap());
    drop(store);

    let (store, record) = pair.recorded();
    // All refs move to the last commit, or each to a different one: the history is the same.
    let updates: Vec<_> = (names.iter().enumerate())
        .map(|(n, name)| update(name, history[if n < 50 { 999 } else { 900 + n }]))
        .collect();
    open(&store, PushOptions::default(), &updates);
    let before = record.ops.lock().unwrap().len();
    let outcomes = done(store.publish().unwrap());
    let refused = |outcome: &RefOutcome| {
        let RefOutcome::Refused(refusal) = outcome else {
            return false;
        };
        refusal.code == RefusalCode::NOT_FAST_FORWARD
    };
    assert!(outcomes.iter().all(refused), "{outcomes:?}");
    let read = |op: &&Op| {
        let Op::Open(path) = op else {
            return false;
        };
        path.ends_with(".commit") && path.starts_with("objects")
    };
    let ops = record.ops.lock().unwrap();
    let read = ops[before..].iter().filter(read).count();
    assert!((1_000..1_100).contains(&read), "{read} commits were read");
}

#[test]
fn a_ref_moves_along_a_history_of_which_a_part_is_here_and_a_part_is_sent() {
    let pair = Pair::new();
    let mut parent = None;
    let commits: Vec<_> = (0..6)
        .map(|n| {
            parent = Some(pair.commit(parent, &[("a", &n.to_string())]));
            parent.unwrap()
        })
        .collect();
    for (name, commit) in [("x", commits[0]), ("y", commits[1]), ("z", commits[3])] {
        assert_eq!(pair.push(name, commit), RefOutcome::Updated);
    }
    let store = pair.store();
    let updates = [("x", 5), ("y", 5), ("z", 4)].map(|(name, to)| update(name, commits[to]));
    open(&store, PushOptions::default(), &updates);
    // At first, one commit in between exists nowhere.
    for commit in [commits[5], commits[4], commits[3]] {
        pair.stage_all(&store, commit);
    }
    let outcomes = done(store.publish().unwrap());
    let moved: Vec<_> = outcomes.iter().map(|o| *o == RefOutcome::Updated).collect();
    assert_eq!(moved, [false, false, true], "{outcomes:?}");
    drop(store);
    let store = pair.store();
    open(&store, PushOptions::default(), &updates);
    commits[2..]
        .iter()
        .for_each(|commit| pair.stage_all(&store, *commit));
    let outcomes = done(store.publish().unwrap());
    let expected = [
        RefOutcome::Updated,
        RefOutcome::Updated,
        RefOutcome::Unchanged,
    ];
    assert_eq!(outcomes, expected);
    pair.assert_sound(&["x", "y", "z"]);
}

#[test]
fn one_commit_with_many_bindings_is_read_once_for_all_its_refs() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let tree = made.dir(&[]);
    let names: Vec<_> = (0..300).map(|n| format!("alpha/{n}")).collect();
    let bound = (0..20_000).map(|n| format!("alpha/{n}"));
    let commit = made.commit_as(Commit {
        tree,
        ref_bindings: Some(bound.collect()),
        ..made.model()
    });
    let (store, record) = pair.recorded();
    let mut updates: Vec<_> = names.iter().map(|name| update(name, commit)).collect();
    updates.push(update("beta/other", commit));
    open(&store, PushOptions::default(), &updates);
    made.stage(&store);
    let outcomes = done(store.publish().unwrap());
    let (last, others) = outcomes.split_last().unwrap();
    assert!(others.iter().all(|outcome| *outcome == RefOutcome::Updated));
    assert!(matches!(last, RefOutcome::Refused(r) if r.code == RefusalCode::BINDING));
    let read =
        |op: &&Op| matches!(op, Op::Open(path) if path.ends_with(&format!("{commit}.commit")));
    let read = record.ops.lock().unwrap().iter().filter(read).count();
    assert!(read < 10, "read {read} times");
}

#[test]
fn a_commit_of_another_collection_is_refused_where_there_is_one() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let tree = made.dir(&[]);
    let mut push = |name: &str, collection: Option<&str>| {
        let commit = Commit {
            tree,
            collection_binding: collection.map(str::to_owned),
            subject: name.to_owned(),
            ..made.model()
        };
        let commit = made.commit_as(commit);
        let store = pair.store();
        open(&store, PushOptions::default(), &[update(name, commit)]);
        made.stage(&store);
        done(store.publish().unwrap()).remove(0)
    };
    assert_eq!(push("w", Some("org.example.Other")), RefOutcome::Updated);
    let own = "org.example.Main";
    ostree(
        &["config", "set", "core.collection-id", own],
        &pair.target(),
    );
    assert_eq!(push("x", Some(own)), RefOutcome::Updated);
    assert_eq!(push("y", None), RefOutcome::Updated);
    let RefOutcome::Refused(refusal) = push("z", Some("org.example.Other")) else {
        panic!("taken");
    };
    assert_eq!(refusal.code, RefusalCode::BINDING);
    assert!(format!("{refusal:?}").contains(own), "{refusal:?}");
}

// For each ref, the whole history of its commit was once read again: a megabyte of announcements
// kept the server at work for an hour.
#[test]
fn a_history_that_many_refs_share_is_followed_once_when_it_is_offered() {
    let pair = Pair::new();
    let mut made = Made::new(&pair);
    let tree = made.dir(&[]);
    let mut parent = None;
    let history: Vec<_> = (0..300)
        .map(|timestamp| {
            let commit = Commit {
                tree,
                parent,
                timestamp,
                ..made.model()
            };
            parent = Some(made.commit_as(commit));
            parent.unwrap()
        })
        .collect();
    let tip = *history.last().unwrap();
    let push = |names: &str, commits: &[Checksum], made: &Made| {
        let (store, record) = pair.recorded();
        let refs = commits.iter().enumerate();
        let refs = refs.map(|(n, commit)| update(&format!("{names}/{n}"), *commit));
        let announcement = Announcement {
            refs: refs.collect(),
            history: 1_000,
            ..Announcement::default()
        };
        store.open(&announcement).unwrap();
        made.stage(&store);
        let outcomes = done(store.publish().unwrap());
        let read = |op: &&Op| {
            let Op::Open(path) = op else {
                return false;
            };
            path.ends_with(".commit") && path.starts_with("objects")
        };
        let ops = record.ops.lock().unwrap();
        (outcomes, ops.iter().filter(read).count())
    };
    // Refs that hold their commits already.
    let tips = [tip; 50];
    let (outcomes, _) = push("old", &tips, &made);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == RefOutcome::Updated)
    );
    let (outcomes, read) = push("old", &tips, &made);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == RefOutcome::Unchanged)
    );
    assert!(read < 3_000, "{read} commits were read");
    // And new commits atop the same history.
    let mut new = Made::new(&pair);
    let tree = new.dir(&[]);
    let commits: Vec<_> = (1_000..1_050)
        .map(|timestamp| {
            new.commit_as(Commit {
                tree,
                parent: Some(tip),
                timestamp,
                ..new.model()
            })
        })
        .collect();
    let (outcomes, read) = push("new", &commits, &new);
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == RefOutcome::Updated)
    );
    assert!(read < 3_000, "{read} commits were read");
}
