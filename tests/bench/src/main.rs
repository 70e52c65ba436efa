//! `make bench`: measures pushes against what the same costs others. `bench pull` measures pulls.
//!
//! `tests/bench/README.md` explains the variables `BENCH_...`. Exits with 0 if every push succeeded
//! with the right result; the reader judges whether it was fast enough.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use artifact_tests::exec::Failure;
use serde_json::Value;

use artifact_bench::codec::Stretch;
use artifact_bench::data::{make_dir, remove};
use artifact_bench::goals;
use artifact_bench::neighbours::{Kind, Scale};
use artifact_bench::options::{Extra, Options};
use artifact_bench::outcome::{Contest, Extras, Outcome};
use artifact_bench::pulls::{self, scene::Plan};
use artifact_bench::scene::Scene;
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
        None => push(),
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
    let report = Report::begin(&plan.options)?;
    let libraries = pulls::suite::libraries()?;
    let write = |outcomes: &[Outcome<pulls::scene::Scene>]| {
        let table = format!(
            "{}\nShared libraries of the client, without the system's C library: {}\n\n{}",
            pulls::table::goals(outcomes),
            libraries.len(),
            pulls::table::table(outcomes)
        );
        report.write(table, &pulls::table::json(outcomes, &report.machine))
    };
    let mut suite = pulls::suite::Suite::start(&plan, &program)?;
    let outcomes = suite.run(&|line| report.say(line), &|outcomes| {
        write(outcomes).map(drop)
    })?;
    drop(suite);
    Ok(end(&write(&outcomes)?, &outcomes))
}

/// Measures pushes.
fn push() -> Result<ExitCode, Failure> {
    let (program, target) = program()?;
    let options = Options::of_pushes(&target)?;
    let chosen = Extra::chosen()?;
    let report = Report::begin(&options)?;
    let write = |outcomes: &[Outcome<Scene>], extras: &Extras| {
        let table = format!(
            "{}\n{}",
            goals::table(outcomes, extras),
            report::table(outcomes)
        );
        report.write(table, &report::json(outcomes, extras, &report.machine))
    };
    let mut suite = Suite::start(&options, &program)?;
    // Results so far are written even if the rest fails.
    let outcomes = suite.run(&|line| report.say(line), &|outcomes| {
        write(outcomes, &Extras::default()).map(drop)
    })?;
    let extras = suite.extras(&chosen, &|line| report.say(line))?;
    drop(suite);
    Ok(end(&write(&outcomes, &extras)?, &outcomes))
}

/// Where the results go, and what they need beside the outcomes.
struct Report {
    out: PathBuf,
    machine: BTreeMap<&'static str, String>,
    begun: Instant,
}

impl Report {
    fn begin<P>(options: &Options<P>) -> Result<Self, Failure> {
        make_dir(&options.out)?;
        Ok(Self {
            out: options.out.clone(),
            machine: machine(&options.dir),
            begun: Instant::now(),
        })
    }

    /// Tells the reader how far the measurement is.
    fn say(&self, line: &str) {
        say(&format!(
            "{:5.0} s  {line}",
            self.begun.elapsed().as_secs_f64()
        ));
    }

    /// Writes the results, and returns the table.
    fn write(&self, table: String, json: &Value) -> Result<String, Failure> {
        for (name, text) in [("bench.md", &table), ("bench.json", &json.to_string())] {
            let path = self.out.join(name);
            fs::write(&path, text).map_err(Failure::doing(format!("write {path:?}")))?;
        }
        Ok(table)
    }
}

/// Prints the table, and returns whether all has succeeded.
fn end<S: Contest>(table: &str, outcomes: &[Outcome<S>]) -> ExitCode {
    // If the reader has closed our output, nobody wants the table.
    let _ = write!(std::io::stdout(), "{table}");
    let mut results = outcomes.iter().flat_map(|outcome| outcome.peers.values());
    match results.any(|results| results.failure.is_some()) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

/// Measures what the worst pushes of one key cost others.
fn neighbours() -> Result<ExitCode, Failure> {
    let dir = tempfile::Builder::new()
        .prefix("artifact-bench-")
        .tempdir()
        .map_err(Failure::doing("make a directory"))?;
    let usage = || {
        Failure::new(format!(
            "usage: bench neighbours [PERCENT [KIND...]]; kinds: {:?}",
            Kind::ALL
        ))
    };
    let mut args = std::env::args().skip(2);
    let percent = args.next().unwrap_or_else(|| "10".to_owned());
    let scale = Scale {
        refs: 10_000,
        objects: 50_000,
        percent: percent.parse().map_err(|_| usage())?,
        pushes: 9,
    };
    let named = |name: String| {
        Kind::ALL
            .into_iter()
            .find(|kind| format!("{kind:?}") == name)
    };
    let mut kinds: Vec<_> = args
        .map(|name| named(name).ok_or_else(usage))
        .collect::<Result<_, _>>()?;
    if kinds.is_empty() {
        kinds.extend(Kind::ALL);
    }
    let mut rows = Vec::new();
    for kind in kinds {
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
