//! `artifact-cache push`.

use std::sync::Arc;
use std::time::Duration;

use artifact_protocol::exit;
use artifact_protocol::frame::{RefOutcome, SummaryDone};
use artifact_sender::{Error, Push, Remote, Report, Repository};
use indicatif::{DecimalBytes, HumanCount};
use serde_json::json;

use crate::args;
use crate::args::Args;
use crate::output::Output;
use crate::session;
use crate::trouble::Trouble;

/// Pushes to each remote in turn, and returns the exit code: the first that is not 0.
pub(crate) async fn run(push: &args::Push, args: &Args, output: &Output) -> u8 {
    let mut code = exit::DONE;
    for remote in &push.remote {
        let this = match push_to(remote, push, args, output).await {
            Ok(report) if report.refused().next().is_some() => exit::REFUSED_REF,
            Ok(_) => exit::DONE,
            Err(trouble) => {
                output.error(&trouble.text, trouble.advice.as_deref());
                trouble.code
            }
        };
        if code == exit::DONE {
            code = this;
        }
    }
    code
}

async fn push_to(
    remote: &Remote,
    args: &args::Push,
    all: &Args,
    output: &Output,
) -> Result<Report, Trouble> {
    let push = prepare(args).map_err(|error| Trouble::new(error, remote, None, &[]))?;
    let mut progress = output.progress();
    let result = session::run(remote, all, output, async |connection| {
        push.over(connection, |event| progress.show(event)).await
    })
    .await;
    let took = progress.finish();
    let report = result?;
    show(&report, remote, took, output);
    Ok(report)
}

fn prepare(args: &args::Push) -> Result<Push, Error> {
    let repository = Repository::open(&args.repo)?.with_compression(args.compression);
    let mut push = Push::new(Arc::new(repository))
        .agent(concat!("artifact-cache ", env!("CARGO_PKG_VERSION")))
        .force(args.force)
        .dry_run(args.dry_run)
        .depth(args.depth);
    for name in &args.refs {
        push = push.reference(name)?;
    }
    Ok(push)
}

fn show(report: &Report, remote: &Remote, took: Duration, output: &Output) {
    let mut refs = Vec::new();
    for (name, outcome) in &report.refs {
        let (status, why) = match outcome {
            RefOutcome::Updated => ("updated", None),
            RefOutcome::Unchanged => ("unchanged", None),
            RefOutcome::WouldUpdate => ("would be updated", None),
            RefOutcome::Refused(refusal) => ("refused", Some(refusal)),
        };
        let reason = why
            .map(|r| format!(": {}", r.text.escaped()))
            .unwrap_or_default();
        output.line(&format!("{name}  {status}{reason}"));
        let reason = why.map(|refusal| refusal.text.as_raw());
        refs.push(json!({ "name": name.as_str(), "status": status, "reason": reason }));
    }
    let would = if report.objects_wanted > report.objects_sent {
        "would send"
    } else {
        "sent"
    };
    let objects = HumanCount(report.objects_sent.max(report.objects_wanted));
    output.line(&match report.objects_wanted {
        0 => format!("nothing to send: {remote} has every object"),
        _ if would == "sent" => format!(
            "sent {objects} objects, {} in {:.1} s, to {remote}",
            DecimalBytes(report.bytes_sent),
            took.as_secs_f64(),
        ),
        _ => format!("would send {objects} objects to {remote}"),
    });
    if let Some(url) = &report.server.pull_url {
        output.line(&format!("pull from {}", url.escaped()));
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
