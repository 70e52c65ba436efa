//! `artifact-cache push`.

use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{Size, counted};
use artifact_protocol::exit;
use artifact_protocol::frame::{CloseCode, RefOutcome, RefusalCode, SummaryDone};
use artifact_sender::{
    Connection, Dialect, Error, Push, Remote, Report, Repository, SenderEvent, SessionError,
};
use serde_json::json;

use crate::args::{self, Args};
use crate::output::Output;
use crate::progress::PushProgress;
use crate::retry::retrying;
use crate::trouble::{Trouble, Witness};
use crate::{caches, session, signals};

/// Pushes to each cache in turn, and returns the first exit code that is not 0.
///
/// A configured cache may be unreachable, as long as another is not.
pub(crate) async fn run(push: &args::Push, args: &Args, output: &Output) -> u8 {
    let targets = match caches::to_push(&push.remote, args) {
        Ok(targets) => targets,
        Err(trouble) => return output.trouble(&trouble),
    };
    let lenient = targets.remotes.len() > 1 && !targets.named && !push.strict;
    let (mut code, mut reached) = (exit::DONE, false);
    for remote in &targets.remotes {
        let this = match push_to(remote, push, args, output).await {
            Err(trouble) if lenient && trouble.code == exit::CONNECTION => {
                output.warning(&trouble.text);
                continue;
            }
            Err(trouble) => output.trouble(&trouble),
            Ok(report) if report.refused().next().is_some() => exit::REFUSED_REF,
            Ok(_) => exit::DONE,
        };
        reached = true;
        if code == exit::DONE {
            code = this;
        }
    }
    if !reached {
        output.error("could not reach any cache", None);
        return exit::CONNECTION;
    }
    code
}

async fn push_to(
    remote: &Remote,
    args: &args::Push,
    all: &Args,
    output: &Output,
) -> Result<Report, Trouble> {
    let mut is_unsettled = false;
    let pushed = retrying(args.retries, output, async || {
        push_once(remote, args, all, output, &mut is_unsettled).await
    });
    match pushed.await {
        Err(trouble) if is_unsettled => ask(remote, args, all, output, trouble).await,
        result => result,
    }
}

/// Finds out the outcome of a push whose answer was lost, without changing anything: the push
/// succeeded if all its refs are up to date now.
async fn ask(
    remote: &Remote,
    args: &args::Push,
    all: &Args,
    output: &Output,
    trouble: Trouble,
) -> Result<Report, Trouble> {
    output.warning(&format!(
        "{}; asking the server whether the push is done",
        trouble.text
    ));
    let Ok((_, push)) = prepare(args) else {
        return Err(trouble);
    };
    let push = push.dry_run(true);
    let asked = push_in_sessions(push, remote, all, output, async |push, connection| {
        push.over(connection, |_| ()).await
    });
    match asked.await {
        Ok(report) if is_done(&report) => {
            show(&report, remote, args, Duration::ZERO, output);
            Ok(report)
        }
        _ => Err(trouble),
    }
}

fn is_stopped(result: &Result<Report, Error>) -> bool {
    let (Err(Error::Session(session)) | Err(Error::Unsettled(session))) = result else {
        return false;
    };
    matches!(session, SessionError::Fault(fault) if fault.code == CloseCode::INTERRUPTED)
}

fn is_done(report: &Report) -> bool {
    let mut outcomes = report.refs.iter().map(|(_, outcome)| outcome);
    outcomes.all(|outcome| *outcome == RefOutcome::Unchanged)
}

async fn push_once(
    remote: &Remote,
    args: &args::Push,
    all: &Args,
    output: &Output,
    is_unsettled: &mut bool,
) -> Result<Report, Trouble> {
    let (repository, push) =
        prepare(args).map_err(|error| Trouble::new(error, remote, &Witness::default()))?;
    let commits = args.refs.iter();
    let commits = commits.filter_map(|name| repository.resolve(name.as_str()).ok());
    let mut progress = PushProgress::new(output, remote, &repository, commits.collect());
    let result = push_in_sessions(push, remote, all, output, async |push, connection| {
        let stop = async {
            let _ = signals::told_to_stop().await;
        };
        let show = |event: &SenderEvent| progress.show(event);
        let result = push.over_until(connection, show, stop).await;
        if is_stopped(&result) {
            // The thread that waits for the signal ends the program.
            std::future::pending::<()>().await;
        }
        // The push may have succeeded all the same.
        *is_unsettled = matches!(&result, Err(Error::Unsettled(_)));
        result
    })
    .await;
    let took = progress.finish();
    let report = result?;
    show(&report, remote, args, took, output);
    Ok(report)
}

