//! The quotas of an identity: its refs, and the objects that its pushes bring.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{ObjectId, ObjectKind, Share};
use artifact_protocol::frame::{Expect, PushOptions, RefOutcome, Verdict};

use super::world::*;
use crate::bucket::BucketStore;
use crate::bucket::collect::{CollectOptions, LEASE_RENEWAL, collect};
use crate::bucket::records::accounts::Account;
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::faulty::{Fate, Faulty};
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::seam::Request;
use crate::bucket::upkeep;
use crate::config::{Allowance, StoreConfig};
use crate::error::Error;
use crate::quota::load::Weight;
use crate::seam::{ObjectStream, Push, Stager, Store};

/// A bucket, and the clock of all its programs.
struct Place {
    memory: Memory,
    clock: ManualClock,
    all: Universe,
}

impl Place {
    fn new() -> Self {
        Self {
            memory: empty(),
            clock: ManualClock::default(),
            all: Universe::default(),
        }
    }

    fn store(&self, identity: &str, allowance: Allowance) -> BucketStore {
        let config = StoreConfig {
            identity: identity.to_owned(),
            allowance,
            ..StoreConfig::default()
        };
        store_with(self.memory.clone(), self.clock.clone(), config)
    }

    fn push(&self, allowance: Allowance, plan: &Plan) -> Result<Done, Error> {
        push(&self.store("mia", allowance), &self.all, plan)
    }

    fn client(&self) -> Client {
        let bucket = Arc::new(self.memory.clone());
        Client::new(bucket, Arc::new(self.clock.clone()))
    }

    fn pass(&self, time: Duration) {
        self.clock.advance(time);
        self.memory.advance(time.as_secs());
    }

    fn remove(&self, name: &str) {
        let wanted = [(name.parse().unwrap(), None)];
        let mut removals = upkeep::remove_refs(&self.client(), &wanted).unwrap();
        upkeep::settle_removals(&self.client(), &wanted, &mut removals, &|_| {}).unwrap();
    }

    fn collect(&self) {
        upkeep::rebuild_summary(&self.client(), &crate::SummaryConfig::default()).unwrap();
        collect(&self.client(), &CollectOptions { grace: DAY }, &|_| {}).unwrap();
    }

    fn account(&self, identity: &str) -> Account {
        let objects = self.memory.objects();
        let stored = objects.get(&layout::account(identity));
        stored.map_or_else(
            || Account::new(identity),
            |stored| Account::parse(&stored.content).unwrap(),
        )
    }

    fn weight_of(&self, ids: &BTreeSet<ObjectId>) -> Weight {
        ids.iter().fold(Weight::default(), |sum, id| {
            let bytes = self.all.stored(*id).len() as u64;
            sum + Weight { objects: 1, bytes }
        })
    }
}

fn refs_max(max: u64) -> Allowance {
    Allowance {
        refs_max: Some(max),
        ..Allowance::default()
    }
}

fn objects_max(max: u64) -> Allowance {
    Allowance {
        objects_max: Some(max),
        ..Allowance::default()
    }
}

fn refused(done: &Done) -> String {
    let mut texts = done.opened.refs.iter().map(|state| match &state.verdict {
        Verdict::Refused(refusal) => refusal.text.escaped().to_string(),
        Verdict::Accepted | Verdict::UpToDate => String::new(),
    });
    texts.find(|text| !text.is_empty()).unwrap_or_default()
}

#[test]
fn an_identity_sets_no_more_refs_than_its_quota_until_some_are_removed() {
    let mut place = Place::new();
    let one = place.all.commit(None, &[("a", "1")]);
    let two = place.all.commit(None, &[("a", "2")]);
    // A directory counts four.
    let quota = refs_max(6);
    for name in ["os/a", "os/b"] {
        let done = place.push(quota, &Plan::one(name, one)).unwrap();
        assert_eq!(done.outcomes, [RefOutcome::Updated]);
    }
    let done = place.push(quota, &Plan::one("os/c", one)).unwrap();
    let text = refused(&done);
    assert!(
        text.contains("refs-max") && text.contains("6 of 6"),
        "{text}"
    );
    // Refs that exist can still be moved, and others have a quota of their own.
    let done = place.push(quota, &Plan::one("os/a", two)).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    set(&place.memory, &place.all, "os/d", one);
    place.pass(Duration::from_secs(3600));
    place.remove("os/b");
    let done = place.push(quota, &Plan::one("os/c", one)).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    let names: Vec<_> = place.account("mia").refs.into_keys().collect();
    assert_eq!(names, ["os/a".into(), "os/c".into()]);
}

