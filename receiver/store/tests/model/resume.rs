//! Objects that one session sent need not be sent again in the next session of the same identity;
//! no other identity gets them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use artifact_formats::{ObjectId, ObjectKind};
use nix::libc::{EIO, ENOSPC, EROFS};

use crate::disk::{Crash, Machine, Node};
use crate::files::{ModelFs, Script};
use crate::world::{
    Client, Push, Tree, Universe, all_set, check, commit_id, possible, repository, run,
};

/// A push of 3 directories with 5 files.
fn first_push() -> (Universe, Push) {
    let mut universe = Universe::default();
    let tree = Tree(vec![(0, 0, 1), (0, 1, 2), (1, 0, 3), (2, 0, 4), (2, 1, 5)]);
    let commit = universe.commit(None, &tree);
    (universe, Push::one("p/e/1", commit))
}

/// Begins a push and sends these objects.
fn begin<'a>(
    universe: &'a Universe,
    push: &'a Push,
    machine: &Arc<Mutex<Machine>>,
    identity: &str,
    objects: &[ObjectId],
) -> Client<'a> {
    let fs = ModelFs::new(machine, Script::Nothing);
    let mut client = Client::connect(universe, push, &fs, identity).unwrap();
    client.open().unwrap();
    client.send(objects).unwrap();
    client
}

/// The objects a client must send after it sent `sent`: the rest, and, since *have* covers
/// everything below a dirtree or commit, those of them above an unsent object.
fn must_send(universe: &Universe, all: &[ObjectId], sent: &[ObjectId]) -> BTreeSet<ObjectId> {
    let sent: BTreeSet<_> = sent.iter().collect();
    let is_whole = |id| universe.closure(id).iter().all(|id| sent.contains(id));
    all.iter().copied().filter(|id| !is_whole(*id)).collect()
}

fn staged(machine: &Machine) -> usize {
    machine
        .files_below("extensions/artifact-cache/staging")
        .len()
}

/// How the first session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    HalfOpen,
    Disconnected,
    Killed,
    /// The power is cut after everything was written back.
    PowerCut,
}

#[test]
fn a_push_cut_after_any_object_is_retried_and_only_the_others_are_sent() {
    let (universe, push) = first_push();
    let breadth_first = universe.closure(commit_id(push.refs[0].1));
    let mut children_first: Vec<_> = breadth_first.iter().rev().copied().collect();
    children_first.sort_by_key(|id| id.kind != ObjectKind::File && id.kind != ObjectKind::Dirmeta);
    for order in [breadth_first, children_first] {
        for (cut, end) in (0..=order.len()).flat_map(|cut| {
            let ends = [End::HalfOpen, End::Disconnected, End::Killed, End::PowerCut];
            ends.map(|end| (cut, end))
        }) {
            let mut shared = Arc::new(Mutex::new(repository()));
            let first = begin(&universe, &push, &shared, "me", &order[..cut]);
            let crash = |how| Arc::new(Mutex::new(shared.lock().unwrap().crash(how)));
            let mut living = None;
            match end {
                End::HalfOpen => living = Some(first),
                End::Disconnected => drop(first),
                End::Killed => shared = crash(Crash::Kill),
                End::PowerCut => {
                    shared.lock().unwrap().sync(None);
                    shared = crash(Crash::Weakest(0));
                }
            }
            let other = begin(&universe, &push, &shared, "another", &[]);
            assert_eq!(
                other.offer().unwrap().len(),
                order.len(),
                "{end:?} after {cut}"
            );
            drop(other);
            let mut again = begin(&universe, &push, &shared, "me", &[]);
            let wanted: BTreeSet<_> = again.offer().unwrap().into_iter().collect();
            let expected = must_send(&universe, &order, &order[..cut]);
            assert_eq!(wanted, expected, "{end:?} after {cut} of {order:?}");
            again.transfer().unwrap();
            assert!(all_set(&again.finalize().unwrap()));
            drop(living);
            drop(again);
            let machine = shared.lock().unwrap().clone();
            // Objects that were not taken over stay until they expire.
            assert!(
                cut == 0 || expected.len() == order.len() || staged(&machine) == 0,
                "{end:?}"
            );
            let possible = possible(&Default::default(), &push, true);
            check(&machine.crash(Crash::Weakest(0)), &universe, &possible).unwrap();
        }
        // Children come first, so every object counts.
        if order[0].kind != ObjectKind::Commit {
            for cut in 0..order.len() {
                let left = must_send(&universe, &order, &order[..cut]).len();
                assert_eq!(left, order.len() - cut);
            }
        }
    }
}

