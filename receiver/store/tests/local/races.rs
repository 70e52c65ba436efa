//! Others who change the repository between an announcement and its publication.

use std::fs;

use artifact_formats::{Checksum, ObjectKind};
use artifact_protocol::frame::{Base, PushOptions, RefOutcome, RefState, RefusalCode, Verdict};
use artifact_protocol::session::Announcement;

use crate::session::Session;
use crate::support::{Pair, done, missing, open, ostree, update};

fn lost(outcome: &RefOutcome) -> bool {
    matches!(outcome, RefOutcome::Refused(refusal) if refusal.code == RefusalCode::LOST_RACE)
}

/// Opens a push of `new` to `a/2` that relies on `base`, and stages only the difference.
fn push_relying(pair: &Pair, base: Checksum, new: Checksum) -> Session {
    let store = pair.store();
    let opened = store
        .open(&Announcement {
            refs: vec![update("a/2", new)],
            bases: vec![Base {
                name: "a/1".parse().unwrap(),
                commit: base,
            }],
            ..Announcement::default()
        })
        .unwrap();
    assert_eq!(opened.complete, [base]);
    store.rely(&[base]).unwrap();
    let ids = pair.closure(new);
    for (&id, had) in ids.iter().zip(store.have(&ids).unwrap()) {
        if !had {
            store.stage(id, &pair.stored(id)).unwrap();
        }
    }
    store
}

fn two_related(pair: &Pair) -> (Checksum, Checksum) {
    let shared = [("dir/shared", "s"), ("dir/deep/shared", "t")];
    let base = pair.commit(None, &shared);
    let new = pair.commit(None, &[&shared[..], &[("new", "n")]].concat());
    pair.push("a/1", base);
    (base, new)
}

#[test]
fn of_two_pushes_to_one_ref_the_slower_one_loses_alone() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "1")]);
    let second = pair.commit(None, &[("a", "2")]);
    let slow = pair.store();
    open(
        &slow,
        PushOptions::default(),
        &[update("x", second), update("y", second)],
    );
    pair.stage_all(&slow, second);
    assert_eq!(pair.push("x", first), RefOutcome::Updated);
    let outcomes = done(slow.publish().unwrap());
    assert!(lost(&outcomes[0]), "{outcomes:?}");
    assert_eq!(outcomes[1], RefOutcome::Updated);
    assert_eq!(pair.held("x"), Some(first.to_hex()));
    assert_eq!(pair.held("y"), Some(second.to_hex()));
    pair.assert_sound(&["x", "y"]);
}

#[test]
fn a_push_is_no_loser_to_the_same_push_whose_answer_was_lost() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    let [first, again] = [(); 2].map(|()| {
        let store = pair.store();
        let refs = [update("x", commit), update("dir/y", commit)];
        let opened = open(&store, PushOptions::default(), &refs);
        let accepted = |state: &RefState| state.verdict == Verdict::Accepted;
        assert!(opened.refs.iter().all(accepted));
        pair.stage_all(&store, commit);
        store
    });
    let updated = [RefOutcome::Updated, RefOutcome::Updated];
    assert_eq!(done(first.publish().unwrap()), updated);
    // The first client's process dies before it writes the summary.
    drop(first);
    let unchanged = [RefOutcome::Unchanged, RefOutcome::Unchanged];
    assert_eq!(done(again.publish().unwrap()), unchanged);
    let listed = ostree(&["summary", "--view"], &pair.target());
    assert!(listed.contains("dir/y"), "{listed}");
    pair.assert_sound(&["x", "dir/y"]);
}

#[test]
fn a_push_that_loses_every_ref_publishes_nothing() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("a", "1")]);
    let second = pair.commit(None, &[("a", "2")]);
    let slow = pair.store();
    open(&slow, PushOptions::default(), &[update("x", second)]);
    pair.stage_all(&slow, second);
    pair.push("x", first);
    let before = pair.snapshot();
    assert!(lost(&done(slow.publish().unwrap())[0]));
    assert_eq!(pair.snapshot(), before);
}

