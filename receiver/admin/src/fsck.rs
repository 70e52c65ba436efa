//! `artifact-cache-admin fsck`.

use std::path::PathBuf;

use artifact_formats::{Size, counted};
use artifact_protocol::limits::Limits;
use artifact_protocol::{escape, exit};
use artifact_store::bucket::upkeep;
use artifact_store::{Checked, Finding, Repaired, Weight};
use serde_json::json;

use crate::bucket;
use crate::output::{say, tell};
use crate::owner;

/// Check a whole repository as strictly as a push is checked.
///
/// Reads and verifies every object and its container, and checks that every ref and commit reaches
/// all of its objects. Prints a line for each fault, and a summary of the check. Harmless findings,
/// such as files that other programs left, are printed as remarks. Stricter than `ostree fsck`,
/// which accepts some file objects that nobody can pull. Exits with 9 if there are faults.
///
/// Of a cache in object storage, it checks by one listing that everything is there which refs
/// reach; with --objects it reads and verifies every object as well. There, --repair does the same,
/// and marks commits that lack objects, or of which some are damaged: the next push or mirror of
/// these commits brings everything again.
#[derive(Debug, clap::Args)]
pub(crate) struct Fsck {
    /// Print only faults
    #[arg(short, long)]
    quiet: bool,
    /// Mark commits with missing objects as partial, and move damaged objects to
    /// extensions/artifact-cache/quarantine, so that a push of what is missing completes the
    /// commits again
    #[arg(long)]
    repair: bool,
    /// Read every object of a cache in object storage
    #[arg(long, conflicts_with = "repair")]
    objects: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// The repository, or s3://bucket/prefix
    repo: PathBuf,
}

pub(crate) fn run(args: &Fsck) -> anyhow::Result<u8> {
    let object_len_max = Limits::default().object_len_max;
    let report = |finding: Finding| {
        let remark = match finding.weight {
            Weight::Fault => "",
            Weight::Remark => "remark: ",
        };
        let is_fault = remark.is_empty();
        if is_fault || !args.quiet {
            let (what, why) = (&finding.what, &finding.why);
            tell(
                args.json,
                if is_fault { "fault" } else { "remark" },
                &json!({"what": what.to_string(), "why": why.to_string()}),
                &escape(&format!("{remark}{what}: {why}")),
            );
        }
    };
    if bucket::is_meant_by(&args.repo) {
        let client = bucket::open(&args.repo, None)?;
        let checked = match args.repair {
            true => upkeep::repair(&client, object_len_max, &report)?,
            false => upkeep::fsck(&client, args.objects, object_len_max, &report)?,
        };
        return Ok(conclude(args, &checked));
    }
    owner::become_owner_of(&args.repo)?;
    let (checked, repaired) = if args.repair {
        artifact_store::repair(&args.repo, object_len_max, &report)?
    } else {
        let checked = artifact_store::fsck(&args.repo, object_len_max, &report)?;
        (checked, Repaired::default())
    };
    show(&repaired, args);
    Ok(conclude(args, &checked))
}

/// Prints the counts of a check, and returns the exit code.
fn conclude(args: &Fsck, checked: &Checked) -> u8 {
    if !args.quiet {
        let fields = json!({
            "objects": checked.objects,
            "bytes": checked.bytes,
            "commits": checked.commits,
            "refs": checked.refs,
            "faults": checked.faults,
            "remarks": checked.remarks,
        });
        let text = format!(
            "checked {} ({}), {}, {}: {}, {}",
            counted(checked.objects, "object"),
            Size(checked.bytes),
            counted(checked.commits, "commit"),
            counted(checked.refs, "ref"),
            counted(checked.faults, "fault"),
            counted(checked.remarks, "remark"),
        );
        tell(args.json, "checked", &fields, &text);
    }
    if checked.faults == 0 {
        exit::DONE
    } else {
        exit::STORAGE
    }
}

/// Prints what the repair did, and what is left to do.
fn show(repaired: &Repaired, args: &Fsck) {
    let json = args.json;
    for (from, to) in &repaired.moved {
        let text = escape(&format!("moved {from} to {to}"));
        let fields = json!({"from": from.to_string(), "to": to.to_string()});
        tell(json, "moved", &fields, &text);
    }
    for commit in &repaired.marked {
        let text = format!("marked commit {commit} as partial");
        tell(
            json,
            "marked-partial",
            &json!({"commit": commit.to_hex()}),
            &text,
        );
    }
    for commit in &repaired.unmarked {
        let text = format!("commit {commit} is complete again");
        tell(json, "complete", &json!({"commit": commit.to_hex()}), &text);
    }
    if repaired.refs.is_empty() {
        return;
    }
    if !json {
        say(
            "these refs lack objects; have somebody who has them push them with \
             `artifact-cache push`,",
        );
        say(&format!(
            "then check again with `artifact-cache-admin fsck --repair {}`:",
            args.repo.display()
        ));
    }
    for name in &repaired.refs {
        let text = escape(&format!("  {name}"));
        tell(
            json,
            "lacks-objects",
            &json!({"ref": name.to_string()}),
            &text,
        );
    }
}
