//! The outcomes of pushes when nothing goes wrong except by the doing of clients.

use std::collections::BTreeMap;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefPattern, Vardict};
use artifact_protocol::frame::{
    Expect, PushOptions, RefOutcome, RefusalCode, SummaryDone, Verdict,
};
use bytes::Bytes;

use super::world::*;
use crate::bucket::collect::{Gc, Nonce, Phase, condemned_key, encode_ids};
use crate::bucket::records::layout;
use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::memory::Quirks;
use crate::bucket::upkeep;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::policy::{Grants, Policy, Rule};
use crate::seam::{ObjectStream, Push, Stager, Store};
use crate::upkeep::Removal;

fn code(outcome: &RefOutcome) -> Option<RefusalCode> {
    match outcome {
        RefOutcome::Refused(refusal) => Some(refusal.code),
        RefOutcome::Updated | RefOutcome::Unchanged | RefOutcome::WouldUpdate => None,
    }
}

fn refused(verdict: &Verdict) -> Option<RefusalCode> {
    match verdict {
        Verdict::Refused(refusal) => Some(refusal.code),
        Verdict::UpToDate | Verdict::Accepted => None,
    }
}

/// Detached metadata with one entry.
fn signed(text: &str) -> Bytes {
    let mut writer = artifact_formats::VardictWriter::default();
    writer.string("by", text);
    let content = writer.finish();
    Vardict::parse(&content).unwrap();
    content.into()
}

#[test]
fn a_push_brings_everything_and_the_next_one_only_what_is_new() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("bin/a", "1"), ("lib/x/b", "2"), ("c", "3")]);
    let done = push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/a", first),
    )
    .unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    assert_eq!(done.summary, Some(SummaryDone::Current));
    assert_eq!(done.sent.len(), all.closure(first).len());
    assert_whole(&memory, &all);
    assert_eq!(named(&memory), refs(&memory));
    assert_eq!(leftovers(&memory), []);

    let second = all.commit(Some(first), &[("bin/a", "1"), ("lib/x/b", "2"), ("c", "4")]);
    let plan = Plan {
        bases: vec![("os/a", first)],
        ..Plan::one("os/b", second)
    };
    let done = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    // The commit, the root, and the changed file.
    assert_eq!(done.sent.len(), 3);
    assert_whole(&memory, &all);
    assert_eq!(named(&memory), refs(&memory));

    let again = push(&store_of(memory.clone(), "leo"), &all, &plan).unwrap();
    assert_eq!(again.opened.refs[0].verdict, Verdict::UpToDate);
    assert_eq!(again.sent, []);
}

#[test]
fn a_chain_of_bases_ends_and_stays_whole() {
    let (memory, mut all) = (empty(), Universe::default());
    let names = [
        "n/0", "n/1", "n/2", "n/3", "n/4", "n/5", "n/6", "n/7", "n/8", "n/9", "n/10",
    ];
    let mut last: Option<(&'static str, Checksum)> = None;
    for (at, name) in names.into_iter().enumerate() {
        let number = at.to_string();
        let files = [
            ("same/deep/x", "x"),
            ("same/y", "y"),
            ("new", number.as_str()),
        ];
        let commit = all.commit(last.map(|(_, commit)| commit), &files);
        let plan = Plan {
            bases: last.into_iter().collect(),
            ..Plan::one(name, commit)
        };
        let done = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
        assert_eq!(done.outcomes, [RefOutcome::Updated]);
        assert!(at == 0 || done.sent.len() == 3, "{:?}", done.sent);
        assert_whole(&memory, &all);
        last = Some((name, commit));
    }
}

#[test]
fn a_lost_list_is_made_again_and_a_hole_is_filled() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("bin/a", "1"), ("c", "3")]);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/a", first),
    )
    .unwrap();
    let second = all.commit(None, &[("bin/a", "1"), ("c", "4")]);
    let plan = Plan {
        bases: vec![("os/a", first)],
        ..Plan::one("os/b", second)
    };
    for content in [None, Some(Bytes::from_static(b"ACclose\x01 damaged"))] {
        let fork = memory.fork();
        fork.damage(&layout::closure(first), content);
        let done = push(&store_of(fork.clone(), "mia"), &all, &plan).unwrap();
        assert_eq!(
            (done.outcomes, done.sent.len()),
            (vec![RefOutcome::Updated], 3)
        );
        assert_whole(&fork, &all);
    }
    // A directory below is missing, and so is the list, as a check leaves it.
    let root = all.children(ObjectId::commit(first))[0];
    let dir = all
        .children(root)
        .into_iter()
        .find(|id| id.kind == ObjectKind::Dirtree)
        .unwrap();
    memory.damage(&layout::closure(first), None);
    memory.damage(&layout::object(&dir), None);
    let done = push(&store_of(memory.fork(), "mia"), &all, &plan).unwrap();
    assert_eq!(done.sent.len(), all.closure(second).len());
    let healed = push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/a", first),
    )
    .unwrap();
    assert_eq!(healed.outcomes, [RefOutcome::Updated]);
    assert_whole(&memory, &all);
}