#[test]
fn a_push_that_brings_more_than_the_quota_fails_and_says_which() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1"), ("b", "2")]);
    let closure = place.all.closure(commit);
    let plan = Plan::one("os/a", commit);
    let count = closure.len() as u64;
    let bytes = place.weight_of(&closure).bytes;
    for (allowance, setting) in [
        (objects_max(count - 1), "objects-max"),
        (bytes_max(bytes - 1), "bytes-max"),
    ] {
        let failed = place.push(allowance, &plan).unwrap_err();
        assert!(
            matches!(failed, Error::OverAllowance { setting: s, .. } if s == setting),
            "{failed}"
        );
    }
    // The pushes that failed left their objects, of which the next sends only some again.
    let left = place.account("mia").weight();
    assert!(left.objects > 0 && left.objects <= 2 * count, "{left:?}");
    let enough = objects_max(left.objects + count);
    assert_eq!(
        place.push(enough, &plan).unwrap().outcomes,
        [RefOutcome::Updated]
    );
}

fn bytes_max(max: u64) -> Allowance {
    Allowance {
        bytes_max: Some(Share::Bytes(max)),
        ..Allowance::default()
    }
}

/// Begins two pushes, and finishes both.
fn push_both(place: &Place, allowance: Allowance, plans: [Plan; 2]) -> [Result<Done, Error>; 2] {
    let store = place.store("mia", allowance);
    let begun = plans.map(|plan| {
        let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
        let sent = send(&mut push, &opened, &place.all, &plan).unwrap();
        (push, opened, sent)
    });
    begun.map(|(push, opened, sent)| finish(push, opened, &place.all, sent))
}

#[test]
fn sessions_at_once_exceed_no_quota_together() {
    let mut place = Place::new();
    let one = place.all.commit(None, &[("a", "1")]);
    let two = place.all.commit(None, &[("a", "2")]);
    let plans = || [Plan::one("os/a", one), Plan::one("os/b", two)];
    let [first, second] = push_both(&place, refs_max(5), plans());
    assert_eq!(first.unwrap().outcomes, [RefOutcome::Updated]);
    assert!(matches!(
        second.unwrap().outcomes[..],
        [RefOutcome::Refused(_)]
    ));
    assert_eq!(
        refs(&place.memory).into_keys().collect::<Vec<_>>(),
        ["os/a"]
    );
    let place = Place {
        memory: empty(),
        ..place
    };
    let count = place.all.closure(one).len() as u64;
    let [first, second] = push_both(&place, objects_max(2 * count - 1), plans());
    assert_eq!(first.unwrap().outcomes, [RefOutcome::Updated]);
    assert!(matches!(second, Err(Error::OverAllowance { .. })));
    assert_eq!(
        refs(&place.memory).into_keys().collect::<Vec<_>>(),
        ["os/a"]
    );
    // Its objects are there all the same.
    assert_eq!(place.account("mia").weight().objects, 2 * count);
}

#[test]
fn objects_of_a_push_without_an_end_count_until_a_collection_deletes_them() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1"), ("b", "2")]);
    let plan = Plan::one("os/a", commit);
    let count = place.all.closure(commit).len() as u64;
    let quota = objects_max(10 * count);
    let store = place.store("mia", quota);
    let (opened, mut broken) = store.begin(&plan.announcement()).unwrap();
    send(&mut broken, &opened, &place.all, &plan).unwrap();
    drop(broken);
    assert_eq!(place.account("mia").weight().objects, count);
    // They stay for a day, for another try.
    place.collect();
    assert_eq!(place.account("mia").weight().objects, count);
    place.pass(2 * DAY);
    place.collect();
    assert_eq!(place.account("mia"), Account::new("mia"));
    assert!(
        !place
            .memory
            .objects()
            .keys()
            .any(|key| layout::object_of(key).is_some())
    );
}

#[test]
fn a_push_that_continues_an_interrupted_one_counts_once_after_a_collection() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1"), ("b", "2")]);
    let plan = Plan::one("os/a", commit);
    let plenty = objects_max(100);
    let store = place.store("mia", plenty);
    let (opened, mut broken) = store.begin(&plan.announcement()).unwrap();
    let first = send(&mut broken, &opened, &place.all, &plan).unwrap();
    drop(broken);
    let done = place.push(plenty, &plan).unwrap();
    assert!(done.sent.len() < first.len(), "{done:?}");
    place.pass(Duration::from_secs(3600));
    place.collect();
    // Whatever both have sent can count for a day, and is not more than before.
    let (all, count) = (place.all.closure(commit), place.account("mia").weight());
    let sent = first.len() + done.sent.len();
    assert!(count.objects <= sent as u64, "{count:?}");
    place.pass(2 * DAY);
    place.collect();
    assert_eq!(place.account("mia").weight(), place.weight_of(&all));
}

