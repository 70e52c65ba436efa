//! Whose the signatures of a commit are, and when that is decided.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crate::session::Session;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{PushOptions, RefOutcome, RefUpdate, RefusalCode, Verdict};
use artifact_store::policy::{Grants, Policy};
use artifact_store::{Fs, StoreConfig};

use crate::support::{Op, Pair, done, open, update};

// {'k': <'v'>}, and {}
const REAL: &[u8] = b"k\0\0\0\0\0\0\0v\0\0s\x02\x0d";
const JUNK: &[u8] = b"";

fn config(who: &str, push: &str) -> StoreConfig {
    let grants = Grants {
        push: vec![push.parse().unwrap()],
        ..Grants::default()
    };
    StoreConfig {
        identity: who.to_owned(),
        policy: Policy::limited(who.into(), grants),
        ..StoreConfig::default()
    }
}

fn bob(pair: &Pair) -> Session {
    Session::at(&pair.target(), config("bob", "beta/**")).unwrap()
}

fn mallory(pair: &Pair) -> Session {
    Session::at(&pair.target(), config("mallory", "alpha/**")).unwrap()
}

fn signed(name: &str, commit: Checksum, metadata: &[u8]) -> RefUpdate {
    RefUpdate {
        detached: Some(Checksum::of(metadata)),
        ..update(name, commit)
    }
}

/// Sends everything except the detached metadata; returns how the update was judged.
fn prepare<F: Fs>(
    pair: &Pair,
    store: &Session<F>,
    name: &str,
    commit: Checksum,
    metadata: Option<&[u8]>,
) -> Verdict {
    let update = metadata.map_or(update(name, commit), |data| signed(name, commit, data));
    let opened = open(store, PushOptions::default(), &[update]);
    let verdict = opened.refs[0].verdict.clone();
    if verdict == Verdict::Accepted {
        pair.stage_all(store, commit);
        if let Some(metadata) = metadata {
            store.stage_detached(commit, metadata).unwrap();
        }
    }
    verdict
}

fn publish<F: Fs>(store: &Session<F>) -> RefOutcome {
    done(store.publish().unwrap()).remove(0)
}

fn push(pair: &Pair, store: &Session, name: &str, commit: Checksum, metadata: Option<&[u8]>) {
    assert_eq!(
        prepare(pair, store, name, commit, metadata),
        Verdict::Accepted
    );
    assert_eq!(publish(store), RefOutcome::Updated);
}

fn stored(pair: &Pair, commit: Checksum) -> PathBuf {
    let id = ObjectId::new(ObjectKind::Commit, commit);
    pair.target().join("objects").join(id.archive_path())
}

fn signature(pair: &Pair, commit: Checksum) -> Option<Vec<u8>> {
    fs::read(stored(pair, commit).with_extension("commitmeta")).ok()
}

fn is_not_permitted(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused(refusal) if refusal.code == RefusalCode::NOT_PERMITTED)
}

fn is_refused(outcome: &RefOutcome, code: RefusalCode) -> bool {
    matches!(outcome, RefOutcome::Refused(refusal) if refusal.code == code)
}

#[test]
fn signatures_stay_whose_they_are_though_their_commit_is_partial_or_gone() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("file", "text")]);
    push(&pair, &bob(&pair), "beta/x", commit, Some(REAL));
    // The state in which `ostree fsck --delete` leaves a commit.
    let partial = pair.target().join(format!("state/{commit}.commitpartial"));
    fs::create_dir_all(partial.parent().unwrap()).unwrap();
    fs::write(partial, "f").unwrap();
    let verdict = prepare(&pair, &mallory(&pair), "alpha/y", commit, Some(JUNK));
    assert!(is_not_permitted(&verdict), "{verdict:?}");
    // Completing the commit without detached metadata takes nothing from anybody.
    push(&pair, &mallory(&pair), "alpha/y", commit, None);
    assert_eq!(signature(&pair, commit).as_deref(), Some(REAL));

    fs::remove_file(stored(&pair, commit)).unwrap();
    let late = mallory(&pair);
    // The owner is known once the commit has come.
    assert_eq!(
        prepare(&pair, &late, "alpha/z", commit, Some(JUNK)),
        Verdict::Accepted
    );
    let outcome = publish(&late);
    assert!(
        is_refused(&outcome, RefusalCode::NOT_PERMITTED),
        "{outcome:?}"
    );
    assert_eq!(signature(&pair, commit).as_deref(), Some(REAL));
}

