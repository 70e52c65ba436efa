//! Tests which commits a push may rely on, by their closure lists.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::RefOutcome;

use super::world::*;
use crate::bucket::collect::{CollectOptions, Gc, LEASE_RENEWAL, Phase, collect};
use crate::bucket::push::bases::Bases;
use crate::bucket::push::closure::Beneath;
use crate::bucket::records::closures::{ClosureList, Heading, INCOMPLETE};
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::faulty::{Fate, Faulty};
use crate::bucket::requests::memory::Memory;
use crate::bucket::requests::seam::Request;
use crate::config::StoreConfig;
use crate::seam::Store;
use crate::tree::descent::Levels;

fn commit(number: u16) -> Checksum {
    Checksum::of(&number.to_le_bytes())
}

/// Returns the file of this number on the list of a commit.
fn file(of: Checksum, number: u16) -> ObjectId {
    let content = [&of.as_bytes()[..], &number.to_le_bytes()].concat();
    ObjectId::new(ObjectKind::File, Checksum::of(&content))
}

/// Puts a list of this number of files, which the lists of these commits complete.
fn put_list(memory: &Memory, of: Checksum, files: u16, bases: &[Checksum]) {
    let heading = Heading {
        exact: bases.is_empty(),
        bases: bases.to_vec(),
        parents: Vec::new(),
    };
    let mut ids: Vec<_> = (0..files).map(|number| file(of, number)).collect();
    ids.sort_unstable();
    let objects = ids.into_iter().map(|id| (id, Levels::default()));
    let list = ClosureList::encode(of, &heading, objects);
    memory.damage(&layout::closure(of), Some(list));
}

fn outlined(memory: &Memory, commits: &[Checksum], room: u64) -> Bases {
    let mut bases = Bases::default();
    commits.iter().for_each(|commit| bases.add(*commit));
    bases.outline(&client_of(memory), room).unwrap();
    bases
}

#[test]
fn commits_whose_lists_have_no_room_are_not_called_complete() {
    let memory = empty();
    let [large, other, small, shared] = [0, 1, 2, 3].map(commit);
    put_list(&memory, shared, 1_000, &[]);
    put_list(&memory, large, 1_000, &[shared]);
    put_list(&memory, other, 1_000, &[]);
    put_list(&memory, small, 100, &[shared]);
    let all = [large, other, small];
    let told = |commits: &[_], room| outlined(&memory, commits, room).commits();
    assert_eq!(told(&all, 200_000), all);
    // The shared list counts once.
    assert_eq!(told(&all, 70_000), [large, small]);
    assert_eq!(told(&all, 1), [large]);
    let mut bases = outlined(&memory, &all, 70_000);
    assert_eq!(bases.read(&client_of(&memory)).unwrap(), [large, small]);
    for of in [large, shared, small] {
        assert!(bases.cover(&file(of, 7)).is_some());
    }
    assert!(bases.cover(&file(other, 7)).is_none());
}

#[test]
fn of_commits_without_a_good_list_one_is_called_complete_and_incomplete_ones_are_not() {
    let memory = empty();
    let [incomplete, absent, another, broken, good] = [0, 1, 2, 3, 4].map(commit);
    memory.damage(&layout::closure(incomplete), Some(INCOMPLETE.into()));
    put_list(&memory, broken, 10, &[commit(99)]);
    put_list(&memory, good, 10, &[]);
    let all = [incomplete, absent, another, broken, good];
    let bases = outlined(&memory, &all, u64::MAX);
    assert_eq!(bases.commits(), [absent, good]);
}

#[test]
fn a_list_that_is_replaced_after_its_beginning_was_read_counts_only_with_what_completes_it() {
    let memory = empty();
    let [base, old, new] = [0, 1, 2].map(commit);
    put_list(&memory, old, 10, &[]);
    put_list(&memory, base, 500, &[old]);
    let mut bases = outlined(&memory, &[base], u64::MAX);
    put_list(&memory, new, 10, &[]);
    put_list(&memory, base, 500, &[new]);
    bases.read(&client_of(&memory)).unwrap();
    // The commit itself is not there, so its list cannot be made again.
    assert!(bases.cover(&file(base, 7)).is_none());
    // An exact list needs no other.
    let mut bases = outlined(&memory, &[base], u64::MAX);
    put_list(&memory, base, 500, &[]);
    bases.read(&client_of(&memory)).unwrap();
    assert!(bases.cover(&file(base, 7)).is_some());
}