#[test]
fn objects_of_a_push_that_broke_off_are_not_sent_again_by_its_identity_alone() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("bin/a", "1"), ("lib/x/b", "2"), ("c", "3")]);
    let plan = Plan::one("os/a", commit);
    let store = store_of(memory.clone(), "mia");
    let (opened, mut broken) = store.begin(&plan.announcement()).unwrap();
    send(&mut broken, &opened, &all, &plan).unwrap();
    drop(broken);
    assert_eq!(refs(&memory), BTreeMap::new());
    assert_whole(&memory, &all);
    let other = push(&store_of(memory.fork(), "leo"), &all, &plan).unwrap();
    assert_eq!(other.sent.len(), all.closure(commit).len());
    let again = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    let is_plain = |id: &ObjectId| !id.kind.has_children();
    assert_eq!(again.outcomes, [RefOutcome::Updated]);
    assert_eq!(again.sent.iter().filter(|id| is_plain(id)).count(), 0);
    assert_whole(&memory, &all);
}

#[test]
fn what_was_not_sent_is_missing_and_then_accepted() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("bin/a", "1"), ("c", "3")]);
    let other = all.commit(None, &[("bin/b", "5")]);
    let closure = all.closure(commit);
    for kept in &closure {
        let fork = memory.fork();
        let plan = Plan {
            keeps: [*kept].into(),
            ..Plan::one("os/a", commit)
        };
        let done = push(&store_of(fork.clone(), "mia"), &all, &plan).unwrap();
        assert_eq!(done.outcomes, [RefOutcome::Updated]);
        assert!(done.sent.contains(kept));
        assert_whole(&fork, &all);
    }
    // The store does not ask for objects that only a refused ref reaches.
    let plan = Plan {
        refs: vec![("os/a", commit), ("os/a/b", other)],
        ..Plan::one("", commit)
    };
    let store = store_of(memory.clone(), "mia");
    let (opened, mut both) = store.begin(&plan.announcement()).unwrap();
    assert_eq!(
        refused(&opened.refs[1].verdict),
        Some(RefusalCode::NAME_CONFLICT)
    );
    let stager = both.stager();
    stager
        .stage(ObjectId::commit(other), all.stored(ObjectId::commit(other)))
        .unwrap();
    let sent = send(&mut both, &opened, &all, &plan).unwrap();
    let done = finish(both, opened, &all, sent).unwrap();
    assert_eq!(done.outcomes[0], RefOutcome::Updated);
    assert!(
        !memory
            .objects()
            .contains_key(&layout::object(&ObjectId::commit(other)))
    );
    assert_whole(&memory, &all);
}

