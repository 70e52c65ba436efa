//! `artifact-cache-admin status`.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifact_formats::{Size, counted};
use artifact_protocol::{escape, exit};
use artifact_store::{Status, StoredRef};
use serde_json::json;

use crate::{say, tell};

/// Show the state of a cache: refs, objects, space, the last pushes, staging, the summary
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The repository
    pub(crate) repo: PathBuf,
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<u8> {
    crate::become_owner_of(&args.repo)?;
    let status = artifact_store::status(&args.repo)?;
    let mut last: Vec<&StoredRef> = status.refs.iter().collect();
    last.sort_by_key(|r| (Reverse(r.set), &r.name));
    last.truncate(LAST);
    if args.json {
        print_json(&status, &last);
    } else {
        print_text(&status, &last);
    }
    Ok(exit::DONE)
}

fn print_json(status: &Status, last: &[&StoredRef]) {
    let pushes = last.iter().map(
        |r| json!({"ref": r.name.as_str(), "commit": r.commit.to_hex(), "time": time(r.set.0)}),
    );
    let broken = status
        .broken
        .iter()
        .map(|(name, why)| json!({"ref": escape(name), "why": why}));
    let summary = status
        .summary
        .map(|(bytes, written)| json!({"bytes": bytes, "time": time(written)}));
    let object = json!({
        "refs": status.refs.len(),
        "broken_refs": broken.collect::<Vec<_>>(),
        "objects": status.objects.files,
        "object_bytes": status.objects.bytes,
        "other_files": status.others.files,
        "other_bytes": status.others.bytes,
        "staged_sessions": status.sessions,
        "staged_files": status.staged.files,
        "staged_bytes": status.staged.bytes,
        "bytes": status.room.bytes,
        "bytes_free": status.room.bytes_free,
        "inodes_free": status.room.inodes_free,
        "summary": summary,
        "last_pushes": pushes.collect::<Vec<_>>(),
    });
    tell(true, "status", &object, "");
}

fn print_text(status: &Status, last: &[&StoredRef]) {
    let Status { objects, room, .. } = status;
    say(&format!("refs      {}", status.refs.len()));
    for (name, why) in &status.broken {
        say(&escape(&format!("          {name} {why}")));
    }
    say(&format!(
        "objects   {}, {}",
        objects.files,
        Size(objects.bytes)
    ));
    let others = status.others;
    if others.files > 0 {
        say(&format!(
            "others    {}, {}",
            counted(others.files, "file"),
            Size(others.bytes)
        ));
    }
    let percent = (u128::from(room.bytes_free) * 100)
        .checked_div(u128::from(room.bytes))
        .unwrap_or(0);
    let inodes = room
        .inodes_free
        .map(|free| format!(", {}", counted(free, "inode")));
    let inodes = inodes.unwrap_or_default();
    let free = Size(room.bytes_free);
    say(&format!("free      {free} ({percent} %){inodes}"));
    let staged = status.staged;
    say(&format!(
        "staged    {} in {}, of {}",
        Size(staged.bytes),
        counted(staged.files, "file"),
        counted(status.sessions, "session")
    ));
    say(&match status.summary {
        Some((bytes, written)) => format!("summary   {}, written {}", Size(bytes), time(written)),
        None => "summary   none".to_owned(),
    });
    for r in last {
        say(&format!("pushed    {}  {}", time(r.set.0), r.name));
    }
}

/// Formats seconds since 1970 for people.
fn time(seconds: i64) -> String {
    let since = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let time = UNIX_EPOCH.checked_add(since).unwrap_or(SystemTime::now());
    humantime::format_rfc3339_seconds(time).to_string()
}

/// How many of the last pushed refs to show.
const LAST: usize = 5;
