//! A small part of `make chaos`.

use std::sync::Mutex;

use artifact_tests::chaos::suite::{Plan, Suite};
use artifact_tests::chaos::tally::{Group, Tally};
use artifact_tests::invariants::Promise;
use artifact_tests::programs;

/// Another part each day would be more, and a failure that comes and goes; `make chaos` draws.
const SEED: u64 = 1;

#[test]
fn a_receiver_disturbed_at_some_points_breaks_no_promise() {
    let (tally, broken) = run(42, false);
    assert_eq!(broken, [""; 0], "\n{tally}");
    assert_eq!(tally.points(), 42);
}

/// What cannot fail proves nothing.
#[test]
fn pushes_are_seen_to_be_lost_when_syncs_do_nothing() {
    let (tally, _) = run(12, true);
    assert!(tally.broken(Promise::Acknowledged) > 0, "\n{tally}");
}

fn run(points: usize, fake_syncs: bool) -> (Tally, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let groups = if fake_syncs {
        vec![Group::CutWhenDone]
    } else {
        Vec::new()
    };
    let suite = Suite::prepare(Plan {
        dir: dir.path().to_owned(),
        receiver: programs::receiver().unwrap(),
        seed: SEED,
        points: Some(points),
        groups,
        fake_syncs,
    })
    .unwrap();
    let broken = Mutex::new(Vec::new());
    let tally = suite
        .run(&suite.points(), &|line| {
            broken.lock().unwrap().push(line.to_owned());
        })
        .unwrap();
    (tally, broken.into_inner().unwrap())
}
