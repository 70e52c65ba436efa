//! What pushes cost: rounds and requests.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, thread};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::Verdict;
use artifact_protocol::limits::MAX_BASES;
use artifact_protocol::session::{Published, RefQuery};
use bytes::Bytes;
use parking_lot::Mutex;

use super::world::*;
use crate::bucket::push::survey;
use crate::bucket::records::layout;
use crate::bucket::requests::faulty::Faulty;
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::seam::{Bucket, Class, Condition, Request, Then};
use crate::bucket::upkeep;
use crate::seam::{Push, Store};
use crate::summary::config::SummaryConfig;

/// A bucket that answers late, and counts rounds: requests that were sent before any of them was
/// answered count as one round.
#[derive(Clone)]
struct Rounds {
    memory: Memory,
    ended: Arc<Mutex<u32>>,
}

impl fmt::Debug for Rounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rounds")
    }
}

impl Rounds {
    fn so_far(&self) -> u32 {
        *self.ended.lock()
    }
}

impl Bucket for Rounds {
    fn start(&self, request: Request, then: Then) {
        let (this, round) = (self.clone(), *self.ended.lock() + 1);
        thread::spawn(move || {
            thread::sleep(Duration::from_millis(25));
            let mut ended = this.ended.lock();
            *ended = round.max(*ended);
            drop(ended);
            this.memory.start(request, then);
        });
    }
}

#[test]
fn a_small_push_is_done_in_eight_rounds_and_named_in_eleven() {
    let (memory, mut all) = (empty(), Universe::default());
    let mut base = all.commit(None, &[("bin/a", "1"), ("lib/x/b", "2"), ("c", "3")]);
    push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/kit/1", base),
    )
    .unwrap();
    // A base whose list is completed by another.
    let next = all.commit(Some(base), &[("bin/a", "1"), ("lib/x/b", "2"), ("c", "4")]);
    let plan = Plan {
        bases: vec![("os/kit/1", base)],
        ..Plan::one("os/kit/2", next)
    };
    push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    base = next;
    let commit = all.commit(Some(base), &[("bin/a", "5"), ("lib/x/b", "2"), ("c", "6")]);
    let plan = Plan {
        bases: vec![("os/kit/2", base)],
        ..Plan::one("os/kit/3", commit)
    };
    let bucket = Rounds {
        memory: memory.clone(),
        ended: Arc::default(),
    };
    let store = store_of(bucket.clone(), "mia");
    let opened_in = bucket.so_far();
    let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
    // Everything in one flight, like a client with a small push.
    push.rely(&[base]).unwrap();
    let new: Vec<ObjectId> = all
        .closure(commit)
        .difference(&all.closure(base))
        .copied()
        .collect();
    push.have(&new).unwrap();
    let stager = push.stager();
    for id in new {
        crate::seam::Stager::stage(&stager, id, all.stored(id)).unwrap();
    }
    assert!(
        matches!(push.publish().unwrap(), Published::Done(_)),
        "{opened:?}"
    );
    let finalized = bucket.so_far() - opened_in;
    push.summarize();
    let summary = bucket.so_far() - opened_in;
    assert!(finalized <= 8, "{finalized} rounds to Finalized");
    assert!(summary <= 11, "{summary} rounds to SummaryDone");
    drop(push);
    assert_eq!(named(&memory), refs(&memory));
    assert_whole(&memory, &all);
}

#[test]
fn a_push_of_any_size_needs_few_requests_beyond_one_for_each_object() {
    let (memory, mut all) = (empty(), Universe::default());
    let files = |changed: usize| -> Vec<(String, String)> {
        (0..3000)
            .map(|at| {
                let content = if at < changed {
                    format!("new {at}")
                } else {
                    at.to_string()
                };
                (format!("d{}/e{}/{at}", at % 20, at % 200), content)
            })
            .collect()
    };
    let tree = all.tree(&files(0));
    let first = all.commit_of(None, tree, None);
    let tree = all.tree(&files(30));
    let second = all.commit_of(Some(first), tree, None);
    let plans = [
        Plan::one("os/kit/1", first),
        Plan {
            bases: vec![("os/kit/1", first)],
            ..Plan::one("os/kit/2", second)
        },
    ];
    for plan in plans {
        let way = Faulty::new(Arc::new(memory.clone()));
        let done = push(&store_of(way.clone(), "mia"), &all, &plan).unwrap();
        let counts = way.counts();
        let requests = counts.gets + counts.puts + counts.swaps + counts.lists + counts.deletes;
        let beyond = requests - done.sent.len() as u64;
        assert!(
            beyond <= 50,
            "{beyond} requests for {} objects: {counts:?}",
            done.sent.len()
        );
    }
    assert_whole(&memory, &all);
}

