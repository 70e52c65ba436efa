//! Pushes with faults at random, judged by `ostree`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use artifact_protocol::frame::RefOutcome;
use tempfile::TempDir;

use super::world::*;
use crate::bucket::requests::faulty::{Fate, Faults, Faulty};
use crate::bucket::requests::random::Random;

#[test]
fn whatever_goes_wrong_refs_are_whole_and_what_was_acknowledged_stays() {
    let seeds = if is_extra() { 400 } else { 12 };
    let (mut faults, mut acknowledged) = (0, 0);
    for seed in 0..seeds {
        let (memory, mut all) = (empty(), Universe::default());
        let mut random = Random::of_seed(seed);
        let mut last = None;
        for turn in 0..6 {
            let content = format!("{seed} {turn}");
            let name = ["os/a", "os/b"][usize::try_from(random.below(2)).unwrap()];
            let commit = all.commit(last, &[("new", &content), ("same/deep", "x")]);
            let plan = Plan {
                bases: refs(&memory)
                    .get(name)
                    .map(|held| (name, *held))
                    .into_iter()
                    .collect(),
                ..Plan::one(name, commit)
            };
            let way = Faulty::new(Arc::new(memory.clone()));
            let store = store_of(way.clone(), "mia");
            way.set_faults(Faults {
                seed: random.next(),
                busy: 30,
                conflict: 30,
                unsent: 30,
                unheard: 30,
                late: 30,
                ..Faults::default()
            });
            if random.below(3) == 0 {
                let fate = [Fate::DieBefore, Fate::DieAfter];
                let fate = fate[usize::try_from(random.below(2)).unwrap()];
                let number = 1 + random.below(60);
                way.choose(move |at, _| (at == number).then_some(fate));
            }
            let done = push(&store, &all, &plan);
            let counts = way.counts();
            faults += (counts.gets + counts.puts + counts.swaps + counts.lists) * 150 / 1000;
            // No request still on its way undoes an acknowledged push.
            way.release_all();
            if done.is_ok_and(|done| done.outcomes == [RefOutcome::Updated]) {
                assert_eq!(refs(&memory).get(name), Some(&commit), "seed {seed}");
                acknowledged += 1;
                last = Some(commit);
            }
            assert_whole(&memory, &all);
        }
        let commit = all.commit(None, &[("last", "1")]);
        set(&memory, &all, "os/c", commit);
        assert_whole(&memory, &all);
        if is_extra() && seed % 40 == 0 {
            assert_ostree_takes(&memory);
        }
    }
    assert!(acknowledged > seeds, "{acknowledged}");
    assert!(!is_extra() || faults >= 5_000, "{faults} faults");
}

#[test]
fn stock_ostree_checks_and_pulls_what_was_pushed() {
    if !is_extra() {
        return;
    }
    let (memory, mut all) = (empty(), Universe::default());
    let first = all.commit(None, &[("bin/a", "1"), ("lib/x/b", "2")]);
    let second = all.commit(Some(first), &[("bin/a", "1"), ("lib/x/b", "3")]);
    for (name, commit) in [("os/a", first), ("os/b", second), ("x/y/z", second)] {
        let plan = Plan {
            bases: vec![("os/a", first)],
            ..Plan::one(name, commit)
        };
        push(&store_of(memory.clone(), "mia"), &all, &plan).unwrap();
    }
    assert_ostree_takes(&memory);
}

/// Checks a copy of the bucket with `ostree fsck`, and pulls every ref from it.
fn assert_ostree_takes(memory: &crate::bucket::Memory) {
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    memory.export(&from).unwrap();
    for sub in ["refs/remotes", "refs/mirrors", "tmp", "state"] {
        fs::create_dir_all(from.join(sub)).unwrap();
    }
    ostree(&["fsck", "-q"], &from);
    fs::create_dir(&to).unwrap();
    ostree(&["init", "--mode=bare-user"], &to);
    let url = format!("file://{}", from.display());
    ostree(&["remote", "add", "--no-gpg-verify", "cache", &url], &to);
    for name in refs(memory).keys() {
        ostree(&["pull", "cache", name], &to);
    }
    ostree(&["fsck", "-q"], &to);
}

fn ostree(args: &[&str], repo: &Path) {
    let mut command = Command::new("ostree");
    command.arg(format!("--repo={}", repo.display())).args(args);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ostree {args:?}: {said}");
}