#[test]
fn objects_of_a_push_that_lost_its_race_count_until_a_collection_deletes_them() {
    let mut place = Place::new();
    let large = place
        .all
        .commit(None, &[("a", "1"), ("b", "2"), ("c", "3")]);
    let small = place.all.commit(None, &[]);
    let plenty = objects_max(100);
    let plan = Plan {
        expect: Some(Expect::Absent),
        options: PushOptions::default(),
        ..Plan::one("os/a", large)
    };
    let store = place.store("mia", plenty);
    let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
    let sent = send(&mut push, &opened, &place.all, &plan).unwrap();
    place.push(plenty, &Plan::one("os/a", small)).unwrap();
    let done = finish(push, opened, &place.all, sent).unwrap();
    assert!(matches!(done.outcomes[..], [RefOutcome::Refused(_)]));
    let all = place
        .all
        .closure(large)
        .union(&place.all.closure(small))
        .count() as u64;
    place.pass(Duration::from_secs(3600));
    place.collect();
    assert!(place.account("mia").weight().objects >= all);
    place.pass(2 * DAY);
    place.collect();
    let left = place.weight_of(&place.all.closure(small));
    assert_eq!(place.account("mia").weight(), left);
}

#[test]
fn what_a_long_push_has_brought_counts_before_it_ends() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1"), ("b", "2")]);
    let plan = Plan::one("os/a", commit);
    let store = place.store("mia", objects_max(100));
    let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
    let sent = send(&mut push, &opened, &place.all, &plan).unwrap();
    place.pass(LEASE_RENEWAL);
    push.have(&[]).unwrap();
    let brought = place.account("mia").weight();
    assert_eq!(brought.objects, sent.len() as u64);
    // What others of the identity have brought counts against it.
    let other = place.all.commit(None, &[("c", "3"), ("d", "4")]);
    let few = objects_max(brought.objects + 1);
    assert!(matches!(
        place.push(few, &Plan::one("os/b", other)),
        Err(Error::OverAllowance { .. })
    ));
    mem::forget(push);
    assert!(place.account("mia").weight().objects > brought.objects);
}

#[test]
fn an_object_that_is_sent_twice_or_broken_off_counts_once_or_not() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1")]);
    let plan = Plan::one("os/a", commit);
    let store = place.store("mia", objects_max(100));
    let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
    let sent = send(&mut push, &opened, &place.all, &plan).unwrap();
    let stager = push.stager();
    for id in &sent {
        stager.stage(*id, place.all.stored(*id)).unwrap();
    }
    let file = sent.iter().find(|id| id.kind == ObjectKind::File).unwrap();
    let mut stream = stager.begin(*file).unwrap();
    stream.append(place.all.stored(*file).slice(..4)).unwrap();
    drop(stream);
    let mut stream = stager.begin(*file).unwrap();
    stream.append(place.all.stored(*file)).unwrap();
    stream.finish().unwrap();
    finish(push, opened, &place.all, sent).unwrap();
    let closure = place.all.closure(commit);
    assert_eq!(place.account("mia").weight(), place.weight_of(&closure));
}

#[test]
fn a_ref_that_two_identities_announced_is_its_creators_in_the_end() {
    for (early, late) in [("mia", "leo"), ("leo", "mia")] {
        let mut place = Place::new();
        let one = place.all.commit(None, &[("a", "1")]);
        let two = place.all.commit(None, &[("a", "2")]);
        let push_as = |place: &Place, identity: &str, commit| {
            let store = place.store(identity, objects_max(100));
            push(&store, &place.all, &Plan::one("os/a", commit)).unwrap();
        };
        push_as(&place, early, one);
        place.pass(Duration::from_secs(60));
        let head = layout::head(&"os/a".parse().unwrap()).unwrap();
        place.memory.damage(&head, None);
        push_as(&place, late, two);
        assert_eq!(place.account(early).refs.len(), 1);
        place.pass(2 * DAY);
        place.collect();
        assert_eq!(place.account(early), Account::new(early));
        let all = place.weight_of(&place.all.closure(two));
        assert_eq!(place.account(late).weight(), all);
    }
}

#[test]
fn a_long_push_ends_when_its_identity_has_exceeded_the_quota_with_others() {
    let mut place = Place::new();
    let one = place.all.commit(None, &[("a", "1")]);
    let two = place.all.commit(None, &[("a", "2")]);
    let count = place.all.closure(one).len() as u64;
    let plan = Plan::one("os/a", one);
    let store = place.store("mia", objects_max(2 * count - 1));
    let (opened, mut long) = store.begin(&plan.announcement()).unwrap();
    send(&mut long, &opened, &place.all, &plan).unwrap();
    let other = place.push(objects_max(100), &Plan::one("os/b", two));
    assert_eq!(other.unwrap().sent.len() as u64, count);
    place.pass(LEASE_RENEWAL);
    assert!(matches!(long.have(&[]), Err(Error::OverAllowance { .. })));
}

