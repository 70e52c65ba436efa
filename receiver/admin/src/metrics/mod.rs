//! `artifact-cache-admin metrics`.

mod pushes;
mod text;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use artifact_protocol::exit;
use artifact_store::Catalogue;
use serde_json::json;

use crate::metrics::pushes::Pushes;
use crate::metrics::text::Text;
use crate::output::{say, tell};
use crate::server::Server;

/// Count pushes, refusals, room and refs for Prometheus.
///
/// What is counted of pushes comes from the audit, from the file that the configuration names;
/// after a rotation it begins with zero, which Prometheus understands. For the textfile collector
/// of node_exporter, let a timer write a file:
///
///   artifact-cache-admin metrics REPO --out /var/lib/prometheus/node-exporter/artifact-cache.prom
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct WriteMetrics {
    #[command(flatten)]
    server: Server,
    /// The file to write, which gets its name when it is whole [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object a line, each with one number, in the place of Prometheus' own text
    #[arg(long, conflicts_with = "out")]
    json: bool,
    /// The repository
    repo: PathBuf,
}

pub(crate) fn run(args: &WriteMetrics) -> anyhow::Result<u8> {
    let audit = args.server.read()?.audit.file;
    let pushes = audit.as_deref().map(Pushes::read).transpose()?.flatten();
    let mut text = Text::default();
    pushes
        .as_ref()
        .unwrap_or(&Pushes::default())
        .tell(&mut text);
    text.gauge("audit_readable", u64::from(pushes.is_some()));
    tell_of_repository(&args.repo, &mut text)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    text.gauge("collected_timestamp_seconds", now);
    if args.json {
        for (name, labels, value) in text.samples() {
            let sample = json!({ "name": name, "labels": labels, "value": value });
            tell(true, "sample", &sample, "");
        }
        return Ok(exit::DONE);
    }
    let text = text.finish();
    match &args.out {
        Some(path) => {
            replace(path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        None => say(text.trim_end()),
    }
    Ok(exit::DONE)
}

fn tell_of_repository(repo: &Path, text: &mut Text) -> anyhow::Result<()> {
    let catalogue = Catalogue::open(repo)?;
    let refs = catalogue.refs();
    text.gauge("refs", refs.len() as u64);
    text.gauge("broken_refs", catalogue.broken().len() as u64);
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let last = refs.iter().map(|r| r.set).max();
    text.gauge("last_ref_set_timestamp_seconds", last.map_or(0, seconds));
    let summary = catalogue.summary();
    text.gauge("summary_bytes", summary.map_or(0, |summary| summary.len));
    let written = summary.map_or(0, |summary| seconds(summary.written));
    text.gauge("summary_written_timestamp_seconds", written);
    let room = catalogue.room()?;
    text.gauge(
        "disk_used_bytes",
        room.bytes.saturating_sub(room.bytes_free),
    );
    text.gauge("disk_free_bytes", room.bytes_free);
    if let Some(free) = room.inodes_free {
        text.gauge("disk_free_inodes", free);
    }
    Ok(())
}

/// Puts a file in the place of another one, whole. Its name meanwhile is none that a collector
/// reads.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = File::create_new(&new).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        std::fs::rename(&new, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written
}