#[test]
fn exactly_one_of_eight_simultaneous_pushes_to_a_ref_wins() {
    let pair = Pair::new();
    let commits: Vec<_> = (0..8)
        .map(|n| pair.commit(None, &[("a", &n.to_string())]))
        .collect();
    let stores: Vec<_> = commits.iter().map(|_| pair.store()).collect();
    for (store, &commit) in stores.iter().zip(&commits) {
        open(store, PushOptions::default(), &[update("x", commit)]);
        pair.stage_all(store, commit);
    }
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = stores
            .iter()
            .map(|store| scope.spawn(|| done(store.publish().unwrap()).remove(0)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let won: Vec<_> = outcomes.iter().map(|o| *o == RefOutcome::Updated).collect();
    assert_eq!(won.iter().filter(|&&won| won).count(), 1, "{outcomes:?}");
    assert!(
        outcomes
            .iter()
            .all(|o| *o == RefOutcome::Updated || lost(o))
    );
    let winner = commits[won.iter().position(|&won| won).unwrap()];
    assert_eq!(pair.held("x"), Some(winner.to_hex()));
    pair.assert_sound(&["x"]);
}

#[test]
fn what_was_relied_on_and_pruned_is_missed_and_can_be_sent() {
    let pair = Pair::new();
    let (base, new) = two_related(&pair);
    let store = push_relying(&pair, base, new);
    ostree(&["refs", "--delete", "a/1"], &pair.target());
    ostree(&["prune", "--refs-only"], &pair.target());
    let before = pair.snapshot();
    // One level of the tree a turn, for as long as turns remain.
    for turn in 0.. {
        assert!(turn < 5);
        let published = store.publish().unwrap();
        if pair.held("a/2").is_some() {
            assert_eq!(done(published), [RefOutcome::Updated]);
            break;
        }
        assert_eq!(pair.snapshot(), before);
        for id in missing(published) {
            store.stage(id, &pair.stored(id)).unwrap();
        }
    }
    pair.assert_sound(&["a/2"]);
}

#[test]
fn what_was_relied_on_and_moved_is_verified_instead() {
    let pair = Pair::new();
    let (base, new) = two_related(&pair);
    let other = pair.commit(Some(base), &[("z", "z")]);
    let store = push_relying(&pair, base, new);
    pair.push("a/1", other);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["a/1", "a/2"]);
}

#[test]
fn a_base_that_is_moved_and_lacks_an_object_is_not_believed() {
    let pair = Pair::new();
    let (base, new) = two_related(&pair);
    let other = pair.commit(Some(base), &[("z", "z")]);
    let store = push_relying(&pair, base, new);
    pair.push("a/1", other);
    let gone = pair
        .closure(base)
        .into_iter()
        .find(|id| id.kind == ObjectKind::File)
        .unwrap();
    fs::remove_file(pair.target().join("objects").join(gone.archive_path())).unwrap();
    assert_eq!(missing(store.publish().unwrap()), [gone]);
    assert_eq!(pair.held("a/2"), None);
}

/// A client that offers all its objects at once also names those below directories that the server
/// has.
#[test]
fn what_was_asked_for_is_missing_unless_it_is_sent_though_it_lies_beneath_a_base() {
    for is_sent in [false, true] {
        let pair = Pair::new();
        let (base, new) = two_related(&pair);
        let mut files = pair.closure(base).into_iter();
        let gone = files.find(|id| id.kind == ObjectKind::File).unwrap();
        let stored = pair.stored(gone);
        fs::remove_file(pair.target().join("objects").join(gone.archive_path())).unwrap();
        let store = pair.store();
        open(&store, PushOptions::default(), &[update("a/2", new)]);
        assert_eq!(store.have(&[gone]).unwrap(), [false]);
        let ids = pair.closure(new);
        for (&id, had) in ids.iter().zip(store.have(&ids).unwrap()) {
            if !had && id != gone {
                store.stage(id, &pair.stored(id)).unwrap();
            }
        }
        if is_sent {
            store.stage(gone, &stored).unwrap();
        } else {
            store.lack(&[gone]).unwrap();
            assert_eq!(missing(store.publish().unwrap()), [gone]);
            assert_eq!(pair.held("a/2"), None);
            store.stage(gone, &stored).unwrap();
        }
        assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
        pair.assert_sound(&["a/1", "a/2"]);
    }
}

#[test]
fn beneath_an_empty_basis_is_nothing() {
    let pair = Pair::new();
    let (base, new) = two_related(&pair);
    let store = pair.store();
    let opened = open(&store, PushOptions::default(), &[update("a/2", new)]);
    assert_eq!(opened.complete, [base], "it is suggested");
    store.rely(&[]).unwrap();
    let ids = pair.closure(base);
    for (id, had) in ids.iter().zip(store.have(&ids).unwrap()) {
        // Only objects that need no others are looked at, and reported as *have*.
        let alone = matches!(id.kind, ObjectKind::File | ObjectKind::Dirmeta);
        assert_eq!(had, alone, "{id}");
    }
    let damaged = ids.iter().find(|id| id.kind == ObjectKind::File).unwrap();
    let path = pair.target().join("objects").join(damaged.archive_path());
    fs::write(path, "damaged").unwrap();
    let store = pair.store_of("another");
    open(&store, PushOptions::default(), &[update("a/2", new)]);
    store.rely(&[]).unwrap();
    assert_eq!(store.have(&[*damaged]).unwrap(), [false]);
    pair.stage_all(&store, new);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    pair.assert_sound(&["a/1", "a/2"]);
}

#[test]
fn a_base_with_a_damaged_directory_is_not_believed() {
    let pair = Pair::new();
    let (base, new) = two_related(&pair);
    let tree = pair
        .closure(base)
        .into_iter()
        .rfind(|id| id.kind == ObjectKind::Dirtree)
        .unwrap();
    let store = pair.store();
    open(&store, PushOptions::default(), &[update("a/2", new)]);
    // After the store looked at it.
    fs::write(
        pair.target().join("objects").join(tree.archive_path()),
        "damaged",
    )
    .unwrap();
    let ids: Vec<_> = pair.closure(base);
    store.have(&ids).unwrap();
    // The server called it complete, so the client may rely on it.
    store.rely(&[base]).unwrap();
    let had = store.have(&ids).unwrap();
    for (id, had) in ids.iter().zip(had) {
        let alone = matches!(id.kind, ObjectKind::File | ObjectKind::Dirmeta);
        assert_eq!(had, alone, "{id}");
    }
    pair.stage_all(&store, new);
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
    // Both refs share the directory: publishing healed it.
    pair.assert_sound(&["a/1", "a/2"]);
}

#[test]
fn pushes_and_prunes_at_once_leave_a_sound_repository() {
    let pair = Pair::new();
    let commits: Vec<_> = (0..12)
        .map(|n| {
            pair.commit(
                None,
                &[("same/a", "1"), ("same/b", "2"), ("n", &format!("{n}"))],
            )
        })
        .collect();
    std::thread::scope(|scope| {
        for (lane, commits) in commits.chunks(4).enumerate() {
            let pair = &pair;
            scope.spawn(move || {
                for (n, &commit) in commits.iter().enumerate() {
                    assert_eq!(
                        pair.push(&format!("l/{lane}/{n}"), commit),
                        RefOutcome::Updated
                    );
                    if n > 0 {
                        let old = format!("l/{lane}/{}", n - 1);
                        ostree(&["refs", "--delete", &old], &pair.target());
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..10 {
                ostree(&["prune", "--refs-only"], &pair.target());
            }
        });
    });
    pair.assert_sound(&["l/0/3", "l/1/3", "l/2/3"]);
}
