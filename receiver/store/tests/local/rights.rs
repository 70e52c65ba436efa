//! Rights that depend on the repository's contents.

use std::fs;

use crate::session::Session;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Base, PushOptions, RefOutcome, RefUpdate, Refusal, RefusalCode, Verdict,
};
use artifact_protocol::session::Announcement;
use artifact_store::StoreConfig;
use artifact_store::policy::{Grants, Policy};
use sha2::Digest;

use crate::support::{Pair, done, missing, open, update};

// {'k': <'v'>}, and {}
const SIGNATURE: &[u8] = b"k\0\0\0\0\0\0\0v\0\0s\x02\x0d";
const OTHER: &[u8] = b"";

fn store(pair: &Pair, push: &str) -> Session {
    let grants = Grants {
        push: vec![push.parse().unwrap()],
        ..Grants::default()
    };
    let config = StoreConfig {
        policy: Policy::limited("somebody".into(), grants),
        ..StoreConfig::default()
    };
    Session::at(&pair.target(), config).unwrap()
}

fn signed(name: &str, commit: Checksum, metadata: &[u8]) -> RefUpdate {
    RefUpdate {
        detached: Some(Checksum::new(sha2::Sha256::digest(metadata).into())),
        ..update(name, commit)
    }
}

fn push_signed(pair: &Pair, store: &Session, update: &RefUpdate, metadata: &[u8]) {
    open(store, PushOptions::default(), std::slice::from_ref(update));
    pair.stage_all(store, update.commit);
    store.stage_detached(update.commit, metadata).unwrap();
    assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
}

fn signature(pair: &Pair, commit: Checksum) -> Vec<u8> {
    let id = ObjectId::new(ObjectKind::Commit, commit);
    let path = pair.target().join("objects").join(id.archive_path());
    fs::read(path.with_extension("commitmeta")).unwrap()
}

fn code(refusal: &Refusal) -> RefusalCode {
    refusal.code
}

#[test]
fn nobody_changes_a_signature_by_way_of_a_ref_of_his_own() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("file", "text")]);
    let theirs = signed("alpha/x", commit, SIGNATURE);
    push_signed(&pair, &pair.store(), &theirs, SIGNATURE);

    let refs = [signed("beta/x", commit, OTHER)];
    let opened = open(&store(&pair, "beta/**"), PushOptions::default(), &refs);
    match &opened.refs[0].verdict {
        Verdict::Refused(refusal) => assert_eq!(code(refusal), RefusalCode::NOT_PERMITTED),
        other => panic!("{other:?}"),
    }
    // Unchanged, or without detached metadata, the commit may be shared.
    for update in [
        signed("beta/x", commit, SIGNATURE),
        update("beta/y", commit),
    ] {
        let opened = open(&store(&pair, "beta/**"), PushOptions::default(), &[update]);
        assert_eq!(opened.refs[0].verdict, Verdict::Accepted);
    }
}

#[test]
fn nobody_changes_a_signature_that_came_while_he_pushed() {
    let pair = Pair::new();
    let commit = pair.commit(None, &[("file", "text")]);
    let child = pair.commit(Some(commit), &[("file", "new")]);
    let late = store(&pair, "beta/**");
    let refs = [signed("beta/x", commit, OTHER), update("beta/child", child)];
    let opened = open(&late, PushOptions::default(), &refs);
    assert!(
        opened
            .refs
            .iter()
            .all(|state| state.verdict == Verdict::Accepted)
    );
    pair.stage_all(&late, commit);
    pair.stage_all(&late, child);
    late.stage_detached(commit, OTHER).unwrap();

    let theirs = signed("alpha/x", commit, SIGNATURE);
    push_signed(&pair, &pair.store(), &theirs, SIGNATURE);

    let outcomes = done(late.publish().unwrap());
    match &outcomes[0] {
        RefOutcome::Refused(refusal) => assert_eq!(code(refusal), RefusalCode::NOT_PERMITTED),
        other => panic!("{other:?}"),
    }
    assert_eq!(outcomes[1], RefOutcome::Updated);
    assert_eq!(signature(&pair, commit), SIGNATURE);
    pair.assert_sound(&["alpha/x", "beta/child"]);
}

