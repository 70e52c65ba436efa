//! Rights that depend on the repository's contents.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::{fs, slice};

use crate::session::Session;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Base, Expect, PushOptions, RefOutcome, RefUpdate, Refusal, RefusalCode, Verdict,
};
use artifact_protocol::session::{Announcement, RefQuery};
use artifact_store::bucket::{BucketStore, Client, Key, ManualClock, Memory, upkeep};
use artifact_store::policy::{Grants, Policy, Rule};
use artifact_store::{LocalStore, Push, Stager, Store, StoreConfig};
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
    open(store, PushOptions::default(), slice::from_ref(update));
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

/// A cache on a disk or in a bucket. Who may pull what decides the same on both.
trait Cache {
    type Store: Store;

    fn store(&self, config: StoreConfig) -> Self::Store;
    fn value(&self, name: &str) -> Option<String>;
}

impl Cache for Pair {
    type Store = LocalStore;

    fn store(&self, config: StoreConfig) -> LocalStore {
        LocalStore::open(&self.target(), config).unwrap()
    }

    fn value(&self, name: &str) -> Option<String> {
        self.held(name)
    }
}

impl Cache for Memory {
    type Store = BucketStore;

    fn store(&self, config: StoreConfig) -> BucketStore {
        let client = Client::new(Arc::new(self.clone()), Arc::new(ManualClock::default()));
        upkeep::init(&client).unwrap();
        BucketStore::open(client, config).unwrap()
    }

    fn value(&self, name: &str) -> Option<String> {
        let key = Key::new(format!("refs/heads/{name}")).unwrap();
        let stored = self.objects().remove(&key)?;
        Some(String::from_utf8_lossy(&stored.content).trim().to_owned())
    }
}

fn limited(grants: Grants) -> StoreConfig {
    StoreConfig {
        identity: "somebody".to_owned(),
        policy: Policy::limited("somebody".into(), grants),
        ..StoreConfig::default()
    }
}

/// A key that pushes to `alpha`, and may pull that alone.
fn private() -> StoreConfig {
    let alpha = || vec!["alpha/**".parse().unwrap()];
    limited(Grants {
        push: alpha(),
        pull: Some(alpha()),
        ..Grants::default()
    })
}

fn announcement(refs: &[RefUpdate]) -> Announcement {
    Announcement {
        options: PushOptions::default(),
        refs: refs.to_vec(),
        bases: Vec::new(),
        history: 0,
    }
}

fn stage(pair: &Pair, push: &impl Push, ids: impl IntoIterator<Item = ObjectId>) {
    for id in ids {
        push.stager().stage(id, pair.stored(id).into()).unwrap();
    }
}

/// Pushes a commit, and sends everything that these commits reach.
fn push(
    pair: &Pair,
    cache: &impl Cache,
    config: StoreConfig,
    update: RefUpdate,
    sends: &[Checksum],
) -> RefOutcome {
    announce_and_send(pair, cache, config, &announcement(&[update]), sends)
}

/// Pushes the only ref of an announcement, and sends everything that these commits reach.
fn announce_and_send(
    pair: &Pair,
    cache: &impl Cache,
    config: StoreConfig,
    announced: &Announcement,
    sends: &[Checksum],
) -> RefOutcome {
    let store = cache.store(config);
    let (_, mut push) = store.begin(announced).unwrap();
    for sent in sends {
        stage(pair, &push, pair.closure(*sent));
    }
    done(push.publish().unwrap()).remove(0)
}

/// Pushes a whole commit, as somebody who may do everything.
fn set(pair: &Pair, cache: &impl Cache, name: &str, commit: Checksum) {
    let everything = StoreConfig::default();
    let outcome = push(pair, cache, everything, update(name, commit), &[commit]);
    assert_eq!(outcome, RefOutcome::Updated);
}

// A key that may pull only some refs could name the commit of another one, or a file in it, without
// sending it, and then pull it by a ref of its own.
#[test]
fn who_may_not_pull_a_ref_gets_nothing_of_it_by_naming_it() {
    let pair = Pair::new();
    naming_gets_nothing(&pair, &pair);
    naming_gets_nothing(&pair, &Memory::new());
}

