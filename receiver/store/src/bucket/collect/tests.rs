//! Pushes beside collectors over a bucket in memory. A seed sets the order of all their requests.
//!
//! One thread runs at a time. After each request, and whenever it sleeps, it draws the next thread.
//! Requests or their answers get lost, or requests take effect late; sessions pause for longer than
//! their leases live, or die. At the end, and whenever a ref is set, the bucket must have
//! everything that refs reach.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{RefOutcome, Verdict};
use parking_lot::{Condvar, Mutex};

use super::lists::spared_in;
use super::*;
use crate::bucket::push::tests::world::{
    Plan, Universe, assert_sound, config_of, empty, finish, push as world_push, refs, send,
    store_with,
};
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::clock::{Clock, ManualClock};
use crate::bucket::requests::faulty::{Fate, Faulty};
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Answer, Bucket, Key, Request, Then};
use crate::config::StoreConfig;
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::seam::Store;
use crate::summary::config::SummaryConfig;

/// The state that all threads share.
#[derive(Debug)]
struct Stage {
    memory: Memory,
    clock: ManualClock,
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Debug)]
struct Turns {
    current: usize,
    running: BTreeSet<usize>,
    random: Random,
    /// Requests that take effect later, before the clock moves on.
    late: Vec<Request>,
    /// The number of requests in a thousand that go wrong.
    lost: u64,
}

/// One thread's connection to the bucket, and its clock.
#[derive(Clone, Debug)]
struct Way {
    stage: Arc<Stage>,
    me: usize,
}

impl Stage {
    fn new(memory: Memory, seed: u64, lost: u64) -> Arc<Self> {
        Arc::new(Self {
            memory,
            clock: ManualClock::default(),
            turns: Mutex::new(Turns {
                current: 0,
                running: BTreeSet::new(),
                random: Random::of_seed(seed),
                late: Vec::new(),
                lost,
            }),
            changed: Condvar::new(),
        })
    }

    fn draw(&self, below: u64) -> u64 {
        self.turns.lock().random.below(below)
    }

    /// Passes the turn on, and returns when it is the turn of `me`.
    fn yield_from(&self, me: usize) {
        let mut turns = self.turns.lock();
        turns.pass_on();
        self.changed.notify_all();
        self.changed
            .wait_while(&mut turns, |turns| turns.current != me);
    }

    fn leave(&self, me: usize) {
        let mut turns = self.turns.lock();
        turns.running.remove(&me);
        turns.pass_on();
        self.changed.notify_all();
    }

    fn execute(&self, request: Request) -> Result<Answer, BucketError> {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        self.memory
            .start(request, Box::new(move |a| *slot.lock() = Some(a)));
        let answer = answer.lock().take();
        answer.expect("a bucket in memory answers at once")
    }

    fn run_late(&self) {
        let late = std::mem::take(&mut self.turns.lock().late);
        for request in late {
            let _ = self.execute(request);
        }
    }

    fn advance(&self, time: Duration) {
        self.run_late();
        self.clock.advance(time);
        self.memory.advance(time.as_secs());
    }
}

impl Turns {
    fn pass_on(&mut self) {
        let count = self.running.len() as u64;
        if count > 0 {
            let at = usize::try_from(self.random.below(count)).unwrap();
            self.current = *self.running.iter().nth(at).unwrap();
        }
    }
}

impl Bucket for Way {
    fn start(&self, request: Request, then: Then) {
        let stage = &self.stage;
        if stage.draw(20) == 0 {
            stage.run_late();
        }
        let unclear = || Err(BucketError::Unclear("lost".to_owned()));
        let lost = stage.turns.lock().lost;
        let answer = match stage.draw(1000) {
            draw if draw >= lost => stage.execute(request),
            draw if draw % 3 == 0 => unclear(),
            draw if draw % 3 == 1 => {
                stage.turns.lock().late.push(request);
                unclear()
            }
            _ => {
                let _ = stage.execute(request);
                unclear()
            }
        };
        // Only now: the clock may move on meanwhile, and a request takes effect in time or never.
        stage.yield_from(self.me);
        then(answer);
    }
}