#[test]
fn a_collection_counts_what_the_refs_of_each_identity_reach() {
    let mut place = Place::new();
    let old = place.all.commit(None, &[("old", "1"), ("same", "x")]);
    let new = place.all.commit(None, &[("new", "2"), ("same", "x")]);
    let foreign = place.all.commit(None, &[("foreign", "3"), ("same", "x")]);
    let plenty = objects_max(1000);
    for commit in [old, new] {
        place.push(plenty, &Plan::one("os/a", commit)).unwrap();
    }
    let store = place.store("leo", plenty);
    push(&store, &place.all, &Plan::one("x/b", foreign)).unwrap();
    place.push(plenty, &Plan::one("os/gone", new)).unwrap();
    place.pass(2 * DAY);
    place
        .memory
        .damage(&layout::head(&"os/gone".parse().unwrap()).unwrap(), None);
    place.collect();
    let (mia, leo) = (place.account("mia"), place.account("leo"));
    assert_eq!(
        mia.refs.keys().map(|name| &**name).collect::<Vec<_>>(),
        ["os/a"]
    );
    // Objects that both reach count once.
    let (ours, theirs) = (place.all.closure(new), place.all.closure(foreign));
    let both = ours.union(&theirs).copied().collect();
    assert_eq!(mia.weight() + leo.weight(), place.weight_of(&both));
    for (account, closure) in [(&mia, &ours), (&leo, &theirs)] {
        let all = place.weight_of(closure);
        assert!(account.weight().objects <= all.objects, "{account:?}");
    }
}

#[test]
fn what_a_push_brings_during_a_collection_counts() {
    let mut place = Place::new();
    let one = place.all.commit(None, &[("a", "1")]);
    let two = place.all.commit(None, &[("a", "2")]);
    let plenty = objects_max(1000);
    place.push(plenty, &Plan::one("os/a", one)).unwrap();
    place.pass(2 * DAY);
    upkeep::rebuild_summary(&place.client(), &crate::SummaryConfig::default()).unwrap();
    let pushed = std::cell::Cell::new(false);
    let options = CollectOptions { grace: DAY };
    collect(&place.client(), &options, &|_| {
        if !pushed.replace(true) {
            place.push(plenty, &Plan::one("os/b", two)).unwrap();
        }
    })
    .unwrap();
    assert!(pushed.get());
    let both: BTreeSet<_> = place
        .all
        .closure(one)
        .union(&place.all.closure(two))
        .copied()
        .collect();
    let count = place.account("mia").weight().objects;
    assert!(count >= both.len() as u64, "{count} of {}", both.len());
    assert_eq!(place.account("mia").refs.len(), 2);
}

#[test]
fn a_charge_whose_answer_is_lost_counts_once() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1"), ("b", "2")]);
    for fate in [Fate::Unheard, Fate::Unsent] {
        let memory = empty();
        let way = Faulty::new(Arc::new(memory.clone()));
        let mut is_first = true;
        way.choose(move |_, request| {
            let is_charge =
                matches!(request, Request::Put { key, .. } if *key == layout::account("mia"));
            (is_charge && mem::take(&mut is_first)).then_some(fate)
        });
        let plan = Plan::one("os/a", commit);
        let done = push(&store_of(way, "mia"), &place.all, &plan).unwrap();
        assert_eq!(done.outcomes, [RefOutcome::Updated]);
        place.memory = memory;
        let weight = place.account("mia").weight();
        assert_eq!(weight, place.weight_of(&place.all.closure(commit)));
    }
}

#[test]
fn a_percentage_of_a_disk_is_refused_with_advice() {
    let config = StoreConfig {
        allowance: Allowance {
            bytes_max: Some(Share::Percent(80)),
            ..Allowance::default()
        },
        ..StoreConfig::default()
    };
    let refused = BucketStore::open(client_of(&empty()), config).unwrap_err();
    assert!(refused.to_string().contains("500GB"), "{refused}");
}

#[test]
fn a_damaged_account_is_named_with_advice() {
    let mut place = Place::new();
    let commit = place.all.commit(None, &[("a", "1")]);
    let key = layout::account("mia");
    place.memory.damage(&key, Some("?".into()));
    let failed = place.push(refs_max(9), &Plan::one("os/a", commit));
    let text = artifact_formats::with_causes(&failed.unwrap_err());
    assert!(
        text.contains(key.as_str()) && text.contains("delete it"),
        "{text}"
    );
    // It is in nobody else's way.
    let leo = place.store("leo", objects_max(100));
    push(&leo, &place.all, &Plan::one("os/b", commit)).unwrap();
    place.pass(2 * DAY);
    place.remove("os/b");
    place.collect();
    assert_eq!(place.account("leo"), Account::new("leo"));
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