/// A staged object has its name while it is written: the next session must see that it is
/// incomplete.
#[test]
fn a_push_after_one_that_was_killed_at_any_operation_publishes_what_was_pushed() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let fs = ModelFs::alone(repository(), Script::Record(Vec::new()));
    let mut client = Client::connect(&universe, &push, &fs, "me").unwrap();
    client.open().unwrap();
    client.send(&objects).unwrap();
    let killed = fs.recorded();
    // Each object is made, written and finished.
    assert!(killed.len() > 3 * objects.len(), "{}", killed.len());
    for (machine, _) in killed {
        let shared = Arc::new(Mutex::new(machine.crash(Crash::Kill)));
        let mut again = begin(&universe, &push, &shared, "me", &[]);
        again.transfer().unwrap();
        assert!(all_set(&again.finalize().unwrap()));
        drop(again);
        let possible = possible(&Default::default(), &push, true);
        let after = shared.lock().unwrap().crash(Crash::Weakest(0));
        check(&after, &universe, &possible).unwrap();
    }
}

#[test]
fn the_half_open_session_may_still_publish_as_well() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let shared = Arc::new(Mutex::new(repository()));
    let mut first = begin(&universe, &push, &shared, "me", &objects);
    let mut second = begin(&universe, &push, &shared, "me", &[]);
    assert_eq!(second.offer().unwrap(), []);
    assert!(all_set(&second.finalize().unwrap()));
    drop(second);
    // The session learns that it lost the race, or that the push is done already: neither damages
    // anything.
    first.finalize().unwrap();
    drop(first);
    let possible = possible(&Default::default(), &push, true);
    let after = shared.lock().unwrap().crash(Crash::Weakest(0));
    check(&after, &universe, &possible).unwrap();
    assert_eq!(staged(&shared.lock().unwrap()), 0);
}

#[test]
fn a_staged_object_that_a_power_cut_damaged_is_sent_again() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let file = *objects
        .iter()
        .rfind(|id| id.kind == ObjectKind::File)
        .unwrap();
    let shared = Arc::new(Mutex::new(repository()));
    drop(begin(&universe, &push, &shared, "me", &objects));
    let mut machine = shared.lock().unwrap().clone();
    machine.sync(None);
    let mut machine = machine.crash(Crash::Weakest(0));
    let below = machine.files_below("extensions/artifact-cache/staging");
    let name = below
        .iter()
        .find(|(name, _)| name.contains(&file.checksum.to_hex()))
        .unwrap();
    let path = format!("extensions/artifact-cache/staging/{}", name.0);
    machine.append(machine.resolve(&path).unwrap(), 3, b"!");
    let shared = Arc::new(Mutex::new(machine));
    let again = begin(&universe, &push, &shared, "me", &[]);
    let left: Vec<_> = objects.iter().copied().filter(|id| *id != file).collect();
    let wanted: BTreeSet<_> = again.offer().unwrap().into_iter().collect();
    assert_eq!(wanted, must_send(&universe, &objects, &left));
}

#[test]
fn after_a_sync_that_failed_nothing_is_taken_over_from_anybody() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let shared = Arc::new(Mutex::new(repository()));
    let living = begin(&universe, &push, &shared, "me", &objects[..4]);
    drop(begin(&universe, &push, &shared, "me", &objects[4..]));
    let mut failed = 0;
    for at in 0.. {
        let script = Script::fail_once(at, EIO);
        let here = Arc::new(Mutex::new(shared.lock().unwrap().clone()));
        let fs = ModelFs::new(&here, script);
        let mut other = Client::connect(&universe, &push, &fs, "another");
        let sent = other
            .as_mut()
            .is_ok_and(|o| o.open().is_ok() && o.send(&objects).is_ok());
        let outcome = sent.then(|| other.as_mut().unwrap().finalize());
        let has_ended = at >= fs.count();
        drop(other);
        if matches!(&outcome, Some(Err(error)) if format!("{error}").contains("syncing extensions"))
        {
            failed += 1;
            let again = begin(&universe, &push, &here, "me", &[]);
            assert_eq!(again.offer().unwrap().len(), objects.len());
        }
        if has_ended {
            break;
        }
    }
    assert_eq!(failed, 1);
    drop(living);
}

