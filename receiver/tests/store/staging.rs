//! Who may use what is staged, and for how long it stays.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use artifact_protocol::frame::{CloseCode, PushOptions};
use artifact_receiver::error::Error;
use artifact_receiver::store::{Fs, LocalStore, LockMode, RealFs, RepoPath, Store, StoreConfig};

use crate::support::{Pair, open, ostree, update};

#[test]
fn a_living_session_keeps_its_staging_and_a_dead_one_does_not() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let living = pair.store();
    open(&living, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&living, commit);
    // As a process leaves it that is killed: there, and not locked.
    let staging = pair.target().join("extensions/artifact-cache/staging");
    let dead = staging.join("boot.dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    fs::write(dead.join("tmp-0"), "half").unwrap();
    // And as it leaves it that is killed in between.
    fs::create_dir(staging.join("boot.unborn")).unwrap();
    assert_eq!(pair.staging_dirs(), 3);
    let another = pair.store();
    assert_eq!(pair.staging_dirs(), 2);
    drop(another);
    assert_eq!(pair.staging_dirs(), 1);
    living.publish(&|| ()).unwrap();
    drop(living);
    assert_eq!(pair.staging_dirs(), 0);
    pair.assert_sound(&["x"]);
}

#[test]
fn sessions_that_begin_and_end_at_once_never_take_each_others_staging() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let object = pair.closure(commit).remove(0);
    let stored = pair.stored(object);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let store = pair.store();
                    store.stage(object, &stored).unwrap();
                }
            });
        }
    });
    assert_eq!(pair.staging_dirs(), 0);
}

#[test]
fn staging_is_nobody_elses_business() {
    let pair = Pair::new();
    let _store = pair.store();
    let staging = pair.target().join("extensions/artifact-cache/staging");
    let own = fs::read_dir(&staging)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    for dir in [&staging, &own] {
        assert_eq!(
            fs::metadata(dir).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    let kinds: Vec<_> = fs::read_dir(own)
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
}

#[test]
fn a_locked_repository_is_busy_and_says_so_in_time() {
    let pair = Pair::new();
    ostree(
        &["config", "set", "core.lock-timeout-secs", "1"],
        &pair.target(),
    );
    let commit = pair.commit(None, &[("a", "1")]);
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&store, commit);
    let lock = lock_repo(&pair);
    let signs = std::cell::Cell::new(0);
    let error = store.publish(&|| signs.set(signs.get() + 1)).unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(error.to_fault().code, CloseCode::BUSY);
    assert!(signs.get() >= 1);
    assert_eq!(pair.held("x"), None);
    drop(lock);
    store.publish(&|| ()).unwrap();
    pair.assert_sound(&["x"]);
}

#[test]
fn a_repository_configured_not_to_lock_is_not_locked() {
    let pair = Pair::new();
    ostree(&["config", "set", "core.locking", "false"], &pair.target());
    let commit = pair.commit(None, &[("a", "1")]);
    let _lock = lock_repo(&pair);
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&store, commit);
    store.publish(&|| ()).unwrap();
    assert_eq!(pair.held("x"), Some(commit.to_hex()));
}

/// Locks the repository as a prune does.
fn lock_repo(pair: &Pair) -> <RealFs as Fs>::Lock {
    let fs = RealFs::open(&pair.target()).unwrap();
    let path = RepoPath::default().child(".lock");
    fs.try_lock(&path, LockMode::Exclusive).unwrap().unwrap()
}

#[test]
fn what_is_no_archive_repository_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let refused = |dir| LocalStore::open(dir, StoreConfig::default()).unwrap_err();
    assert!(matches!(refused(dir.path()), Error::NotARepository { .. }));
    ostree(&["init", "--mode=bare-user"], dir.path());
    assert!(matches!(refused(dir.path()), Error::NotARepository { .. }));
}
