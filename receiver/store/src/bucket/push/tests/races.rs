//! Many pushes at once.

use std::sync::{Arc, Barrier};
use std::{mem, thread};

use artifact_formats::{Checksum, RefName, Summary};
use artifact_protocol::frame::{RefOutcome, RefusalCode, SummaryDone};

use super::world::*;
use crate::bucket::records::layout;
use crate::bucket::requests::clock::SystemClock;
use crate::bucket::requests::faulty::Faulty;
use crate::bucket::requests::seam::Request;
use crate::config::StoreConfig;
use crate::seam::Store;
use crate::summary::config::{SummaryConfig, SummaryMode};
use crate::summary::key::SummaryKey;

fn config(identity: &str, summary: &SummaryConfig) -> StoreConfig {
    StoreConfig {
        identity: identity.to_owned(),
        summary: summary.clone(),
        ..StoreConfig::default()
    }
}

#[test]
fn of_eight_pushes_of_one_ref_one_wins() {
    for is_new in [true, false] {
        let (memory, mut all) = (empty(), Universe::default());
        if !is_new {
            let old = all.commit(None, &[("a", "old")]);
            set(&memory, &all, "os/a", old);
        }
        let commits: Vec<Checksum> = (0..8)
            .map(|at| all.commit(None, &[("a", &at.to_string())]))
            .collect();
        let begun = Barrier::new(commits.len());
        let outcomes: Vec<RefOutcome> = thread::scope(|scope| {
            let racers: Vec<_> = commits
                .iter()
                .map(|commit| {
                    let (memory, all, begun) = (memory.clone(), &all, &begun);
                    scope.spawn(move || {
                        let summary = SummaryConfig::default();
                        let store = store_with(memory, SystemClock, config("mia", &summary));
                        let plan = Plan::one("os/a", *commit);
                        let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
                        let sent = send(&mut push, &opened, all, &plan).unwrap();
                        begun.wait();
                        finish(push, opened, all, sent).unwrap().outcomes.remove(0)
                    })
                })
                .collect();
            racers
                .into_iter()
                .map(|racer| racer.join().unwrap())
                .collect()
        });
        let winners: Vec<_> = commits
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| **outcome == RefOutcome::Updated)
            .map(|(commit, _)| *commit)
            .collect();
        assert_eq!(winners, [refs(&memory)["os/a"]]);
        let lost = |outcome: &&RefOutcome| match outcome {
            RefOutcome::Refused(why) => why.code == RefusalCode::LOST_RACE,
            _ => false,
        };
        assert_eq!(outcomes.iter().filter(lost).count(), 7);
        assert_eq!(named(&memory), refs(&memory));
        assert_whole(&memory, &all);
    }
}

#[test]
fn the_summary_names_what_each_of_sixteen_pushes_has_set_when_it_returns() {
    let (memory, mut all) = (empty(), Universe::default());
    let names = [
        "a/0", "a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7", "b/0", "b/1", "b/2", "b/3", "b/4",
        "b/5", "b/6", "b/7",
    ];
    let commits: Vec<_> = names
        .iter()
        .map(|name| all.commit(None, &[("a", name)]))
        .collect();
    thread::scope(|scope| {
        for (name, commit) in names.into_iter().zip(&commits) {
            let (memory, all) = (memory.clone(), &all);
            scope.spawn(move || {
                let summary = SummaryConfig::default();
                let store = store_with(memory.clone(), SystemClock, config(name, &summary));
                let done = push(&store, all, &Plan::one(name, *commit)).unwrap();
                assert_eq!(done.outcomes, [RefOutcome::Updated]);
                assert_eq!(done.summary, Some(SummaryDone::Current));
                assert_eq!(named(&memory).get(name), Some(commit));
            });
        }
    });
    assert_eq!(named(&memory), refs(&memory));
    assert_eq!(leftovers(&memory), []);
    assert_whole(&memory, &all);
}

#[test]
fn a_signature_that_another_push_has_stored_in_between_does_not_stay() {
    let pair = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).to_keypair_bytes();
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pair);
    let key = SummaryKey::parse(&text).unwrap();
    let summary = SummaryConfig {
        sign_key: Some(key.clone()),
        ..SummaryConfig::default()
    };
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let way = Faulty::new(Arc::new(memory.clone()));
    let (others, theirs) = (
        memory.clone(),
        key.sign(b"the summary of a push that lost the race"),
    );
    let mut is_first = true;
    way.choose(move |_, request| {
        let is_put = matches!(request, Request::Put { key, .. } if *key == layout::summary());
        if is_put && mem::take(&mut is_first) {
            let signed = artifact_formats::serialize_signature(&theirs);
            others.damage(&layout::summary_signature(), Some(signed.into()));
        }
        None
    });
    let store = store_with(way, SystemClock, config("mia", &summary));
    let done = push(&store, &all, &Plan::one("os/a", commit)).unwrap();
    assert_eq!(done.summary, Some(SummaryDone::Current));
    let objects = memory.objects();
    let signed = &objects[&layout::summary_signature()].content;
    let signatures = artifact_formats::ed25519_signatures(signed).unwrap();
    assert!(key.has_signed(&objects[&layout::summary()].content, signatures[0]));
    assert_eq!(named(&memory), refs(&memory));
}

