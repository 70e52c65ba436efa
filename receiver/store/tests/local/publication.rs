//! What a push publishes, when, and in which order.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::sync::atomic::Ordering;

use crate::session::Session;
use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    CloseCode, Expect, PushOptions, RefOutcome, RefUpdate, RefusalCode, Verdict,
};
use artifact_protocol::session::Announcement;
use artifact_store::{Error, StoreConfig};

use crate::support::{Op, Pair, done, missing, open, ostree, update};

const TREE: &[(&str, &str)] = &[
    ("bin/tool", "#!/bin/sh\n"),
    ("bin/alias", "->tool"),
    ("share/doc/readme", "words"),
    ("share/doc/copy", "words"),
    ("empty", ""),
];

fn refusal(outcome: &RefOutcome) -> RefusalCode {
    match outcome {
        RefOutcome::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pushed_commit_is_sound_to_ostree_and_can_be_pulled() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    assert_eq!(pair.push("proj/app/1", commit), RefOutcome::Updated);
    assert_eq!(pair.held("proj/app/1"), Some(commit.to_hex()));
    pair.assert_sound(&["proj/app/1"]);
    assert_eq!(pair.staging_dirs(), 0);
}

#[test]
fn an_object_in_pieces_is_the_same_as_a_whole_one() {
    let pair = Pair::new();
    let big = "0123456789".repeat(100_000);
    let commit = pair.commit(None, &[("big", &big), ("small", "s")]);
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    for id in pair.closure(commit) {
        let mut stream = store.begin(id).unwrap();
        for piece in pair.stored(id).chunks(97) {
            stream.append(piece).unwrap();
        }
        stream.finish().unwrap();
    }
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["x"]);
}

#[test]
fn a_push_without_one_object_changes_nothing_and_says_which_for_every_object() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    let before = pair.snapshot();
    for left_out in pair.closure(commit) {
        // Another identity each time, so that no staged object is taken over.
        let store = pair.store_of(&left_out.to_string());
        open(&store, PushOptions::default(), &[update("x", commit)]);
        for id in pair
            .closure(commit)
            .into_iter()
            .filter(|&id| id != left_out)
        {
            store.stage(id, &pair.stored(id)).unwrap();
        }
        assert_eq!(missing(store.publish().unwrap()), [left_out]);
        assert_eq!(pair.snapshot(), before);
        // Once the object is sent, the same push can be done; but not in this session, only in the
        // next.
        store.stage(left_out, &pair.stored(left_out)).unwrap();
    }
    assert_eq!(pair.push("x", commit), RefOutcome::Updated);
    pair.assert_sound(&["x"]);
}

#[test]
fn a_damaged_object_is_refused_whole_or_in_pieces_and_leaves_nothing() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    for id in pair.closure(commit) {
        let mut stored = pair.stored(id);
        *stored.last_mut().unwrap() ^= 0x55;
        let error = store.stage(id, &stored).unwrap_err();
        assert_eq!(error.to_fault().code, CloseCode::OBJECT_REFUSED, "{error}");
        let mut stream = store.begin(id).unwrap();
        let outcome = stream.append(&stored).and_then(|()| stream.finish());
        assert!(matches!(outcome, Err(Error::Refused { .. })));
    }
    assert_eq!(missing(store.publish().unwrap()).len(), 1);
}

#[test]
fn only_what_accepted_refs_reach_is_published() {
    let pair = Pair::new();
    let wanted = pair.commit(None, &[("a", "wanted")]);
    let other = pair.commit(None, &[("b", "other")]);
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", wanted)]);
    pair.stage_all(&store, wanted);
    pair.stage_all(&store, other);
    done(store.publish().unwrap());
    let other = ObjectId::new(ObjectKind::Commit, other);
    assert!(
        !pair
            .target()
            .join("objects")
            .join(other.archive_path())
            .exists()
    );
    pair.assert_sound(&["x"]);
}

