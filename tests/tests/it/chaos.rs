//! A small part of `make chaos`.

use std::sync::{Mutex, PoisonError};

use artifact_tests::chaos::scenario::Role;
use artifact_tests::chaos::suite::{Plan, Suite};
use artifact_tests::chaos::tally::{Group, Tally};
use artifact_tests::exec::Failure;
use artifact_tests::invariants::Promise;
use artifact_tests::programs;

/// A different part each day would cover more, and fail now and then; `make chaos` draws seeds.
const SEED: u64 = 1;

#[test]
fn a_receiver_disturbed_at_some_points_breaks_no_promise() {
    let (tally, broken) = disturb(Role::Receiver, 42, false).unwrap();
    assert_eq!(broken, [""; 0], "\n{tally}");
    assert_eq!(tally.points(), 42);
}

#[test]
fn a_pull_disturbed_at_some_points_breaks_no_promise() {
    let (tally, broken) = disturb(Role::Puller, 28, false).unwrap();
    assert_eq!(broken, [""; 0], "\n{tally}");
    assert_eq!(tally.points(), 28);
}

/// A test that cannot fail proves nothing.
#[test]
fn pushes_are_seen_to_be_lost_when_syncs_do_nothing() {
    let (tally, _) = disturb(Role::Receiver, 12, true).unwrap();
    assert!(tally.broken(Promise::Acknowledged) > 0, "\n{tally}");
}

fn disturb(role: Role, points: usize, fake_syncs: bool) -> Result<(Tally, Vec<String>), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let groups = if fake_syncs {
        vec![Group::CutWhenDone]
    } else {
        Vec::new()
    };
    let suite = Suite::prepare(Plan {
        dir: dir.path().to_owned(),
        role,
        program: match role {
            Role::Receiver => programs::receiver()?,
            Role::Puller => programs::puller()?,
        },
        seed: SEED,
        points: Some(points),
        groups,
        fake_syncs,
    })?;
    let broken = Mutex::new(Vec::new());
    let tally = suite.run(&suite.points(), &|line| {
        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
        broken.push(line.to_owned());
    })?;
    let broken = broken.into_inner();
    Ok((tally, broken.unwrap_or_else(PoisonError::into_inner)))
}
