//! The summary against the one `ostree summary -u` makes, and the strict check of a repository.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use crate::session::Session;
use artifact_formats::{Checksum, ObjectKind, Summary, ed25519_signatures};
use artifact_protocol::frame::{PushOptions, RefOutcome, SummaryDone};
use artifact_store::{StoreConfig, SummaryConfig, SummaryKey, SummaryMode, fsck};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

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
/// runs first: its program adds a ref of its own to a repository with a collection.
fn agreed(pair: &Pair) -> Summary {
    ostree(&["summary", "-u"], &pair.target());
    let mut theirs = summary_of(pair);
    // The judge promises an index of static deltas even where there are none.
    theirs.indexed_deltas = Some(pair.target().join("deltas").exists());
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

// Summaries once promised an index of static deltas that did not exist: pullers that believed it
// looked for deltas nowhere else, and found none.
#[test]
fn an_index_of_deltas_is_promised_only_where_it_names_all_of_them() {
    let pair = Pair::new();
    let indexed = || {
        assert_eq!(pair.store().summarize(), SummaryDone::Current);
        summary_of(&pair).indexed_deltas
    };
    let target = pair.target();
    let commit = pair.commit(None, &[("a", "1")]);
    pair.push("x", commit);
    assert_eq!(indexed(), Some(false));
    ostree(&["static-delta", "generate", "--empty", "x"], &target);
    assert_eq!(indexed(), Some(false));
    ostree(&["static-delta", "reindex"], &target);
    assert_eq!(indexed(), Some(true));
    ostree(
        &["config", "set", "core.no-deltas-in-summary", "true"],
        &target,
    );
    assert_eq!(indexed(), Some(true));
    let next = pair.commit(Some(commit), &[("a", "2")]);
    pair.push("x", next);
    let delta = ["static-delta", "generate", "x"];
    ostree(&delta, &target);
    assert_eq!(indexed(), Some(false));
    ostree(&["static-delta", "reindex"], &target);
    assert_eq!(indexed(), Some(true));
    // The delta is made again with other parts, and not indexed again.
    ostree(&["static-delta", "generate", "--inline", "x"], &target);
    assert_eq!(indexed(), Some(false));
}

#[test]
fn a_summary_and_its_signature_are_dated_later_than_those_before() {
    let pair = Pair::new();
    let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let text = STANDARD.encode(key.to_keypair_bytes());
    let key = || Some(SummaryKey::parse(&text).unwrap());
    let dates = || {
        ["summary", "summary.sig"].map(|name| {
            let metadata = fs::metadata(pair.target().join(name)).unwrap();
            metadata.modified().unwrap()
        })
    };
    let mut before = [UNIX_EPOCH; 2];
    for turn in 0..4 {
        let commit = pair.commit(None, &[("a", &turn.to_string())]);
        let store = store_with(&pair, SummaryMode::Full, key());
        push_through(&pair, &store, &format!("a/{turn}"), commit);
        let now = dates();
        for (now, before) in now.iter().zip(before) {
            assert!(*now >= before + Duration::from_secs(1), "{turn}");
        }
        assert_eq!(now[0], now[1]);
        before = now;
    }
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
            .filter(|op| **op == Op::Name("summary".to_owned()))
            .count()
    };
    assert_eq!(stores[0].1.0.summarize(), SummaryDone::Current);
    assert_eq!(stores[1].1.0.summarize(), SummaryDone::Current);
    assert_eq!((writes(0), writes(1)), (1, 0));
    assert!(!signature.exists());
    assert_eq!(summary_of(&pair).refs.len(), 2);
    pair.assert_sound(&["x", "y"]);
}

/// A push killed between its refs and the summary left them out of the summary, and repeating the
/// push, which had nothing to do, did not write one: nobody could pull the refs by name.
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
    // The push goes on, and its summary covers both.
    let renamed = Op::Name("summary".to_owned());
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
        assert_eq!(checked.faults + checked.remarks, faults.len() as u64);
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

fn store_with(pair: &Pair, mode: SummaryMode, sign_key: Option<SummaryKey>) -> Session {
    let summary = SummaryConfig { mode, sign_key };
    let config = StoreConfig {
        summary,
        ..StoreConfig::default()
    };
    Session::at(&pair.target(), config).unwrap()
}

/// Pushes one ref through a store, with its summary.
fn push_through(pair: &Pair, store: &Session, name: &str, commit: Checksum) {
    open(store, PushOptions::default(), &[update(name, commit)]);
    pair.stage_all(store, commit);
    assert_eq!(
        crate::support::done(store.publish().unwrap()),
        [RefOutcome::Updated]
    );
    assert_eq!(store.summarize(), SummaryDone::Current);
}