#[test]
fn a_ref_moves_forward_or_by_force() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "1")]);
    let second = pair.commit(Some(first), &[("a", "2")]);
    let third = pair.commit(Some(second), &[("a", "3")]);
    let unrelated = pair.commit(None, &[("a", "x")]);
    assert_eq!(pair.push("x", first), RefOutcome::Updated);
    assert_eq!(pair.push("x", second), RefOutcome::Updated);
    assert_eq!(pair.push("x", second), RefOutcome::Unchanged);
    assert_eq!(
        refusal(&pair.push("x", first)),
        RefusalCode::NOT_FAST_FORWARD
    );
    let before = pair.snapshot();
    assert_eq!(
        refusal(&pair.push("x", unrelated)),
        RefusalCode::NOT_FAST_FORWARD
    );
    assert_eq!(pair.snapshot(), before);
    let forced = pair.push_with("x", unrelated, Expect::Any, PushOptions::FORCE);
    assert_eq!(forced, RefOutcome::Updated);
    // Two commits at once; the one in between is sent along.
    pair.push_with("x", first, Expect::Any, PushOptions::FORCE);
    fs::remove_file(commit_path(&pair, second)).unwrap();
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", third)]);
    pair.stage_all(&store, third);
    pair.stage_all(&store, second);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    assert!(commit_path(&pair, second).exists());
    pair.assert_sound(&["x"]);
}

fn commit_path(pair: &Pair, commit: Checksum) -> std::path::PathBuf {
    let id = ObjectId::new(ObjectKind::Commit, commit);
    pair.target().join("objects").join(id.archive_path())
}

#[test]
fn a_commit_bound_to_other_refs_is_refused() {
    let pair = Pair::new();
    let commit = pair.commit_with(None, TREE, &["--branch=right", "--bind-ref=also"]);
    assert_eq!(refusal(&pair.push("wrong", commit)), RefusalCode::BINDING);
    assert_eq!(pair.push("also", commit), RefOutcome::Updated);
    assert_eq!(pair.push("right", commit), RefOutcome::Updated);
    pair.assert_sound(&["also", "right"]);
}

#[test]
fn what_a_ref_was_expected_to_hold_is_compared() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "1")]);
    let second = pair.commit(Some(first), &[("a", "2")]);
    let plain = PushOptions::default();
    let lost = RefusalCode::LOST_RACE;
    assert_eq!(
        refusal(&pair.push_with("x", second, Expect::Is(first), plain)),
        lost
    );
    assert_eq!(
        pair.push_with("x", first, Expect::Absent, plain),
        RefOutcome::Updated
    );
    assert_eq!(
        refusal(&pair.push_with("x", second, Expect::Absent, plain)),
        lost
    );
    assert_eq!(
        pair.push_with("x", second, Expect::Is(first), plain),
        RefOutcome::Updated
    );
}

#[test]
fn a_ref_and_a_directory_of_refs_exclude_each_other() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    assert_eq!(pair.push("z/b/c", commit), RefOutcome::Updated);
    let conflict = RefusalCode::NAME_CONFLICT;
    for name in ["z", "z/b", "z/b/c/d", "z/b/c/d/e"] {
        assert_eq!(refusal(&pair.push(name, commit)), conflict, "{name}");
    }
    let store = pair.store();
    let updates = ["x/y", "x", "x/y/z", "x-y"].map(|name| update(name, commit));
    open(&store, PushOptions::default(), &updates);
    pair.stage_all(&store, commit);
    let outcomes = done(store.publish().unwrap());
    assert_eq!(outcomes[0], RefOutcome::Updated);
    assert_eq!(refusal(&outcomes[1]), conflict);
    assert_eq!(refusal(&outcomes[2]), conflict);
    assert_eq!(outcomes[3], RefOutcome::Updated);
    // Empty directories left behind do not block a push.
    ostree(&["refs", "--delete", "z/b/c"], &pair.target());
    fs::create_dir_all(pair.target().join("refs/heads/z/b/c/d")).unwrap();
    assert_eq!(pair.push("z", commit), RefOutcome::Updated);
    pair.assert_sound(&["z", "x/y", "x-y"]);
}

#[test]
fn a_dry_run_changes_nothing() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    let before = pair.snapshot();
    let outcome = pair.push_with("x", commit, Expect::Any, PushOptions::DRY_RUN);
    assert_eq!(outcome, RefOutcome::WouldUpdate);
    assert_eq!(pair.snapshot(), before);
}