#[test]
fn hostile_objects_get_no_key() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let store = store_of(memory.clone(), "eve");
    let plan = Plan::one("os/a", commit);
    let (_, evil) = store.begin(&plan.announcement()).unwrap();
    let stager = evil.stager();
    for id in all.closure(commit) {
        let mut wrong = all.stored(id).to_vec();
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        let refused = stager.stage(id, wrong.clone().into()).unwrap_err();
        assert!(matches!(refused, Error::Refused { .. }), "{refused}");
        let mut stream = stager.begin(id).unwrap();
        let refused = stream.append(wrong.into()).and_then(|()| stream.finish());
        assert!(matches!(refused, Err(Error::Refused { .. })));
    }
    // A large one is in the bucket already when its end turns out to be wrong.
    let mut random = crate::bucket::requests::random::Random::of_seed(1);
    let noise: String = (0..10_000_000)
        .map(|_| char::from(b'!' + u8::try_from(random.below(90)).unwrap()))
        .collect();
    let large = ObjectId::new(ObjectKind::File, all.file(&noise));
    let stored = all.stored(large);
    assert!(stored.len() > 7 * 1024 * 1024);
    for (cut, changed) in [
        (stored.len() - 1, None),
        (stored.len(), Some(stored.len() - 1)),
    ] {
        let mut bytes = stored[..cut].to_vec();
        if let Some(at) = changed {
            bytes[at] ^= 0xff;
        }
        let mut stream = stager.begin(large).unwrap();
        let refused = bytes
            .chunks(500_000)
            .try_for_each(|piece| stream.append(Bytes::copy_from_slice(piece)))
            .and_then(|()| stream.finish());
        assert!(matches!(refused, Err(Error::Refused { .. })));
        assert_eq!(memory.open_uploads(), 0);
    }
    let keys = memory.objects().into_keys();
    let objects = keys.filter(|key| key.as_str().starts_with(layout::OBJECTS));
    assert_eq!(objects.count(), 0);
    let mut stream = stager.begin(large).unwrap();
    for piece in stored.chunks(500_000) {
        stream.append(Bytes::copy_from_slice(piece)).unwrap();
    }
    stream.finish().unwrap();
    assert_eq!(memory.objects()[&layout::object(&large)].content, stored);
    drop(evil);
    assert_whole(&memory, &all);
}

#[test]
fn no_directories_nest_deeper_than_a_push_may_on_whatever_base() {
    let (memory, mut all) = (empty(), Universe::default());
    let leaf = all.tree(&[("a".to_owned(), "1".to_owned())]);
    let deep = all.nested(leaf, 200);
    let base = all.commit_of(None, deep, None);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/deep", base),
    )
    .unwrap();
    let mut attempt = |above: usize| {
        let tree = all.nested(deep, above);
        let commit = all.commit_of(None, tree, None);
        let plan = Plan {
            bases: vec![("os/deep", base)],
            ..Plan::one("os/deeper", commit)
        };
        push(&store_of(memory.fork(), "mia"), &all, &plan)
    };
    assert!(matches!(attempt(55), Err(Error::TooDeep { .. })));
    let done = attempt(54).unwrap();
    assert_eq!(
        (done.outcomes, done.sent.len()),
        (vec![RefOutcome::Updated], 55)
    );
}

#[test]
fn of_a_ref_and_one_below_it_only_the_first_is_set() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let other = all.commit(None, &[("a", "2")]);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("x/y", commit),
    )
    .unwrap();
    for name in ["x", "x/y/z"] {
        let done = push(
            &store_of(memory.clone(), "mia"),
            &all,
            &Plan::one(name, other),
        )
        .unwrap();
        assert_eq!(
            refused(&done.opened.refs[0].verdict),
            Some(RefusalCode::NAME_CONFLICT)
        );
    }
    // The same holds where other programs have set the ref.
    let foreign = memory.fork();
    for (key, _) in memory.objects() {
        if key.as_str().starts_with(layout::GUARDS) {
            foreign.damage(&key, None);
        }
    }
    for name in ["x", "x/y/z"] {
        let done = push(
            &store_of(foreign.clone(), "mia"),
            &all,
            &Plan::one(name, other),
        )
        .unwrap();
        let verdict = &done.opened.refs[0].verdict;
        assert_eq!(refused(verdict), Some(RefusalCode::NAME_CONFLICT));
    }
    // If two pushes begin at once, the store refuses the later one at the end.
    let (one, two) = (Plan::one("p", commit), Plan::one("p/q", other));
    let first = store_of(memory.clone(), "mia");
    let second = store_of(memory.clone(), "leo");
    let (opened, mut slow) = first.begin(&one.announcement()).unwrap();
    let sent = send(&mut slow, &opened, &all, &one).unwrap();
    assert_eq!(
        push(&second, &all, &two).unwrap().outcomes,
        [RefOutcome::Updated]
    );
    let late = finish(slow, opened, &all, sent).unwrap();
    assert_eq!(code(&late.outcomes[0]), Some(RefusalCode::NAME_CONFLICT));
    assert_whole(&memory, &all);
}