/// Found when a session could not record that its sync had failed, because nothing could be
/// written.
#[test]
fn nothing_is_taken_over_from_a_session_whose_sync_failed_for_good() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let mut failed = 0;
    for at in 0.. {
        let times = u64::MAX;
        let script = Script::Fail {
            at,
            times,
            errno: EROFS,
        };
        let fs = ModelFs::alone(repository(), script);
        let outcome = Client::connect(&universe, &push, &fs, "me").and_then(|mut client| {
            client.open()?;
            client.transfer()?;
            client.finalize()
        });
        let Err(error) = outcome else { break };
        if error.to_string().contains("syncing extensions") {
            failed += 1;
            let shared = Arc::new(Mutex::new(fs.machine().crash(Crash::Kill)));
            let again = begin(&universe, &push, &shared, "me", &[]);
            assert_eq!(again.offer().unwrap().len(), objects.len());
        }
    }
    assert_eq!(failed, 1);
}

#[test]
fn what_nobody_takes_over_is_reclaimed_after_a_day() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let shared = Arc::new(Mutex::new(repository()));
    drop(begin(&universe, &push, &shared, "me", &objects));
    let full = staged(&shared.lock().unwrap());
    for (seconds, left) in [(24 * 3600 - 1, full), (1, 0)] {
        shared.lock().unwrap().clock += seconds;
        drop(begin(&universe, &push, &shared, "another", &[]));
        assert_eq!(staged(&shared.lock().unwrap()), left);
    }
}

#[test]
fn of_one_identity_four_are_kept_and_of_all_sixty_four() {
    let (universe, push) = first_push();
    let object = [commit_id(push.refs[0].1)];
    let shared = Arc::new(Mutex::new(repository()));
    let dirs = || {
        let machine = shared.lock().unwrap();
        let staging = machine
            .resolve("extensions/artifact-cache/staging")
            .unwrap();
        machine.entries(staging).unwrap().len()
    };
    for _ in 0..9 {
        shared.lock().unwrap().clock += 1;
        drop(begin(&universe, &push, &shared, "me", &object));
    }
    drop(begin(&universe, &push, &shared, "another", &[]));
    assert_eq!(dirs(), 4);
    for other in 0..70 {
        shared.lock().unwrap().clock += 1;
        drop(begin(
            &universe,
            &push,
            &shared,
            &other.to_string(),
            &object,
        ));
    }
    drop(begin(&universe, &push, &shared, "another", &[]));
    assert_eq!(dirs(), 64);
}

#[test]
fn what_the_dead_left_gives_way_when_the_disk_is_full() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    let shared = Arc::new(Mutex::new(repository()));
    drop(begin(&universe, &push, &shared, "another", &objects));
    let (mut saved, mut count) = (0, u64::MAX);
    for at in 0.. {
        let machine = shared.lock().unwrap().clone();
        let fs = ModelFs::alone(machine, Script::fail_once(at, ENOSPC));
        let outcome = run(&universe, &push, &fs);
        if at >= fs.count() {
            break;
        }
        if outcome.is_ok() && staged(&fs.machine()) == 0 {
            saved += 1;
        }
        count = fs.count();
    }
    // Each object is made and written.
    assert!(saved >= 2 * objects.len(), "{saved} of {count}");
}

#[test]
fn an_identity_that_is_cut_short_is_nobodys() {
    let (universe, push) = first_push();
    let objects = universe.closure(commit_id(push.refs[0].1));
    for (identity, other) in [("me", ""), ("ci-42", "ci-4"), ("a\"b", "a"), ("a\n", "a")] {
        let shared = Arc::new(Mutex::new(repository()));
        drop(begin(&universe, &push, &shared, identity, &objects));
        let written = |machine: &Machine| {
            let below = machine.files_below("extensions/artifact-cache/staging");
            below
                .into_iter()
                .find(|(name, _)| name.ends_with("/identity"))
                .unwrap()
        };
        let (name, content) = written(&shared.lock().unwrap());
        for len in 0..content.len() {
            let mut machine = shared.lock().unwrap().clone();
            let path = format!("extensions/artifact-cache/staging/{name}");
            let (dir, name, _) = machine.place(&path).unwrap();
            machine.name(&[(dir, name, None)]);
            let short = Node::File(Arc::new(content[..len].to_vec()));
            machine.make(&path, short).unwrap();
            let machine = Arc::new(Mutex::new(machine));
            let again = begin(&universe, &push, &machine, other, &[]);
            assert_eq!(
                again.offer().unwrap().len(),
                objects.len(),
                "{identity:?} {len}"
            );
        }
    }
}
