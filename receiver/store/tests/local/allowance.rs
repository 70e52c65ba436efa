//! What one identity may have in all: objects and bytes, counted when they come and when they go.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use artifact_formats::{Checksum, Share};
use artifact_protocol::frame::{CloseCode, PushOptions, RefOutcome};
use artifact_store::{Allowance, Error, StoreConfig, SummaryConfig, prune, remove_refs, tidy};

use crate::session::Session;
use crate::support::{Pair, done, open, update};

/// Opens the target for an identity that may have so many objects and bytes.
fn store_of(pair: &Pair, identity: &str, objects: u64, bytes: u64) -> Session {
    let config = StoreConfig {
        identity: identity.to_owned(),
        allowance: Allowance {
            refs_max: Some(1_000),
            objects_max: Some(objects),
            bytes_max: Some(Share::Bytes(bytes)),
        },
        ..StoreConfig::default()
    };
    Session::at(&pair.target(), config).unwrap()
}

/// Has an identity that may have so many objects push a commit.
fn push(pair: &Pair, who: &str, objects: u64, name: &str, commit: Checksum) -> Result<(), Error> {
    let store = store_of(pair, who, objects, u64::MAX);
    open(&store, PushOptions::FORCE, &[update(name, commit)]);
    send(pair, &store, commit)?;
    assert_eq!(done(store.publish()?), [RefOutcome::Updated]);
    Ok(())
}

/// Sends what the store does not say it has.
fn send(pair: &Pair, store: &Session, commit: Checksum) -> Result<(), Error> {
    let ids = pair.closure(commit);
    let had = store.have(&ids)?;
    for (id, _) in ids.iter().zip(had).filter(|(_, had)| !had) {
        store.stage(*id, &pair.stored(*id))?;
    }
    Ok(())
}

fn must_be_over<T: std::fmt::Debug>(pushed: Result<T, Error>, setting: &str) {
    let error = pushed.unwrap_err();
    let fault = error.to_fault();
    assert_eq!(fault.code, CloseCode::STORAGE_FULL);
    assert!(fault.text.contains(setting), "{}", fault.text);
}

fn own_dir(pair: &Pair) -> PathBuf {
    pair.target().join("extensions/artifact-cache")
}

/// Returns what is written down of all identities together.
fn held(dir: &Path) -> (u64, u64) {
    let files = fs::read_dir(dir.join("held")).into_iter().flatten();
    let texts = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    texts.fold((0, 0), |(objects, bytes), text| {
        let (_, weight) = text.trim_end().split_once('\n').unwrap();
        let (o, b) = weight.split_once(' ').unwrap();
        (
            objects + o.parse::<u64>().unwrap(),
            bytes + b.parse::<u64>().unwrap(),
        )
    })
}

/// Counts the objects of the target, and their bytes.
fn stored(pair: &Pair) -> (u64, u64) {
    let dirs = fs::read_dir(pair.target().join("objects")).unwrap();
    let files = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
    files.fold((0, 0), |(objects, bytes), file| {
        (objects + 1, bytes + file.unwrap().metadata().unwrap().len())
    })
}

#[test]
fn an_identity_has_no_more_objects_than_it_may_until_some_are_pruned() {
    let pair = Pair::new();
    // A commit, its directory, what that is like, and a file each; two have one more in common.
    let commits: Vec<_> = (0..4)
        .map(|n| pair.commit(None, &[("a", &format!("{n}")), ("b", "b")]))
        .collect();
    push(&pair, "mallory", 11, "alpha/0", commits[0]).unwrap();
    push(&pair, "mallory", 11, "alpha/1", commits[1]).unwrap();
    assert_eq!(held(&own_dir(&pair)), stored(&pair));
    // While it comes, and others are not concerned.
    let store = store_of(&pair, "mallory", 9, u64::MAX);
    open(
        &store,
        PushOptions::default(),
        &[update("alpha/2", commits[2])],
    );
    must_be_over(send(&pair, &store, commits[2]), "objects-max");
    drop(store);
    push(&pair, "bob", 5, "beta/2", commits[2]).unwrap();
    // Nothing was counted of what failed. What is here already costs nothing, but for a commit and
    // a directory, which have to be sent again.
    push(&pair, "mallory", 10, "alpha/2", commits[2]).unwrap();

    // Refs that go take nothing back by themselves: a prune does.
    let old = [("alpha/0".parse().unwrap(), None)];
    remove_refs(&pair.target(), SummaryConfig::default(), &old).unwrap();
    must_be_over(
        push(&pair, "mallory", 9, "alpha/3", commits[3]),
        "objects-max",
    );
    prune(&pair.target(), SummaryConfig::default()).unwrap();
    assert_eq!(held(&own_dir(&pair)), stored(&pair));
    push(&pair, "mallory", 9, "alpha/3", commits[3]).unwrap();
    // A ref that moves on leaves what it held until then.
    must_be_over(
        push(&pair, "mallory", 8, "alpha/1", commits[0]),
        "objects-max",
    );
    push(&pair, "mallory", 99, "alpha/1", commits[0]).unwrap();
    prune(&pair.target(), SummaryConfig::default()).unwrap();
    assert_eq!(held(&own_dir(&pair)), stored(&pair));

    let all = ["alpha/1", "alpha/2", "alpha/3", "beta/2"].map(|name| (name.parse().unwrap(), None));
    remove_refs(&pair.target(), SummaryConfig::default(), &all).unwrap();
    tidy(&pair.target()).unwrap();
    prune(&pair.target(), SummaryConfig::default()).unwrap();
    assert_eq!(stored(&pair), (0, 0));
    let left: Vec<_> = ["held", "accounts"]
        .into_iter()
        .filter(|name| own_dir(&pair).join(name).exists())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bytes_are_counted_while_they_come_and_with_what_an_earlier_session_left() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "a")]);
    let closure = pair.closure(commit);
    let len: u64 = closure.iter().map(|id| pair.stored(*id).len() as u64).sum();
    let store = store_of(&pair, "mallory", u64::MAX, len - 1);
    open(&store, PushOptions::default(), &[update("alpha/0", commit)]);
    must_be_over(send(&pair, &store, commit), "bytes-max");
    drop(store);
    // All but the last was left; whoever takes it over has brought it.
    let store = store_of(&pair, "mallory", u64::MAX, len - 1);
    open(&store, PushOptions::default(), &[update("alpha/0", commit)]);
    must_be_over(send(&pair, &store, commit), "bytes-max");
    drop(store);
    // In pieces, before the last one comes.
    let store = store_of(&pair, "eve", u64::MAX, len / 100);
    open(&store, PushOptions::default(), &[update("alpha/0", commit)]);
    let mut stream = store.begin(closure[0]).unwrap();
    let stored = pair.stored(closure[0]);
    let pieces: Result<Vec<()>, Error> =
        stored.chunks(1).map(|piece| stream.append(piece)).collect();
    must_be_over(pieces, "bytes-max");
    drop(stream);
    drop(store);
    let store = store_of(&pair, "mallory", u64::MAX, len);
    open(&store, PushOptions::default(), &[update("alpha/0", commit)]);
    send(&pair, &store, commit).unwrap();
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["alpha/0"]);
}

