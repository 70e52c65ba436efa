//! `artifact-cache-admin init`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_formats::{RepoConfig, RepoMode};
use artifact_protocol::exit;
use artifact_sandbox::privilege;
use nix::unistd::User;
use ostree::gio;

use crate::say;

/// Create the repository of a cache.
///
/// Accepts an archive repository that `ostree init` made, and leaves it as it is, except that it
/// creates missing directories: a copy of a repository may lack empty ones.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// User that owns the repository and that clients log in as; needs root
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Directory to create; it may exist if it is empty
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
            "{shown} is an archive repository already, and can serve as a cache"
        ));
        return Ok(exit::DONE);
    }
    if path.is_dir() && path.read_dir()?.next().is_some() {
        bail!("{shown} is neither empty nor a repository: choose another directory");
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {shown}"))?;
    match &owner {
        Some(user) => {
            // That user creates everything below, and may turn out to be unable to reach the
            // directory.
            std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("cannot give {shown} to {}", user.name))?;
            if nix::unistd::geteuid().is_root() {
                privilege::become_user(user.uid.as_raw(), user.gid.as_raw())
                    .with_context(|| format!("cannot switch to user {}", user.name))?;
            }
        }
        None => crate::become_owner_of(path)?,
    }
    ostree::Repo::new_for_path(path)
        .create(ostree::RepoMode::Archive, gio::Cancellable::NONE)
        .with_context(|| format!("cannot create a repository in {shown}"))?;
    let path = path.canonicalize().unwrap_or_else(|_| path.clone());
    say(&format!(
        "created an archive repository in {}",
        path.display()
    ));
    let user = args.owner.as_deref().unwrap_or("artifacts");
    say("");
    say("Add this to /etc/ssh/sshd_config (receiver/MANUAL.md explains it):");
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

/// Checks that an existing repository belongs to `owner`.
fn check_owner(path: &Path, owner: Option<&User>) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let shown = path.display();
    let metadata = path
        .metadata()
        .with_context(|| format!("cannot inspect {shown}"))?;
    match owner {
        Some(user) if metadata.uid() != user.uid.as_raw() => bail!(
            "{shown} is a repository already, but {0} does not own it: `chown -R {0} {shown}` \
             changes that",
            user.name
        ),
        _ => Ok(()),
    }
}

/// Checks that an existing repository can serve as a cache.
fn check(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    let config = path.join("config");
    let text = std::fs::read_to_string(&config)
        .with_context(|| format!("cannot read {}", config.display()))?;
    let config = RepoConfig::parse(&text)
        .with_context(|| format!("the repository {shown} cannot serve as a cache"))?;
    if config.mode != RepoMode::Archive {
        bail!(
            "{shown} is a repository of mode {}, and only archives can be pulled from over https: \
             choose another directory, or convert it with `ostree pull-local`",
            config.mode.as_str()
        );
    }
    Ok(())
}
