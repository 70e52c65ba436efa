//! The process is killed, or the power cut, at any moment of a push.

use proptest::prelude::*;

use crate::disk::{Crash, Machine};
use crate::files::{ModelFs, Script};
use crate::world::{
    Scenario, Tree, all_set, any_scenario, cases, check, commit_id, possible, pushed, run, scenario,
};

/// Runs a push and returns each state of the machine, with whether the push was acknowledged by
/// then.
fn record(scenario: &Scenario, machine: Machine) -> Vec<(Machine, bool)> {
    let fs = ModelFs::alone(machine, Script::Record(Vec::new()));
    let outcomes = run(&scenario.universe, &scenario.push, &fs).unwrap();
    assert!(all_set(&outcomes), "{outcomes:?}");
    fs.recorded()
}

/// Checks a state after a crash, and that the push can be repeated; after that its result is
/// durable.
fn check_crash(scenario: &Scenario, after: &Machine, acknowledged: bool) -> Result<(), String> {
    let Scenario {
        universe,
        old,
        push,
        ..
    } = scenario;
    check(after, universe, &possible(old, push, acknowledged))
        .map_err(|violation| format!("acknowledged: {acknowledged}: {violation}"))?;
    let lacks = |commit| {
        let path = commit_id(commit).loose_path("commitmeta");
        after.resolve(&format!("objects/{path}")).is_err()
    };
    if acknowledged && push.detached.keys().any(|&commit| lacks(commit)) {
        return Err("detached metadata was acknowledged and is lost".to_owned());
    }
    let fs = ModelFs::alone(after.clone(), Script::Nothing);
    let outcomes = run(universe, push, &fs).map_err(|error| format!("retry: {error:?}"))?;
    if !all_set(&outcomes) {
        return Err(format!("retry: {outcomes:?}"));
    }
    let after = fs.machine().crash(Crash::Weakest(0));
    check(&after, universe, &possible(old, push, true))
        .map_err(|violation| format!("retry: {violation}"))?;
    Ok(())
}

/// Crashes at every moment of a push, in several ways; returns the number of crashes.
fn crash_everywhere(scenario: &Scenario, machine: Machine, seed: u64) -> Result<u64, String> {
    let mut crashes = 0;
    for (moment, (before, acknowledged)) in (0..).zip(record(scenario, machine)) {
        let some = seed.wrapping_add(moment) | 1 << 32;
        let how = [
            Crash::Kill,
            Crash::Weakest(0),
            Crash::Weakest(1),
            Crash::Weakest(some),
            Crash::Weakest(some + 1),
            Crash::Ordered(some),
            Crash::Ordered(some + 1),
        ];
        for how in how {
            crashes += 1;
            check_crash(scenario, &before.crash(how), acknowledged)
                .map_err(|violation| format!("{how:?} at {moment}: {violation}"))?;
        }
    }
    Ok(crashes)
}

/// A second push of two refs, with detached metadata, relying on the first.
fn rich() -> Scenario {
    let tree = |files: &[(u8, u8, u8)]| Tree(files.to_vec());
    let trees = [
        tree(&[(0, 0, 1), (1, 0, 2)]),
        tree(&[(0, 0, 1), (1, 0, 2), (2, 1, 3)]),
        tree(&[(1, 1, 4)]),
    ];
    scenario((trees, [true; 4]))
}

/// One file in one directory, pushed first.
fn tiny() -> Scenario {
    let trees = [Tree(Vec::new()), Tree(vec![(0, 0, 1)]), Tree(Vec::new())];
    scenario((trees, [false; 4]))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(3), max_shrink_iters: 8, ..ProptestConfig::default()
    })]

    #[test]
    fn after_a_crash_at_any_moment_refs_are_old_or_new_and_whole_and_what_was_acknowledged_is_there(
        plan in any_scenario(), seed in any::<u32>()
    ) {
        let scenario = scenario(plan);
        let machine = scenario.machine.clone();
        let crashes = crash_everywhere(&scenario, machine, seed.into());
        prop_assert!(crashes.is_ok(), "{}", crashes.unwrap_err());
    }
}

#[test]
fn a_push_after_a_crash_can_crash_again_at_any_moment() {
    let scenario = rich();
    let states = record(&scenario, scenario.machine.clone());
    let mut crashes = 0;
    let step = (states.len() / usize::try_from(cases(3)).unwrap()).max(1);
    // Kills and power cuts by turns.
    for (moment, (before, acknowledged)) in states.iter().enumerate().step_by(step) {
        let how = if (moment / step).is_multiple_of(2) {
            Crash::Kill
        } else {
            Crash::Weakest(moment as u64)
        };
        let after = before.crash(how);
        check_crash(&scenario, &after, *acknowledged).unwrap();
        let again = crash_everywhere(&scenario, after, moment as u64);
        crashes += again.unwrap_or_else(|violation| panic!("{how:?} at {moment}: {violation}"));
    }
    eprintln!("{crashes} crashes of a push that resumes a crashed one");
}

#[test]
fn every_state_a_cut_of_the_power_may_leave_of_a_tiny_push_is_sound() {
    let scenario = tiny();
    let (mut moments, mut skipped, mut checked) = (0, 0, 0);
    for (before, acknowledged) in record(&scenario, scenario.machine.clone()) {
        moments += 1;
        let possible = possible(&scenario.old, &scenario.push, acknowledged);
        let Some(states) = before.every_crash("extensions", 14) else {
            skipped += 1;
            continue;
        };
        for after in states {
            checked += 1;
            check(&after, &scenario.universe, &possible).unwrap();
        }
    }
    eprintln!("{checked} states after {moments} moments, {skipped} of them with too many states");
    assert!(checked > 1000 && skipped == 0, "{checked} {skipped}");
}

#[test]
fn disks_that_lie_are_found_out() {
    let scenario = rich();
    let names = ["of everything", "of directories", "of files"];
    let found = [0, 1, 2].map(|lie| {
        let mut machine = scenario.machine.clone();
        machine.lies[lie] = true;
        let found = crash_everywhere(&scenario, machine, 1);
        eprintln!("syncs {} that do nothing: {found:?}", names[lie]);
        found.is_err()
    });
    // Among files, only the summary is synced by itself, and damage to it violates no ref.
    assert_eq!(found, [true, true, true]);
}

#[test]
fn a_push_that_is_there_already_is_durable_when_it_is_called_up_to_date() {
    let scenario = rich();
    let mut machine = scenario.machine.clone();
    // As libostree sets refs: without any sync of a directory.
    machine.lies[1] = true;
    machine = pushed(&scenario.universe, &scenario.push, machine);
    machine.lies[1] = false;
    let machine = pushed(&scenario.universe, &scenario.push, machine);
    let after = machine.crash(Crash::Weakest(0));
    let possible = possible(&scenario.old, &scenario.push, true);
    let held: Result<_, _> = check(&after, &scenario.universe, &possible);
    // This says nothing about its objects: nobody claims that they were synced.
    assert!(held.is_ok() || held.unwrap_err().contains("lacks"));
}
