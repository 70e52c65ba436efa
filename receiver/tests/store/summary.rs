//! The summary against the one `ostree summary -u` makes, and the strict check of a repository.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Mutex;

use artifact_protocol::ObjectKind;
use artifact_protocol::frame::{PushOptions, RefOutcome, SummaryDone};
use artifact_protocol::ostree::Summary;
use artifact_receiver::store::{Store, fsck};

use crate::support::{Op, Pair, open, ostree, update};

fn summary_of(pair: &Pair) -> Summary {
    let summary = Summary::parse(&fs::read(pair.target().join("summary")).unwrap()).unwrap();
    assert!(summary.last_modified.unwrap() > 1_700_000_000);
    Summary {
        last_modified: None,
        ..summary
    }
}

/// Makes the summary with the judge and then with our store; returns it if they agree. The judge
/// is first, since its program adds a ref of its own to a repository with a collection.
fn agreed(pair: &Pair) -> Summary {
    ostree(&["summary", "-u"], &pair.target());
    let theirs = summary_of(pair);
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    assert_eq!(theirs, summary_of(pair));
    theirs
}

#[test]
fn the_summary_is_the_one_ostree_makes() {
    let pair = Pair::new();
    assert_eq!(agreed(&pair).refs.len(), 0);
    let first = pair.commit_with(
        None,
        &[("a", "1")],
        &[
            "--no-bindings",
            "--branch=unused",
            "--add-metadata-string=version=1.2",
        ],
    );
    let second = pair.commit(Some(first), &[("a", "2")]);
    pair.push("p/a/1", first);
    pair.push("p/a/2", second);
    pair.push("z", second);
    ostree(
        &["refs", "--alias", "--create=p/alias", "z"],
        &pair.target(),
    );
    ostree(
        &["static-delta", "generate", "--empty", "p/a/1"],
        &pair.target(),
    );
    ostree(
        &["static-delta", "generate", "--from=p/a/1", "--to=p/a/2"],
        &pair.target(),
    );
    ostree(
        &["config", "set", "core.tombstone-commits", "true"],
        &pair.target(),
    );
    let summary = agreed(&pair);
    assert_eq!(summary.refs.len(), 4);
    assert_eq!(summary.static_deltas.len(), 2);
    assert_eq!(summary.tombstone_commits, Some(true));
    ostree(
        &["config", "set", "core.collection-id", "org.example.Main"],
        &pair.target(),
    );
    let mirrors = pair.target().join("refs/mirrors");
    for collection in ["org.example.Main", "org.example.Other"] {
        fs::create_dir_all(mirrors.join(collection).join("m")).unwrap();
        fs::write(mirrors.join(collection).join("m/x"), format!("{first}\n")).unwrap();
    }
    let summary = agreed(&pair);
    assert_eq!(summary.refs.len(), 6);
    assert_eq!(summary.collection_map.len(), 1);
    ostree(
        &["config", "set", "core.no-deltas-in-summary", "true"],
        &pair.target(),
    );
    assert_eq!(agreed(&pair).static_deltas.len(), 0);
}

#[test]
fn a_ref_to_a_missing_commit_or_a_leftover_does_not_spoil_the_summary() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    pair.push("good", commit);
    pair.push("partial", pair.commit(None, &[("a", "2")]));
    let partial = pair.held("partial").unwrap();
    fs::write(
        pair.target().join(format!("state/{partial}.commitpartial")),
        "",
    )
    .unwrap();
    let heads = pair.target().join("refs/heads");
    fs::write(heads.join("dangling"), format!("{}\n", "0".repeat(64))).unwrap();
    fs::write(heads.join("empty"), "").unwrap();
    fs::write(heads.join("tmp.867A5P"), format!("{commit}\n")).unwrap();
    symlink("../../config", heads.join("outside")).unwrap();
    symlink("circle", heads.join("circle")).unwrap();
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    let summary = summary_of(&pair);
    assert_eq!(summary.refs.keys().collect::<Vec<_>>(), ["good"]);
}