#[test]
fn a_commit_that_an_earlier_session_left_is_judged_though_nobody_offers_it() {
    let pair = Pair::new();
    let first = pair.commit(None, &[("file", "text")]);
    let unrelated = pair.commit(None, &[("file", "other")]);
    let bound = pair.commit_with(None, &[("file", "third")], &["--branch=other/ref"]);
    pair.push("alpha/x", first);
    let somebody = || {
        let grants = Grants {
            replace: vec!["alpha/**".parse().unwrap()],
            ..Grants::default()
        };
        let config = StoreConfig {
            policy: Policy::limited("somebody".into(), grants),
            ..StoreConfig::default()
        };
        Session::at(&pair.target(), config).unwrap()
    };
    let refs = [update("alpha/x", unrelated), update("alpha/y", bound)];
    let earlier = somebody();
    open(&earlier, PushOptions::default(), &refs);
    pair.stage_all(&earlier, unrelated);
    pair.stage_all(&earlier, bound);
    drop(earlier);

    let store = somebody();
    open(&store, PushOptions::FORCE, &refs);
    let outcomes = done(store.publish().unwrap());
    let codes: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            RefOutcome::Refused(refusal) => code(refusal),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(codes, [RefusalCode::NOT_FAST_FORWARD, RefusalCode::BINDING]);
    assert_eq!(pair.held("alpha/x"), Some(first.to_hex()));
    assert_eq!(pair.held("alpha/y"), None);
}

/// Opens the target for a key that pushes to `alpha`, and may pull that alone.
fn private(pair: &Pair) -> Session {
    let alpha = || vec!["alpha/**".parse().unwrap()];
    let grants = Grants {
        push: alpha(),
        pull: Some(alpha()),
        ..Grants::default()
    };
    let config = StoreConfig {
        policy: Policy::limited("somebody".into(), grants),
        ..StoreConfig::default()
    };
    Session::at(&pair.target(), config).unwrap()
}

// A key that may pull only some refs could name the commit of another one, or a file in it, without
// sending it, and then pull it by a ref of its own.
#[test]
fn who_may_not_pull_a_ref_gets_nothing_of_it_by_naming_it() {
    let pair = Pair::new();
    let theirs = pair.commit(None, &[("secret", "theirs"), ("dir/more", "as well")]);
    assert_eq!(pair.push("beta/x", theirs), RefOutcome::Updated);
    let closure = pair.closure(theirs);
    let announcement = Announcement {
        options: PushOptions::default(),
        refs: vec![update("alpha/stolen", theirs), update("beta/x", theirs)],
        bases: vec![Base {
            name: "beta/x".parse().unwrap(),
            commit: theirs,
        }],
        history: 10,
    };
    let thief = private(&pair);
    assert_eq!(thief.open(&announcement).unwrap().complete, []);
    assert!(!thief.have(&closure).unwrap().contains(&true));
    assert_eq!(missing(thief.publish().unwrap())[0], closure[0]);
    // By the file alone, in a directory of one's own.
    let mine = pair.commit(None, &[("stolen", "theirs")]);
    open(
        &thief,
        PushOptions::default(),
        &[update("alpha/mine", mine)],
    );
    let (files, others): (Vec<_>, Vec<_>) = pair
        .closure(mine)
        .into_iter()
        .partition(|id| id.kind == ObjectKind::File);
    others
        .iter()
        .for_each(|id| thief.stage(*id, &pair.stored(*id)).unwrap());
    assert_eq!(missing(thief.publish().unwrap()), files);
    drop(thief);
    assert_eq!(pair.held("alpha/stolen"), None);
    // A key that may pull everything need not send it.
    let honest = store(&pair, "alpha/**");
    honest.open(&announcement).unwrap();
    assert!(!honest.have(&closure).unwrap().contains(&false));
}

// Whoever may pull a ref may pull its ancestors: a commit could name any commit as its parent.
#[test]
fn who_may_not_pull_a_commit_names_it_as_a_parent_only_if_he_sends_it() {
    let pair = Pair::new();
    let theirs = pair.commit(None, &[("secret", "theirs")]);
    assert_eq!(pair.push("beta/x", theirs), RefOutcome::Updated);
    let child = pair.commit(Some(theirs), &[("a", "mine")]);
    let push = |name: &str, commit, sends: &[Checksum]| {
        let thief = private(&pair);
        open(&thief, PushOptions::default(), &[update(name, commit)]);
        sends.iter().for_each(|sent| pair.stage_all(&thief, *sent));
        done(thief.publish().unwrap()).remove(0)
    };
    let refused = push("alpha/x", child, &[child]);
    assert!(
        matches!(&refused, RefOutcome::Refused(r) if code(r) == RefusalCode::NOT_PERMITTED),
        "{refused:?}"
    );
    assert_eq!(
        push("alpha/x", child, &[child, theirs]),
        RefOutcome::Updated
    );
    // From there on it is in a history that the key may pull; one that is nowhere tells nothing.
    let grandchild = pair.commit(Some(child), &[("a", "again")]);
    let unsent = pair.commit(None, &[("a", "unsent")]);
    let orphan = pair.commit(Some(unsent), &[("a", "orphan")]);
    for (name, commit) in [("alpha/y", grandchild), ("alpha/z", orphan)] {
        assert_eq!(push(name, commit, &[commit]), RefOutcome::Updated);
    }
    pair.assert_sound(&["alpha/x", "alpha/y"]);
}
