//! `artifact-cache-admin mirror`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use artifact_formats::{Size, counted};
use artifact_protocol::limits::Limits;
use artifact_protocol::{escape, exit};
use artifact_store::mirror::{MirrorEvent, MirrorOptions, Mirrored, mirror};
use serde_json::json;

use crate::bucket;
use crate::output::{complain, say, tell};
use crate::owner;
use crate::server::Server;

/// Mirror a repository to object storage, from which stock ostree pulls.
///
/// Copies only what is missing there: objects first, then commits, refs, and the summary with its
/// signatures. At any moment, every ref of the bucket leads to a whole commit. Verifies each object
/// on the way; one that is damaged is never copied, nor is what needs it. Pushes may run at the
/// same time, and other mirrors. A mirror that was interrupted goes on where it stopped.
///
/// To copy a bucket to a repository on this machine, pull from it: `ostree pull --mirror`.
#[derive(Debug, clap::Args)]
pub(crate) struct Mirror {
    #[command(flatten)]
    server: Server,
    /// Remove refs from the bucket that the repository does not have
    #[arg(long)]
    delete: bool,
    /// Show what would be done, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Proceed even if --delete removes all refs of a project, or more than half of all refs
    #[arg(long, requires = "delete")]
    allow_remove_all: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// The repository
    repo: PathBuf,
    /// The bucket, as s3://bucket or s3://bucket/prefix
    #[arg(value_name = "BUCKET")]
    bucket: PathBuf,
}

pub(crate) fn run(args: &Mirror) -> anyhow::Result<u8> {
    owner::become_owner_of(&args.repo)?;
    let client = bucket::open(&args.bucket, args.server.config())?;
    let address = args.bucket.to_string_lossy();
    let options = MirrorOptions {
        address: address.trim_end_matches('/').to_owned(),
        dry_run: args.dry_run,
        delete: args.delete,
        allow_remove_all: args.allow_remove_all,
        object_len_max: Limits::default().object_len_max,
    };
    let refused = AtomicBool::new(false);
    let report = |event| {
        if let MirrorEvent::Refused { .. } = event {
            refused.store(true, Ordering::Relaxed);
        }
        show(args, &event);
    };
    let done = mirror(&args.repo, &client, &options, &report)?;
    conclude(args, &done);
    Ok(match (done.faults, refused.into_inner()) {
        (0, false) => exit::DONE,
        (0, true) => exit::USAGE,
        _ => exit::STORAGE,
    })
}

fn show(args: &Mirror, event: &MirrorEvent) {
    let (set, removed) = match args.dry_run {
        true => ("would-set", "would-remove"),
        false => ("set", "removed"),
    };
    match event {
        MirrorEvent::Fault { what, why } => {
            let fields = json!({"what": what, "why": why});
            tell(
                args.json,
                "fault",
                &fields,
                &escape(&format!("{what}: {why}")),
            );
        }
        MirrorEvent::Copied { objects, bytes } => {
            let fields = json!({"objects": objects, "bytes": bytes});
            let text = format!("copied {}, {}", counted(*objects, "object"), Size(*bytes));
            tell(args.json, "copied", &fields, &text);
        }
        MirrorEvent::Set { name, commit } => {
            let fields = json!({"ref": name.as_str(), "commit": commit.to_hex()});
            let text = format!("{} {name} to {commit}", set.replace('-', " "));
            tell(args.json, set, &fields, &text);
        }
        MirrorEvent::Removed { name, commit } => {
            let commit = commit.map(|commit| commit.to_hex());
            let fields = json!({"ref": name.as_str(), "commit": commit});
            let text = format!("{} {name}", removed.replace('-', " "));
            tell(args.json, removed, &fields, &text);
        }
        MirrorEvent::Refused { why } if args.json => {
            tell(true, "refused", &json!({"why": why}), "");
        }
        MirrorEvent::Refused { why } => complain(&format!(
            "artifact-cache-admin: no refs were removed: {why}; --allow-remove-all lets it"
        )),
        // What a later version tells needs a later program.
        _ => {}
    }
}

fn conclude(args: &Mirror, done: &Mirrored) {
    let fields = json!({
        "dry_run": args.dry_run,
        "objects": done.objects,
        "bytes": done.bytes,
        "commits": done.commits,
        "refs_set": done.refs_set,
        "refs_unchanged": done.refs_unchanged,
        "refs_removed": done.refs_removed,
        "summary_replaced": done.summary_replaced,
        "faults": done.faults,
    });
    let done_so = match args.dry_run {
        true => "would mirror",
        false => "mirrored",
    };
    let mut text = format!(
        "{done_so} {} ({}), {}: {}, {} unchanged",
        counted(done.objects, "object"),
        Size(done.bytes),
        counted(done.commits, "commit"),
        counted(done.refs_set, "ref"),
        done.refs_unchanged,
    );
    if done.refs_removed > 0 {
        text += &format!(", {} removed", done.refs_removed);
    }
    if done.faults > 0 {
        text += &format!(", {}", counted(done.faults, "fault"));
    }
    tell(args.json, "mirrored", &fields, &text);
    if done.refs_removed > 0 && !args.json && !args.dry_run {
        let bucket = args.bucket.display();
        say(&format!(
            "to free space: artifact-cache-admin prune {bucket}"
        ));
    }
}
