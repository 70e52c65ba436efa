//! The command line.

use std::path::{Path, PathBuf};
use std::thread;

use artifact_protocol::Version;
use artifact_protocol::dialect::Openness;
use artifact_protocol::session::Fault;
use clap::Parser;

use crate::spoken;

/// Receive a push of OSTree commits into an archive repository.
///
/// sshd runs this program and tells it who the client is. It speaks the artifact cache protocol on
/// standard input and output. In sshd_config:
///
///     Match User artifacts
///         ForceCommand bst-artifact-receive --pull-url https://example.com/artifacts REPO
///         ExposeAuthInfo yes
///
/// The last line tells it which key the client used. Without a configuration every key may push;
/// `artifact-cache-admin authorize` writes one.
///
/// Clients of BuildStream 1.x push to the same command. Those of ostree-push before 0.1 wait for
/// the server to speak first: give them `bst-artifact-receive --repo=REPO`, or a link to this
/// program named ostree-receive.
///
/// It verifies objects as they arrive, and moves a ref only when everything that the ref reaches is
/// in the repository and on the disk.
#[derive(Debug, Parser)]
#[command(name = "bst-artifact-receive", version, verbatim_doc_comment)]
pub(crate) struct Args {
    /// Log progress to standard error
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// Log at debug level
    #[arg(short, long)]
    pub(crate) debug: bool,
    /// Address to pull from, for clients
    #[arg(long, value_name = "URL")]
    pub(crate) pull_url: Option<String>,
    /// Configuration file: who may do what [default: /etc/artifact-cache.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Identity of the client, for a command="..." of its key in authorized_keys
    #[arg(long, value_name = "NAME")]
    pub(crate) identity: Option<String>,
    /// Number of threads that verify and publish objects [default: the number of processors]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Oldest protocol version that may push: 0 is ostree-push's, 1 is BuildStream 1.x's
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u16).range(..=i64::from(Version::NEWEST.0)))]
    pub(crate) protocol_min: u16,
    /// Repository, for clients of ostree-push before 0.1
    #[arg(long, value_name = "REPO", conflicts_with = "positional")]
    pub(crate) repo: Option<PathBuf>,
    /// Do not confine this process, for systems where confining fails, and for tracing
    #[arg(long)]
    pub(crate) no_sandbox: bool,
    /// Repository: a directory that `artifact-cache-admin init` or `ostree init` made; or a bucket
    /// of object storage, s3://bucket/prefix, that `artifact-cache-admin check` found good
    #[arg(value_name = "REPO", required_unless_present = "repo")]
    pub(crate) positional: Option<PathBuf>,
}

impl Args {
    pub(crate) fn threads(&self) -> usize {
        let processors = || thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(processors)
    }

    pub(crate) fn repo(&self) -> &Path {
        let repo = self.repo.as_deref().or(self.positional.as_deref());
        // The parser ensures that one of the two is set.
        repo.unwrap_or_else(|| Path::new(""))
    }

    /// Returns whether clients wait for the server to speak first. The operator decides that by how
    /// the program is started; nothing else tells.
    pub(crate) fn server_first(&self) -> bool {
        self.repo.is_some() || spoken::is_ostree_receive(std::env::args_os().next().as_deref())
    }

    pub(crate) fn openness(&self, oldest: Version, refusal: Option<Fault>) -> Openness {
        Openness {
            oldest: oldest.max(Version(self.protocol_min)),
            server_first: self.server_first(),
            refusal,
        }
    }
}
