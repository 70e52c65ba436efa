//! `artifact-cache-admin selftest`.
//!
//! `source.rs` makes commits, `bench.rs` the cache and its receivers, `trial.rs` interrupts pushes
//! and judges what is left. Only a loss of power cannot be tried from here.

mod bench;
mod source;
mod trial;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use artifact_formats::counted;
use artifact_protocol::exit;
use serde::Serialize;

use self::bench::Bench;
use self::trial::{KINDS, Kind, Outcome};
use crate::output::{complain, say};
use crate::owner;

/// Interrupt pushes on a file system, and see that nothing is lost or broken.
///
/// Makes a cache of its own in a new directory below DIR, which has to be on the file system to be
/// tried, and removes it at the end. Until the time is over, it pushes to real receivers and kills
/// them at any moment, breaks connections, limits the length of files, kills programs that write
/// the summary or prune, and lets two clients move one ref at once. After each trial, every ref
/// must hold its old or its new value, the cache must have everything that it acknowledged, and the
/// same push must succeed. Every few trials, and at the end, it checks all objects.
///
/// It does not try a loss of power, which depends on the disk as well. Exits with 0 if all went
/// well, and with 11 if the cache lost or broke anything; it then leaves the cache for you to look
/// at.
#[derive(Debug, clap::Args)]
pub(crate) struct SelfTest {
    /// How long to go on
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Where the random choices begin, to repeat them [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The receiver to try [default: the one beside this program, or on the PATH]
    #[arg(long, value_name = "FILE")]
    receiver: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// A directory on the file system to try
    dir: PathBuf,
}

pub(crate) fn run(args: &SelfTest) -> anyhow::Result<u8> {
    owner::become_owner_of(&args.dir)?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bench = Bench::create(&args.dir, args.receiver.as_deref(), &mut random)
        .with_context(|| format!("cannot try {}", args.dir.display()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let begun = Instant::now();
    let ended = runtime.block_on(try_until(
        begun + Duration::from_secs(args.seconds),
        &mut bench,
        &mut random,
    ));
    let (counts, failure) = ended;
    let verdict = Verdict {
        event: "selftest",
        passed: failure.is_none(),
        trials: counts.iter().map(|(_, count)| count.trials).sum(),
        interrupted: counts.iter().map(|(_, count)| count.interrupted).sum(),
        objects_checked: bench.objects_checked,
        seconds: begun.elapsed().as_secs(),
        seed,
        why: failure.map(|error| format!("{error:#}")),
        left: None,
    };
    finish(args, bench, &counts, verdict)
}

/// What came of the trials of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    trials: u64,
    interrupted: u64,
}

/// The end of `--json`.
#[derive(Debug, Serialize)]
struct Verdict {
    event: &'static str,
    passed: bool,
    trials: u64,
    interrupted: u64,
    objects_checked: u64,
    seconds: u64,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<PathBuf>,
}

/// Tries until the time is over, or something is wrong.
async fn try_until(
    deadline: Instant,
    bench: &mut Bench,
    random: &mut fastrand::Rng,
) -> (Vec<(Kind, Count)>, Option<anyhow::Error>) {
    let mut counts = KINDS.map(|kind| (kind, Count::default())).to_vec();
    let mut turn = 0;
    while Instant::now() < deadline || turn < KINDS.len() {
        let (kind, count) = &mut counts[turn % KINDS.len()];
        turn += 1;
        let tried = trial::run(*kind, bench, random).await;
        let tried = tried.with_context(|| format!("in trial {turn} ({})", kind.what()));
        match tried {
            Ok(outcome) => {
                count.trials += 1;
                count.interrupted += u64::from(outcome == Outcome::Interrupted);
            }
            Err(error) => return (counts, Some(error)),
        }
        if turn % TRIALS_BETWEEN_CHECKS == 0
            && let Err(error) = bench.check()
        {
            return (counts, Some(error));
        }
    }
    let failure = bench.check().err();
    (counts, failure)
}

fn finish(
    args: &SelfTest,
    bench: Bench,
    counts: &[(Kind, Count)],
    mut verdict: Verdict,
) -> anyhow::Result<u8> {
    if verdict.passed {
        bench.remove()?;
    } else {
        verdict.left = Some(bench.keep());
    }
    if args.json {
        say(&serde_json::to_string(&verdict)?);
    } else {
        for (kind, count) in counts {
            let of = counted(count.trials, "trial");
            say(&format!(
                "{}: {of}, {} took effect",
                kind.what(),
                count.interrupted
            ));
        }
        say(&format!(
            "{} in {} seconds, {} checked",
            counted(verdict.trials, "trial"),
            verdict.seconds,
            counted(verdict.objects_checked, "object")
        ));
    }
    let Some(why) = verdict.why else {
        if !args.json {
            say("passed: every ref was whole, and nothing that was acknowledged is lost");
        }
        return Ok(exit::DONE);
    };
    complain(&format!("artifact-cache-admin: FAILED {why}"));
    if let Some(left) = verdict.left {
        complain(&format!(
            "artifact-cache-admin: the cache is left in {}; --seed {} repeats the choices",
            left.display(),
            verdict.seed
        ));
    }
    Ok(exit::FAULTS)
}

const TRIALS_BETWEEN_CHECKS: usize = 25;