#[test]
fn a_mode_says_which_refs_are_named_and_what_of_them() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    for name in ["x/1", "x/2", "y/1"] {
        pair.push(name, commit);
    }
    let summarize = |mode| {
        let store = store_with(&pair, mode, None);
        assert_eq!(store.summarize(), SummaryDone::Current);
    };
    summarize(SummaryMode::Full);
    let full = summary_of(&pair);
    assert_eq!(full.refs.len(), 3);
    assert!(full.refs.values().all(|entry| entry.timestamp.is_some()));

    summarize(SummaryMode::WithoutTimestamps);
    let bare = summary_of(&pair);
    assert_eq!(bare.refs.len(), 3);
    for (name, entry) in &bare.refs {
        assert_eq!((entry.timestamp, entry.size), (None, None));
        assert_eq!(entry.commit_len, full.refs[name].commit_len);
    }

    let patterns = || SummaryMode::Matching(vec!["y/*".parse().unwrap(), "*/2".parse().unwrap()]);
    summarize(patterns());
    let some = summary_of(&pair);
    assert_eq!(some.refs.keys().collect::<Vec<_>>(), ["x/2", "y/1"]);
    // A push of a ref that the summary leaves out does not rewrite it.
    let before = fs::metadata(pair.target().join("summary")).unwrap();
    push_through(&pair, &store_with(&pair, patterns(), None), "x/3", commit);
    let after = fs::metadata(pair.target().join("summary")).unwrap();
    assert_eq!(before.ino(), after.ino());

    fs::write(pair.target().join("summary.sig"), "").unwrap();
    push_through(
        &pair,
        &store_with(&pair, SummaryMode::None, None),
        "x/4",
        commit,
    );
    assert!(!pair.target().join("summary").exists());
    assert!(!pair.target().join("summary.sig").exists());

    summarize(SummaryMode::Full);
    assert_eq!(summary_of(&pair).refs.len(), 5);
    pair.assert_sound(&["x/4"]);
}

#[test]
fn a_summary_is_signed_again_with_each_change_and_openssl_agrees() {
    let pair = Pair::new();
    let dir = tempfile::TempDir::new().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {args:?}: {said}");
        output.stdout
    };
    openssl(&["genpkey", "-algorithm", "ed25519", "-out", &at("key")]);
    // The key itself is at the end of either encoding.
    let mut pair_of_keys = openssl(&["pkey", "-in", &at("key"), "-outform", "DER"]);
    pair_of_keys.drain(..pair_of_keys.len() - 32);
    let public = openssl(&["pkey", "-in", &at("key"), "-pubout", "-outform", "DER"]);
    pair_of_keys.extend(&public[public.len() - 32..]);
    fs::write(at("keys"), pair_of_keys).unwrap();
    let text = openssl(&["base64", "-A", "-in", &at("keys")]);
    let key = || Some(SummaryKey::parse(str::from_utf8(&text).unwrap()).unwrap());

    let signature = pair.target().join("summary.sig");
    let verify = || {
        let content = fs::read(&signature).unwrap();
        let signatures = ed25519_signatures(&content).unwrap();
        assert_eq!(signatures.len(), 1);
        fs::write(at("signature"), signatures[0]).unwrap();
        let summary = pair.target().join("summary").display().to_string();
        let (key, signature) = (at("key"), at("signature"));
        openssl(&[
            "pkeyutl", "-verify", "-rawin", "-inkey", &key, "-in", &summary, "-sigfile", &signature,
        ]);
    };
    let commit = pair.commit(None, &[("a", "1")]);
    for name in ["x", "y"] {
        push_through(
            &pair,
            &store_with(&pair, SummaryMode::Full, key()),
            name,
            commit,
        );
        verify();
    }
    let old = fs::read(&signature).unwrap();
    // As if the process had died between the two, or another program had removed the signature.
    for wrong in [Some(&[][..]), Some(&old[1..]), None] {
        match wrong {
            Some(content) => fs::write(&signature, content).unwrap(),
            None => fs::remove_file(&signature).unwrap(),
        }
        let store = store_with(&pair, SummaryMode::Full, key());
        let both = [update("x", commit), update("z", commit)];
        open(&store, PushOptions::DRY_RUN, &both);
        assert_eq!(store.summarize(), SummaryDone::Current);
        verify();
    }
    ostree(&["summary", "-u"], &pair.target());
    assert!(!signature.exists());
    push_through(
        &pair,
        &store_with(&pair, SummaryMode::Full, key()),
        "w",
        commit,
    );
    verify();
    assert_eq!(summary_of(&pair).refs.len(), 3);
}

