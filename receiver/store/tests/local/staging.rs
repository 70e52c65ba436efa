//! Who may use staged objects, and how long these stay.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::session::Session;
use artifact_formats::{ObjectId, ObjectKind};
use artifact_protocol::frame::{CloseCode, PushOptions, RefOutcome};
use artifact_protocol::session::Published;
use artifact_store::{Error, Fs, LockMode, RealFs, RepoPath, StoreConfig};

use crate::support::{Pair, done, open, ostree, update};

#[test]
fn a_living_session_keeps_its_staging_and_a_dead_one_does_not() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let living = pair.store();
    open(&living, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&living, commit);
    // The state a killed process leaves: the directory exists and is not locked.
    let staging = pair.target().join("extensions/artifact-cache/staging");
    let dead = staging.join("boot.dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    fs::create_dir(dead.join("tmp")).unwrap();
    fs::write(dead.join("tmp/0"), "half").unwrap();
    // And the state of one killed in between.
    fs::create_dir(staging.join("boot.unborn")).unwrap();
    assert_eq!(pair.staging_dirs(), 3);
    let another = pair.store().begun().unwrap();
    assert_eq!(pair.staging_dirs(), 2);
    drop(another);
    assert_eq!(pair.staging_dirs(), 1);
    living.publish().unwrap();
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
    // Each session left its staged objects; the server keeps four sessions of one identity.
    drop(pair.store().begun().unwrap());
    assert_eq!(pair.staging_dirs(), 4);
}

#[test]
fn an_object_that_comes_twice_is_whole_and_has_its_mode() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    pair.stage_all(&store, commit);
    pair.stage_all(&store, commit);
    store.publish().unwrap();
    for id in pair.closure(commit) {
        let path = pair.target().join("objects").join(id.archive_path());
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o644
        );
    }
    pair.assert_sound(&["x"]);
}

#[test]
fn staging_is_nobody_elses_business() {
    let pair = Pair::new();
    let _store = pair.store().begun().unwrap();
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
    assert_eq!(kinds.len(), 3, "{kinds:?}");
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
    let error = store.publish().unwrap_err();
    assert!(matches!(error, Error::Busy { .. }), "{error}");
    assert_eq!(error.to_fault().code, CloseCode::BUSY);
    assert_eq!(pair.held("x"), None);
    drop(lock);
    store.publish().unwrap();
    pair.assert_sound(&["x"]);
}

// REQ-40.
#[test]
fn what_one_identity_has_sent_is_no_news_to_another() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "secret")]);
    let file = pair.closure(commit).into_iter();
    let file = file
        .filter(|id| id.kind == ObjectKind::File)
        .collect::<Vec<_>>();
    let sent = pair.store_of("one");
    open(&sent, PushOptions::default(), &[update("x", commit)]);
    sent.stage(file[0], &pair.stored(file[0])).unwrap();
    drop(sent);
    for (identity, has) in [("another", false), ("one", true)] {
        let store = pair.store_of(identity);
        open(&store, PushOptions::default(), &[update("x", commit)]);
        assert_eq!(store.have(&file).unwrap(), [has], "{identity}");
    }
}