#[test]
fn a_ref_beside_the_new_one_costs_two_reads_if_it_may_help() {
    let reads = |neighbours: usize| {
        let (memory, mut all) = (empty(), Universe::default());
        let client = client_of(&memory);
        for at in 0..neighbours {
            let name = format!("os/{at}").parse().unwrap();
            let commit = all.commit(None, &[("a", &at.to_string())]);
            survey_of(&memory, &all, commit);
            let head = layout::head(&name).unwrap();
            let value = Bytes::from(format!("{commit}\n"));
            client
                .put(&head, value, Condition::New, Class::Current)
                .unwrap();
        }
        upkeep::rebuild_summary(&client, &SummaryConfig::default()).unwrap();
        let commit = all.commit(None, &[("a", "new")]);
        let way = Faulty::new(Arc::new(memory));
        push(
            &store_of(way.clone(), "mia"),
            &all,
            &Plan::one("os/new", commit),
        )
        .unwrap();
        way.counts().gets
    };
    let alone = reads(0);
    assert!(alone <= 16, "{alone} reads");
    assert_eq!(reads(5), alone + 2 * 5);
    assert_eq!(reads(20), alone + 2 * MAX_BASES as u64);
}

/// Puts a commit with everything that it reaches, and its list.
fn survey_of(memory: &Memory, all: &Universe, commit: Checksum) {
    for id in all.closure(commit) {
        memory.damage(&layout::object(&id), Some(all.stored(id)));
    }
    let client = client_of(memory);
    let (_, put) = survey::list(&client, commit).unwrap().unwrap();
    client.call(&put).unwrap();
}

#[test]
fn a_long_history_costs_one_request_for_each_commit_and_few_rounds() {
    let (memory, mut all) = (empty(), Universe::default());
    let mut tip = all.commit(None, &[("a", "1")]);
    for at in 0..HISTORY {
        tip = all.commit(Some(tip), &[("a", &at.to_string())]);
    }
    let plan = Plan {
        history: 10_000,
        ..Plan::one("os/a", tip)
    };
    push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    let way = Faulty::new(Arc::new(memory.clone()));
    let done = push(&store_of(way.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(done.opened.refs[0].verdict, Verdict::UpToDate);
    let gets = way.counts().gets;
    assert!(gets < HISTORY + 30, "{gets} reads");
    // Refs that share a history share its requests.
    let names = ["os/b", "os/c", "os/d"];
    for name in names {
        set(&memory, &all, name, tip);
        tip = all.commit(Some(tip), &[("b", name)]);
    }
    set(&memory, &all, "os/a", tip);
    let refs = refs(&memory);
    let plan = Plan {
        refs: ["os/a", "os/b", "os/c", "os/d"]
            .map(|name| (name, refs[name]))
            .into(),
        ..plan
    };
    let way = Faulty::new(Arc::new(memory.clone()));
    let done = push(&store_of(way.clone(), "mia"), &all, &plan).unwrap();
    assert!((done.opened.refs.iter()).all(|state| state.verdict == Verdict::UpToDate));
    let gets = way.counts().gets;
    assert!(gets < HISTORY + 50, "{gets} reads");
}

#[test]
fn a_list_of_refs_that_is_cut_short_lists_no_further() {
    let memory = empty();
    for at in 0..5_000 {
        let name = format!("os/{at:05}").parse().unwrap();
        let value = format!("{}\n", Checksum::of(b"a commit"));
        memory.damage(&layout::head(&name).unwrap(), Some(value.into()));
    }
    let way = Faulty::new(Arc::new(memory));
    let store = store_of(way.clone(), "mia");
    let (refs, is_all) = store.refs(&RefQuery::All { len_max: 7_200 }).unwrap();
    assert_eq!((refs.len(), is_all), (100, false));
    assert!(way.counts().lists <= 2, "{:?}", way.counts());
    let (refs, is_all) = store
        .refs(&RefQuery::All {
            len_max: usize::MAX,
        })
        .unwrap();
    assert_eq!((refs.len(), is_all), (5_000, true));
}

const HISTORY: u64 = 200;
