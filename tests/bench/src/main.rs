//! `make bench`: measures pushes against what the same costs others. `bench pull` measures pulls.
//!
//! `tests/bench/README.md` explains the variables `BENCH_...`. Exits with 0 if every push succeeded
//! with the right result; the reader judges whether it was fast enough.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use artifact_tests::exec::Failure;

use artifact_bench::codec::Stretch;
use artifact_bench::data::{make_dir, remove};
use artifact_bench::goals;
use artifact_bench::neighbours::{Kind, Scale};
use artifact_bench::options::Options;
use artifact_bench::outcome::{Extras, Outcome};
use artifact_bench::pulls::{self, scene::Plan};
use artifact_bench::suite::{Suite, machine};
use artifact_bench::{growth, neighbours, plot, report, usage};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            say(&format!("bench: {failure:?}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|arg| arg.to_str()) {
        None => measure(),
        Some("growth") => grow(),
        Some("pull") => pull(),
        Some("neighbours") => neighbours(),
        Some("codec") => {
            let rounds = args.next().and_then(|text| text.to_str()?.parse().ok());
            let rounds: usize = rounds.ok_or_else(|| Failure::new("usage: bench codec ROUNDS"))?;
            let stretch = Stretch::new();
            let done: usize = (0..rounds)
                .map(|_| stretch.encode() + stretch.decode())
                .sum();
            say(&format!("{rounds} rounds, {done}"));
            Ok(ExitCode::SUCCESS)
        }
        Some("note-memory") => {
            let (file, program) = (args.next(), args.next());
            let (Some(file), Some(program)) = (file, program) else {
                return Err(Failure::new("usage: bench note-memory FILE PROGRAM..."));
            };
            usage::note_memory(Path::new(&file), Command::new(program).args(args))
        }
        Some(other) => Err(Failure::new(format!("unknown argument {other}"))),
    }
}

/// Returns this program, and Cargo's target directory.
fn program() -> Result<(PathBuf, PathBuf), Failure> {
    let program = std::env::current_exe().map_err(Failure::doing("find this program"))?;
    // The program is TARGET/PROFILE/bench.
    let target = program
        .ancestors()
        .nth(2)
        .map_or_else(|| PathBuf::from("target"), Path::to_owned);
    Ok((program, target))
}

/// Measures pulls.
fn pull() -> Result<ExitCode, Failure> {
    let (program, target) = program()?;
    let plan = Plan::from_environment(&target)?;
    let begun = Instant::now();
    let machine = machine(&plan.dir);
    let say_when = |line: &str| {
        say(&format!("{:5.0} s  {line}", begun.elapsed().as_secs_f64()));
    };
    make_dir(&plan.out)?;
    let libraries = pulls::suite::libraries()?;
    let write = |outcomes: &[pulls::suite::Outcome]| {
        let table = format!(
            "{}\nShared libraries of the client, without the system's C library: {}\n\n{}",
            pulls::table::goals(outcomes),
            libraries.len(),
            pulls::table::table(outcomes)
        );
        let json = pulls::table::json(outcomes, &machine).to_string();
        for (name, text) in [("bench.md", &table), ("bench.json", &json)] {
            let path = plan.out.join(name);
            fs::write(&path, text).map_err(Failure::doing(format!("write {path:?}")))?;
        }
        Ok(table)
    };
    let mut suite = pulls::suite::Suite::start(&plan, &program)?;
    let outcomes = suite.run(&say_when, &|outcomes| write(outcomes).map(drop))?;
    drop(suite);
    // If the reader has closed our output, nobody wants the table.
    let _ = write!(std::io::stdout(), "{}", write(&outcomes)?);
    let mut results = outcomes.iter().flat_map(|outcome| outcome.pullers.values());
    Ok(match results.any(|results| results.failure.is_some()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    })
}

fn measure() -> Result<ExitCode, Failure> {
    let (program, target) = program()?;
    let options = Options::from_environment(&target)?;
    let begun = Instant::now();
    let machine = machine(&options.dir);
    let say_when = |line: &str| {
        say(&format!("{:5.0} s  {line}", begun.elapsed().as_secs_f64()));
    };
    make_dir(&options.out)?;
    let write = |outcomes: &[Outcome], extras: &Extras| {
        let table = format!(
            "{}\n{}",
            goals::table(outcomes, extras),
            report::table(outcomes)
        );
        let json = report::json(outcomes, extras, &machine).to_string();
        for (name, text) in [("bench.md", &table), ("bench.json", &json)] {
            let path = options.out.join(name);
            fs::write(&path, text).map_err(Failure::doing(format!("write {path:?}")))?;
        }
        Ok(table)
    };
    let mut suite = Suite::start(&options, &program)?;
    // Results so far are written even if the rest fails.
    let outcomes = suite.run(&say_when, &|outcomes| {
        write(outcomes, &Extras::default()).map(drop)
    })?;
    let extras = suite.extras(&say_when)?;
    drop(suite);
    let table = write(&outcomes, &extras)?;
    // If the reader has closed our output, nobody wants the table.
    let _ = write!(std::io::stdout(), "{table}");
    let failed = outcomes
        .iter()
        .flat_map(|outcome| outcome.peers.values())
        .any(|results| results.failure.is_some());
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Measures what the worst pushes of one key cost others.
fn neighbours() -> Result<ExitCode, Failure> {
    let dir = tempfile::Builder::new()
        .prefix("artifact-bench-")
        .tempdir()
        .map_err(Failure::doing("make a directory"))?;
    let percent = std::env::args().nth(2).unwrap_or_else(|| "10".to_owned());
    let scale = Scale {
        refs: 10_000,
        objects: 50_000,
        percent: percent
            .parse()
            .map_err(|_| Failure::new("usage: bench neighbours [PERCENT]"))?,
        pushes: 9,
    };
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        say(&format!("{kind:?}"));
        let dir = dir.path().join(format!("{kind:?}"));
        rows.push(neighbours::measure(&dir, kind, scale)?);
        remove(&dir)?;
    }
    let _ = write!(std::io::stdout(), "{}", neighbours::table(&rows));
    Ok(ExitCode::SUCCESS)
}

/// Measures the curves in memory, and writes them beside their description.
fn grow() -> Result<ExitCode, Failure> {
    let dir = tempfile::Builder::new()
        .prefix("artifact-bench-")
        .tempdir_in("/dev/shm")
        .map_err(Failure::doing("make a directory in memory"))?;
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let curves = growth::curves(dir.path(), &say)?;
    let table = format!(
        "Written by `make bench-growth`, in memory, over a pipe; the machine's load before was \
         {}.\n\n{}",
        load.split(' ').next().unwrap_or_default(),
        plot::table(&curves)
    );
    let out = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, text) in [("growth.md", &table), ("growth.svg", &plot::svg(&curves))] {
        let path = out.join(name);
        fs::write(&path, text).map_err(Failure::doing(format!("write {path:?}")))?;
    }
    let _ = write!(std::io::stdout(), "{table}");
    Ok(ExitCode::SUCCESS)
}

fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
