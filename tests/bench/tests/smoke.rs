//! The smallest part of `make bench`: it measures, checks its measurements, and reports them.

use std::process::Command;

use artifact_bench::neighbours::{Kind, Scale};
use artifact_bench::{growth, neighbours};
use artifact_tests::exec::{Failure, run};
use serde_json::Value;

/// Runs `bench` for a small artifact in memory, and returns what it prints and writes.
fn bench(args: &[&str], variables: &[(&str, &str)]) -> Result<(String, Value), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let printed = run(Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(args)
        .envs([
            ("BENCH_CASES", "T"),
            ("BENCH_WORKS", "full,nothing"),
            ("BENCH_PLACES", "tmpfs"),
            ("BENCH_RTT", "0"),
            ("BENCH_RUNS", "1"),
        ])
        .envs(variables.iter().copied())
        .env("BENCH_DATA", dir.path().join("data"))
        .env("BENCH_DIR", dir.path().join("run"))
        .env("BENCH_OUT", dir.path().join("out")))?
    .success()?;
    assert!(!printed.contains("failed"), "{printed}");
    let path = dir.path().join("out/bench.json");
    let text = std::fs::read_to_string(&path).map_err(Failure::doing("read the results"))?;
    let results = serde_json::from_str(&text).expect("the results are JSON");
    Ok((printed, results))
}

/// Checks one run of a peer that has carried bytes this way and used memory at this end.
fn assert_measured(scene: &Value, peer: &str, carried: &str, memory: &str) {
    let missing = scene["missing_bytes"].as_u64().expect("it is known");
    let found = &scene["peers"][peer];
    assert_eq!(found["failure"], Value::Null);
    assert_eq!(found["runs"].as_array().map(Vec::len), Some(1));
    let carried = found[carried].as_u64().expect("it was counted");
    // The data cannot be compressed further, and the overhead is small.
    assert!(carried > missing * 9 / 10, "{peer}: {carried} of {missing}");
    assert!(carried < missing * 2, "{peer}: {carried} of {missing}");
    assert!(found[memory].as_u64() > Some(1 << 20));
}

fn count_rows(table: &str) -> usize {
    table.lines().filter(|line| line.starts_with('|')).count()
}

#[test]
fn the_benchmark_of_a_small_artifact_has_all_its_rows_and_results_that_are_whole()
-> Result<(), Failure> {
    let variables = [("BENCH_PEERS", "ours,tar,true"), ("BENCH_EXTRAS", "verify")];
    let (printed, results) = bench(&[], &variables)?;
    let (goals, table) = printed.split_once("misses the goal").expect("both tables");
    for goal in ["nothing: against ssh true", "verifier's speed"] {
        assert!(goals.contains(goal), "{goal}: {printed}");
    }
    // A peer with nothing to do is not measured.
    assert_eq!(count_rows(table), 2 + 3 + 2, "{printed}");
    for peer in ["ours", "tar"] {
        assert_measured(
            &results["scenes"][0],
            peer,
            "sent_bytes",
            "server_memory_bytes",
        );
    }
    Ok(())
}

#[test]
fn the_benchmark_of_pulls_has_all_its_rows_and_results_that_are_whole() -> Result<(), Failure> {
    let variables = [
        ("BENCH_MODES", "bare-user"),
        ("BENCH_PEERS", "ssh,post,loose,ostree-nginx,tar,true"),
    ];
    let (printed, results) = bench(&["pull"], &variables)?;
    let (goals, table) = printed.split_once("Shared libraries").expect("both tables");
    assert!(goals.contains("peak memory"), "{printed}");
    assert_eq!(count_rows(table), 2 + 6 + 5, "{printed}");
    for puller in ["ssh", "post", "loose"] {
        let scene = &results["scenes"][0];
        assert_measured(scene, puller, "received_bytes", "client_memory_bytes");
    }
    Ok(())
}

#[test]
fn the_curves_have_a_point_for_each_size_and_pushes_that_succeeded() -> Result<(), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let curve = growth::refs(dir.path(), &[1, 30], 2)?;
    let points: Vec<_> = curve
        .points
        .iter()
        .map(|p| (p.at, p.pushes.len()))
        .collect();
    assert_eq!(points, [(1, 2), (30, 2)]);
    for push in curve.points.iter().flat_map(|point| &point.pushes) {
        assert!(push.finalized < push.summarized, "{push:?}");
    }
    Ok(())
}

#[test]
fn what_one_key_leaves_for_others_is_bounded_whatever_it_pushes() -> Result<(), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let scale = Scale {
        refs: 64,
        objects: 200,
        percent: 100,
        pushes: 1,
    };
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        let row = neighbours::measure(&dir.path().join(format!("{kind:?}")), kind, scale)?;
        let most = match kind {
            Kind::Nothing | Kind::Cut => 0,
            Kind::Tree => 1,
            // The two directories above them count as well.
            Kind::Refs | Kind::Versions | Kind::History => 56,
            Kind::LongNames => 5,
            Kind::Directories => 1,
        };
        assert_eq!(row.refs, most, "{row:?}");
        let (files, summary) = row.left;
        assert!(summary < 100_000, "{row:?}");
        if matches!(kind, Kind::Refs | Kind::LongNames | Kind::Directories) {
            // Refs, directories, some objects and the account.
            assert!(files < 130, "{row:?}");
        }
        rows.push(row);
    }
    let table = neighbours::table(&rows);
    assert_eq!(count_rows(&table), 2 + 8, "{table}");
    Ok(())
}