#[test]
fn detached_metadata_comes_with_its_commit_and_can_be_replaced() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    let path = commit_path(&pair, commit).with_extension("commitmeta");
    // {'k': <'v'>}
    let metadata = b"k\0\0\0\0\0\0\0v\0\0s\x02\x0d";
    let checksum = sha256(metadata);
    let signed = |metadata| RefUpdate {
        detached: Some(metadata),
        ..update("x", commit)
    };
    let store = pair.store();
    open(&store, PushOptions::default(), &[signed(checksum)]);
    pair.stage_all(&store, commit);
    let error = store.publish().unwrap_err();
    assert!(matches!(error, Error::DetachedMissing { .. }), "{error}");
    let error = store.stage_detached(commit, b"").unwrap_err();
    assert!(matches!(error, Error::DetachedDiffers { .. }), "{error}");
    let error = store.stage_detached(commit, b"x").unwrap_err();
    assert!(matches!(error, Error::DetachedMalformed { .. }), "{error}");
    store.stage_detached(commit, metadata).unwrap();
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    assert_eq!(fs::read(&path).unwrap(), metadata);
    pair.assert_sound(&["x"]);

    let store = pair.store();
    let opened = open(&store, PushOptions::default(), &[signed(checksum)]);
    assert_eq!(opened.refs[0].verdict, Verdict::UpToDate);
    let store = pair.store();
    let opened = open(&store, PushOptions::default(), &[signed(sha256(b""))]);
    assert_eq!(opened.refs[0].verdict, Verdict::Accepted);
    store.stage_detached(commit, b"").unwrap();
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    assert_eq!(fs::read(&path).unwrap(), b"");
}

fn sha256(content: &[u8]) -> Checksum {
    use sha2::Digest;
    Checksum::new(sha2::Sha256::digest(content).into())
}

#[test]
fn a_partial_commit_and_a_tombstone_are_made_whole() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    pair.push("x", commit);
    let mark = pair.target().join(format!("state/{commit}.commitpartial"));
    let tombstone = commit_path(&pair, commit).with_extension("tombstone-commit");
    fs::write(&mark, "").unwrap();
    fs::write(&tombstone, "").unwrap();
    for id in pair
        .closure(commit)
        .into_iter()
        .filter(|id| id.kind == ObjectKind::File)
    {
        fs::remove_file(pair.target().join("objects").join(id.archive_path())).unwrap();
    }
    assert_eq!(pair.push("x", commit), RefOutcome::Updated);
    assert!(!mark.exists() && !tombstone.exists());
    pair.assert_sound(&["x"]);
}

#[test]
fn a_damaged_object_is_asked_for_and_healed() {
    let pair = Pair::new();
    let first = pair.commit(None, TREE);
    pair.push("x", first);
    let damaged = pair
        .closure(first)
        .into_iter()
        .find(|id| id.kind == ObjectKind::File)
        .unwrap();
    let path = pair.target().join("objects").join(damaged.archive_path());
    let mut content = fs::read(&path).unwrap();
    *content.last_mut().unwrap() ^= 1;
    fs::write(&path, content).unwrap();
    // The ref is gone, so that none of its objects is trusted.
    ostree(&["refs", "--delete", "x"], &pair.target());
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("y", first)]);
    let ids = pair.closure(first);
    let had = store.have(&ids).unwrap();
    for (id, had) in ids.iter().zip(had) {
        let whole = matches!(id.kind, ObjectKind::File | ObjectKind::Dirmeta) && *id != damaged;
        assert_eq!(had, whole, "{id}");
    }
    store.stage(damaged, &pair.stored(damaged)).unwrap();
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["y"]);
}

#[test]
fn planted_symbolic_links_are_never_followed() {
    let commit_of = |pair: &Pair| pair.commit(None, TREE);
    let outside = tempfile::TempDir::new().unwrap();

    let pair = Pair::new();
    let commit = commit_of(&pair);
    for first in 0..=255u8 {
        let dir = pair.target().join(format!("objects/{first:02x}"));
        let _ = fs::remove_dir_all(&dir);
        symlink(outside.path(), dir).unwrap();
    }
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    // Looked up through the links already: refused, whichever comes first.
    let staged = pair
        .closure(commit)
        .into_iter()
        .try_for_each(|id| store.stage(id, &pair.stored(id)));
    let error = staged
        .and_then(|()| store.publish().map(|_| ()))
        .unwrap_err();
    assert_eq!(error.to_fault().code, CloseCode::STORAGE_FAILED, "{error}");

    let pair = Pair::new();
    let commit = commit_of(&pair);
    symlink(outside.path(), pair.target().join("refs/heads/dir")).unwrap();
    symlink(
        outside.path().join("file"),
        pair.target().join("refs/heads/file"),
    )
    .unwrap();
    for name in ["dir", "dir/x", "file"] {
        assert_eq!(
            refusal(&pair.push(name, commit)),
            RefusalCode::NAME_CONFLICT,
            "{name}"
        );
    }

    let pair = Pair::new();
    let extensions = pair.target().join("extensions");
    fs::remove_dir(&extensions).unwrap();
    symlink(outside.path(), &extensions).unwrap();
    let session = Session::at(&pair.target(), StoreConfig::default());
    assert!(session.and_then(Session::begun).is_err());
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_failed_sync_ends_the_push_and_throws_its_staging_away() {
    let pair = Pair::new();
    let commit = pair.commit(None, TREE);
    let before = pair.snapshot();
    let (store, record) = pair.recorded();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&store, commit);
    record.fail_sync.store(true, Ordering::Relaxed);
    assert!(matches!(store.publish().unwrap_err(), Error::Io { .. }));
    record.fail_sync.store(false, Ordering::Relaxed);
    let root = ObjectId::new(ObjectKind::Commit, commit);
    let error = store.stage(root, &pair.stored(root)).unwrap_err();
    assert!(matches!(error, Error::StagingLost), "{error}");
    assert!(store.publish().is_err());
    assert_eq!(pair.snapshot(), before);
}

