//! Many pushes at once whose requests go wrong at random, for `make chaos-bucket`.
//!
//! Each of several pushers owns a ref, so the test knows exactly which commits the ref may hold.
//! All share one more ref, which must hold one of their commits. Requests are lost, unheard, late,
//! refused as busy or in conflict, and pushers die. `CHAOS_ROUNDS` sets the number of buckets,
//! `CHAOS_SEED` the first seed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use artifact_formats::Checksum;
use artifact_protocol::frame::{RefOutcome, Verdict};

use super::world::*;
use crate::bucket::requests::faulty::{Fate, Faulty};
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::random::Random;

const OWN: [&str; 3] = ["os/first", "os/second", "x/y/third"];
const SHARED: &str = "os/shared";
const PUSHES: usize = 6;

/// How often each fault is chosen, in a thousand requests.
const FATES: [(u64, Fate); 7] = [
    (20, Fate::Busy),
    (20, Fate::Conflict),
    (20, Fate::Unsent),
    (25, Fate::Unheard),
    (15, Fate::Late),
    (8, Fate::DieBefore),
    (8, Fate::DieAfter),
];

/// A pusher's knowledge of its own ref: the last acknowledged commit, and the commits tried since
/// then.
#[derive(Default)]
struct Known {
    acknowledged: Option<Checksum>,
    tried: BTreeSet<Checksum>,
}

/// Commits with much in common, some of them with history.
fn commits(all: &mut Universe) -> Vec<Checksum> {
    let mut commits = Vec::new();
    let mut parent = None;
    for number in 0..12 {
        let (same, own) = ((number / 3).to_string(), number.to_string());
        let files = [
            ("a", "common"),
            ("b/c", same.as_str()),
            ("b/d", own.as_str()),
        ];
        let commit = all.commit(parent.filter(|_| number % 4 > 0), &files);
        parent = Some(commit);
        commits.push(commit);
    }
    commits
}

/// Pushes again and again, each time over a connection of its own.
fn pusher(
    memory: &Memory,
    all: &Universe,
    commits: &[Checksum],
    who: usize,
    mut random: Random,
    faults: &Arc<AtomicU64>,
) -> Known {
    let mut known = Known::default();
    let mut late = Vec::new();
    for _ in 0..PUSHES {
        let mut any = || commits[random.below(commits.len() as u64) as usize];
        let (own, shared) = (any(), any());
        let plan = Plan {
            refs: vec![(OWN[who], own), (SHARED, shared)],
            bases: known
                .acknowledged
                .map(|commit| (OWN[who], commit))
                .into_iter()
                .collect(),
            ..Plan::one("", own)
        };
        known.tried.insert(own);
        let way = Faulty::new(Arc::new(memory.clone()));
        let mut fates = Random::of_seed(random.next());
        let faults = Arc::clone(faults);
        way.choose(move |number, _| {
            // Opening the store is not under test here.
            let mut drawn = if number == 0 { 999 } else { fates.below(1000) };
            let chosen = FATES.iter().find(|(share, _)| {
                let is_it = drawn < *share;
                drawn = drawn.wrapping_sub(*share);
                is_it
            });
            faults.fetch_add(u64::from(chosen.is_some()), Ordering::Relaxed);
            Some(chosen.map_or(Fate::Pass, |(_, fate)| *fate))
        });
        let done = push(&store_of(way.clone(), OWN[who]), all, &plan);
        late.push(way);
        let Ok(done) = done else { continue };
        let is_acknowledged = done.opened.refs[0].verdict == Verdict::UpToDate
            || matches!(
                done.outcomes.first(),
                Some(RefOutcome::Updated | RefOutcome::Unchanged)
            );
        if is_acknowledged {
            known.acknowledged = Some(own);
            if done.outcomes.first() == Some(&RefOutcome::Updated) {
                known.tried = [own].into();
            }
        }
    }
    // A put that arrives only now changes no ref, even a ref that holds the replaced value again.
    late.iter().for_each(Faulty::release_all);
    known
}

fn round(seed: u64, faults: &Arc<AtomicU64>) -> u64 {
    let (memory, mut all) = (empty(), Universe::default());
    let commits = commits(&mut all);
    let (all, commits) = (&all, &commits);
    let known: Vec<Known> = thread::scope(|scope| {
        let pushers = (0..OWN.len()).map(|who| {
            let random = Random::of_seed(seed.wrapping_mul(31).wrapping_add(who as u64));
            let (memory, faults) = (memory.clone(), Arc::clone(faults));
            scope.spawn(move || pusher(&memory, all, commits, who, random, &faults))
        });
        let pushers: Vec<_> = pushers.collect();
        let ended = pushers.into_iter().map(|pusher| pusher.join().unwrap());
        ended.collect()
    });
    assert_whole(&memory, all);
    let held = refs(&memory);
    for (name, known) in OWN.iter().zip(&known) {
        let why = format!("seed {seed}: {name} holds {:?}", held.get(*name));
        match held.get(*name) {
            Some(commit) => assert!(known.tried.contains(commit), "{why}, not the last"),
            None => assert!(known.acknowledged.is_none(), "{why}, and was acknowledged"),
        }
    }
    if let Some(commit) = held.get(SHARED) {
        assert!(commits.contains(commit), "seed {seed}");
    }
    // Without faults, everything succeeds, and the summary names all.
    for name in OWN {
        let done = push(
            &store_of(memory.clone(), name),
            all,
            &Plan::one(name, commits[0]),
        );
        done.unwrap();
    }
    let done = push(
        &store_of(memory.clone(), "last"),
        all,
        &Plan::one("os/last", commits[1]),
    );
    assert_eq!(done.unwrap().outcomes, [RefOutcome::Updated], "seed {seed}");
    assert_eq!(named(&memory), refs(&memory), "seed {seed}");
    assert_whole(&memory, all);
    known
        .iter()
        .filter(|known| known.acknowledged.is_some())
        .count() as u64
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn no_acknowledged_ref_is_lost_whatever_goes_wrong_with_many_pushes_at_once() {
    let faults = Arc::new(AtomicU64::new(0));
    let (first, rounds) = (number("CHAOS_SEED", 1), number("CHAOS_ROUNDS", 4));
    let acknowledged: u64 = (first..first + rounds)
        .map(|seed| round(seed, &faults))
        .sum();
    let faults = faults.load(Ordering::Relaxed);
    println!("{rounds} rounds, {faults} faults, {acknowledged} acknowledged");
    assert!(faults > rounds && acknowledged > 0);
}
