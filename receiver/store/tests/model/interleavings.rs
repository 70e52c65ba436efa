//! Others push and prune at any moment of a push.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use artifact_protocol::frame::{Expect, RefOutcome, RefusalCode};
use artifact_store::Error;
use proptest::prelude::*;

use crate::disk::{Crash, Machine, Random};
use crate::files::{ModelFs, Script};
use crate::world::{
    Client, Push, Scenario, Tree, Universe, all_set, any_tree, cases, check, held, prune,
    repository, run,
};

/// Several clients push overlapping trees to the same ref, into a repository with another ref on
/// which they rely.
#[derive(Clone, Debug)]
struct Race {
    universe: Universe,
    machine: Machine,
    pushes: Vec<Push>,
}

fn race(trees: &[Tree]) -> Race {
    let mut universe = Universe::default();
    let base = universe.commit(None, &trees[0]);
    let push = Push::one("p/e/base", base);
    let machine = crate::world::pushed(&universe, &push, repository());
    let pushes = trees.iter().enumerate().map(|(number, tree)| {
        // With a file that distinguishes them.
        let mut files = tree.0.clone();
        files.push((0, 2, u8::try_from(10 + number).unwrap()));
        let mut push = Push::one("p/e/x", universe.commit(None, &Tree(files)));
        push.bases.push(("p/e/base".to_owned(), base));
        push
    });
    let pushes = pushes.collect();
    Race {
        universe,
        machine,
        pushes,
    }
}

fn three_trees() -> [Tree; 3] {
    [
        vec![(0, 0, 1), (1, 0, 2)],
        vec![(1, 0, 2), (1, 1, 3)],
        vec![(0, 0, 1), (2, 0, 3)],
    ]
    .map(Tree)
}

fn is_lost(outcome: &RefOutcome) -> bool {
    matches!(outcome, RefOutcome::Refused(refusal) if refusal.code == RefusalCode::LOST_RACE)
}

/// The steps of one client.
const STEPS: usize = 4;

/// Lets clients take their steps in the given order; `clients.len()` in the order means a prune.
/// Checks what each step leaves, except after the beginnings in `checked`, which it extends: the
/// same steps leave the same.
fn interleave(
    race: &Race,
    order: &[usize],
    checked: &mut BTreeSet<Vec<usize>>,
) -> Result<(), String> {
    let shared = Arc::new(Mutex::new(race.machine.clone()));
    let mut clients: Vec<Option<Client<'_>>> = race.pushes.iter().map(|_| None).collect();
    let mut steps = vec![0; clients.len()];
    let mut told: BTreeMap<usize, RefOutcome> = BTreeMap::new();
    // The ref's values, in order, and the value each client saw first.
    let (mut values, mut seen) = (vec![None], BTreeMap::new());
    for (taken, &who) in (1..).zip(order) {
        let Some(slot) = clients.get_mut(who) else {
            assert!(prune(&shared, &race.universe), "nobody holds the lock");
            continue;
        };
        let fail = |error: Error| format!("{who} fails: {error:?}");
        let fs = ModelFs::new(&shared, Script::Nothing);
        match (steps[who], slot.take()) {
            (0, _) => {
                let identity = format!("number {who}");
                let client = Client::connect(&race.universe, &race.pushes[who], &fs, &identity);
                *slot = Some(client.map_err(fail)?);
            }
            (1, Some(client)) => {
                seen.insert(who, client.open().map_err(fail)?.refs[0].current);
                *slot = Some(client);
            }
            (2, Some(mut client)) => {
                client.transfer().map_err(fail)?;
                *slot = Some(client);
            }
            (3, Some(mut client)) => {
                let outcome = client.finalize().map_err(fail)?.remove(0);
                client.summarize();
                let new = race.pushes[who].refs[0].1;
                let moved = outcome == RefOutcome::Updated;
                if moved != (values.last() == Some(&seen[&who])) || !moved && !is_lost(&outcome) {
                    return Err(format!("{who} is told {outcome:?}"));
                }
                values.extend(moved.then_some(Some(new)));
                told.insert(who, outcome);
            }
            _ => panic!("too many steps"),
        }
        steps[who] += 1;
        if !checked.insert(order[..taken].to_vec()) {
            continue;
        }
        let mut possible = BTreeMap::from([("p/e/x".to_owned(), vec![*values.last().unwrap()])]);
        let base = race.pushes[0].bases[0].clone();
        possible.insert(base.0, vec![Some(base.1)]);
        for how in [Crash::Kill, Crash::Weakest(0)] {
            let after = shared.lock().unwrap().crash(how);
            check(&after, &race.universe, &possible).map_err(|v| format!("{how:?}: {v}"))?;
        }
    }
    Ok(())
}