#[test]
fn the_summary_says_what_a_commit_takes_and_libostree_does_not_mind() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "1"), ("b/c", "2"), ("b/d", "1")]);
    let second = pair.commit(Some(first), &[("a", "1"), ("e", "a longer one")]);
    let stored = |commit| -> u64 {
        let closure = pair.closure(commit).into_iter();
        closure.map(|id| pair.stored(id).len() as u64).sum()
    };
    for (name, commit) in [("x", first), ("y", second)] {
        push_through(&pair, &pair.store(), name, commit);
    }
    let check = || {
        let summary = summary_of(&pair);
        assert_eq!(summary.refs["x"].size, Some(stored(first)));
        assert_eq!(summary.refs["y"].size, Some(stored(second)));
        summary
    };
    check();
    let left = pair.target().join("extensions/artifact-cache/sizes");
    assert_eq!(fs::read_dir(left).unwrap().count(), 0);
    // Another program drops the sizes, and the record brings them back.
    ostree(&["summary", "-u"], &pair.target());
    assert_eq!(summary_of(&pair).refs["x"].size, None);
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    check();
    // Without the record, the old summary provides them.
    let record = pair
        .target()
        .join("extensions/artifact-cache/summary.record");
    fs::remove_file(&record).unwrap();
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    check();
    // Without either, a rebuild counts the sizes again.
    fs::remove_file(&record).unwrap();
    fs::remove_file(pair.target().join("summary")).unwrap();
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    assert_eq!(summary_of(&pair).refs["x"].size, None);
    pair.store().rebuild_summary(|_| ()).unwrap();
    assert_eq!(check().refs.len(), 2);

    let shown = ostree(&["summary", "--view"], &pair.target());
    assert!(shown.contains("artifact-cache.size"), "{shown}");
    let mirror = tempfile::TempDir::new().unwrap();
    ostree(&["init", "--mode=archive-z2"], mirror.path());
    let url = format!("file://{}", pair.target().display());
    ostree(
        &["remote", "add", "--no-gpg-verify", "origin", &url],
        mirror.path(),
    );
    // A mirror pulls all refs, which only the summary lists.
    ostree(&["pull", "--mirror", "origin"], mirror.path());
    ostree(&["fsck", "-q"], mirror.path());
    assert_eq!(ostree(&["refs"], mirror.path()).lines().count(), 2);
}

#[test]
fn a_commit_of_very_many_objects_is_counted_when_nobody_waits() {
    let pair = Pair::new();
    let names: Vec<_> = (0..4_000).map(|number| number.to_string()).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), n.as_str())).collect();
    let large = pair.commit(None, &files);
    ostree(&["config", "set", "core.fsync", "false"], &pair.target());
    let (source, commit) = (pair.source().display().to_string(), large.to_hex());
    ostree(&["pull-local", &source, &commit], &pair.target());
    ostree(&["refs", "--create=x", &commit], &pair.target());
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("y", large)]);
    store.publish().unwrap();
    assert_eq!(store.summarize(), SummaryDone::Current);
    assert_eq!(summary_of(&pair).refs["y"].size, None);
    pair.store().rebuild_summary(|_| ()).unwrap();
    assert!(summary_of(&pair).refs["y"].size.is_some());
}

/// A directory's modification time may stay the same after a change: a file system's clock ticks
/// some hundred times a second.
#[test]
fn a_ref_that_another_program_sets_right_after_a_summary_is_in_the_next() {
    let pair = Pair::new();
    let commits = ["1", "2"].map(|content| pair.commit(None, &[("a", content)]));
    pair.push("p/other", commits[1]);
    pair.push("p/x", commits[0]);
    let dir = pair.target().join("refs/heads/p");
    for turn in 0..100 {
        assert_eq!(pair.store().summarize(), SummaryDone::Current);
        let commit = commits[turn % 2];
        fs::write(dir.join("tmp.AAAAAA"), format!("{commit}\n")).unwrap();
        fs::rename(dir.join("tmp.AAAAAA"), dir.join("x")).unwrap();
        assert_eq!(pair.store().summarize(), SummaryDone::Current);
        assert_eq!(summary_of(&pair).refs["p/x"].commit, commit, "{turn}");
    }
}

#[test]
fn a_summary_that_is_removed_does_not_come_back_after_a_power_cut() {
    let pair = Pair::new();
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    let (store, record) = pair.recorded_with(StoreConfig {
        summary: SummaryConfig {
            mode: SummaryMode::None,
            ..SummaryConfig::default()
        },
        ..StoreConfig::default()
    });
    assert_eq!(store.summarize(), SummaryDone::Current);
    assert!(!pair.target().join("summary").exists());
    let synced = Op::SyncDir(String::new());
    assert!(record.ops.lock().unwrap().contains(&synced));
}

#[test]
fn a_size_that_a_power_cut_has_emptied_is_taken_away() {
    let pair = Pair::new();
    pair.push("x", pair.commit(None, &[("a", "1")]));
    let sizes = pair.target().join("extensions/artifact-cache/sizes");
    fs::create_dir_all(&sizes).unwrap();
    fs::write(sizes.join("0".repeat(64)), "").unwrap();
    assert_eq!(pair.store().summarize(), SummaryDone::Current);
    assert_eq!(fs::read_dir(sizes).unwrap().count(), 0);
}
