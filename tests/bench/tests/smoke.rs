//! The smallest part of `make bench`: it measures, checks its measurements, and reports them.

use std::process::Command;

use artifact_bench::neighbours::{Kind, Scale};
use artifact_bench::{growth, neighbours};
use artifact_tests::exec::{Failure, run};
use serde_json::Value;

#[test]
fn the_benchmark_of_a_small_artifact_has_all_its_rows_and_results_that_are_whole()
-> Result<(), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let printed = run(Command::new(env!("CARGO_BIN_EXE_bench"))
        .envs([
            ("BENCH_CASES", "T"),
            ("BENCH_WORKS", "full,nothing"),
            ("BENCH_PEERS", "ours,tar,true"),
            ("BENCH_PLACES", "tmpfs"),
            ("BENCH_RTT", "0"),
            ("BENCH_RUNS", "1"),
            ("BENCH_EXTRAS", "verify"),
        ])
        .env("BENCH_DATA", dir.path().join("data"))
        .env("BENCH_DIR", dir.path().join("run"))
        .env("BENCH_OUT", dir.path().join("out")))?
    .success()?;
    let (goals, table) = printed.split_once("misses the goal").expect("both tables");
    for goal in ["nothing: against ssh true", "verifier's speed"] {
        assert!(goals.contains(goal), "{goal}: {printed}");
    }
    // A peer with nothing to do is not measured.
    let rows = table.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows, 2 + 3 + 2, "{printed}");
    assert!(!printed.contains("failed"), "{printed}");

    let path = dir.path().join("out/bench.json");
    let text = std::fs::read_to_string(&path).map_err(Failure::doing("read the results"))?;
    let results: Value = serde_json::from_str(&text).expect("the results are JSON");
    let full = &results["scenes"][0];
    let missing = full["missing_bytes"].as_u64().expect("it is known");
    for peer in ["ours", "tar"] {
        let found = &full["peers"][peer];
        assert_eq!(found["failure"], Value::Null);
        assert_eq!(found["runs"].as_array().map(Vec::len), Some(1));
        let sent = found["sent_bytes"].as_u64().expect("it was counted");
        // The data cannot be compressed further, and the overhead is small.
        assert!(sent > missing * 9 / 10, "{peer}: {sent} of {missing}");
        assert!(sent < missing * 2, "{peer}: {sent} of {missing}");
        assert!(found["server_memory_bytes"].as_u64() > Some(1 << 20));
    }
    Ok(())
}

#[test]
fn the_benchmark_of_pulls_has_all_its_rows_and_results_that_are_whole() -> Result<(), Failure> {
    let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
    let printed = run(Command::new(env!("CARGO_BIN_EXE_bench"))
        .arg("pull")
        .envs([
            ("BENCH_CASES", "T"),
            ("BENCH_WORKS", "full,nothing"),
            ("BENCH_MODES", "bare-user"),
            ("BENCH_PEERS", "ssh,post,loose,ostree-nginx,tar,true"),
            ("BENCH_PLACES", "tmpfs"),
            ("BENCH_RTT", "0"),
            ("BENCH_RUNS", "1"),
        ])
        .env("BENCH_DATA", dir.path().join("data"))
        .env("BENCH_DIR", dir.path().join("run"))
        .env("BENCH_OUT", dir.path().join("out")))?
    .success()?;
    let (goals, table) = printed.split_once("Shared libraries").expect("both tables");
    assert!(goals.contains("peak memory"), "{printed}");
    let rows = table.lines().filter(|line| line.starts_with('|')).count();
    assert_eq!(rows, 2 + 6 + 5, "{printed}");
    assert!(!printed.contains("failed"), "{printed}");

    let path = dir.path().join("out/bench.json");
    let text = std::fs::read_to_string(&path).map_err(Failure::doing("read the results"))?;
    let results: Value = serde_json::from_str(&text).expect("the results are JSON");
    let full = &results["scenes"][0];
    let missing = full["missing_bytes"].as_u64().expect("it is known");
    for puller in ["ssh", "post", "loose"] {
        let found = &full["pullers"][puller];
        assert_eq!(found["failure"], Value::Null);
        assert_eq!(found["runs"].as_array().map(Vec::len), Some(1));
        let received = found["received_bytes"].as_u64().expect("it was counted");
        assert!(
            received > missing * 9 / 10,
            "{puller}: {received} of {missing}"
        );
        assert!(received < missing * 2, "{puller}: {received} of {missing}");
        assert!(found["client_memory_bytes"].as_u64() > Some(1 << 20));
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
        refs: 100,
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
            Kind::Refs | Kind::Versions | Kind::History => 92,
            Kind::LongNames => 10,
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
    assert_eq!(
        table.lines().filter(|line| line.starts_with('|')).count(),
        2 + 8,
        "{table}"
    );
    Ok(())
}