/// Calls `act` with every order in which `left[n]` steps of each `n` can be taken.
fn every_order(left: &mut [usize], order: &mut Vec<usize>, act: &mut dyn FnMut(&[usize])) {
    if left.iter().all(|left| *left == 0) {
        act(order);
    }
    for who in 0..left.len() {
        if left[who] > 0 {
            left[who] -= 1;
            order.push(who);
            every_order(left, order, act);
            order.pop();
            left[who] += 1;
        }
    }
}

#[test]
fn two_pushers_and_a_prune_in_every_order_of_their_steps() {
    let race = race(&three_trees()[..2]);
    let (mut orders, mut checked) = (0, BTreeSet::new());
    every_order(&mut [STEPS, STEPS, 1], &mut Vec::new(), &mut |order| {
        orders += 1;
        interleave(&race, order, &mut checked)
            .unwrap_or_else(|violation| panic!("{order:?}: {violation}"));
    });
    eprintln!("{orders} orders of two pushers and a prune");
    assert_eq!(orders, 630);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(48), ..ProptestConfig::default() })]

    #[test]
    fn three_pushers_and_prunes_in_any_order(
        trees in (any_tree(), any_tree(), any_tree()), prunes in 0..4usize, seed in any::<u64>()
    ) {
        let race = race(&[trees.0, trees.1, trees.2]);
        let mut left = [STEPS, STEPS, STEPS, prunes];
        let mut random = Random(seed);
        let mut order = Vec::new();
        while left.iter().any(|left| *left > 0) {
            let who = usize::try_from(random.below(4)).unwrap();
            if left[who] > 0 {
                left[who] -= 1;
                order.push(who);
            }
        }
        let outcome = interleave(&race, &order, &mut BTreeSet::new());
        prop_assert!(outcome.is_ok(), "{order:?}: {}", outcome.unwrap_err());
    }
}

/// Pushes, while `act` happens before operation `at`; returns the result, the machine, and the
/// number of operations.
fn push_beside(
    scenario: &Scenario,
    at: u64,
    act: impl FnOnce(&Arc<Mutex<Machine>>) + Send + 'static,
) -> (Result<Vec<RefOutcome>, Error>, Machine, u64) {
    let shared = Arc::new(Mutex::new(scenario.machine.clone()));
    let theirs = Arc::clone(&shared);
    let script = Script::Act(at, Some(Box::new(move || act(&theirs))));
    let fs = ModelFs::new(&shared, script);
    let outcome = run(&scenario.universe, &scenario.push, &fs);
    let machine = fs.machine().clone();
    (outcome, machine, fs.count())
}

fn first_of(race: &Race) -> Scenario {
    Scenario {
        universe: race.universe.clone(),
        machine: race.machine.clone(),
        old: held(&race.machine).unwrap(),
        push: race.pushes[0].clone(),
    }
}