fn naming_gets_nothing(pair: &Pair, cache: &impl Cache) {
    let theirs = pair.commit(None, &[("secret", "theirs"), ("dir/more", "as well")]);
    set(pair, cache, "beta/x", theirs);
    let other = pair.commit(None, &[("secret", "another")]);
    set(pair, cache, "beta/y", other);
    let closure = pair.closure(theirs);
    let others = [ObjectId::commit(other)];
    let announced = Announcement {
        bases: vec![Base {
            name: "beta/x".parse().unwrap(),
            commit: theirs,
        }],
        history: 10,
        ..announcement(&[update("alpha/stolen", theirs), update("beta/x", theirs)])
    };
    let thief = cache.store(private());
    let (opened, mut stealing) = thief.begin(&announced).unwrap();
    assert_eq!(opened.complete, []);
    assert!(!stealing.have(&closure).unwrap().contains(&true));
    assert_eq!(stealing.have(&others).unwrap(), [false]);
    assert_eq!(missing(stealing.publish().unwrap())[0], closure[0]);
    drop(stealing);
    // By the file alone, in a directory of one's own.
    let mine = pair.commit(None, &[("stolen", "theirs")]);
    let (files, rest): (Vec<_>, Vec<_>) = pair
        .closure(mine)
        .into_iter()
        .partition(|id| id.kind == ObjectKind::File);
    let own = announcement(&[update("alpha/mine", mine)]);
    let (_, mut stealing) = thief.begin(&own).unwrap();
    stage(pair, &stealing, rest);
    assert_eq!(missing(stealing.publish().unwrap()), files);
    drop(stealing);
    assert_eq!(cache.value("alpha/stolen"), None);
    // A key that may pull everything need not send it.
    let honest = cache.store(limited(Grants {
        push: vec!["alpha/**".parse().unwrap()],
        ..Grants::default()
    }));
    let (_, mut sharing) = honest.begin(&announced).unwrap();
    assert!(!sharing.have(&closure).unwrap().contains(&false));
    assert_eq!(sharing.have(&others).unwrap(), [true]);
}

// Whoever may pull a ref may pull its ancestors: a commit could name any commit as its parent.
#[test]
fn who_may_not_pull_a_commit_names_it_as_a_parent_only_if_he_sends_it() {
    let pair = Pair::new();
    parents_are_sent(&pair, &pair);
    pair.assert_sound(&["alpha/x", "alpha/y"]);
    parents_are_sent(&pair, &Memory::new());
}

// Only the parent of the announced commit was judged: a commit in between hid the rest.
#[test]
fn who_may_not_pull_a_commit_gets_it_from_no_generation() {
    let pair = Pair::new();
    ancestors_are_sent(&pair, &pair);
    pair.assert_sound(&["alpha/1", "alpha/2", "alpha/3", "alpha/same"]);
    ancestors_are_sent(&pair, &Memory::new());
}

fn ancestors_are_sent(pair: &Pair, cache: &impl Cache) {
    for depth in 1..=3 {
        let text = |what: &str| format!("{what} {depth}");
        let theirs = pair.commit(None, &[("secret", &text("theirs"))]);
        set(pair, cache, &format!("beta/{depth}"), theirs);
        let (mut new, mut sends) = (theirs, Vec::new());
        for generation in 0..depth {
            new = pair.commit(Some(new), &[("a", &text(&format!("mine {generation}")))]);
            sends.push(new);
        }
        let name = format!("alpha/{depth}");
        let push = |sends: &[Checksum]| push(pair, cache, private(), update(&name, new), sends);
        assert_not_permitted(&push(&sends));
        assert_eq!(cache.value(&name), None, "{depth} generations");
        sends.push(theirs);
        assert_eq!(push(&sends), RefOutcome::Updated, "{depth} generations");
    }
    // A commit that the key may pull need not be sent, and neither need its parents.
    let held: Checksum = cache.value("alpha/3").unwrap().parse().unwrap();
    let same = push(pair, cache, private(), update("alpha/same", held), &[]);
    assert_eq!(same, RefOutcome::Updated);
}

// A commit that is nowhere may be named as a parent, so a client can make it up, and send it later.
#[test]
fn who_may_not_pull_a_commit_gets_it_by_no_gap_in_a_history() {
    let pair = Pair::new();
    gaps_are_judged(&pair, &pair);
    pair.assert_sound(&["alpha/x"]);
    gaps_are_judged(&pair, &Memory::new());
}

