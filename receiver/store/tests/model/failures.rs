//! Any operation of a push fails, once or from then on.

use crate::session::Session;
use artifact_store::StoreConfig;
use nix::libc::{EDQUOT, EINTR, EIO, EMFILE, ENOSPC, EROFS};
use proptest::prelude::*;

use crate::disk::Crash;
use crate::files::{ModelFs, Script};
use crate::world::{
    Scenario, Tree, Universe, all_set, any_scenario, cases, check, commit_id, possible, repository,
    run, scenario,
};

/// Pushes with a script; returns whether the push succeeded, and the number of operations.
///
/// Success is durable; after an error the refs are unchanged, unless one was set already; and
/// without failures the push can be repeated.
fn push_with(scenario: &Scenario, script: Script) -> Result<(bool, u64), String> {
    let Scenario {
        universe,
        machine,
        old,
        push,
    } = scenario;
    let fs = ModelFs::alone(machine.clone(), script);
    let outcome = run(universe, push, &fs);
    let done = match &outcome {
        Ok(outcomes) if all_set(outcomes) => true,
        Ok(outcomes) => return Err(format!("refused: {outcomes:?}")),
        Err(_) => false,
    };
    let mut refs = possible(old, push, done);
    if !done && !fs.has_set_ref() {
        refs = old
            .iter()
            .map(|(name, commit)| (name.clone(), vec![Some(*commit)]))
            .collect();
    }
    let machine = fs.machine().clone();
    let count = fs.count();
    for how in [Crash::Kill, Crash::Weakest(count % 4)] {
        let after = machine.crash(how);
        let outcome = &outcome;
        check(&after, universe, &refs)
            .map_err(|violation| format!("{how:?} after {outcome:?}: {violation}"))?;
        let fs = ModelFs::alone(after, Script::Nothing);
        let again = run(universe, push, &fs).map_err(|error| format!("retry: {error:?}"))?;
        if !all_set(&again) {
            return Err(format!("retry: {again:?}"));
        }
        check(
            &fs.machine().crash(Crash::Weakest(0)),
            universe,
            &possible(old, push, true),
        )
        .map_err(|violation| format!("retry after {outcome:?}: {violation}"))?;
    }
    Ok((done, count))
}

/// A thread of the receiver may have the end of an object in its queue when a write fails, and
/// carries it out before the session ends. Such a staged object was once taken over and published.
#[test]
fn an_object_that_could_not_be_written_is_not_staged_though_it_is_ended() {
    let mut universe = Universe::default();
    let id = commit_id(universe.commit(None, &Tree(Vec::new())));
    let mut failed = 0;
    for at in 0.. {
        let fs = ModelFs::alone(repository(), Script::fail_once(at, EIO));
        let begun = Session::with_fs(fs.clone(), StoreConfig::default())
            .and_then(Session::begun)
            .and_then(|store| Ok((store.begin(id)?, store)));
        let Ok((mut stream, store)) = begun else {
            continue;
        };
        let appended = stream.append(universe.stored(id));
        let all_done = fs.count() <= at;
        let ended = stream.finish();
        if appended.is_err() {
            failed += 1;
            assert!(ended.is_err(), "at {at}");
        }
        drop(store);
        for (path, content) in fs.machine().files_below("extensions") {
            let is_it = path.ends_with(&format!("{}.commit", id.checksum));
            assert!(!is_it || *content == universe.stored(id), "at {at}: {path}");
        }
        if all_done {
            break;
        }
    }
    assert!(failed > 0);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(2), max_shrink_iters: 8, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_operation_fails_the_push_is_durable_or_clean(plan in any_scenario()) {
        let scenario = scenario(plan);
        let (_, count) = push_with(&scenario, Script::Nothing).unwrap();
        for at in 0..count {
            // One way to fail at each operation; another at the next.
            let ways = if cases(1) > 1 { WAYS } else { 1 };
            for way in (0..ways).map(|way| (way + at as usize) % WAYS) {
                let errno = ERRNOS[way / 2];
                // No file system interrupts calls for ever.
                let times = [1, if errno == EINTR { 3 } else { u64::MAX }][way % 2];
                let outcome = push_with(&scenario, Script::Fail { at, times, errno });
                prop_assert!(
                    outcome.is_ok(),
                    "errno {errno}, {times} times at {at}: {}", outcome.unwrap_err()
                );
            }
        }
    }

    #[test]
    fn short_writes_are_carried_on(plan in any_scenario()) {
        let scenario = scenario(plan);
        let (_, count) = push_with(&scenario, Script::Nothing).unwrap();
        for at in [0, count / 2] {
            let outcome = push_with(&scenario, Script::Short { at });
            prop_assert!(matches!(outcome, Ok((true, _))), "{outcome:?}");
        }
    }
}

const ERRNOS: [i32; 6] = [EIO, ENOSPC, EDQUOT, EROFS, EMFILE, EINTR];
/// Each errno once, and from then on.
const WAYS: usize = 2 * ERRNOS.len();