#[test]
fn refs_move_by_the_rules_and_only_from_the_value_the_client_was_told() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("a", "1")]);
    let next = all.commit(Some(first), &[("a", "2")]);
    let unrelated = all.commit(None, &[("a", "3")]);
    let plain = |name, commit| Plan {
        options: PushOptions::default(),
        ..Plan::one(name, commit)
    };
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &plain("os/a", first),
    )
    .unwrap();
    let outcome = |plan: &Plan| {
        let done = push(&store_of(memory.fork(), "mia"), &all, plan).unwrap();
        done.outcomes.first().cloned()
    };
    assert_eq!(outcome(&plain("os/a", next)), Some(RefOutcome::Updated));
    let back = outcome(&plain("os/a", unrelated)).unwrap();
    assert_eq!(code(&back), Some(RefusalCode::NOT_FAST_FORWARD));
    assert_eq!(
        outcome(&Plan::one("os/a", unrelated)),
        Some(RefOutcome::Updated)
    );
    let expecting = Plan {
        expect: Some(Expect::Absent),
        ..Plan::one("os/a", next)
    };
    let done = push(&store_of(memory.fork(), "mia"), &all, &expecting).unwrap();
    assert_eq!(
        refused(&done.opened.refs[0].verdict),
        Some(RefusalCode::LOST_RACE)
    );

    let (store, plan) = (
        store_of(memory.clone(), "mia"),
        Plan::one("os/a", unrelated),
    );
    let (opened, mut slow) = store.begin(&plan.announcement()).unwrap();
    let sent = send(&mut slow, &opened, &all, &plan).unwrap();
    set(&memory, &all, "os/a", next);
    let late = finish(slow, opened, &all, sent).unwrap();
    assert_eq!(code(&late.outcomes[0]), Some(RefusalCode::LOST_RACE));
    assert_eq!(refs(&memory)["os/a"], next);

    let dry = Plan {
        options: PushOptions::FORCE.with(PushOptions::DRY_RUN),
        ..Plan::one("os/a", unrelated)
    };
    let before = memory.objects();
    let (_, mut dry_push) = store.begin(&dry.announcement()).unwrap();
    dry_push.have(&[ObjectId::commit(unrelated)]).unwrap();
    let published = dry_push.publish().unwrap();
    let would = artifact_protocol::session::Published::Done(vec![RefOutcome::WouldUpdate]);
    assert_eq!(published, would);
    drop(dry_push);
    assert_eq!(memory.objects(), before);
}

#[test]
fn history_is_followed_through_lists_and_commits() {
    let (memory, mut all) = (empty(), Universe::default());
    let mut history = vec![all.commit(None, &[("a", "0")])];
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/a", history[0]),
    )
    .unwrap();
    for at in 1..6 {
        let next = all.commit(history.last().copied(), &[("a", &at.to_string())]);
        history.push(next);
    }
    // All commits in between come along.
    let plan = Plan {
        options: PushOptions::default(),
        history: 10,
        ..Plan::one("os/a", history[5])
    };
    let done = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    for commit in &history {
        assert!(
            memory
                .objects()
                .contains_key(&layout::object(&ObjectId::commit(*commit)))
        );
    }
    assert_whole(&memory, &all);
    let again = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(again.opened.refs[0].verdict, Verdict::UpToDate);
    memory.damage(&layout::object(&ObjectId::commit(history[2])), None);
    let filled = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(filled.outcomes, [RefOutcome::Updated]);
    assert!(filled.sent.contains(&ObjectId::commit(history[2])));
    // From a ref that is far behind, by the lists' ancestors.
    let tip = all.commit(history.last().copied(), &[("a", "tip")]);
    let behind = Plan {
        options: PushOptions::default(),
        ..Plan::one("os/b", history[1])
    };
    push(&store_of(memory.clone(), "mia"), &all, &behind).unwrap();
    let ahead = Plan {
        options: PushOptions::default(),
        bases: vec![("os/a", history[5])],
        ..Plan::one("os/b", tip)
    };
    let done = push(&store_of(memory.clone(), "mia"), &all, &ahead).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
}