fn gaps_are_judged(pair: &Pair, cache: &impl Cache) {
    let theirs = pair.commit(None, &[("secret", "theirs")]);
    set(pair, cache, "beta/x", theirs);
    let gap = pair.commit(Some(theirs), &[("a", "gap")]);
    let first = pair.commit(Some(gap), &[("a", "first")]);
    let second = pair.commit(Some(first), &[("a", "second")]);
    let cousin = pair.commit(Some(theirs), &[("a", "cousin")]);
    let alpha = || vec!["alpha/**".parse().unwrap()];
    let push = |commit, history, sends: &[Checksum]| {
        let grants = Grants {
            replace: alpha(),
            pull: Some(alpha()),
            rule: Rule::Any,
            ..Grants::default()
        };
        let announced = Announcement {
            options: PushOptions::FORCE,
            history,
            ..announcement(&[update("alpha/x", commit)])
        };
        announce_and_send(pair, cache, limited(grants), &announced, sends)
    };
    assert_eq!(push(first, 0, &[first]), RefOutcome::Updated);
    // With the ref's own commit, and with a new one.
    assert_not_permitted(&push(first, 9, &[first, gap]));
    assert_not_permitted(&push(second, 9, &[second, gap]));
    // As if the gap had always been filled.
    assert_not_permitted(&push(cousin, 0, &[cousin, gap]));
    assert_eq!(cache.value("alpha/x"), Some(first.to_hex()));
    let whole = push(second, 9, &[second, gap, theirs]);
    assert_eq!(whole, RefOutcome::Updated);
    // From here on the history is one that the key may pull.
    assert_eq!(push(cousin, 0, &[cousin]), RefOutcome::Updated);
}

fn assert_not_permitted(outcome: &RefOutcome) {
    assert!(
        matches!(outcome, RefOutcome::Refused(r) if code(r) == RefusalCode::NOT_PERMITTED),
        "{outcome:?}"
    );
}

fn parents_are_sent(pair: &Pair, cache: &impl Cache) {
    let theirs = pair.commit(None, &[("secret", "theirs")]);
    set(pair, cache, "beta/x", theirs);
    let child = pair.commit(Some(theirs), &[("a", "mine")]);
    let push = |name, commit, sends: &[Checksum]| {
        push(pair, cache, private(), update(name, commit), sends)
    };
    assert_not_permitted(&push("alpha/x", child, &[child]));
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
    // Back to an ancestor of the ref's own commit.
    let cousin = pair.commit(Some(theirs), &[("a", "cousin")]);
    let forced = Announcement {
        options: PushOptions::FORCE,
        ..announcement(&[RefUpdate {
            expect: Expect::Is(child),
            ..update("alpha/x", cousin)
        }])
    };
    let replacing = limited(Grants {
        replace: vec!["alpha/**".parse().unwrap()],
        pull: Some(vec!["alpha/x".parse().unwrap()]),
        rule: Rule::Any,
        ..Grants::default()
    });
    let store = cache.store(replacing);
    let (_, mut going_back) = store.begin(&forced).unwrap();
    stage(pair, &going_back, pair.closure(cousin));
    assert_eq!(done(going_back.publish().unwrap()), [RefOutcome::Updated]);
}

// A refusal told the value of the ref, and the old protocols were told all refs.
#[test]
fn a_ref_tells_its_value_to_nobody_who_may_neither_pull_nor_move_it() {
    let pair = Pair::new();
    values_are_told_by_rights(&pair, &pair);
    values_are_told_by_rights(&pair, &Memory::new());
}