#[test]
fn sessions_at_once_bring_no_more_together_than_their_identity_may_have() {
    let pair = Pair::new();
    let commits: Vec<_> = (0..4)
        .map(|n| pair.commit(None, &[("a", &format!("{n}"))]))
        .collect();
    // None of the sessions sees what another one has brought before all have it in staging.
    let stores: Vec<_> = commits
        .iter()
        .enumerate()
        .map(|(n, commit)| {
            let store = store_of(&pair, "mallory", 8, u64::MAX);
            let refs = [update(&format!("alpha/{n}"), *commit)];
            open(&store, PushOptions::default(), &refs);
            pair.stage_all(&store, *commit);
            store
        })
        .collect();
    let published = stores.iter().map(|store| store.publish());
    let (done, over): (Vec<_>, Vec<_>) = published.partition(Result::is_ok);
    assert_eq!((done.len(), over.len()), (2, 2));
    over.into_iter()
        .for_each(|over| must_be_over(over, "objects-max"));
    // Nothing of those that were too much got a name.
    assert!(stored(&pair).0 <= 8, "{:?}", stored(&pair));
}

// A key whose sessions died once left four times as much as a session may bring.
#[test]
fn what_dead_sessions_leave_together_is_no_more_than_one_may_bring_and_the_newest_is_kept() {
    let pair = Pair::new();
    let commits: Vec<_> = (0..4)
        .map(|n| pair.commit(None, &[("a", &format!("{n}"))]))
        .collect();
    // Four objects each, two of which all have in common.
    let leave = |commit: Checksum, objects: u64| {
        pair.age_staging(Duration::from_secs(1));
        let store = store_of(&pair, "mallory", objects, u64::MAX);
        open(&store, PushOptions::default(), &[update("alpha/x", commit)]);
        pair.stage_all(&store, commit);
    };
    let staged = || {
        let dirs = fs::read_dir(own_dir(&pair).join("staging")).unwrap();
        let files = dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap());
        files
            .filter(|file| file.as_ref().unwrap().path().extension().is_some())
            .count()
    };
    for (n, left) in [(0, 4), (1, 8), (2, 8), (3, 8)] {
        leave(commits[n], 11);
        assert_eq!(staged(), left);
    }
    // Those that were killed have left more: the next session of the same identity removes it, and
    // none of another does.
    for commit in &commits[..2] {
        leave(*commit, u64::MAX);
    }
    assert_eq!((staged(), pair.staging_dirs()), (16, 4));
    drop(store_of(&pair, "bob", 11, u64::MAX).begun().unwrap());
    assert_eq!(staged(), 16);
    let store = store_of(&pair, "mallory", 11, u64::MAX);
    open(
        &store,
        PushOptions::default(),
        &[update("alpha/x", commits[1])],
    );
    assert_eq!(staged(), 8);
    let had = store.have(&pair.closure(commits[1])).unwrap();
    assert_eq!(had, [true; 4], "the last is taken over whole");
    drop(store);
    // One session that has left all that it may: nothing fits beside it.
    leave(commits[0], 4);
    assert_eq!(staged(), 4);
    // By bytes as well.
    for commit in &commits {
        let store = store_of(&pair, "eve", u64::MAX, 1_000);
        open(
            &store,
            PushOptions::default(),
            &[update("alpha/y", *commit)],
        );
        pair.stage_all(&store, *commit);
    }
    let len: usize = pair
        .closure(commits[0])
        .iter()
        .map(|id| pair.stored(*id).len())
        .sum();
    assert_eq!(staged() - 4, 4 * (1_000 / len).clamp(1, 4));
}
