//! Pushes that die, hear nothing, or are paused, at every one of their requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use artifact_formats::{Checksum, ObjectKind};
use artifact_protocol::frame::{RefOutcome, SummaryDone, Verdict};
use bytes::Bytes;

use super::world::*;
use crate::bucket::collect::{Gc, LEASE_LIFE, Lease, Nonce, Phase, REQUEST_LIFE, condemned_key};
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::clock::{Clock, ManualClock};
use crate::bucket::requests::faulty::{Fate, Faulty};
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::seam::Request;
use crate::bucket::upkeep;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::upkeep::Removal;

/// A bucket, a push into it, and how that push begins.
struct Scenario {
    name: &'static str,
    before: Memory,
    all: Universe,
    plan: Plan,
}

fn scenarios() -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    let mut add = |name, make: &dyn Fn(&Memory, &mut Universe) -> Plan| {
        let (before, mut all) = (empty(), Universe::default());
        let plan = make(&before, &mut all);
        scenarios.push(Scenario {
            name,
            before,
            all,
            plan,
        });
    };
    let first = |all: &mut Universe| all.commit(None, &[("a", "1"), ("b/c", "2")]);
    add("new", &|_, all| Plan::one("os/a", first(all)));
    add("replacing", &|memory, all| {
        let old = first(all);
        set(memory, all, "os/a", old);
        let new = all.commit(Some(old), &[("a", "1"), ("b/c", "3")]);
        Plan {
            bases: vec![("os/a", old)],
            ..Plan::one("os/a", new)
        }
    });
    add("several refs", &|memory, all| {
        let old = first(all);
        set(memory, all, "os/a", old);
        let one = all.commit(Some(old), &[("a", "4")]);
        let two = all.commit(None, &[("b/c", "5")]);
        Plan {
            refs: vec![("os/a", one), ("os/b", two), ("x/y/z", two)],
            ..Plan::one("", one)
        }
    });
    add("signed", &|_, all| {
        let commit = first(all);
        let mut writer = artifact_formats::VardictWriter::default();
        writer.string("by", "mia");
        Plan {
            detached: [(commit, Bytes::from(writer.finish()))].into(),
            ..Plan::one("os/a", commit)
        }
    });
    add("resumed", &|memory, all| {
        let plan = Plan::one("os/a", first(all));
        let store = store_of(memory.clone(), "mia");
        let (opened, mut broken) = crate::seam::Store::begin(&store, &plan.announcement()).unwrap();
        send(&mut broken, &opened, all, &plan).unwrap();
        drop(broken);
        plan
    });
    scenarios
}

impl Scenario {
    fn wanted(&self) -> BTreeMap<String, Checksum> {
        let mut wanted = refs(&self.before);
        wanted.extend(
            self.plan
                .refs
                .iter()
                .map(|(name, commit)| ((*name).to_owned(), *commit)),
        );
        wanted
    }

    /// Pushes over a connection with this fate at one request; returns `None` when the push was
    /// over before that.
    fn push_with(&self, memory: &Memory, number: u64, fate: Fate) -> Option<Result<Done, Error>> {
        let way = Faulty::new(Arc::new(memory.clone()));
        // Opening the store is the first one.
        way.at(number + 1, fate);
        let done = push(&store_of(way.clone(), "mia"), &self.all, &self.plan);
        let counts = way.counts();
        let requests = counts.gets
            + counts.puts
            + counts.swaps
            + counts.uploads
            + counts.lists
            + counts.deletes;
        // Late requests arrive after everything.
        way.release_all();
        (requests > number + 1).then_some(done)
    }

    fn assert_old_or_new(&self, memory: &Memory, why: &str) {
        let (old, new, now) = (refs(&self.before), self.wanted(), refs(memory));
        for (name, commit) in &now {
            let is_good = old.get(name) == Some(commit) || new.get(name) == Some(commit);
            assert!(is_good, "{why}: {name} holds {commit}");
        }
        assert!(old.keys().all(|name| now.contains_key(name)), "{why}");
        assert_whole(memory, &self.all);
    }

    /// Pushes again, without faults.
    fn assert_retry(&self, memory: &Memory, why: &str) {
        let done = push(&store_of(memory.clone(), "mia"), &self.all, &self.plan).unwrap();
        for (at, state) in done.opened.refs.iter().enumerate() {
            let is_done = match &state.verdict {
                Verdict::UpToDate => true,
                Verdict::Accepted => matches!(
                    done.outcomes[at],
                    RefOutcome::Updated | RefOutcome::Unchanged
                ),
                Verdict::Refused(_) => false,
            };
            assert!(is_done, "{why}: {done:?}");
        }
        assert_eq!(refs(memory), self.wanted(), "{why}");
        assert_eq!(named(memory), self.wanted(), "{why}");
        for (commit, metadata) in &self.plan.detached {
            let stored = memory.objects().remove(&layout::detached(*commit));
            assert_eq!(stored.unwrap().content, metadata, "{why}");
        }
        assert_whole(memory, &self.all);
    }
}