impl Clock for Way {
    fn now(&self) -> Duration {
        self.stage.clock.now()
    }

    fn wall(&self) -> u64 {
        self.stage.memory.now()
    }

    fn sleep(&self, time: Duration) {
        self.stage.advance(time);
        self.stage.yield_from(self.me);
    }
}

const NAMES: [&str; 3] = ["os/a", "os/b", "app/c"];
const PUSHERS: usize = 2;
const ALL: usize = PUSHERS + 3;

/// A few commits that share files and directories.
fn commits(all: &mut Universe) -> Vec<Checksum> {
    let mut commits = Vec::new();
    for number in 0..6_u8 {
        let file = |n: u8| (format!("d{}/f{n}", n % 2), format!("{}", number / 2 + n));
        let files: Vec<_> = (0..5).filter(|n| (number + n) % 3 != 0).map(file).collect();
        let files: Vec<_> = files
            .iter()
            .map(|(p, c)| (p.as_str(), c.as_str()))
            .collect();
        commits.push(all.commit(None, &files));
    }
    commits
}

/// The numbers of acknowledged pushes, of failed pushes, and of deleted objects.
#[derive(Debug, Default)]
struct Tally {
    pushes: u64,
    failures: u64,
    removed: u64,
}

/// Runs pushers, a thread that removes refs, and two collectors.
fn run(seed: u64, pushes: u64, lost: u64) -> Tally {
    let mut all = Universe::default();
    let commits = commits(&mut all);
    let stage = Stage::new(empty(), seed, lost);
    let tally = Mutex::new(Tally::default());
    stage.turns.lock().running = (0..ALL).collect();
    std::thread::scope(|scope| {
        for me in 0..ALL {
            let (stage, tally, all, commits) = (&stage, &tally, &all, &commits);
            let way = Way {
                stage: Arc::clone(stage),
                me,
            };
            scope.spawn(move || {
                {
                    let mut turns = stage.turns.lock();
                    let is_other = |turns: &mut Turns| turns.current != me;
                    stage.changed.wait_while(&mut turns, is_other);
                }
                let client = Client::new(Arc::new(way.clone()), Arc::new(way.clone()));
                let work = AssertUnwindSafe(|| match me {
                    0..PUSHERS => (0..pushes).for_each(|_| {
                        let done = push(&way, all, commits);
                        assert_sound(&stage.memory, all);
                        let mut tally = tally.lock();
                        match done {
                            Ok(()) => tally.pushes += 1,
                            Err(_) => tally.failures += 1,
                        }
                    }),
                    PUSHERS => (0..pushes).for_each(|_| {
                        way.sleep(Duration::from_secs(1));
                        let _ = client.delete(&[head(any(stage, &NAMES))]);
                    }),
                    _ => (0..pushes / 2 + 1).for_each(|_| {
                        let grace = Duration::from_secs(60 * stage.draw(2));
                        if let Ok(done) = collect(&client, &CollectOptions { grace }, &|_| {}) {
                            tally.lock().removed += done.removed;
                        }
                        assert_sound(&stage.memory, all);
                    }),
                });
                let result = catch_unwind(work);
                stage.leave(me);
                if let Err(panic) = result {
                    eprintln!("seed {seed}");
                    std::panic::resume_unwind(panic);
                }
            });
        }
    });
    stage.run_late();
    assert_sound(&stage.memory, &all);
    tally.into_inner()
}

fn any<T: Copy>(stage: &Stage, of: &[T]) -> T {
    of[usize::try_from(stage.draw(of.len() as u64)).unwrap()]
}

fn head(name: &str) -> Key {
    layout::head(&name.parse().unwrap()).unwrap()
}