/// Returns whether one of these operations makes the names in a directory durable.
fn synced_in(ops: &[Op], dir: &str) -> bool {
    ops.iter().any(|op| match op {
        Op::SyncAll => true,
        Op::SyncDir(synced) => synced == dir,
        Op::Open(_) | Op::Name(_) | Op::Lock(_) | Op::Unlock(_) => false,
    })
}

// REQ-46.
#[test]
fn children_are_durable_before_commits_and_commits_before_refs_and_refs_before_the_answer() {
    let pair = Pair::new();
    let first = pair.commit(None, TREE);
    let second = pair.commit(Some(first), &[("a", "2"), ("dir/b", "x")]);
    let (store, record) = pair.recorded();
    let signed = RefUpdate {
        detached: Some(Checksum::of(b"")),
        ..update("p/a/1", second)
    };
    let refs = [signed, update("p/b", first)];
    open(&store, PushOptions::default(), &refs);
    pair.stage_all(&store, first);
    pair.stage_all(&store, second);
    store.stage_detached(second, b"").unwrap();
    record.ops.lock().unwrap().clear();
    assert_eq!(
        done(store.publish().unwrap()),
        [RefOutcome::Updated, RefOutcome::Updated]
    );
    let ops = record.ops.lock().unwrap().clone();
    let at = |op: &Op| {
        ops.iter()
            .position(|other| other == op)
            .unwrap_or_else(|| panic!("no {op:?}"))
    };
    let lock = |path: &str| at(&Op::Lock(path.to_owned()));
    let unlock = |path: &str| at(&Op::Unlock(path.to_owned()));
    let refs_lock = "extensions/artifact-cache/refs.lock";

    let synced = at(&Op::SyncAll);
    assert!(synced < lock(".lock"));
    let mut last_object = 0;
    for commit in [first, second] {
        let commit_id = ObjectId::new(ObjectKind::Commit, commit);
        let named = at(&Op::Name(format!("objects/{}", commit_id.archive_path())));
        assert!(lock(".lock") < named);
        for id in pair
            .closure(commit)
            .into_iter()
            .filter(|id| id.kind != ObjectKind::Commit)
        {
            let path = format!("objects/{}", id.archive_path());
            let dir = path[.."objects/xx".len()].to_owned();
            let child = at(&Op::Name(path));
            assert!(lock(".lock") < child);
            assert!(
                synced_in(&ops[child..named], &dir),
                "{id} before its commit"
            );
            assert!(synced_in(&ops[child..named], "objects"));
        }
        let dir = format!("objects/{}", &commit.to_hex()[..2]);
        assert!(
            synced_in(&ops[named..lock(refs_lock)], &dir),
            "a commit before refs"
        );
        last_object = last_object.max(named);
    }
    let meta = ObjectId::new(ObjectKind::Commit, second).loose_path("commitmeta");
    let attached = at(&Op::Name(format!("objects/{meta}")));
    let first_set = ["p/a/1", "p/b"].map(|name| at(&Op::Name(format!("refs/heads/{name}"))));
    let first_set = first_set.into_iter().min().unwrap();
    assert!(lock(refs_lock) < attached, "decided when no other push can");
    let dir = format!("objects/{}", &second.to_hex()[..2]);
    assert!(
        synced_in(&ops[attached..first_set], &dir),
        "detached before refs"
    );
    for (name, dirs) in [
        (
            "p/a/1",
            &["refs/heads/p/a", "refs/heads/p", "refs/heads", "refs"][..],
        ),
        ("p/b", &["refs/heads/p", "refs/heads", "refs"][..]),
    ] {
        let set = at(&Op::Name(format!("refs/heads/{name}")));
        assert!(last_object < lock(refs_lock) && lock(refs_lock) < set && set < unlock(refs_lock));
        let mut from = set;
        for dir in dirs {
            let synced = ops[from..]
                .iter()
                .position(|op| *op == Op::SyncDir((*dir).to_owned()));
            from += synced.unwrap_or_else(|| panic!("{dir} after {name}"));
        }
    }
    assert!(unlock(refs_lock) < unlock(".lock"));
    pair.assert_sound(&["p/a/1", "p/b"]);
}