#[test]
fn a_push_killed_at_any_request_leaves_each_ref_old_or_new_and_its_retry_succeeds() {
    let mut points = 0;
    for scenario in scenarios() {
        for fate in [Fate::DieBefore, Fate::DieAfter] {
            for number in 0.. {
                let memory = scenario.before.fork();
                let why = format!("{}, {fate:?} at {number}", scenario.name);
                if scenario.push_with(&memory, number, fate).is_none() {
                    break;
                }
                points += 1;
                scenario.assert_old_or_new(&memory, &why);
                scenario.assert_retry(&memory, &why);
            }
        }
    }
    assert!(points > 200, "{points} points");
}

#[test]
fn a_push_that_loses_any_one_answer_succeeds() {
    let fates = [
        Fate::Unheard,
        Fate::Unsent,
        Fate::Busy,
        Fate::Conflict,
        Fate::Late,
    ];
    for scenario in scenarios() {
        for fate in fates {
            for number in 0.. {
                let memory = scenario.before.fork();
                let why = format!("{}, {fate:?} at {number}", scenario.name);
                let Some(done) = scenario.push_with(&memory, number, fate) else {
                    break;
                };
                let done = done.unwrap_or_else(|error| panic!("{why}: {error:?}"));
                assert!(
                    done.outcomes
                        .iter()
                        .all(|outcome| *outcome == RefOutcome::Updated),
                    "{why}: {done:?}"
                );
                assert_eq!(done.summary, Some(SummaryDone::Current), "{why}");
                assert_eq!(refs(&memory), scenario.wanted(), "{why}");
                assert_eq!(named(&memory), scenario.wanted(), "{why}");
                assert_whole(&memory, &scenario.all);
            }
        }
    }
}

#[test]
fn a_push_paused_past_its_lease_at_any_request_sets_no_ref_afterwards() {
    for scenario in scenarios() {
        for number in 0.. {
            let memory = scenario.before.fork();
            let clock = ManualClock::default();
            let way = Faulty::new(Arc::new(memory.clone()));
            let (at_server, own) = (memory.clone(), clock.clone());
            let paused = Arc::new(parking_lot::Mutex::new(None));
            let note = Arc::clone(&paused);
            way.choose(move |at, _| {
                if at != number + 1 {
                    return None;
                }
                own.advance(PAUSE);
                at_server.advance(PAUSE.as_secs());
                fence_all(&at_server);
                *note.lock() = Some(refs(&at_server));
                // So long after it was sent, a request can no longer take effect.
                Some(Fate::Unsent)
            });
            let store = store_with(way, clock, config_of("mia"));
            let done = push(&store, &scenario.all, &scenario.plan);
            let Some(then) = paused.lock().take() else {
                break;
            };
            let why = format!("{}, paused at {number}", scenario.name);
            scenario.assert_old_or_new(&memory, &why);
            let has_lease = leftovers(&memory)
                .iter()
                .any(|key| key.as_str().starts_with(layout::SESSIONS));
            if has_lease && then != scenario.wanted() {
                assert_eq!(refs(&memory), then, "{why}: {done:?}");
                assert!(matches!(done, Err(Error::Fenced)), "{why}: {done:?}");
            }
            scenario.assert_retry(&memory, &why);
        }
    }
}

#[test]
fn a_put_that_arrives_late_never_undoes_a_later_push() {
    let (memory, mut all) = (empty(), Universe::default());
    let (old, new) = (
        all.commit(None, &[("a", "old")]),
        all.commit(None, &[("a", "new")]),
    );
    set(&memory, &all, "os/a", old);
    let way = Faulty::new(Arc::new(memory.clone()));
    let mut is_first = true;
    way.choose(move |_, request| {
        let is_ref = matches!(request, Request::Put { key, .. } if layout::head_of(key).is_some());
        (is_ref && std::mem::take(&mut is_first)).then_some(Fate::Late)
    });
    let done = push(&store_of(way.clone(), "mia"), &all, &Plan::one("os/a", new)).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    // The ref holds again what the late put replaces.
    set(&memory, &all, "os/a", old);
    way.release_all();
    assert_eq!(refs(&memory)["os/a"], old);
}

/// A clock whose sleepers wake up when everything that was late has arrived.
#[derive(Debug)]
struct Arriving {
    way: Faulty,
    clock: ManualClock,
}

impl Clock for Arriving {
    fn now(&self) -> Duration {
        self.clock.now()
    }

    fn wall(&self) -> u64 {
        self.clock.wall()
    }

    fn sleep(&self, time: Duration) {
        self.way.release_all();
        self.clock.sleep(time);
    }
}