#[test]
fn who_publishes_a_commit_without_a_signature_keeps_nobody_from_signing_it() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("file", "text")]);
    push(&pair, &mallory(&pair), "alpha/squat", commit, None);
    push(&pair, &bob(&pair), "beta/x", commit, Some(REAL));
    assert_eq!(signature(&pair, commit).as_deref(), Some(REAL));
    let verdict = prepare(&pair, &mallory(&pair), "alpha/squat", commit, Some(JUNK));
    assert!(is_not_permitted(&verdict), "{verdict:?}");
}

#[test]
fn who_may_create_what_a_commit_is_bound_to_signs_it_anew() {
    let pair = Pair::new();
    let options = ["--branch=beta/x", "--bind-ref=alpha/x"];
    let commit = pair.commit_with(None, &[("file", "text")], &options);
    push(&pair, &mallory(&pair), "alpha/x", commit, Some(JUNK));
    push(&pair, &bob(&pair), "beta/x", commit, Some(REAL));
    assert_eq!(signature(&pair, commit).as_deref(), Some(REAL));
    // Also detached metadata alone.
    push(&pair, &bob(&pair), "beta/x", commit, Some(JUNK));
    assert_eq!(signature(&pair, commit).as_deref(), Some(JUNK));
    let eve = Session::at(&pair.target(), config("eve", "gamma/**")).unwrap();
    let verdict = prepare(&pair, &eve, "beta/x", commit, Some(REAL));
    assert!(is_not_permitted(&verdict), "{verdict:?}");
}

#[test]
fn signatures_of_an_unbound_commit_are_whose_who_attached_them_first() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("file", "text")]);
    push(&pair, &mallory(&pair), "alpha/x", commit, Some(REAL));
    // Not even with a ref of his own.
    let verdict = prepare(&pair, &bob(&pair), "beta/x", commit, Some(JUNK));
    assert!(is_not_permitted(&verdict), "{verdict:?}");
    push(&pair, &bob(&pair), "beta/x", commit, None);
    let verdict = prepare(&pair, &bob(&pair), "beta/x", commit, Some(JUNK));
    assert!(is_not_permitted(&verdict), "{verdict:?}");
    // Nor may the first pusher replace the signatures afterwards.
    let verdict = prepare(&pair, &mallory(&pair), "alpha/x", commit, Some(JUNK));
    assert!(is_not_permitted(&verdict), "{verdict:?}");
    assert_eq!(signature(&pair, commit).as_deref(), Some(REAL));
    // Pushing the same signatures again replaces nothing.
    push(&pair, &bob(&pair), "beta/y", commit, Some(REAL));

    let grants = Grants {
        push: vec!["gamma/**".parse().unwrap()],
        sign: vec!["gamma/**".parse().unwrap()],
        ..Grants::default()
    };
    let config = StoreConfig {
        policy: Policy::limited("signer".into(), grants),
        ..config("signer", "gamma/**")
    };
    let signer = Session::at(&pair.target(), config).unwrap();
    push(&pair, &signer, "gamma/x", commit, Some(JUNK));
    assert_eq!(signature(&pair, commit).as_deref(), Some(JUNK));
}

#[test]
fn of_two_who_sign_a_new_commit_at_once_the_second_is_judged_by_the_first() {
    for before in [".lock", "extensions/artifact-cache/refs.lock"] {
        let pair = Arc::new(Pair::new());
        let commit = pair.commit(None, &[("file", "text")]);
        let (late, record) = pair.recorded_with(config("mallory", "alpha/**"));
        assert_eq!(
            prepare(&pair, &late, "alpha/x", commit, Some(JUNK)),
            Verdict::Accepted
        );
        let theirs = Arc::clone(&pair);
        record.before(Op::Lock(before.to_owned()), move || {
            push(&theirs, &bob(&theirs), "beta/x", commit, Some(REAL));
        });
        let outcome = publish(&late);
        assert!(
            is_refused(&outcome, RefusalCode::NOT_PERMITTED),
            "{before}: {outcome:?}"
        );
        assert_eq!(signature(&pair, commit).as_deref(), Some(REAL), "{before}");
        pair.assert_sound(&["beta/x"]);
    }
}

