//! `make chaos`: disturbs the receiver at thousands of points, and counts broken promises. With
//! `--pull`, as in `make chaos-pull`, it disturbs pulls into own repositories instead.
//!
//! `CHAOS_SEED`, `CHAOS_POINTS` (a number, or `all`), `CHAOS_GROUPS` (names from the table,
//! separated by commas) and `CHAOS_DIR` (a directory on the disk to test; memory by default) choose
//! what to run. With `--fake-syncs` the receiver's syncs do nothing, and the run succeeds only if
//! that shows. Exits with 0 if no promise is broken.

use std::fmt;
use std::io::Write;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use artifact_tests::chaos::scenario::Role;
use artifact_tests::chaos::suite::{Plan, Suite};
use artifact_tests::chaos::tally::Group;
use artifact_tests::exec::Failure;
use artifact_tests::invariants::Promise;
use artifact_tests::programs;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            say(format_args!("chaos: {failure:?}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, Failure> {
    let mut fake_syncs = false;
    let mut role = Role::Receiver;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--fake-syncs" => fake_syncs = true,
            "--pull" => role = Role::Puller,
            other => return Err(Failure::new(format!("unknown argument {other}"))),
        }
    }
    let seed = match variable("CHAOS_SEED") {
        Some(seed) => number("CHAOS_SEED", &seed)?,
        None => SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |now| now.as_secs()),
    };
    let points = match variable("CHAOS_POINTS").as_deref() {
        None => Some(DEFAULT_POINTS),
        Some("all") => None,
        Some(points) => {
            Some(usize::try_from(number("CHAOS_POINTS", points)?).unwrap_or(usize::MAX))
        }
    };
    let dir = tempfile::Builder::new()
        .prefix("artifact-chaos-")
        .tempdir_in(variable("CHAOS_DIR").unwrap_or_else(|| "/dev/shm".to_owned()))
        .map_err(Failure::doing("make a directory (set CHAOS_DIR)"))?;
    let begun = Instant::now();
    let suite = Suite::prepare(Plan {
        dir: dir.path().to_owned(),
        role,
        program: match role {
            Role::Receiver => programs::receiver()?,
            Role::Puller => programs::puller()?,
        },
        seed,
        points,
        groups: groups()?,
        fake_syncs,
    })?;
    for (scenario, survey) in suite.surveys() {
        let (kills, unmet) = survey.kills();
        say(format_args!(
            "{}: {} calls that change something, by {} threads; {} states to be killed in, \
             {unmet} more not met\n  {:?}",
            scenario.name,
            survey.changes(),
            survey.threads(),
            kills.len(),
            survey.counts()
        ));
    }
    let points = suite.points();
    say(format_args!("CHAOS_SEED={seed}, {} points", points.len()));
    let prepared = begun.elapsed();
    let tally = suite.run(&points, &|line| {
        if !fake_syncs {
            say(format_args!("BROKEN {line}"));
        }
    })?;
    let took = begun.elapsed() - prepared;
    say(format_args!("{tally}"));
    say(format_args!(
        "{} points in {:.1} s, after {:.1} s of preparation; CHAOS_SEED={seed}",
        tally.points(),
        took.as_secs_f32(),
        prepared.as_secs_f32()
    ));
    if fake_syncs {
        let lost = tally.broken(Promise::Acknowledged);
        say(format_args!(
            "with faked syncs {lost} acknowledged pushes were lost"
        ));
        return Ok(lost > 0);
    }
    Ok(tally.is_clean())
}

fn groups() -> Result<Vec<Group>, Failure> {
    let Some(names) = variable("CHAOS_GROUPS") else {
        return Ok(Vec::new());
    };
    let group = |name: &str| {
        let known = Group::ALL.into_iter().find(|group| group.name() == name);
        known.ok_or_else(|| Failure::new(format!("CHAOS_GROUPS: there is no {name:?}")))
    };
    names.split(',').map(group).collect()
}

/// Returns an environment variable, unless it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn number(name: &str, text: &str) -> Result<u64, Failure> {
    text.parse()
        .map_err(|_| Failure::new(format!("{name} is {text:?}, which is not a number")))
}

fn say(line: fmt::Arguments<'_>) {
    // If the reader has closed our output, nobody wants the line.
    let _ = writeln!(std::io::stdout(), "{line}");
}

const DEFAULT_POINTS: usize = 6_000;