#[test]
fn another_push_before_any_operation_of_a_push_leaves_one_winner() {
    let mut race = race(&three_trees()[..2]);
    // Each client wants to create the ref, so that only one can succeed.
    for push in &mut race.pushes {
        push.expect = Some(Expect::Absent);
    }
    let scenario = first_of(&race);
    let (mut at, mut busy, mut won) = (0, 0, [0, 0]);
    loop {
        let theirs = Arc::new(Mutex::new(None));
        let (told, universe, push) = (
            theirs.clone(),
            race.universe.clone(),
            race.pushes[1].clone(),
        );
        let (ours, machine, count) = push_beside(&scenario, at, move |shared| {
            let fs = ModelFs::new(shared, Script::Nothing);
            *told.lock().unwrap() = Some(run(&universe, &push, &fs));
        });
        if at >= count {
            break;
        }
        // The client that holds a lock goes on; the other is refused at once, and may come again.
        let theirs = theirs.lock().unwrap().take().unwrap();
        let commits = [race.pushes[0].refs[0].1, race.pushes[1].refs[0].1];
        let ours = ours
            .unwrap_or_else(|error| panic!("at {at}: {error:?}"))
            .remove(0);
        let winner = match theirs {
            Err(Error::Busy { .. }) => {
                busy += 1;
                0
            }
            Err(error) => panic!("at {at}: {error:?}"),
            Ok(theirs) if is_lost(&theirs[0]) => 0,
            Ok(theirs) => {
                assert_eq!(theirs, [RefOutcome::Updated]);
                1
            }
        };
        won[winner] += 1;
        let is_right = if winner == 0 {
            ours == RefOutcome::Updated
        } else {
            is_lost(&ours)
        };
        assert!(is_right, "at {at}, {winner} wins: {ours:?}");
        let possible = vec![Some(commits[winner])];
        let base = race.pushes[0].bases[0].clone();
        let refs = [("p/e/x".to_owned(), possible), (base.0, vec![Some(base.1)])];
        let after = machine.crash(Crash::Weakest(0));
        check(&after, &race.universe, &refs.into()).unwrap_or_else(|v| panic!("at {at}: {v}"));
        at += 1;
    }
    eprintln!("{at} moments: won {won:?}, busy {busy}");
    assert!(busy > 0 && won[0] > busy && won[1] > 0);
}

#[test]
fn a_prune_before_any_operation_of_a_push_loses_nothing() {
    let race = race(&three_trees()[..2]);
    let mut scenario = first_of(&race);
    // Objects in the repository that no ref reaches.
    let stray = Push::one("p/e/gone", race.pushes[1].refs[0].1);
    scenario.machine = crate::world::pushed(&race.universe, &stray, scenario.machine);
    let (dir, name, _) = scenario.machine.place("refs/heads/p/e/gone").unwrap();
    scenario.machine.name(&[(dir, name, None)]);
    let base = race.pushes[0].bases[0].clone();
    // And a base that disappears in half of the runs.
    let (mut at, mut pruned) = (0, 0);
    'moments: loop {
        for loses_base in [false, true] {
            let done = Arc::new(Mutex::new(None));
            let (did, universe) = (done.clone(), race.universe.clone());
            let (outcome, machine, count) = push_beside(&scenario, at, move |shared| {
                if loses_base {
                    let mut machine = shared.lock().unwrap();
                    for path in ["refs/heads/p/e/base", "summary"] {
                        let (dir, name, _) = machine.place(path).unwrap();
                        machine.name(&[(dir, name, None)]);
                    }
                }
                *did.lock().unwrap() = Some(prune(shared, &universe));
            });
            if at >= count {
                break 'moments;
            }
            pruned += u32::from(done.lock().unwrap().unwrap());
            let outcomes = outcome.unwrap_or_else(|error| panic!("at {at}: {error:?}"));
            assert!(all_set(&outcomes), "at {at}: {outcomes:?}");
            let gone = if loses_base { None } else { Some(base.1) };
            let new = scenario.push.refs[0].clone();
            let refs = [
                (new.0, vec![Some(new.1)]),
                (base.0.clone(), vec![gone, Some(base.1)]),
            ];
            check(&machine, &race.universe, &refs.into())
                .unwrap_or_else(|v| panic!("at {at}, base lost {loses_base}: {v}"));
        }
        at += 1;
    }
    eprintln!("{at} moments, {pruned} prunes of {} ran", 2 * at);
}