// REQ-45.
#[test]
fn no_lock_is_held_while_a_client_is_waited_for() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let store = pair.store();
    drop(lock_repo(&pair));
    open(&store, PushOptions::default(), &[update("x", commit)]);
    drop(lock_repo(&pair));
    assert!(matches!(store.publish().unwrap(), Published::Missing(_)));
    drop(lock_repo(&pair));
    pair.stage_all(&store, commit);
    drop(lock_repo(&pair));
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    drop(lock_repo(&pair));
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
    store.publish().unwrap();
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
    let refused = |dir| Session::at(dir, StoreConfig::default()).unwrap_err();
    assert!(matches!(refused(dir.path()), Error::NotARepository { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    ostree(&["init", "--mode=bare-user"], dir.path());
    assert!(matches!(refused(dir.path()), Error::NotARepository { .. }));
}

/// Stages objects on request and waits to be killed; run as an ordinary test, it does nothing.
#[test]
fn a_session_that_waits_to_be_killed() {
    let Ok(told) = std::env::var("STAGING_TEST") else {
        return;
    };
    let mut told = told.split(' ');
    let (source, target) = (told.next().unwrap(), told.next().unwrap());
    let store = Session::at(Path::new(target), StoreConfig::default()).unwrap();
    for id in told {
        let wire = hex::decode(id).unwrap();
        let id = ObjectId::from_wire(wire.first_chunk().unwrap()).unwrap();
        let path = Path::new(source).join("objects").join(id.archive_path());
        store.stage(id, &fs::read(path).unwrap()).unwrap();
    }
    let _stream = store.begin("0".repeat(64).parse().map(file).unwrap());
    println!("\nready");
    std::thread::sleep(Duration::from_secs(60));
}

fn file(checksum: artifact_formats::Checksum) -> ObjectId {
    ObjectId::new(ObjectKind::File, checksum)
}

#[test]
fn after_kill_9_a_push_is_accepted_within_a_second_and_sends_only_the_rest() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1"), ("b", "2"), ("dir/c", "3")]);
    // Children come first, so that every staged object counts.
    let objects: Vec<_> = pair.closure(commit).into_iter().rev().collect();
    let half = objects.len() / 2;
    let mut told = format!("{} {}", pair.source().display(), pair.target().display());
    for id in &objects[..half] {
        told += &format!(" {}", hex::encode(id.to_wire()));
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "staging::a_session_that_waits_to_be_killed",
            "--nocapture",
        ])
        .env("STAGING_TEST", told)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap() == "ready"));
    let other = pair.store_of("another");
    open(&other, PushOptions::default(), &[update("x", commit)]);
    assert!(!other.have(&objects).unwrap().contains(&true));
    drop(other);
    // Half-open at first, then dead.
    let half_open = pair.store();
    open(&half_open, PushOptions::default(), &[update("x", commit)]);
    let had = half_open.have(&objects).unwrap();
    assert_eq!(had.iter().filter(|had| **had).count(), half);
    drop(half_open);
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("x", commit)]);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    for (&id, had) in objects.iter().zip(store.have(&objects).unwrap()) {
        if !had {
            store.stage(id, &pair.stored(id)).unwrap();
        }
    }
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    drop(store);
    pair.assert_sound(&["x"]);
    // The push needed the half-open session's objects, but none of the killed one's.
    assert!(pair.staging_dirs() <= 1);
}

#[test]
fn what_nobody_took_over_for_a_day_is_gone_with_what_was_half_received() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let store = pair.store();
    pair.stage_all(&store, commit);
    drop(store);
    assert_eq!(pair.staging_dirs(), 1);
    pair.age_staging(Duration::from_secs(24 * 3600));
    drop(pair.store_of("another").begun().unwrap());
    assert_eq!(pair.staging_dirs(), 0);
}

#[test]
fn sessions_that_end_are_in_the_way_of_none_that_begins() {
    // A starting session met the lock of a session that was just leaving, and failed.
    let pair = Pair::new();
    let deadline = Instant::now() + Duration::from_secs(3);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while Instant::now() < deadline {
                    let opened = Session::at(&pair.target(), StoreConfig::default());
                    drop(opened.unwrap());
                }
            });
        }
    });
    assert_eq!(pair.staging_dirs(), 0);
}

// Within one mount, the server once believed any file with an object's name in the staging of a cut
// session, and published a file that had been truncated on the disk meanwhile.
#[test]
fn what_was_damaged_in_staging_meanwhile_is_sent_again_whatever_became_of_it() {
    let damages: [fn(&mut Vec<u8>); 4] = [
        Vec::clear,
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| bytes.push(0),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
    ];
    for damage in damages {
        let pair = Pair::new();
        let commit = pair.commit(None, &[("a", "1"), ("dir/b", "2")]);
        let cut = pair.store();
        open(&cut, PushOptions::default(), &[update("x", commit)]);
        pair.stage_all(&cut, commit);
        drop(cut);
        let staging = pair.target().join("extensions/artifact-cache/staging");
        let dir = fs::read_dir(staging).unwrap().next().unwrap().unwrap();
        let objects = pair.closure(commit);
        for id in &objects {
            let name = id.archive_path().replace('/', "");
            let path = dir.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        }
        let store = pair.store();
        open(&store, PushOptions::default(), &[update("x", commit)]);
        let had = store.have(&objects).unwrap();
        assert!(!had.contains(&true), "{had:?}");
        pair.stage_all(&store, commit);
        assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
        pair.assert_sound(&["x"]);
    }
}
