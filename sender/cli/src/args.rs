//! The command line.

mod examples;

use std::ffi::OsStr;
use std::num::NonZeroU64;
use std::path::PathBuf;

use artifact_formats::RefPattern;
use artifact_protocol::Version;
use artifact_sender::{Dialect, RefName, Remote};
use clap::builder::Resettable;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::address::Address;
use crate::args::examples::{
    CHECK_EXAMPLES, COMPLETIONS_EXAMPLES, CONFIG_EXAMPLES, HELP, JOIN_EXAMPLES, LIST_EXAMPLES,
    PULL_EXAMPLES, PUSH_EXAMPLES,
};

/// Share build results: push OSTree commits to a cache that everybody pulls from
#[derive(Debug, Parser)]
#[command(name = "artifact-cache", version, after_help = HELP)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Configuration file to use instead of the usual ones
    #[arg(long, global = true, display_order = 99, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Command to run instead of `ssh`, with its arguments
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "COMMAND",
        env = "ARTIFACT_CACHE_SSH"
    )]
    pub(crate) ssh: Option<String>,
    /// File with certificates of authorities to trust for https, in addition to this machine's
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "FILE",
        env = "ARTIFACT_CACHE_CA"
    )]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate to introduce yourself with over https
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "FILE",
        env = "ARTIFACT_CACHE_CLIENT_CERT"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// Key of that certificate [default: it is in the same file]
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "FILE",
        env = "ARTIFACT_CACHE_CLIENT_KEY"
    )]
    pub(crate) client_key: Option<PathBuf>,
    /// Protocol version to speak: 0 is that of ostree-push before 0.1, 1 that of BuildStream 1.x
    /// [default: the newest that the server knows, found by trying]
    #[arg(
        long,
        global = true,
        display_order = 100,
        value_name = "N",
        env = "ARTIFACT_CACHE_PROTOCOL",
        value_parser = clap::value_parser!(u16).range(..=i64::from(Version::NEWEST.0))
    )]
    pub(crate) protocol: Option<u16>,
    /// Print one JSON object a line to standard output, and nothing else there
    #[arg(long, global = true, display_order = 101)]
    pub(crate) json: bool,
    /// Print only errors and refusals
    #[arg(
        short,
        long,
        global = true,
        display_order = 102,
        conflicts_with = "verbose"
    )]
    pub(crate) quiet: bool,
    /// Also print the messages of the server and of ssh
    #[arg(short, long, global = true, display_order = 103)]
    pub(crate) verbose: bool,
}

impl Args {
    /// Returns the old version that `--protocol` selects.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        self.protocol
            .and_then(|number| Dialect::of_version(Version(number)))
    }

    /// Reads the command line, and the environment for options that it does not set. A variable
    /// that is set to an empty string counts as unset.
    pub(crate) fn read() -> Result<Self, clap::Error> {
        let matches = ignore_empty_variables(Self::command()).try_get_matches()?;
        Self::from_arg_matches(&matches)
    }
}

