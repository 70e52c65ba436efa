//! A push costs little, whatever other identities have pushed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use artifact_formats::{Checksum, Commit};
use artifact_protocol::frame::{PushOptions, RefOutcome};
use artifact_store::tidy;

use crate::neighbours::Made;
use crate::support::{Op, Pair, done, open, update};

/// Pushes a small commit to a ref; returns the number of file system calls, and the bytes of
/// objects it read.
fn push_small(pair: &Pair, name: &str, commit: Checksum) -> (usize, u64) {
    let (store, record) = pair.recorded();
    open(&store, PushOptions::default(), &[update(name, commit)]);
    store.have(&pair.closure(commit)).unwrap();
    pair.stage_all(&store, commit);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    let ops = record.ops.lock().unwrap();
    let bytes = ops.iter().map(|op| match op {
        Op::Open(path) if path.starts_with("objects/") => {
            fs::metadata(pair.target().join(path)).map_or(0, |found| found.len())
        }
        _ => 0,
    });
    (record.calls.load(Ordering::Relaxed), bytes.sum())
}

/// Makes four commits of one kind, any of which the server might suggest to a push beside them.
fn neighbours(made: &mut Made, kind: &str) -> Vec<Checksum> {
    let leaf = made.dir(&[]);
    (0..4)
        .map(|commit| {
            let names: Vec<_> = match kind {
                "many directories" => (0..100).map(|n| format!("{commit}-{n}")).collect(),
                "wide directories" => (0..1_000).map(|n| format!("{commit}-{n}")).collect(),
                _ => vec![commit.to_string()],
            };
            let dirs: Vec<_> = names
                .iter()
                .map(|name| match kind {
                    "many directories" => (name.as_str(), made.dir(&[(name, leaf)])),
                    _ => (name.as_str(), leaf),
                })
                .collect();
            let dirs: BTreeSet<_> = dirs.into_iter().collect();
            let tree = made.dir(&dirs.into_iter().collect::<Vec<_>>());
            let tree = match kind {
                "deep directories" => made.chain(tree, 80),
                _ => tree,
            };
            let body = match kind {
                "long commits" => "x".repeat(200_000),
                _ => String::new(),
            };
            made.commit_as(Commit {
                tree,
                body,
                timestamp: commit,
                ..made.model()
            })
        })
        .collect()
}

#[test]
fn no_neighbours_tree_or_commit_costs_a_small_push_more_than_little() {
    let kinds = [
        "many directories",
        "wide directories",
        "deep directories",
        "long commits",
    ];
    for kind in kinds {
        let pair = Pair::new();
        // An object that the server has, but below none of the commits it might suggest: the search
        // would look for it.
        let known = pair.commit(None, &[("a", "known")]);
        assert_eq!(pair.push("elsewhere", known), RefOutcome::Updated);
        let (calls, bytes) = push_small(&pair, "p/a/before", known);
        let mut made = Made::new(&pair);
        let commits = neighbours(&mut made, kind);
        let store = pair.store();
        let names = commits.iter().enumerate();
        let updates: Vec<_> = names
            .map(|(n, commit)| update(&format!("p/a/{n}"), *commit))
            .collect();
        open(&store, PushOptions::default(), &updates);
        made.stage(&store);
        done(store.publish().unwrap());
        drop(store);
        let (calls_after, bytes_after) = push_small(&pair, "p/a/after", known);
        assert!(
            calls_after < calls + 200,
            "{kind}: {calls_after} calls, {calls} before"
        );
        assert!(
            bytes_after < bytes + 200_000,
            "{kind}: {bytes_after} bytes, {bytes} before"
        );
    }
}

#[test]
fn of_refs_in_one_directory_each_costs_the_same_however_deep_that_is() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let calls = |top: &str, refs: usize| {
        let (store, record) = pair.recorded();
        let dir = format!("{top}/{}", "d/".repeat(13));
        let updates = (0..refs).map(|n| update(&format!("{dir}{n}"), commit));
        open(&store, PushOptions::default(), &updates.collect::<Vec<_>>());
        pair.stage_all(&store, commit);
        let outcomes = done(store.publish().unwrap());
        assert!(outcomes.iter().all(|o| *o == RefOutcome::Updated));
        record.calls.load(Ordering::Relaxed)
    };
    let (few, many) = (calls("few", 50), calls("many", 250));
    let each = (many - few) as f64 / 200.0;
    assert!(each < 16.0, "{each} calls for each ref");
}

/// Counts the files of all staging directories.
fn staged(target: &Path) -> usize {
    let dirs = fs::read_dir(target.join("extensions/artifact-cache/staging")).unwrap();
    dirs.map(|dir| fs::read_dir(dir.unwrap().path()).unwrap().count())
        .sum()
}

/// Has sessions of an identity leave so many objects each, as old as this.
fn leave_staged(pair: &Pair, sessions: usize, objects: usize, age: Duration) {
    for session in 0..sessions {
        let mut made = Made::new(pair);
        for number in 0..objects {
            made.dir(&[(&format!("{session}-{number}"), Checksum::new([1; 32]))]);
        }
        made.stage(&pair.store_of("mallory"));
    }
    pair.age_staging(age);
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn nobody_waits_until_all_that_others_left_is_gone_and_it_goes_in_the_end() {
    let pair = Pair::new();
    leave_staged(&pair, 4, 100, 25 * HOUR);
    let target = pair.target();
    let before = staged(&target);
    assert!(before > 400, "{before}");
    drop(pair.store_of("bob").begun().unwrap());
    let removed = before - staged(&target);
    assert!((32..96).contains(&removed), "{removed} files removed");
    for _ in 0..before.div_ceil(removed) {
        drop(pair.store_of("bob").begun().unwrap());
    }
    assert_eq!(pair.staging_dirs(), 0);
}

// A prune once removed all that four dead sessions had left, 20,000 files in one scene, though
// their clients might have tried again.
#[test]
fn a_prune_removes_a_part_of_what_others_left_and_nothing_that_may_be_tried_again() {
    let pair = Pair::new();
    leave_staged(&pair, 1, 1, HOUR - Duration::from_secs(60));
    // More than one prune removes, by hand, since a session takes a while for so many.
    let staging = pair.target().join("extensions/artifact-cache/staging");
    let dir = fs::read_dir(&staging).unwrap().next().unwrap().unwrap();
    for number in 0..4_200 {
        fs::write(dir.path().join(format!("{number:064}.dirtree")), "").unwrap();
    }
    pair.age_staging(HOUR - Duration::from_secs(60));
    let target = pair.target();
    let before = staged(&target);
    tidy(&target).unwrap();
    assert_eq!(staged(&target), before);
    pair.age_staging(Duration::from_secs(60));
    for left in [1..before, 0..1] {
        tidy(&target).unwrap();
        assert!(left.contains(&staged(&target)), "{}", staged(&target));
    }
    assert_eq!(pair.staging_dirs(), 0);
}