#[test]
fn pushes_that_are_named_already_share_one_summary_and_an_old_signature_goes() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let signature = pair.target().join("summary.sig");
    fs::write(&signature, "").unwrap();
    let stores: Vec<_> = ["x", "y"].map(|name| (name, pair.recorded())).into();
    for (name, (store, _)) in &stores {
        open(store, PushOptions::default(), &[update(name, commit)]);
        pair.stage_all(store, commit);
        let published = store.publish().unwrap();
        assert_eq!(crate::support::done(published), [RefOutcome::Updated]);
    }
    let writes = |index: usize| {
        let ops = stores[index].1.1.ops.lock().unwrap();
        ops.iter()
            .filter(|op| **op == Op::Rename("summary".to_owned()))
            .count()
    };
    assert_eq!(stores[0].1.0.summarize(), SummaryDone::Current);
    assert_eq!(stores[1].1.0.summarize(), SummaryDone::Current);
    assert_eq!((writes(0), writes(1)), (1, 0));
    assert!(!signature.exists());
    assert_eq!(summary_of(&pair).refs.len(), 2);
    pair.assert_sound(&["x", "y"]);
}

/// A push that was killed between its refs and the summary left the summary without them, and the
/// same push again, with nothing to do, did not care: nobody could pull them by name.
#[test]
fn a_push_with_nothing_to_do_mends_a_summary_that_lacks_its_refs() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    // The store is dropped without `summarize`.
    assert_eq!(pair.push("x", commit), RefOutcome::Updated);
    assert!(!pair.target().join("summary").exists());
    let dry = PushOptions::DRY_RUN;
    open(&pair.store(), dry, &[update("x", commit)]);
    assert!(!pair.target().join("summary").exists());
    open(
        &pair.store(),
        PushOptions::default(),
        &[update("x", commit)],
    );
    assert_eq!(summary_of(&pair).refs["x"].commit, commit);

    assert_eq!(pair.push("y", commit), RefOutcome::Updated);
    let (store, record) = pair.recorded();
    let both = [update("y", commit), update("z", commit)];
    open(&store, PushOptions::default(), &both);
    // The push goes on, and its summary will do for both.
    let renamed = Op::Rename("summary".to_owned());
    assert!(!record.ops.lock().unwrap().contains(&renamed));
    pair.stage_all(&store, commit);
    crate::support::done(store.publish().unwrap());
    assert_eq!(store.summarize(), SummaryDone::Current);
    assert_eq!(summary_of(&pair).refs.len(), 3);
}

#[test]
fn a_summary_that_cannot_be_written_is_no_error_of_the_push() {
    let pair = Pair::new();
    fs::create_dir(pair.target().join("summary")).unwrap();
    let SummaryDone::Failed(text) = pair.store().summarize() else {
        panic!("it was written");
    };
    assert!(!text.as_raw().contains('/'), "{text:?}");
}

#[test]
fn fsck_finds_what_is_damaged_missing_or_out_of_place() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1"), ("b/c", "2")]);
    pair.push("x", commit);
    pair.store().summarize();
    let target = pair.target();
    let faults = || {
        let faults = Mutex::new(Vec::new());
        let checked = fsck(&target, u64::MAX, &|fault| {
            faults.lock().unwrap().push(fault)
        })
        .unwrap();
        let faults = faults.into_inner().unwrap();
        assert_eq!(checked.faults, faults.len() as u64);
        assert_eq!((checked.commits, checked.refs > 0), (1, true));
        faults
    };
    assert_eq!(faults(), []);
    for id in pair.closure(commit) {
        let path = target.join("objects").join(id.archive_path());
        let good = fs::read(&path).unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            fs::write(&path, bad).unwrap();
            assert!(!faults().is_empty(), "byte {byte} of {id}");
        }
        fs::write(&path, &good).unwrap();
        if id.kind != ObjectKind::Commit {
            fs::remove_file(&path).unwrap();
            assert!(!faults().is_empty(), "{id} gone");
            fs::write(&path, &good).unwrap();
        }
    }
    for (path, content) in [
        ("objects/stray", ""),
        ("objects/00/stray.filez", ""),
        ("refs/heads/tmp.867A5P", "x"),
        ("refs/heads/empty", ""),
        (
            "refs/heads/dangling",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ),
        ("summary", "x"),
    ] {
        let path = target.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let before = fs::read(&path).ok();
        fs::write(&path, content).unwrap();
        assert_eq!(faults().len(), 1, "{path:?}");
        match before {
            Some(before) => fs::write(&path, before).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    assert_eq!(faults(), []);
}