#[test]
fn a_summary_lists_what_it_is_configured_to() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let plan = Plan {
        refs: vec![("app/a", commit), ("lib/b", commit)],
        ..Plan::one("", commit)
    };
    let after = |mode: SummaryMode| {
        let fork = memory.fork();
        let summary = SummaryConfig {
            mode,
            ..SummaryConfig::default()
        };
        let store = store_with(fork.clone(), SystemClock, config("mia", &summary));
        let done = push(&store, &all, &plan).unwrap();
        assert_eq!(done.summary, Some(SummaryDone::Current));
        let stored = fork.objects().remove(&layout::summary());
        stored.map(|stored| Summary::parse(&stored.content).unwrap())
    };
    let full = after(SummaryMode::Full).unwrap();
    assert_eq!(full.mode.as_deref(), Some("archive-z2"));
    assert!(full.refs["app/a"].timestamp.is_some());
    let short = after(SummaryMode::WithoutTimestamps).unwrap();
    assert_eq!(short.refs["lib/b"].timestamp, None);
    let some = after(SummaryMode::Matching(vec!["app/*".parse().unwrap()])).unwrap();
    assert_eq!(some.refs.keys().collect::<Vec<_>>(), ["app/a"]);
    memory.damage(&layout::summary(), Some("old".into()));
    assert_eq!(after(SummaryMode::None), None);
}

#[test]
fn what_a_dead_push_has_set_the_next_one_names() {
    let (memory, mut all) = (empty(), Universe::default());
    let (one, two) = (
        all.commit(None, &[("a", "1")]),
        all.commit(None, &[("a", "2")]),
    );
    // The bucket has a summary before, because a newly made one would name everything.
    set(&memory, &all, "os/b", one);
    let store = store_of(memory.clone(), "mia");
    let plan = Plan::one("os/a", one);
    let (opened, mut push_one) = store.begin(&plan.announcement()).unwrap();
    send(&mut push_one, &opened, &all, &plan).unwrap();
    crate::seam::Push::publish(&mut push_one).unwrap();
    // Its process is killed now.
    mem::forget(push_one);
    let name: RefName = "os/a".parse().unwrap();
    assert!(!named(&memory).contains_key(name.as_str()));
    set(&memory, &all, "os/b", two);
    assert_eq!(named(&memory), refs(&memory));
}

#[test]
fn a_push_that_lost_the_race_leaves_no_note() {
    let (memory, mut all) = (empty(), Universe::default());
    let commits = ["0", "1", "2"].map(|at| all.commit(None, &[("a", at)]));
    set(&memory, &all, "os/a", commits[0]);
    let plan = Plan::one("os/a", commits[1]);
    let store = store_of(memory.clone(), "mia");
    let (opened, mut slow) = store.begin(&plan.announcement()).unwrap();
    let sent = send(&mut slow, &opened, &all, &plan).unwrap();
    set(&memory, &all, "os/a", commits[2]);
    let late = finish(slow, opened, &all, sent).unwrap();
    assert!(matches!(late.outcomes[0], RefOutcome::Refused(_)));
    assert_eq!(leftovers(&memory), []);
}

#[test]
fn the_note_of_a_push_that_is_over_is_read_once() {
    let (memory, mut all) = (empty(), Universe::default());
    let commits = ["0", "1", "2"].map(|at| all.commit(None, &[("a", at)]));
    set(&memory, &all, "os/a", commits[0]);
    let note = |id: u64, name: &str| {
        let key = layout::pending(layout::SessionId::new(id));
        let text = format!("artifact-cache pending 1\n{name} {}\n", commits[1]);
        memory.damage(&key, Some(text.into()));
        key
    };
    // The push of the second note may still set its ref.
    let (over, alive) = (note(1, "os/a"), note(2, "os/b"));
    memory.damage(
        &layout::session(layout::SessionId::new(2)),
        Some("a lease".into()),
    );
    set(&memory, &all, "os/c", commits[2]);
    let left = memory.objects();
    assert!(!left.contains_key(&over) && left.contains_key(&alive));
    assert_eq!(named(&memory), refs(&memory));
}