fn ignore_empty_variables(command: clap::Command) -> clap::Command {
    let is_empty = |name: &OsStr| {
        let value = std::env::var_os(name);
        value.is_some_and(|value| value.to_string_lossy().trim().is_empty())
    };
    command
        .mut_args(|arg| match arg.get_env() {
            Some(name) if is_empty(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
        .mut_subcommands(ignore_empty_variables)
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Push(Push),
    Pull(Pull),
    List(List),
    Check(Check),
    Join(Join),
    Config(Config),
    Completions(Completions),
}

/// Push refs of a local repository
///
/// Sends only the objects that the server lacks. The server verifies each object, and moves a ref
/// once everything that the ref reaches is on its disk: when this command prints "updated", the
/// update survives a power cut. If the push is interrupted, the cache stays as it was; run the same
/// command again to resume.
#[derive(Debug, clap::Args)]
#[command(after_help = PUSH_EXAMPLES)]
pub(crate) struct Push {
    /// Local repository: archive, bare-user, bare or bare-user-only
    #[arg(long, value_name = "PATH", env = "OSTREE_REPO", default_value = ".")]
    pub(crate) repo: PathBuf,
    /// Cache to push to: ssh://[user@]host[:port]/path, [user@]host:path, or a local path. Give it
    /// several times to push to several caches in turn [default: each configured cache that has
    /// `push: true`]
    #[arg(long, value_name = "URL")]
    pub(crate) remote: Vec<Remote>,
    /// Fail if any configured cache cannot be reached, even if others can
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show what would be sent and set, and change nothing. Does not show refusals for which the
    /// server needs the commit, such as of a move that is not a fast-forward
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Also send this many ancestors of each commit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: u32,
    /// Also move refs to commits that do not descend from their current ones
    #[arg(long)]
    pub(crate) force: bool,
    /// How hard to compress content of a repository that is not an archive: 0 to 9
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u32).range(0..=9),
          default_value_t = artifact_sender::Repository::DEFAULT_COMPRESSION)]
    pub(crate) compression: u32,
    /// Send at most this many bytes a second; K, M and G stand for thousands, millions and billions
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub(crate) limit_rate: Option<NonZeroU64>,
    /// How often to retry, with growing pauses, if the connection is lost, the server is too busy
    /// or the cache is locked. Objects that the server has verified are not sent again
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retries: u32,
    /// Refs of the local repository to push
    #[arg(value_name = "REF", required = true)]
    pub(crate) refs: Vec<RefName>,
}

/// Pull refs into a local repository
///
/// Takes each ref from the first cache that has it, and creates a ref of the same name here.
/// Verifies everything against its checksum, and sets a ref once everything that it reaches is
/// here and on the disk. Leaves a ref alone if it holds something that the cache does not know,
/// unless `--force` is given. If the pull is interrupted, the refs stay as they were; run the same
/// command again to resume. Checks the signatures that the repository's configuration demands of a
/// remote with the cache's address (`gpg-verify`, `gpg-verify-summary`, `sign-verify`), and those
/// that artifact-cache.yaml demands (`gpg-keys`, `ed25519-keys`).
#[derive(Debug, clap::Args)]
#[command(after_help = PULL_EXAMPLES)]
pub(crate) struct Pull {
    /// Local repository, of any mode. If it does not exist, it is created, with mode bare-user
    #[arg(long, value_name = "PATH", env = "OSTREE_REPO", default_value = ".")]
    pub(crate) repo: PathBuf,
    /// Cache to pull from: https://host/path, a local path, or an address to push to, whose server
    /// names the place to pull from. Give it several times to try several caches in turn [default:
    /// the configured caches]
    #[arg(long, value_name = "URL")]
    pub(crate) remote: Vec<Address>,
    /// Fail if a cache cannot be used, instead of trying the next one
    #[arg(long)]
    pub(crate) strict: bool,
    /// Show what would be fetched and set, and change nothing
    #[arg(short = 'n', long)]
    pub(crate) dry_run: bool,
    /// Also pull this many ancestors of each commit, as far as the cache has them
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) depth: u32,
    /// Pull every ref that matches this pattern: `*` stands for any part of a name between slashes,
    /// `**` for any number of parts
    #[arg(long, value_name = "PATTERN", conflicts_with = "refs")]
    pub(crate) all: Option<RefPattern>,
    /// Also move refs that hold a commit which is not in the history of the cache's. The next
    /// `ostree prune` deletes that commit, unless another ref holds it
    #[arg(long)]
    pub(crate) force: bool,
    /// How often to retry, with growing pauses, if the connection is lost, the web server fails or
    /// the cache is locked
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retries: u32,
    /// Refs of the cache to pull
    #[arg(value_name = "REF", required_unless_present = "all")]
    pub(crate) refs: Vec<RefName>,
}