#[test]
fn a_base_that_is_relied_on_spares_what_is_beneath_it() {
    let pair = Pair::new();
    let first = pair.commit(None, TREE);
    let second = pair.commit(Some(first), &[TREE, &[("new", "n")]].concat());
    pair.push("p/a/1", first);
    let store = pair.store();
    let refs = vec![update("p/a/2", second)];
    let announcement = Announcement {
        refs,
        ..Announcement::default()
    };
    // The client proposed no commit; the server finds one beside the new ref.
    assert_eq!(store.open(&announcement).unwrap().complete, [first]);
    assert!(matches!(
        store.rely(&[second]),
        Err(Error::NotComplete { .. })
    ));
    store.rely(&[first]).unwrap();
    let ids = pair.closure(second);
    let had = store.have(&ids).unwrap();
    let beneath = pair.closure(first);
    let mut sent = 0;
    for (&id, had) in ids.iter().zip(had) {
        assert_eq!(had, beneath.contains(&id), "{id}");
        if !had {
            sent += 1;
            store.stage(id, &pair.stored(id)).unwrap();
        }
    }
    assert_eq!(sent, 3, "the commit, the root, the new file");
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["p/a/1", "p/a/2"]);
}

/// Stages a commit whose root has `levels` levels, each of which names the next one twice.
fn stage_towers(store: &Session, pair: &Pair, levels: usize) -> Checksum {
    let model = pair.commit(None, &[("a", "a")]);
    let meta = pair
        .closure(model)
        .into_iter()
        .find(|id| id.kind == ObjectKind::Dirmeta)
        .unwrap();
    store.stage(meta, &pair.stored(meta)).unwrap();
    let stage = |kind, content: Vec<u8>| {
        let checksum = sha256(&content);
        store
            .stage(ObjectId::new(kind, checksum), &content)
            .unwrap();
        checksum
    };
    let mut tree = stage(ObjectKind::Dirtree, Dirtree::serialize([], []));
    for _ in 1..levels {
        let dirs = ["left", "right"].map(|name| (name, tree, meta.checksum));
        tree = stage(ObjectKind::Dirtree, Dirtree::serialize([], dirs));
    }
    let commit = ObjectId::new(ObjectKind::Commit, model);
    let commit = Commit {
        tree,
        ..Commit::parse(&pair.stored(commit)).unwrap()
    };
    stage(ObjectKind::Commit, commit.serialize())
}

#[test]
fn directories_that_share_each_other_are_walked_once_and_only_so_deep() {
    for (levels, deep) in [(MAX_TREE_DEPTH, false), (MAX_TREE_DEPTH + 1, true)] {
        let pair = Pair::new();
        // The announcement needs the commit's name before the push; the content does not depend on
        // it.
        let commit = stage_towers(&pair.store(), &pair, levels);
        let store = pair.store();
        open(&store, PushOptions::default(), &[update("x", commit)]);
        assert_eq!(stage_towers(&store, &pair, levels), commit);
        match store.publish() {
            Err(Error::TooDeep { .. }) => assert!(deep),
            other => assert!(!deep && done(other.unwrap()) == [RefOutcome::Updated]),
        }
    }
}

#[test]
fn of_many_objects_that_several_threads_publish_none_is_left_behind() {
    let pair = Pair::new();
    let names: Vec<_> = (0..2_100).map(|number| number.to_string()).collect();
    let files: Vec<_> = names.iter().map(|n| (n.as_str(), n.as_str())).collect();
    let commit = pair.commit(None, &files);
    let config = StoreConfig {
        threads: 3,
        ..StoreConfig::default()
    };
    let store = Session::at(&pair.target(), config).unwrap();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&store, commit);
    store.publish().unwrap();
    drop(store);
    assert_eq!(pair.staging_dirs(), 0);
    pair.assert_sound(&["x"]);
    let path = |id: ObjectId| pair.target().join("objects").join(id.archive_path());
    let links = |id| fs::metadata(path(id)).unwrap().nlink();
    assert!(pair.closure(commit).into_iter().all(|id| links(id) == 1));
}
