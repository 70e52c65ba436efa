//! One trial: a push or a program is interrupted, and what is left is judged.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use artifact_formats::{Checksum, RefName};
use artifact_sender::{Expect, RefOutcome};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::selftest::bench::{Bench, is_set};

/// What is interrupted, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The receiver is killed.
    Kill,
    /// The connection breaks.
    Cut,
    /// The receiver may write no longer files: the disk looks full to it.
    Full,
    /// Two clients move one ref at once.
    Race,
    /// A program that makes the summary, or prunes, is killed while somebody pushes.
    Upkeep,
}

/// Whether a trial has hit something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The interruption came before the end.
    Interrupted,
    /// It came too late.
    Ended,
}

pub(super) const KINDS: [Kind; 5] = [Kind::Kill, Kind::Cut, Kind::Full, Kind::Race, Kind::Upkeep];

impl Kind {
    pub(super) const fn what(self) -> &'static str {
        match self {
            Self::Kill => "receivers killed",
            Self::Cut => "connections broken",
            Self::Full => "files limited",
            Self::Race => "two clients at one ref",
            Self::Upkeep => "summary and prune killed",
        }
    }
}

pub(super) async fn run(
    kind: Kind,
    bench: &mut Bench,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Outcome> {
    match kind {
        Kind::Kill | Kind::Cut | Kind::Full => interrupt(kind, bench, random).await,
        Kind::Race => race(bench, random).await,
        Kind::Upkeep => upkeep(bench, random).await,
    }
}

/// Interrupts a push, which either makes a ref or moves one, and repeats it.
async fn interrupt(
    kind: Kind,
    bench: &mut Bench,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Outcome> {
    let name: RefName = match random.bool() {
        true => "selftest/moving/ref".parse()?,
        false => format!("selftest/new/{}", random.u64(..)).parse()?,
    };
    let old = bench.refs.get(&name).copied();
    let commit = bench.source.commit(old, random)?;
    let push = bench.push(&name, commit, Expect::Any)?;
    let moment = moment(bench, random);
    let (child, report) = match kind {
        Kind::Kill => {
            let mut child = bench.receiver(None)?;
            let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                bail!("the receiver has no pipes");
            };
            let pushing = push.over(tokio::io::join(output, input), |_| ());
            let kill = async {
                sleep(moment).await;
                child.start_kill()
            };
            let (report, killed) = tokio::join!(pushing, kill);
            killed.context("cannot kill the receiver")?;
            (child, Some(report))
        }
        Kind::Full => {
            // From a few bytes of the first object to more than the largest.
            let (child, report) = bench.run(push, Some(random.u64(0..1000))).await?;
            (child, Some(report))
        }
        Kind::Cut | Kind::Race | Kind::Upkeep => {
            let mut child = bench.receiver(None)?;
            let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
                bail!("the receiver has no pipes");
            };
            let pushing = push.over(tokio::io::join(output, input), |_| ());
            (child, timeout(moment, pushing).await.ok())
        }
    };
    // Until a receiver has ended, it may go on.
    let ended = timeout(PATIENCE, child.wait_with_output()).await;
    ended.context("a receiver does not end when its client is gone")??;
    let acknowledged = matches!(&report, Some(Ok(report))
        if report.refs.iter().all(|(_, outcome)| is_set(outcome)));
    judge(bench, &name, old, commit, acknowledged)?;
    again(bench, &name, commit).await?;
    Ok(if acknowledged {
        Outcome::Ended
    } else {
        Outcome::Interrupted
    })
}

/// A ref holds its old or its new value, and the new one if that was acknowledged.
fn judge(
    bench: &Bench,
    name: &RefName,
    old: Option<Checksum>,
    new: Checksum,
    acknowledged: bool,
) -> anyhow::Result<()> {
    let value = bench.value(name)?;
    if value == Some(new) || (value == old && !acknowledged) {
        return Ok(());
    }
    let before = if acknowledged {
        "was acknowledged"
    } else {
        "was pushed"
    };
    bail!("{new} {before} as {name}, which held {old:?} and holds {value:?}");
}

