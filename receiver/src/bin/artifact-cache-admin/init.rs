//! `artifact-cache-admin init`.

use std::path::PathBuf;

use anyhow::{Context, bail};
use artifact_protocol::exit;
use artifact_protocol::ostree::{RepoConfig, RepoMode};
use ostree::gio;

use crate::say;

/// Make the repository of a cache.
///
/// An archive repository that `ostree init` made will do as well: it is left as it is.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// A directory that does not exist yet, or is empty
    repo: PathBuf,
}

pub(crate) fn run(args: &Init) -> anyhow::Result<u8> {
    let path = &args.repo;
    let shown = path.display();
    let config = path.join("config");
    if config.exists() {
        let text = std::fs::read_to_string(&config)
            .with_context(|| format!("cannot read {}", config.display()))?;
        let config = RepoConfig::parse(&text)
            .with_context(|| format!("{shown} holds a repository that cannot be used"))?;
        if config.mode != RepoMode::Archive {
            bail!(
                "{shown} is a repository of mode {}, and only archives can be pulled from over \
                 https: choose another directory, or convert it with `ostree pull-local`",
                config.mode.as_str()
            );
        }
        say(&format!(
            "{shown} is an archive repository already, and good for a cache"
        ));
        return Ok(exit::DONE);
    }
    if path.is_dir() && path.read_dir()?.next().is_some() {
        bail!("{shown} is not empty, and not a repository: choose another directory");
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {shown}"))?;
    ostree::Repo::new_for_path(path)
        .create(ostree::RepoMode::Archive, gio::Cancellable::NONE)
        .with_context(|| format!("cannot make a repository in {shown}"))?;
    let path = path.canonicalize().unwrap_or_else(|_| path.clone());
    say(&format!("made an archive repository in {}", path.display()));
    say("");
    say("For sshd, in /etc/ssh/sshd_config (see the README for the user and its keys):");
    say("");
    say("  Match User artifacts");
    say(&format!(
        "      ForceCommand bst-artifact-receive --pull-url https://example.com/artifacts {}",
        path.display()
    ));
    Ok(exit::DONE)
}