/// Pushes some commit to some ref, perhaps on a base. Perhaps it pauses in the middle, or dies
/// there. An acknowledged push was really there.
fn push(way: &Way, all: &Universe, commits: &[Checksum]) -> Result<(), Error> {
    let stage = &way.stage;
    let mut plan = Plan::one(any(stage, &NAMES), any(stage, commits));
    for _ in 0..stage.draw(3) {
        let held = refs(&stage.memory);
        let name = any(stage, &NAMES);
        plan.bases
            .extend(held.get(name).map(|commit| (name, *commit)));
    }
    let config = config_of(any(stage, &["mia", "leo"]));
    let store = store_with(way.clone(), way.clone(), config);
    let (opened, mut push) = store.begin(&plan.announcement())?;
    let sent = send(&mut push, &opened, all, &plan)?;
    match stage.draw(8) {
        0 => {
            // A drop would remove the lease, which a dead program does not do.
            std::mem::forget(push);
            return Ok(());
        }
        1 => stage.advance(LEASE_LIFE * 2),
        2 => stage.advance(LEASE_LIFE / 2),
        _ => {}
    }
    let is_accepted = opened
        .refs
        .iter()
        .any(|state| state.verdict == Verdict::Accepted);
    let done = finish(push, opened, all, sent)?;
    let is_set = done
        .outcomes
        .iter()
        .all(|outcome| *outcome == RefOutcome::Updated);
    assert!(!is_accepted || !is_set || done.summary.is_some());
    Ok(())
}

/// Returns a connection for one thread alone.
fn alone(memory: &Memory) -> Way {
    let stage = Stage::new(memory.clone(), 0, 0);
    stage.turns.lock().running.insert(0);
    Way { stage, me: 0 }
}

fn is_extra() -> bool {
    std::env::var_os("ARTIFACT_CACHE_EXTRA").is_some_and(|value| value == "1")
}

#[test]
fn no_ref_loses_what_it_reaches_beside_two_collectors_in_any_order() {
    let mut all = Tally::default();
    let seed = std::env::var("SEED").map(|seed| seed.parse().unwrap());
    let seeds = match seed {
        Ok(seed) => seed..seed + 1,
        Err(_) if is_extra() => 0..1_000,
        Err(_) => 0..16,
    };
    for seed in seeds {
        let Tally {
            pushes,
            failures,
            removed,
        } = run(seed, 6, if seed % 4 == 3 { 20 } else { 0 });
        all.pushes += pushes;
        all.failures += failures;
        all.removed += removed;
    }
    println!("{all:?}");
    assert!(
        seed.is_ok() || all.pushes > 100 && all.removed > 20,
        "{all:?}"
    );
}

#[test]
fn a_collection_killed_at_any_request_is_ended_by_the_next_one() {
    let mut all = Universe::default();
    let commits = commits(&mut all);
    let memory = empty();
    let way = alone(&memory);
    for (name, commit) in NAMES.into_iter().zip(&commits) {
        let store = store_with(way.clone(), way.clone(), StoreConfig::default());
        world_push(&store, &all, &Plan::one(name, *commit)).unwrap();
    }
    let client = Client::new(Arc::new(way.clone()), Arc::new(way.clone()));
    let going = ["os/a", "app/c"].map(|name| (name.parse().unwrap(), None));
    crate::bucket::upkeep::remove_refs(&client, &going).unwrap();
    crate::bucket::upkeep::rebuild_summary(&client, &SummaryConfig::default()).unwrap();
    way.stage.advance(Duration::from_secs(48 * 60 * 60));
    let grace = Duration::from_secs(24 * 60 * 60);
    let options = CollectOptions { grace };
    let would = would_collect(&client, &options, &[]).unwrap();
    let reached = all.closure(commits[1]).len() as u64;
    assert_eq!(would.objects - would.removed, reached);
    let is_object = |key: &&Key| layout::object_of(key).is_some();
    for fate in [Fate::DieBefore, Fate::DieAfter] {
        for number in 0.. {
            let memory = memory.fork();
            let way = alone(&memory);
            let faulty = Faulty::new(Arc::new(way.clone()));
            faulty.at(number, fate);
            let dying = Client::new(Arc::new(faulty.clone()), Arc::new(way.clone()));
            let result = collect(&dying, &options, &|_| {});
            assert_sound(&memory, &all);
            if !faulty.is_dead() {
                assert_eq!(result.unwrap().removed, would.removed);
                assert!(number > 20, "{number}");
                break;
            }
            way.stage.advance(CLAIM_LIFE + Duration::from_secs(60));
            let client = Client::new(Arc::new(way.clone()), Arc::new(way.clone()));
            collect(&client, &options, &|_| {}).unwrap();
            assert_sound(&memory, &all);
            let left = memory.objects();
            assert_eq!(
                left.keys().filter(is_object).count() as u64,
                reached,
                "{number}"
            );
            let again = would_collect(&client, &options, &[]).unwrap();
            assert_eq!(again.removed, 0, "{number}");
        }
    }
}

