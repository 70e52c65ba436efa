//! The options of `artifact-cache-admin prune`.

use std::path::PathBuf;
use std::time::Duration;

use artifact_formats::RefPattern;

use crate::server::Server;

/// Remove old refs, and all objects that no ref reaches.
///
/// Removes refs only with --keep-younger-than or --keep. The first keeps refs that were pushed
/// within that time; the second keeps the last N refs of each element, that is, of all refs whose
/// names differ only in the last component, as in `project/element/KEY`. With both options, a ref
/// stays if either keeps it. A ref that an alias points to always stays.
///
/// Refuses to remove all refs of a project, or more than half of all refs, unless
/// --allow-remove-all is given.
///
/// Pushes may run at the same time: they wait while objects are removed, and keep what they have
/// sent.
///
/// In object storage, pushes do not wait, unless they need what is being removed. Instead, this
/// waits: up to five minutes until each running push has taken note of what is to go, and up to
/// half an hour for pushes that died without a word. If it is stopped, the next one goes on where
/// this one stopped, after up to ten minutes. Uploads that were never completed go by a rule of the
/// bucket's lifecycle.
#[derive(Debug, clap::Args)]
pub(crate) struct Prune {
    #[command(flatten)]
    pub(super) server: Server,
    /// Keep refs that were pushed within this time, such as 90days or 12h
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) keep_younger_than: Option<Duration>,
    /// Keep the last N refs of each element
    #[arg(long, value_name = "N")]
    pub(super) keep: Option<usize>,
    /// Remove only refs that match one of these patterns, such as 'project/**'
    #[arg(long = "refs", value_name = "PATTERN")]
    pub(super) patterns: Vec<RefPattern>,
    /// Show which refs would go and how much space that would free, and change nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Proceed even if that removes all refs of a project, or more than half of all refs
    #[arg(long)]
    pub(super) allow_remove_all: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub(super) json: bool,
    /// In object storage, keep objects that were put within this time even if no ref reaches them;
    /// it should be twice as long as the longest push
    #[arg(
        long,
        value_name = "TIME",
        value_parser = humantime::parse_duration,
        default_value = "24h"
    )]
    pub(super) grace: Duration,
    /// The repository, or s3://bucket/prefix
    pub(crate) repo: PathBuf,
}