/// List the refs of a cache: name, age and size
///
/// Lists a ref that several caches have once, as `pull` would find it.
#[derive(Debug, clap::Args)]
#[command(after_help = LIST_EXAMPLES)]
pub(crate) struct List {
    /// Cache to list: https://host/path, a local path, or an address to push to [default: the
    /// configured caches]
    #[arg(long, value_name = "URL")]
    pub(crate) remote: Vec<Address>,
    /// Fail if a cache cannot be used, instead of leaving it out
    #[arg(long)]
    pub(crate) strict: bool,
    /// How often to retry, with growing pauses, if the connection is lost, the web server fails or
    /// the cache is locked
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) retries: u32,
    /// List only refs that match this pattern: `*` stands for any part of a name between slashes,
    /// `**` for any number of parts
    #[arg(value_name = "PATTERN")]
    pub(crate) pattern: Option<RefPattern>,
}

/// Connect to a cache, and show which server answers, or what is wrong and how to fix it
#[derive(Debug, clap::Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct Check {
    /// Cache to check, as for push or pull [default: each configured cache]
    #[arg(long, value_name = "URL")]
    pub(crate) remote: Vec<Address>,
}

/// Make this machine a client of a cache
///
/// Writes the cache into the configuration, unless that names other caches already. If ssh does not
/// know the host yet, shows the fingerprints of its keys, asks whether they are right, and adds
/// them to known_hosts. Then checks the cache, as `artifact-cache check` does.
#[derive(Debug, clap::Args)]
#[command(after_help = JOIN_EXAMPLES)]
pub(crate) struct Join {
    /// Cache: ssh://[user@]host[:port]/path, [user@]host:path, https://host/path or a local path
    #[arg(value_name = "URL")]
    pub(crate) cache: Address,
    /// The only fingerprint to accept, such as SHA256:..., instead of asking; for machines
    #[arg(long, value_name = "FINGERPRINT")]
    pub(crate) fingerprint: Option<String>,
    /// Accept whatever keys the host shows. Only for networks that nobody else can reach
    #[arg(long, conflicts_with = "fingerprint")]
    pub(crate) yes: bool,
}

/// Check the configuration, or show it
///
/// Both look at the file that the other commands use.
#[derive(Debug, clap::Args)]
#[command(after_help = CONFIG_EXAMPLES)]
pub(crate) struct Config {
    #[command(subcommand)]
    pub(crate) command: ConfigAction,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigAction {
    /// Check the configuration, and that all files that it names can be read; exits with 2 if not
    Check,
    /// Print the caches in one form
    Show {
        /// Also print the defaults of what the file does not set, and what options and variables
        /// set instead
        #[arg(long)]
        effective: bool,
    },
}

/// Print a script that completes commands, refs and caches in your shell
///
/// Packages install it. Refs are those of the local repository for `push`, and those of the caches
/// for `pull` and `list`, as far as a cache answers within two seconds.
#[derive(Debug, clap::Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Shell {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Zsh => "zsh",
            Self::Fish => "fish",
        }
    }
}

/// Parses a number of bytes, with an optional unit.
fn parse_rate(text: &str) -> Result<NonZeroU64, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((end, 'k' | 'K')) => (text.get(..end), 1_000),
        Some((end, 'm' | 'M')) => (text.get(..end), 1_000_000),
        Some((end, 'g' | 'G')) => (text.get(..end), 1_000_000_000),
        _ => (Some(text), 1),
    };
    number
        .and_then(|number| number.parse::<u64>().ok())
        .and_then(|number| NonZeroU64::new(number.checked_mul(unit)?))
        .ok_or_else(|| "a rate must be a number of bytes above 0, such as 500K or 2M".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_a_number_of_bytes_with_or_without_a_unit() {
        for (text, bytes) in [
            ("1", 1),
            ("500K", 500_000),
            ("2m", 2_000_000),
            ("3G", 3_000_000_000),
        ] {
            assert_eq!(parse_rate(text).map(NonZeroU64::get), Ok(bytes));
        }
        for text in [
            "",
            "0",
            "K",
            "-1",
            "1.5M",
            "2MB",
            "99999999999G",
            "5\u{2126}",
        ] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }
}