/// A collector looked at the refs, lost its claim, got it back, and looked again: the objects that
/// it had visited the first time then counted as not reached.
#[test]
fn a_collector_that_gets_its_claim_back_keeps_what_refs_reach() {
    let mut all = Universe::default();
    let commit = commits(&mut all)[0];
    let memory = empty();
    let way = alone(&memory);
    let store = store_with(way.clone(), way.clone(), StoreConfig::default());
    world_push(&store, &all, &Plan::one("os/a", commit)).unwrap();
    memory.damage(&head("os/a"), None);
    memory.damage(&layout::summary(), None);
    way.stage.advance(Duration::from_secs(60 * 60));
    let faulty = Faulty::new(Arc::new(way.clone()));
    let (server, stage) = (memory.clone(), Arc::clone(&way.stage));
    let mut claims_lost = 0;
    faulty.choose(move |_, request| {
        match request {
            // A push that knows nothing of the list sets the ref.
            Request::List { prefix, .. } if prefix == layout::SESSIONS => {
                server.damage(&head("os/a"), Some(format!("{commit}\n").into()));
            }
            Request::List { prefix, .. } if *prefix == spared_in(1) && claims_lost == 0 => {
                claims_lost += 1;
                let gc = &server.objects()[&layout::gc()].content;
                let other = Gc::decode(gc).unwrap().moved(Phase::Sweeping, Nonce(99));
                server.damage(&layout::gc(), Some(other.encode().into()));
                stage.advance(CLAIM_LIFE * 2);
            }
            _ => {}
        }
        None
    });
    let client = Client::new(Arc::new(faulty), Arc::new(way));
    let grace = Duration::from_secs(60);
    collect(&client, &CollectOptions { grace }, &|_| {}).unwrap();
    assert_sound(&memory, &all);
    assert_eq!(refs(&memory)["os/a"], commit);
}

/// What is below a missing directory cannot be told from garbage.
#[test]
fn a_collection_deletes_nothing_when_a_directory_below_a_ref_is_missing() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("d/a", "1"), ("d/b", "2")]);
    let way = alone(&memory);
    let store = store_with(way.clone(), way.clone(), StoreConfig::default());
    world_push(&store, &all, &Plan::one("os/a", commit)).unwrap();
    let mut dirs = all.closure(commit).into_iter();
    let top = all.children(ObjectId::commit(commit));
    let below = dirs.find(|id| id.kind == ObjectKind::Dirtree && !top.contains(id));
    memory.damage(&layout::object(&below.unwrap()), None);
    memory.damage(&layout::closure(commit), None);
    way.stage.advance(Duration::from_secs(48 * 60 * 60));
    let before = memory.objects();
    let client = Client::new(Arc::new(way.clone()), Arc::new(way));
    let grace = Duration::from_secs(60);
    let collected = collect(&client, &CollectOptions { grace }, &|_| {});
    assert!(
        matches!(collected, Err(Error::NotWhole { .. })),
        "{collected:?}"
    );
    let objects = |all: &BTreeMap<Key, _>| -> Vec<Key> {
        let keys = all.keys().filter(|key| layout::object_of(key).is_some());
        keys.cloned().collect()
    };
    assert_eq!(objects(&memory.objects()), objects(&before));
}
