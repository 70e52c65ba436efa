//! One push by the real sender to a receiver that may die, lie about its disk, or be out of space;
//! or one pull by a puller that may do so.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use artifact_formats::{RefName, with_causes};
use artifact_sender::{
    Error, Push, RefOutcome, Repository, SenderEvent, SessionError, SummaryDone,
};
use tokio::io::AsyncBufReadExt;
use tokio::runtime::Builder;
use tokio::time::timeout;

use crate::exec::{Failure, describe};

/// What the client learnt, and how the receiver ended.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Time until the receiver had judged the announced refs.
    pub accepted_after: Option<Duration>,
    /// Refs that were acknowledged, that is, reported as updated.
    pub updated: BTreeSet<String>,
    /// Whether the push is done, as far as the sender knows.
    pub done: bool,
    /// Whether the summary was reported as current.
    pub summarized: bool,
    /// Whether the receiver said why it gave up.
    pub told: bool,
    /// The receiver's exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Whether it took longer than any push should.
    pub hung: bool,
    /// The failure, for messages.
    pub failure: String,
}

/// Pushes refs of the repository at `source` to the receiver that `command` runs.
pub fn push(source: &Path, refs: &[RefName], command: Command) -> Result<Heard, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::doing("start a runtime"))?;
    runtime.block_on(run(source, refs, command))
}

/// Runs a pull, and notes what it prints.
pub fn pull(command: Command) -> Result<Heard, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::doing("start a runtime"))?;
    runtime.block_on(run_pull(command))
}

async fn run_pull(mut command: Command) -> Result<Heard, Failure> {
    let line = describe(&command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::doing(format!("run `{line}`")))?;
    let stdout = child
        .stdout
        .take()
        .ok_or_else(|| Failure::new("a child without pipes"))?;
    let mut heard = Heard::default();
    let mut said = tokio::io::BufReader::new(stdout).lines();
    let ended = timeout(PATIENCE, async {
        while let Ok(Some(line)) = said.next_line().await {
            match line.strip_prefix("updated ") {
                Some(name) => _ = heard.updated.insert(name.to_owned()),
                None => heard.accepted_after = Some(begun.elapsed()),
            }
        }
        child.wait_with_output().await
    });
    match ended.await {
        Ok(output) => {
            let output = output.map_err(Failure::doing(format!("wait for `{line}`")))?;
            heard.code = output.status.code();
            heard.failure = String::from_utf8_lossy(&output.stderr).into_owned();
            heard.done = heard.code == Some(0);
            heard.summarized = heard.done;
            heard.told = !heard.failure.is_empty();
        }
        Err(_) => heard.hung = true,
    }
    Ok(heard)
}

async fn run(source: &Path, refs: &[RefName], mut command: Command) -> Result<Heard, Failure> {
    let line = describe(&command);
    let sending = |error: Error| Failure::new(format!("cannot read {source:?}: {error}"));
    let mut push = Push::new(Repository::open(source).map_err(sending)?);
    for name in refs {
        push = push.reference(name).map_err(sending)?;
    }
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let begun = Instant::now();
    let mut child = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .spawn()
        .map_err(Failure::doing(format!("run `{line}`")))?;
    let (stdin, stdout) = child
        .stdin
        .take()
        .zip(child.stdout.take())
        .ok_or_else(|| Failure::new("a child without pipes"))?;
    let mut heard = Heard::default();
    let pushing = push.over(tokio::io::join(stdout, stdin), |event| match event {
        SenderEvent::RefStatus(_) => heard.accepted_after = Some(begun.elapsed()),
        SenderEvent::Finalized(outcomes) => {
            let refs = refs.iter().zip(outcomes);
            let updated = refs.filter(|(_, outcome)| **outcome == RefOutcome::Updated);
            heard
                .updated
                .extend(updated.map(|(name, _)| name.to_string()));
        }
        SenderEvent::Summary(done) => heard.summarized = *done == SummaryDone::Current,
        _ => {}
    });
    let ended = timeout(PATIENCE, pushing).await;
    match ended {
        Ok(Ok(report)) => match report.lost {
            None => heard.done = report.refused().next().is_none(),
            Some(error) => heard.fail(Error::Session(error)),
        },
        Ok(Err(error)) => heard.fail(error),
        Err(_) => heard.hung = true,
    }
    match timeout(PATIENCE, child.wait_with_output()).await {
        Ok(output) => {
            let output = output.map_err(Failure::doing(format!("wait for `{line}`")))?;
            heard.code = output.status.code();
            heard.failure += &String::from_utf8_lossy(&output.stderr);
        }
        Err(_) => heard.hung = true,
    }
    Ok(heard)
}

impl Heard {
    fn fail(&mut self, error: Error) {
        self.told = match &error {
            Error::Session(session) | Error::Unsettled(session) => {
                matches!(session, SessionError::PeerClosed(_))
            }
            _ => false,
        };
        self.failure = with_causes(&error) + "; ";
    }
}

/// How long a push of a few objects may take before it counts as stuck.
const PATIENCE: Duration = Duration::from_secs(20);