/// Pushes in one session, or with a server of an old version in as many as it takes.
async fn push_in_sessions(
    push: Push,
    remote: &Remote,
    all: &Args,
    output: &Output,
    mut over: impl AsyncFnMut(Push, &mut Connection) -> Result<Report, Error>,
) -> Result<Report, Trouble> {
    let mut whole: Option<Report> = None;
    let (mut next, mut known) = (Some(push), all.dialect());
    while let Some(push) = next.take() {
        let mut later = None;
        let report = session::run_in(known, remote, all, output, async |connection, dialect| {
            let (now, rest) = push.clone().dialect(dialect).split();
            later = rest;
            over(now, connection).await
        });
        let report = report.await?;
        known = Dialect::of_version(report.server.version);
        next = later;
        match &mut whole {
            Some(whole) => whole.join(report),
            None => whole = Some(report),
        }
    }
    whole.ok_or_else(|| {
        let error = Error::Internal("a push without a session");
        Trouble::new(error, remote, &Witness::default())
    })
}

fn prepare(args: &args::Push) -> Result<(Arc<Repository>, Push), Error> {
    let repository = Repository::open(&args.repo)?.with_compression(args.compression);
    let repository = Arc::new(repository);
    let mut push = Push::new(Arc::clone(&repository))
        .agent(session::AGENT)
        .force(args.force)
        .dry_run(args.dry_run)
        .depth(args.depth);
    if let Some(rate) = args.limit_rate {
        push = push.limit_rate(rate);
    }
    for name in &args.refs {
        push = push.reference(name)?;
    }
    Ok((repository, push))
}

fn show(report: &Report, remote: &Remote, args: &args::Push, took: Duration, output: &Output) {
    let mut refs = Vec::new();
    for (name, outcome) in &report.refs {
        let status = match outcome {
            RefOutcome::Updated => "updated",
            RefOutcome::Unchanged => "unchanged",
            RefOutcome::WouldUpdate => "would be updated",
            RefOutcome::Refused(_) => "refused",
        };
        let mut reason = None;
        if let RefOutcome::Refused(refusal) = outcome {
            let text = format!("{name}  refused: {}", refusal.text.escaped());
            output.refused(&text, advise(refusal.code, args.force));
            reason = Some(refusal.text.as_raw());
        } else {
            output.line(&format!("{name}  {status}"));
        }
        refs.push(json!({ "name": name.as_str(), "status": status, "reason": reason }));
    }
    let refused = report.refused().count();
    if args.dry_run {
        let objects = counted(report.objects_wanted, "object");
        output.line(&format!("would send {objects} to {remote}"));
    } else if report.objects_sent > 0 {
        output.line(&format!(
            "sent {}, {} in {:.1} s, to {remote}",
            counted(report.objects_sent, "object"),
            Size(report.bytes_sent),
            took.as_secs_f64(),
        ));
    } else if refused == 0 {
        // The server trusts that refs are complete: nobody checked each object.
        output.line(&format!("nothing to send: {remote} is up to date"));
    }
    if let (Some(url), true) = (&report.server.pull_url, refused < report.refs.len()) {
        output.line(&format!("pull from {}", url.escaped()));
    }
    if let Some(error) = &report.lost {
        output.warning(&format!(
            "the push is done, but the server's summary may not list it yet: {error:#}"
        ));
    }
    if let Some(SummaryDone::Failed(text)) = &report.summary {
        output.warning(&format!(
            "the server's summary is out of date: {}",
            text.escaped()
        ));
    }
    output.object(&json!({
        "event": "done",
        "remote": remote.to_string(),
        "refs": refs,
        "objects_sent": report.objects_sent,
        "objects_wanted": report.objects_wanted,
        "bytes_sent": report.bytes_sent,
        "seconds": took.as_secs_f64(),
        "pull_url": report.server.pull_url.as_ref().map(|url| url.as_raw()),
        "summary_current": report.summary.as_ref().map(|done| *done == SummaryDone::Current),
    }));
}

/// Returns what the user can do about a refusal.
const fn advise(code: RefusalCode, forced: bool) -> Option<&'static str> {
    Some(match code {
        RefusalCode::NOT_PERMITTED => "the operator of the cache decides who may set this ref",
        RefusalCode::NOT_FAST_FORWARD if forced => {
            "the operator of the cache decides who may replace commits (rule = \"any\")"
        }
        RefusalCode::NOT_FAST_FORWARD => {
            "to replace the commit that the server has, push with --force"
        }
        RefusalCode::LOST_RACE => {
            "somebody else has moved the ref: look at its commit, and push again"
        }
        RefusalCode::NAME_CONFLICT => "push under another name",
        RefusalCode::BINDING => {
            "`ostree commit` binds to its --branch: add --bind-ref=REF for each other name"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_that_was_forced_is_not_told_to_force() {
        let advice = |forced| advise(RefusalCode::NOT_FAST_FORWARD, forced).unwrap();
        assert!(advice(false).contains("--force"));
        assert!(!advice(true).contains("--force"));
    }
}
