//! One push by the sender's library, timed at each step.
//!
//! It goes to a receiver at the other end of a pipe: the time that ssh takes to connect varies more
//! than the times measured here.

use std::path::Path;
use std::time::{Duration, Instant};

use artifact_sender::{Connector, Push, RefOutcome, Remote, Repository, SenderEvent, SummaryDone};
use artifact_tests::exec::Failure;
use artifact_tests::programs;

/// The times of the answers, since the receiver was started.
#[derive(Clone, Copy, Debug)]
pub struct Timed {
    /// The refs are set and durable.
    pub finalized: Duration,
    /// The summary lists them.
    pub summarized: Duration,
}

/// Pushes refs of `from` to the repository `to`, and fails unless they are updated.
pub fn push(from: &Path, to: &Path, refs: &[String]) -> Result<Timed, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::doing("start a runtime"))?;
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("push to {to:?}: {error}"));
    let repository = Repository::open(from).map_err(|error| failed(&error))?;
    let mut push = Push::new(repository);
    for name in refs {
        let name = name.parse().map_err(|error| failed(&error))?;
        push = push.reference(&name).map_err(|error| failed(&error))?;
    }
    let connector = Connector::default().receiver(programs::receiver()?);
    runtime.block_on(async {
        let begun = Instant::now();
        let (mut finalized, mut summarized) = (None, None);
        let mut connection = connector
            .connect(&Remote::Local(to.to_owned()))
            .map_err(|error| failed(&error))?;
        let report = push
            .over(&mut connection, |event| match event {
                SenderEvent::Finalized(_) => finalized = Some(begun.elapsed()),
                SenderEvent::Summary(_) => summarized = Some(begun.elapsed()),
                _ => {}
            })
            .await
            .map_err(|error| failed(&error))?;
        connection
            .finish()
            .await
            .map_err(Failure::doing("wait for the receiver"))?;
        let updated = |outcome: &RefOutcome| *outcome == RefOutcome::Updated;
        if !report.refs.iter().all(|(_, outcome)| updated(outcome))
            || report.summary != Some(SummaryDone::Current)
        {
            return Err(failed(&format!("{report:?}")));
        }
        match (finalized, summarized) {
            (Some(finalized), Some(summarized)) => Ok(Timed {
                finalized,
                summarized,
            }),
            _ => Err(failed(&"it ended without saying so")),
        }
    })
}