/// Repeats a push, which has to succeed at once.
async fn again(bench: &mut Bench, name: &RefName, commit: Checksum) -> anyhow::Result<()> {
    let push = bench.push(name, commit, Expect::Any)?;
    let begun = Instant::now();
    let pushed = timeout(PATIENCE, bench.run(push, None)).await;
    let (child, report) = pushed.context("the same push again does not end")??;
    // Most of a repeated push was sent before: it tells how long one takes at least.
    bench.usual = (bench.usual * 7 + begun.elapsed().max(bench.usual / 2)) / 8;
    bench
        .end(child, &report)
        .await
        .context("the same push again")?;
    bench.refs.insert(name.clone(), commit);
    judge(bench, name, None, commit, true)
}

/// Lets two clients move a ref from the same commit: one of them wins.
async fn race(bench: &mut Bench, random: &mut fastrand::Rng) -> anyhow::Result<Outcome> {
    let name: RefName = "selftest/moving/ref".parse()?;
    let old = bench.refs[&name];
    let commits = [
        bench.source.commit(Some(old), random)?,
        bench.source.commit(Some(old), random)?,
    ];
    let push = |commit| bench.push(&name, commit, Expect::Is(old));
    let (first, second) = (push(commits[0])?, push(commits[1])?);
    let both = async { tokio::join!(bench.run(first, None), bench.run(second, None)) };
    let (first, second) = timeout(PATIENCE, both)
        .await
        .context("two pushes do not end")?;
    let mut winners = Vec::new();
    for (ran, commit) in [first, second].into_iter().zip(commits) {
        let (child, report) = ran?;
        let said = child.wait_with_output().await?;
        let report = report.with_context(|| String::from_utf8_lossy(&said.stderr).into_owned())?;
        if report
            .refs
            .iter()
            .any(|(_, outcome)| *outcome == RefOutcome::Updated)
        {
            winners.push(commit);
        }
    }
    let [winner] = winners[..] else {
        bail!(
            "{} of two clients moved {name} from the same commit: locks do not hold here",
            winners.len()
        );
    };
    bench.refs.insert(name.clone(), winner);
    judge(bench, &name, None, winner, true)?;
    Ok(Outcome::Interrupted)
}

/// Kills a program that tidies up, beside a push.
async fn upkeep(bench: &mut Bench, random: &mut fastrand::Rng) -> anyhow::Result<Outcome> {
    let name: RefName = format!("selftest/beside/{}", random.u64(..)).parse()?;
    let commit = bench.source.commit(None, random)?;
    let push = bench.push(&name, commit, Expect::Any)?;
    let subcommand = if random.bool() { "summary" } else { "prune" };
    let mut tidy = Command::new(std::env::current_exe()?);
    tidy.arg(subcommand)
        .arg(&bench.cache)
        .args(["--config", "/dev/null"]);
    tidy.stdout(std::process::Stdio::null());
    tidy.stderr(std::process::Stdio::null());
    let mut tidy = tidy.kill_on_drop(true).spawn()?;
    let moment = moment(bench, random);
    let kill = async {
        sleep(moment).await;
        let was_running = tidy.try_wait()?.is_none();
        tidy.kill().await?;
        anyhow::Ok(was_running)
    };
    let both = async { tokio::join!(bench.run(push, None), kill) };
    let (pushed, killed) = timeout(PATIENCE, both)
        .await
        .context("a push does not end")?;
    let (child, report) = pushed?;
    bench.end(child, &report).await.context("a push beside")?;
    bench.refs.insert(name.clone(), commit);
    judge(bench, &name, None, commit, true)?;
    Ok(if killed? {
        Outcome::Interrupted
    } else {
        Outcome::Ended
    })
}

/// Returns a moment during a push, or not long after it.
fn moment(bench: &Bench, random: &mut fastrand::Rng) -> Duration {
    bench.usual.mul_f64(random.f64() * 1.2)
}

const PATIENCE: Duration = Duration::from_secs(60);