/// Collects until `gc` says that the list of this epoch is condemned, and no further: then the
/// collector would wait for the pushes.
fn condemn(memory: &Memory, epoch: u64) {
    let way = Faulty::new(Arc::new(memory.clone()));
    let server = memory.clone();
    way.choose(move |_, request| {
        let waits = matches!(request, Request::List { prefix, .. } if prefix == layout::SESSIONS);
        let gc = gc(&server);
        (waits && gc.is_some_and(|gc| gc.epoch == epoch)).then_some(Fate::DieBefore)
    });
    memory.advance(60);
    let client = Client::new(Arc::new(way.clone()), Arc::new(ManualClock::default()));
    let grace = Duration::ZERO;
    assert!(collect(&client, &CollectOptions { grace }, &|_| {}).is_err());
    let gc = gc(memory).unwrap();
    assert_eq!((gc.epoch, gc.phase), (epoch, Phase::Condemned));
}

fn gc(memory: &Memory) -> Option<Gc> {
    let stored = memory.objects().remove(&layout::gc())?;
    Gc::decode(&stored.content)
}

/// Once, the push asked only whether the last list named an object beneath the base: the list
/// before had, and its sweep was over.
#[test]
fn a_base_that_is_swept_after_its_list_was_read_does_not_count_under_the_next_list() {
    // The push reads the lists when it begins, or, if they are long or missing, when the client
    // first asks.
    for (files, is_missing) in [(2, false), (500, false), (2, true)] {
        let (memory, mut all) = (empty(), Universe::default());
        let names: Vec<_> = (0..files).map(|number| number.to_string()).collect();
        let names = names.iter().map(String::as_str);
        let base = all.commit(None, &names.map(|name| (name, name)).collect::<Vec<_>>());
        let pushed = all.commit(None, &[("0", "0"), ("new", "new")]);
        let other = all.file("garbage that comes later");
        set(&memory, &all, "os/a", base);
        if is_missing {
            memory.damage(&layout::closure(base), None);
        }
        let last_read = match is_missing {
            true => layout::object(&all.children(ObjectId::commit(base))[0]),
            false => layout::closure(base),
        };

        let remove = |memory: &Memory| {
            memory.damage(&layout::head(&"os/a".parse().unwrap()).unwrap(), None);
            memory.damage(&layout::summary(), None);
            condemn(memory, 1);
        };
        let (is_late, is_swept) = (files > 2 || is_missing, Arc::new(AtomicBool::new(false)));
        let way = Faulty::new(Arc::new(memory.clone()));
        let server = memory.clone();
        way.choose(move |_, request| {
            let is_gc = matches!(request, Request::Get { key, .. } if *key == layout::gc());
            // The push has read the ref.
            if is_gc && !is_late && gc(&server).is_none() {
                remove(&server);
            }
            None
        });
        let (server, done) = (memory.clone(), Arc::clone(&is_swept));
        let later = ObjectId::new(ObjectKind::File, other);
        let garbage = all.stored(later);
        way.watch(move |_, request, _| {
            let is_list = match request {
                Request::Get { key, .. } | Request::GetRange { key, .. } => *key == last_read,
                _ => false,
            };
            if is_list && gc(&server).is_some() && !done.swap(true, Ordering::Relaxed) {
                server.damage(&layout::object(&later), Some(garbage.clone()));
                condemn(&server, 2);
            }
        });

        let clock = ManualClock::default();
        let config = StoreConfig {
            identity: "mia".to_owned(),
            ..StoreConfig::default()
        };
        let store = store_with(way, clock.clone(), config);
        let plan = Plan {
            bases: vec![("os/a", base)],
            ..Plan::one("os/new", pushed)
        };
        let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
        assert_eq!(opened.complete, [base]);
        if is_late {
            remove(&memory);
            clock.advance(LEASE_RENEWAL);
        }
        let sent = send(&mut push, &opened, &all, &plan).unwrap();
        assert!(is_swept.load(Ordering::Relaxed));
        let done = finish(push, opened, &all, sent).unwrap();
        assert_eq!(done.outcomes, [RefOutcome::Updated]);
        assert_sound(&memory, &all);
        // No list of a commit that is gone stays.
        assert!(!memory.objects().contains_key(&layout::closure(base)));
    }
}