#[test]
fn signatures_are_attached_and_replaced_only_by_right() {
    let (memory, mut all) = (empty(), Universe::default());
    let tree = all.tree(&[("a".to_owned(), "1".to_owned())]);
    let commit = all.commit_of(None, tree, Some("mia/a"));
    let limited = |who: &str, push: &str| StoreConfig {
        identity: who.to_owned(),
        policy: Policy::limited(
            who.to_owned(),
            Grants {
                push: vec![push.parse::<RefPattern>().unwrap()],
                rule: Rule::Any,
                ..Grants::default()
            },
        ),
        ..StoreConfig::default()
    };
    let store = |who: &str| {
        let config = limited(who, "**");
        store_with(memory.clone(), ManualClock::default(), config)
    };
    let plan = |text: &str| Plan {
        detached: [(commit, signed(text))].into(),
        ..Plan::one("mia/a", commit)
    };
    let attached = || memory.objects()[&layout::detached(commit)].content.clone();
    assert_eq!(
        push(&store("mia"), &all, &plan("mia")).unwrap().outcomes,
        [RefOutcome::Updated]
    );
    assert_eq!(attached(), signed("mia"));
    assert_eq!(
        push(&store("mia"), &all, &plan("again")).unwrap().outcomes,
        [RefOutcome::Updated]
    );
    assert_eq!(attached(), signed("again"));
    let other = store_with(
        memory.clone(),
        ManualClock::default(),
        limited("eve", "eve/*"),
    );
    let done = push(&other, &all, &plan("eve")).unwrap();
    assert_eq!(
        refused(&done.opened.refs[0].verdict),
        Some(RefusalCode::NOT_PERMITTED)
    );
    assert_eq!(attached(), signed("again"));
    let fork = memory.fork();
    fork.damage(&layout::detached(commit), None);
    let late = store_with(fork.clone(), ManualClock::default(), limited("leo", "**"));
    assert_eq!(
        push(&late, &all, &plan("leo")).unwrap().outcomes,
        [RefOutcome::Updated]
    );
}

#[test]
fn neighbours_are_proposed_and_what_needs_no_object_sends_none() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("a", "1"), ("b/c", "2")]);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/kit/1", first),
    )
    .unwrap();
    let plan = Plan {
        bases: vec![("os/other", first)],
        ..Plan::one("os/kit/2", first)
    };
    let done = push(&store_of(memory.clone(), "leo"), &all, &plan).unwrap();
    assert_eq!(done.opened.complete, [first]);
    assert_eq!(
        (done.outcomes, done.sent),
        (vec![RefOutcome::Updated], vec![])
    );
    assert_eq!(named(&memory), refs(&memory));
    assert_whole(&memory, &all);
}

#[test]
fn what_a_check_finds_missing_or_damaged_the_next_push_brings_again() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("bin/a", "1"), ("c", "3")]);
    let plan = Plan::one("os/a", first);
    push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    let second = all.commit(None, &[("bin/a", "1"), ("c", "4")]);
    let next = Plan {
        bases: vec![("os/a", first)],
        ..Plan::one("os/b", second)
    };
    for id in all.closure(first) {
        for content in [None, Some(Bytes::from_static(b"damaged"))] {
            let fork = memory.fork();
            fork.damage(&layout::object(&id), content);
            let client = client_of(&fork);
            upkeep::repair(&client, u64::MAX, &|_| {}).unwrap();
            // What the damaged commit does not need is no base any more.
            let other = fork.fork();
            push(&store_of(other, "mia"), &all, &next).unwrap();
            let done = push(&store_of(fork.clone(), "mia"), &all, &plan).unwrap();
            assert_eq!(done.outcomes, [RefOutcome::Updated], "{id}");
            assert_whole(&fork, &all);
            let checked = upkeep::repair(&client, u64::MAX, &|_| {}).unwrap();
            assert_eq!((checked.faults, checked.remarks), (0, 0), "{id}");
            let again = push(&store_of(fork.clone(), "mia"), &all, &plan).unwrap();
            assert_eq!(again.opened.refs[0].verdict, Verdict::UpToDate);
        }
    }
}

#[test]
fn neighbours_of_a_ref_that_is_refused_are_not_told() {
    let (memory, mut all) = (empty(), Universe::default());
    let secret = all.commit(None, &[("a", "secret")]);
    let own = all.commit(None, &[("a", "own")]);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("mia/a", secret),
    )
    .unwrap();
    let config = StoreConfig {
        identity: "eve".to_owned(),
        policy: Policy::limited(
            "eve".to_owned(),
            Grants {
                push: vec!["eve/**".parse::<RefPattern>().unwrap()],
                ..Grants::default()
            },
        ),
        ..StoreConfig::default()
    };
    let store = store_with(memory.clone(), ManualClock::default(), config);
    let plan = Plan {
        refs: vec![("mia/b", own), ("eve/a", own)],
        ..Plan::one("", own)
    };
    let (opened, _push) = store.begin(&plan.announcement()).unwrap();
    assert_eq!(opened.refs[1].verdict, Verdict::Accepted);
    assert_eq!(opened.complete, []);
}

