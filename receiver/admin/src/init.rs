//! `artifact-cache-admin init`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_formats::{RepoConfig, RepoMode};
use artifact_protocol::exit;
use artifact_receiver::privilege;
use nix::unistd::User;
use ostree::gio;

use crate::say;

/// Make the repository of a cache.
///
/// An archive repository that `ostree init` made will do as well: it is left as it is, but for
/// directories that it lacks, as one does that was copied without those that were empty.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The user who is to own it, and whom pushes come in as; needs root
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// A directory that does not exist yet, or is empty
    repo: PathBuf,
}

pub(crate) fn run(args: &Init) -> anyhow::Result<u8> {
    let path = &args.repo;
    let shown = path.display();
    let owner = args.owner.as_deref().map(look_up).transpose()?;
    if path.join("config").exists() {
        check_owner(path, owner.as_ref())?;
        check(path)?;
        crate::become_owner_of(path)?;
        artifact_store::mend(path)?;
        say(&format!(
            "{shown} is an archive repository already, and good for a cache"
        ));
        return Ok(exit::DONE);
    }
    if path.is_dir() && path.read_dir()?.next().is_some() {
        bail!("{shown} is not empty, and not a repository: choose another directory");
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {shown}"))?;
    match &owner {
        Some(user) => {
            // What comes next is made by that user, who may turn out not to reach it.
            std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("cannot give {shown} to {}", user.name))?;
            if nix::unistd::geteuid().is_root() {
                privilege::become_user(user.uid.as_raw(), user.gid.as_raw())
                    .with_context(|| format!("cannot become {}", user.name))?;
            }
        }
        None => crate::become_owner_of(path)?,
    }
    ostree::Repo::new_for_path(path)
        .create(ostree::RepoMode::Archive, gio::Cancellable::NONE)
        .with_context(|| format!("cannot make a repository in {shown}"))?;
    let path = path.canonicalize().unwrap_or_else(|_| path.clone());
    say(&format!("made an archive repository in {}", path.display()));
    let user = args.owner.as_deref().unwrap_or("artifacts");
    say("");
    say("For sshd, in /etc/ssh/sshd_config (receiver/MANUAL.md has all of it):");
    say("");
    say(&format!("  Match User {user}"));
    say(&format!(
        "      ForceCommand bst-artifact-receive --pull-url https://example.com/artifacts {}",
        path.display()
    ));
    say("      ExposeAuthInfo yes");
    Ok(exit::DONE)
}

fn look_up(name: &str) -> anyhow::Result<User> {
    User::from_name(name)?.with_context(|| format!("there is no user {name}"))
}

/// Checks that a repository that is there is whose it is to be.
fn check_owner(path: &Path, owner: Option<&User>) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let shown = path.display();
    let metadata = path
        .metadata()
        .with_context(|| format!("cannot look at {shown}"))?;
    match owner {
        Some(user) if metadata.uid() != user.uid.as_raw() => bail!(
            "{shown} is a repository already, and not {0}'s: `chown -R {0} {shown}` if it is to be",
            user.name
        ),
        _ => Ok(()),
    }
}

/// Checks that a repository can be used for a cache.
fn check(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let config = path.join("config");
    let text = std::fs::read_to_string(&config)
        .with_context(|| format!("cannot read {}", config.display()))?;
    let config = RepoConfig::parse(&text)
        .with_context(|| format!("{shown} holds a repository that cannot be used"))?;
    if config.mode != RepoMode::Archive {
        bail!(
            "{shown} is a repository of mode {}, and only archives can be pulled from over https: \
             choose another directory, or convert it with `ostree pull-local`",
            config.mode.as_str()
        );
    }
    Ok(())
}