#[test]
fn a_removal_counts_only_when_no_late_put_can_bring_the_ref_back() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let way = Faulty::new(Arc::new(memory.clone()));
    let mut is_first = true;
    way.choose(move |_, request| {
        let is_ref = matches!(request, Request::Put { key, .. } if layout::head_of(key).is_some());
        (is_ref && std::mem::take(&mut is_first)).then_some(Fate::Late)
    });
    let plan = Plan::one("os/a", commit);
    let done = push(&store_of(way.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    let clock = ManualClock::default();
    let arriving = Arriving {
        way,
        clock: clock.clone(),
    };
    let client = Client::new(Arc::new(memory.clone()), Arc::new(arriving));
    let wanted = [("os/a".parse().unwrap(), None)];
    let waited = AtomicUsize::new(0);
    let remove = || {
        let mut removals = upkeep::remove_refs(&client, &wanted).unwrap();
        let waits = |sessions: &[String]| _ = waited.fetch_add(sessions.len(), Ordering::Relaxed);
        let any = upkeep::settle_removals(&client, &wanted, &mut removals, &waits).unwrap();
        (removals.remove(0), any)
    };
    assert_eq!(remove(), (Removal::SetAgain, true));
    assert_eq!(refs(&memory)["os/a"], commit);
    assert_eq!(waited.load(Ordering::Relaxed), 1);
    assert_eq!(remove(), (Removal::Removed(commit), false));
    assert_eq!(refs(&memory), BTreeMap::new());
    // It waits for no lease that has expired, and never for long.
    let then = clock.now();
    assert!(then < REQUEST_LIFE * 3, "{then:?}");
    clock.advance(LEASE_LIFE * 2);
    memory.advance(LEASE_LIFE.as_secs() * 2 + then.as_secs());
    set(&memory, &all, "os/a", commit);
    let then = clock.now();
    assert_eq!(remove(), (Removal::Removed(commit), false));
    assert_eq!(clock.now(), then);
}

/// Returns the kind of the object that a request puts.
fn kind_put(request: &Request) -> Option<ObjectKind> {
    match request {
        Request::Put { key, .. } => Some(layout::object_of(key)?.kind),
        _ => None,
    }
}

#[test]
fn a_push_that_lost_the_answer_to_a_commit_or_ref_leaves_its_lease() {
    let is_commit: IsIt = |request| kind_put(request) == Some(ObjectKind::Commit);
    let is_file: IsIt = |request| kind_put(request) == Some(ObjectKind::File);
    let is_ref: IsIt = |request| match request {
        Request::Put { key, .. } => layout::head_of(key).is_some(),
        _ => false,
    };
    let kinds: [(IsIt, usize); 3] = [(is_commit, 1), (is_ref, 1), (is_file, 0)];
    for (is_it, leases) in kinds {
        for fate in [Fate::Unheard, Fate::Late, Fate::Unsent] {
            let (memory, mut all) = (empty(), Universe::default());
            let commit = all.commit(None, &[("a", "1")]);
            let way = Faulty::new(Arc::new(memory.clone()));
            let mut is_first = true;
            way.choose(move |_, request| {
                (is_it(request) && std::mem::take(&mut is_first)).then_some(fate)
            });
            let done = push(
                &store_of(way.clone(), "mia"),
                &all,
                &Plan::one("os/a", commit),
            );
            assert_eq!(done.unwrap().outcomes, [RefOutcome::Updated], "{fate:?}");
            let left = leftovers(&memory);
            assert_eq!(left.len(), leases, "{fate:?}: {left:?}");
            assert!(
                left.iter()
                    .all(|key| key.as_str().starts_with(layout::SESSIONS))
            );
        }
    }
}

#[test]
fn a_push_ends_with_advice_where_collection_has_lost_or_damaged_its_list() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let condemned = Gc::first(Nonce(1)).condemned(Nonce(1));
    for gc in [condemned, condemned.moved(Phase::Sweeping, Nonce(1))] {
        for list in [None, Some(Bytes::from_static(b"damaged"))] {
            memory.damage(&layout::gc(), Some(gc.encode().into()));
            memory.damage(&condemned_key(gc.list()), list);
            let way = Faulty::new(Arc::new(memory.clone()));
            // The push must end long before that.
            way.at(5000, Fate::DieBefore);
            let clock = ManualClock::default();
            let config = StoreConfig {
                identity: "mia".to_owned(),
                ..StoreConfig::default()
            };
            let store = store_with(way.clone(), clock.clone(), config);
            let error = push(&store, &all, &Plan::one("os/a", commit)).unwrap_err();
            let text = artifact_formats::with_causes(&error);
            assert!(text.contains("artifact-cache-admin prune"), "{text}");
            assert!(way.counts().gets < 200, "{:?}", way.counts());
            assert!(clock.now() < Duration::from_secs(120));
            assert_eq!(leftovers(&memory), []);
        }
    }
}

type IsIt = fn(&Request) -> bool;

/// Gives up every push, as a collector does.
fn fence_all(memory: &Memory) {
    for (key, stored) in memory.objects() {
        if key.as_str().starts_with(layout::SESSIONS) {
            let fenced = Lease::decode(&stored.content).unwrap().fenced();
            memory.damage(&key, Some(fenced.encode().into()));
        }
    }
}

const PAUSE: Duration = Duration::from_secs(31 * 60);