#[test]
fn a_ref_that_lost_a_race_leaves_signatures_as_they_are() {
    for before in [".lock", "extensions/artifact-cache/refs.lock"] {
        let pair = Arc::new(Pair::new());
        let commit = pair.commit(None, &[("file", "text")]);
        let other = pair.commit(Some(commit), &[("file", "new")]);
        push(&pair, &pair.store(), "beta/x", commit, Some(REAL));
        let (late, record) = pair.recorded();
        assert_eq!(
            prepare(&pair, &late, "beta/x", commit, Some(JUNK)),
            Verdict::Accepted
        );
        let theirs = Arc::clone(&pair);
        record.before(Op::Lock(before.to_owned()), move || {
            assert_eq!(theirs.push("beta/x", other), RefOutcome::Updated);
        });
        let outcome = publish(&late);
        assert!(
            is_refused(&outcome, RefusalCode::LOST_RACE),
            "{before}: {outcome:?}"
        );
        assert_eq!(signature(&pair, commit).as_deref(), Some(REAL), "{before}");
    }
}

#[test]
fn a_ref_that_another_program_sets_between_the_first_look_and_the_last_is_not_overwritten() {
    let pair = Arc::new(Pair::new());
    let old = pair.commit(None, &[("file", "old")]);
    let new = pair.commit(Some(old), &[("file", "new")]);
    let foreign = pair.commit(None, &[("file", "foreign")]);
    for name in ["x", "y", "foreign"] {
        pair.push(name, if name == "foreign" { foreign } else { old });
    }
    let (store, record) = pair.recorded();
    let refs = [update("x", new), update("y", new)];
    open(&store, PushOptions::default(), &refs);
    pair.stage_all(&store, new);
    let theirs = pair.target();
    record.before(Op::Name("refs/heads/x".to_owned()), move || {
        crate::support::ostree(&["reset", "y", &foreign.to_hex()], &theirs);
    });
    let outcomes = done(store.publish().unwrap());
    assert_eq!(outcomes[0], RefOutcome::Updated);
    assert!(
        is_refused(&outcomes[1], RefusalCode::LOST_RACE),
        "{outcomes:?}"
    );
    assert_eq!(pair.held("x"), Some(new.to_hex()));
    assert_eq!(pair.held("y"), Some(foreign.to_hex()));
}

// The metadata of one commit, up to a MiB, were once hashed again for each of the ten thousand refs
// that may name it, and again while the locks were held.
#[test]
fn the_metadata_of_one_commit_are_read_once_however_many_refs_name_it() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("a", "1")]);
    push(&pair, &mallory(&pair), "alpha/first", commit, Some(REAL));
    let names = (0..200).map(|n| format!("alpha/{n}"));
    let updates: Vec<_> = names.map(|name| signed(&name, commit, REAL)).collect();
    // The second session learns that the first one has done everything.
    let sessions = [(); 2].map(|()| pair.recorded_with(config("mallory", "alpha/**")));
    for (store, _) in &sessions {
        open(store, PushOptions::default(), &updates);
        pair.stage_all(store, commit);
    }
    let expected = [RefOutcome::Updated, RefOutcome::Unchanged];
    for ((store, record), expected) in sessions.iter().zip(expected) {
        let outcomes = done(store.publish().unwrap());
        assert!(outcomes.iter().all(|outcome| *outcome == expected));
        let ops = record.ops.lock().unwrap();
        let read = ops
            .iter()
            .filter(|op| matches!(op, Op::Open(path) if path.ends_with(".commitmeta")));
        let read = read.count();
        assert!(read < 10, "{read} times");
    }
}