fn values_are_told_by_rights(pair: &Pair, cache: &impl Cache) {
    let held = pair.commit(None, &[("file", "held")]);
    let new = pair.commit(None, &[("file", "new")]);
    let names = ["create/x", "move/x", "pull/x", "secret/x", "sign/x"];
    names.iter().for_each(|name| set(pair, cache, name, held));
    let patterns = |text: &str| vec![text.parse().unwrap()];
    let grants = |pull: Option<&str>| Grants {
        push: patterns("create/**"),
        replace: patterns("move/**"),
        sign: patterns("sign/**"),
        pull: pull.map(patterns),
        rule: Rule::Any,
    };
    let store = cache.store(limited(grants(Some("pull/**"))));
    let answer = |store: &_, wanted: &RefUpdate| {
        let (opened, _push) = Store::begin(store, &announcement(slice::from_ref(wanted))).unwrap();
        opened.refs[0].clone()
    };
    let current = |name: &str, commit| answer(&store, &update(name, commit)).current;
    let refusal = |store: &_, wanted: &RefUpdate| match answer(store, wanted).verdict {
        Verdict::Refused(refusal) => (code(&refusal), refusal.text.as_raw().to_owned()),
        other => panic!("{other:?}"),
    };
    // To this key, a secret ref is one that does not exist, whatever the key knows already.
    let wanted = [
        update("secret/x", new),
        update("secret/x", held),
        signed("secret/x", held, OTHER),
        RefUpdate {
            expect: Expect::Is(held),
            ..update("secret/x", new)
        },
        update("secret/x/below", new),
        update("secret", new),
    ];
    for wanted in &wanted {
        let absent = RefUpdate {
            name: "secret/absent".parse().unwrap(),
            ..wanted.clone()
        };
        let (code, text) = refusal(&store, &absent);
        let text = text.replace("secret/absent", wanted.name.as_str());
        assert_eq!(refusal(&store, wanted), (code, text), "{wanted:?}");
        assert_eq!(answer(&store, wanted).current, None, "{wanted:?}");
    }
    // Who may create a ref learns that it exists, and who may move it what it holds.
    assert_eq!(current("create/x", new), None);
    assert_eq!(current("create/x", held), Some(held));
    assert_eq!(current("sign/x", new), None);
    for name in ["move/x", "pull/x"] {
        assert_eq!(current(name, new), Some(held), "{name}");
    }
    let lost = RefUpdate {
        expect: Expect::Absent,
        ..update("move/x", new)
    };
    assert_eq!(refusal(&store, &lost).0, RefusalCode::LOST_RACE);
    assert_eq!(answer(&store, &lost).current, Some(held));
    // The old protocols, of which one asks for all refs.
    let told = |store: &_, query: &RefQuery| {
        let (refs, is_all) = Store::refs(store, query).unwrap();
        assert!(is_all);
        let names = refs.into_iter().map(|(name, _)| name.to_string());
        names.collect::<Vec<_>>()
    };
    let queries = [
        RefQuery::Named(names.iter().map(|name| name.parse().unwrap()).collect()),
        RefQuery::All { len_max: 1_000 },
    ];
    for query in &queries {
        assert_eq!(told(&store, query), ["move/x", "pull/x"]);
    }
    // Without a list of refs to pull, a key may know all of them.
    let open = cache.store(limited(grants(None)));
    assert_eq!(answer(&open, &wanted[0]).current, Some(held));
    assert_eq!(answer(&open, &wanted[1]).verdict, Verdict::UpToDate);
    for query in &queries {
        assert_eq!(told(&open, query), names);
    }
}

#[test]
fn refs_bases_and_neighbours_are_told_only_to_those_who_may_pull_them() {
    let pair = Pair::new();
    only_pullable_refs_are_told(&pair, &pair);
    only_pullable_refs_are_told(&pair, &Memory::new());
}

fn only_pullable_refs_are_told(pair: &Pair, cache: &impl Cache) {
    let of = |text| pair.commit(None, &[("file", text)]);
    let (open, secret, replaced, new) = (of("open"), of("secret"), of("replaced"), of("new"));
    set(pair, cache, "alpha/open", open);
    set(pair, cache, "alpha/secret", secret);
    set(pair, cache, "alpha/replaced", replaced);
    set(pair, cache, "beta/secret", secret);
    let base = |name: &str, commit| Base {
        name: name.parse().unwrap(),
        commit,
    };
    let announced = Announcement {
        options: PushOptions::FORCE,
        bases: vec![base("beta/secret", secret), base("alpha/secret", secret)],
        ..announcement(&[update("alpha/new", new), update("alpha/replaced", new)])
    };
    let told = |pull: Option<&str>| {
        let all = || vec!["alpha/**".parse().unwrap()];
        let store = cache.store(limited(Grants {
            push: all(),
            replace: all(),
            pull: pull.map(|pull| vec![pull.parse().unwrap()]),
            rule: Rule::Any,
            ..Grants::default()
        }));
        let (opened, _push) = store.begin(&announced).unwrap();
        assert!((opened.refs.iter()).all(|state| state.verdict == Verdict::Accepted));
        opened.complete.into_iter().collect::<BTreeSet<_>>()
    };
    assert_eq!(told(Some("alpha/open")), [open].into());
    assert_eq!(told(Some("gamma/*")), [].into());
    assert_eq!(told(None), [open, secret, replaced].into());
}
