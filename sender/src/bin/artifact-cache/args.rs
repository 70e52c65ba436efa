//! The command line.

use std::path::PathBuf;

use artifact_sender::{RefName, Remote};
use clap::{Parser, Subcommand};

/// Share what was built: push OSTree commits to a cache that everybody pulls from.
#[derive(Debug, Parser)]
#[command(name = "artifact-cache", version, after_help = EXIT_CODES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Command to use in the place of `ssh`, with its arguments
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "COMMAND",
        env = "ARTIFACT_CACHE_SSH"
    )]
    pub(crate) ssh: Option<String>,
    /// Print one JSON object a line on standard output, and nothing else there
    #[arg(long, global = true, display_order = 101)]
    pub(crate) json: bool,
    /// Print nothing but errors and refusals
    #[arg(
        short,
        long,
        global = true,
        display_order = 102,
        conflicts_with = "verbose"
    )]
    pub(crate) quiet: bool,
    /// Print also what the server and ssh have to say
    #[arg(short, long, global = true, display_order = 103)]
    pub(crate) verbose: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(Push),
    Check(Check),
}

/// Push refs of a local repository.
///
/// Only objects that the server lacks travel. The server verifies each, and moves a ref when
/// everything it reaches is on its disk: when this command says "updated", it is there.
/// Interrupted at any moment, the cache is as before; the same command again goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = PUSH_EXAMPLES)]
pub(crate) struct Push {
    /// The local repository: archive, bare-user, bare or bare-user-only
    #[arg(long, value_name = "PATH", env = "OSTREE_REPO", default_value = ".")]
    pub(crate) repo: PathBuf,
    /// Where to push to: ssh://[user@]host[:port]/path, [user@]host:path, or a local path.
    /// Several are pushed to one after the other
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) remote: Vec<Remote>,
    /// Change nothing; say what would be sent and set. What is refused only once the server has the
    /// commit, such as a move that is no fast-forward, does not show
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Send this many ancestors of each commit along
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: u32,
    /// Move refs also to commits that do not descend from their current ones
    #[arg(long)]
    pub(crate) force: bool,
    /// How hard to compress content of a repository that is no archive: 0 to 9
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(0..=9),
          default_value_t = artifact_sender::Repository::DEFAULT_COMPRESSION)]
    pub(crate) compression: u32,
    /// Refs of the local repository
    #[arg(value_name = "REF", required = true)]
    pub(crate) refs: Vec<RefName>,
}

/// Connect to a cache and say who is there, or what is wrong and how to mend it.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The cache, as for push
    #[arg(long, value_name = "URL", required = true)]
    pub(crate) remote: Remote,
}

const PUSH_EXAMPLES: &str = "\
Examples:
  artifact-cache push --repo ~/repo --remote ssh://artifacts@example.com/cache os/x86_64/stable
  artifact-cache push --repo ~/repo --remote /srv/cache --dry-run app/one app/two";

const EXIT_CODES: &str = "\
Exit codes:
  0  done, or already there          6  the other side does not speak this protocol
  1  a bug, most likely              7  the local repository lacks something, or is damaged
  2  wrong usage                     8  the server refused what was sent
  3  the server refused some refs    9  the server cannot store: full, locked, damaged
  5  no connection, or it was lost";
