//! `artifact-cache-admin status`.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifact_formats::{Size, counted};
use artifact_protocol::{escape, exit};
use artifact_store::bucket::upkeep::{self, BucketStatus};
use artifact_store::{Count, Status, StoredRef};
use serde_json::json;

use crate::bucket;
use crate::output::{say, tell};
use crate::owner;

/// Show the state of a cache: refs, objects, space, the last pushes, staging, the summary.
///
/// Of a cache in object storage: refs, objects, what the cache keeps beside them, sessions, the
/// last pushes, the summary.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The repository, or s3://bucket/prefix
    pub(crate) repo: PathBuf,
}

pub(crate) fn run(args: &StatusArgs) -> anyhow::Result<u8> {
    if bucket::is_meant_by(&args.repo) {
        return of_bucket(args);
    }
    owner::become_owner_of(&args.repo)?;
    let status = artifact_store::status(&args.repo)?;
    let last = last(&status.refs);
    if args.json {
        print_json(&status, &last);
    } else {
        print_text(&status, &last);
    }
    Ok(exit::DONE)
}

/// Returns the refs that were set last.
fn last(refs: &[StoredRef]) -> Vec<&StoredRef> {
    let mut last: Vec<&StoredRef> = refs.iter().collect();
    last.sort_by_key(|r| (Reverse(r.set), &r.name));
    last.truncate(LAST);
    last
}

fn of_bucket(args: &StatusArgs) -> anyhow::Result<u8> {
    let client = bucket::open(&args.repo, None)?;
    let status = upkeep::status(&client)?;
    let BucketStatus {
        objects,
        others,
        lists,
        own,
        ..
    } = status;
    let written = (status.summary).map(|(len, at)| (len, i64::try_from(at).unwrap_or(i64::MAX)));
    let last = last(&status.refs);
    if args.json {
        let object = json!({
            "refs": status.refs.len(),
            "broken_refs": broken(&status.broken),
            "objects": objects.files,
            "object_bytes": objects.bytes,
            "other_files": others.files,
            "other_bytes": others.bytes,
            "closure_lists": lists.files,
            "closure_list_bytes": lists.bytes,
            "own_files": own.files,
            "own_bytes": own.bytes,
            "sessions": status.sessions,
            "summary": summary(written),
            "last_pushes": pushes(&last),
        });
        tell(true, "status", &object, "");
        return Ok(exit::DONE);
    }
    say_refs(status.refs.len(), &status.broken);
    let amount = |count: Count| format!("{}, {}", count.files, Size(count.bytes));
    say(&format!("objects   {}", amount(objects)));
    say(&format!("others    {}", amount(others)));
    say(&format!("lists     {}", amount(lists)));
    say(&format!("own       {}", amount(own)));
    say(&format!("sessions  {}", status.sessions));
    say_last(written, &last);
    Ok(exit::DONE)
}

fn pushes(last: &[&StoredRef]) -> Vec<serde_json::Value> {
    let push = |r: &&StoredRef| {
        json!({
            "ref": r.name.as_str(),
            "commit": r.commit.to_hex(),
            "time": time(r.set.0),
        })
    };
    last.iter().map(push).collect()
}

fn broken(broken: &[(String, &'static str)]) -> Vec<serde_json::Value> {
    let broken = broken.iter();
    broken
        .map(|(name, why)| json!({"ref": escape(name), "why": why}))
        .collect()
}

fn summary(written: Option<(u64, i64)>) -> Option<serde_json::Value> {
    written.map(|(bytes, written)| json!({"bytes": bytes, "time": time(written)}))
}

fn print_json(status: &Status, last: &[&StoredRef]) {
    let object = json!({
        "refs": status.refs.len(),
        "broken_refs": broken(&status.broken),
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
        "summary": summary(status.summary),
        "last_pushes": pushes(last),
    });
    tell(true, "status", &object, "");
}

fn print_text(status: &Status, last: &[&StoredRef]) {
    let Status { objects, room, .. } = status;
    say_refs(status.refs.len(), &status.broken);
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
    say_last(status.summary, last);
}

fn say_refs(count: usize, broken: &[(String, &'static str)]) {
    say(&format!("refs      {count}"));
    for (name, why) in broken {
        say(&escape(&format!("          {name} {why}")));
    }
}

fn say_last(summary: Option<(u64, i64)>, last: &[&StoredRef]) {
    say(&match summary {
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