#[test]
fn a_removed_ref_frees_its_name_and_the_directories_that_lead_to_no_other() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let client = client_of(&memory);
    let set = |name| {
        let done = push(
            &store_of(memory.clone(), "mia"),
            &all,
            &Plan::one(name, commit),
        );
        done.unwrap().outcomes
    };
    let remove = |name: &str| {
        let wanted = [(name.parse().unwrap(), None)];
        upkeep::remove_refs(&client, &wanted).unwrap().remove(0)
    };
    assert_eq!(set("p/e/k"), [RefOutcome::Updated]);
    assert_eq!(set("p/o"), [RefOutcome::Updated]);
    remove("p/e/k");
    assert_eq!(set("p/e"), [RefOutcome::Updated]);
    // A push that died before it set the ref.
    remove("p/e");
    memory.damage(&layout::guard("p/e").unwrap(), Some("ref\n".into()));
    assert_eq!(remove("p/e"), Removal::NotThere);
    assert_eq!(set("p/e/k"), [RefOutcome::Updated]);
    // Another ref exists below.
    assert_eq!(set("p"), []);
}

#[test]
fn a_store_without_conditions_and_what_is_no_repository_are_refused() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    for quirks in [
        Quirks {
            ignores_new: true,
            ..Quirks::default()
        },
        Quirks {
            ignores_is: true,
            ..Quirks::default()
        },
    ] {
        let fork = memory.fork();
        fork.set_quirks(quirks);
        let refused = push(
            &store_of(fork.clone(), "mia"),
            &all,
            &Plan::one("os/a", commit),
        );
        assert!(matches!(refused, Err(Error::Unconditional)), "{refused:?}");
        assert_eq!(refs(&fork), BTreeMap::new());
        // Its lease does not stay either: collection would wait for it.
        assert_eq!(leftovers(&fork), []);
    }
}

#[test]
fn what_is_condemned_is_spared_or_sent_again() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("a", "1"), ("b/c", "2")]);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/a", first),
    )
    .unwrap();
    let second = all.commit(None, &[("a", "3"), ("b/c", "2")]);
    let plan = Plan {
        bases: vec![("os/a", first)],
        ..Plan::one("os/b", second)
    };
    let dir = all.children(all.children(ObjectId::commit(first))[0]);
    let dir = dir
        .into_iter()
        .find(|id| id.kind == ObjectKind::Dirtree)
        .unwrap();
    let gc = Gc::first(Nonce(1)).condemned(Nonce(1));
    memory.damage(&condemned_key(gc.list()), Some(encode_ids(&[dir])));
    memory.damage(&layout::gc(), Some(gc.encode().into()));
    let fork = memory.fork();
    let done = push(&store_of(fork.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(
        (done.outcomes, done.sent.len()),
        (vec![RefOutcome::Updated], 3)
    );
    let spared = fork.objects().into_keys();
    let spared = spared.filter(|key| key.as_str().starts_with(layout::SPARED));
    assert_eq!(spared.count(), 1);
    // While it is being deleted, it counts as absent, and waits to be put.
    let sweeping = gc.moved(Phase::Sweeping, Nonce(1));
    memory.damage(&layout::gc(), Some(sweeping.encode().into()));
    memory.damage(&layout::object(&dir), None);
    let done = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    assert!(done.sent.contains(&dir));
    let ended = memory.objects()[&layout::gc()].content.clone();
    assert_eq!(Gc::decode(&ended).unwrap().phase, Phase::Idle);
}

#[test]
fn a_condemned_ancestor_is_sent_again() {
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("a", "1")]);
    set(&memory, &all, "other/a", first);
    let second = all.commit(Some(first), &[("a", "2")]);
    let plan = Plan {
        history: 10,
        ..Plan::one("os/b", second)
    };
    let id = ObjectId::commit(first);
    let done = push(&store_of(memory.fork(), "mia"), &all, &plan).unwrap();
    assert!(!done.sent.contains(&id));
    let gc = Gc::first(Nonce(1)).condemned(Nonce(1));
    memory.damage(&condemned_key(gc.list()), Some(encode_ids(&[id])));
    memory.damage(&layout::gc(), Some(gc.encode().into()));
    let done = push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    assert!(done.sent.contains(&id));
}
