//! `artifact-cache-admin init`.

mod serve;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_formats::{RepoConfig, RepoMode};
use artifact_protocol::exit;
use artifact_sandbox::privilege;
use artifact_store::bucket::upkeep;
use nix::unistd::User;
use ostree::gio;
use serde_json::json;

use crate::bucket;
use crate::output::{say, tell};
use crate::owner;

/// Create the repository of a cache.
///
/// Accepts an archive repository that `ostree init` made, and leaves it as it is, except that it
/// creates missing directories: a copy of a repository may lack empty ones.
///
/// In object storage, it creates the cache below the prefix, which nothing else may use.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// User that owns the repository and that clients log in as; needs root
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    #[command(flatten)]
    servers: serve::Servers,
    /// Print one JSON object a line: what was done, and what is left to do
    #[arg(long)]
    json: bool,
    /// Directory to create, which may exist if it is empty; or s3://bucket/prefix
    repo: PathBuf,
}

pub(crate) fn run(args: &Init) -> anyhow::Result<u8> {
    let path = &args.repo;
    if bucket::is_meant_by(path) {
        return in_bucket(args);
    }
    let owner = args.owner.as_deref().map(look_up).transpose()?;
    if args.servers.serve {
        args.servers.check(path)?;
    }
    let exists = is_there(path, owner.as_ref())?;
    if !exists {
        give(path, owner.as_ref())?;
    }
    let make = || match exists {
        true => mend(path, args.json),
        false => create(path, args.json),
    };
    match &owner {
        Some(user) if args.servers.serve => {
            // Root comes back, for what only root can do.
            privilege::act_as(user.uid.as_raw(), user.gid.as_raw(), make)
                .with_context(|| format!("cannot act as user {}", user.name))??;
            let repo = path.canonicalize().unwrap_or_else(|_| path.clone());
            args.servers.configure(&repo, &user.name, args.json)?;
            return Ok(exit::DONE);
        }
        Some(user) if nix::unistd::geteuid().is_root() => {
            privilege::become_user(user.uid.as_raw(), user.gid.as_raw())
                .with_context(|| format!("cannot switch to user {}", user.name))?;
        }
        _ => owner::become_owner_of(path)?,
    }
    make()?;
    if !exists && !args.json {
        show_sshd_config(path, args.owner.as_deref().unwrap_or("artifacts"));
    }
    Ok(exit::DONE)
}

fn in_bucket(args: &Init) -> anyhow::Result<u8> {
    if args.owner.is_some() || args.servers.serve {
        bail!("--owner and --serve are for repositories on this machine");
    }
    let client = bucket::open(&args.repo, None)?;
    let address = args.repo.display().to_string();
    let (event, text) = match upkeep::init(&client)? {
        true => ("created", format!("created a cache in {address}")),
        false => ("found", format!("{address} is a cache already")),
    };
    tell(args.json, event, &json!({ "repo": address }), &text);
    Ok(exit::DONE)
}

/// Returns whether there is a repository that can serve as a cache. Anything else must be an empty
/// directory, or nothing.
fn is_there(path: &Path, owner: Option<&User>) -> anyhow::Result<bool> {
    if path.join("config").exists() {
        check_owner(path, owner)?;
        check(path)?;
        return Ok(true);
    }
    if path.is_dir() && path.read_dir()?.next().is_some() {
        let shown = path.display();
        bail!("{shown} is neither empty nor a repository: choose another directory");
    }
    Ok(false)
}

/// Makes the directory and gives it to its owner, who creates everything below, and may turn out to
/// be unable to reach it.
fn give(path: &Path, owner: Option<&User>) -> anyhow::Result<()> {
    let shown = path.display();
    std::fs::create_dir_all(path).with_context(|| format!("cannot create {shown}"))?;
    if let Some(user) = owner {
        std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .with_context(|| format!("cannot give {shown} to {}", user.name))?;
    }
    Ok(())
}

fn mend(path: &Path, json: bool) -> anyhow::Result<()> {
    artifact_store::mend(path)?;
    let shown = path.display().to_string();
    let text = format!("{shown} is an archive repository already, and can serve as a cache");
    tell(json, "found", &json!({ "repo": shown }), &text);
    Ok(())
}

fn create(path: &Path, json: bool) -> anyhow::Result<()> {
    ostree::Repo::new_for_path(path)
        .create(ostree::RepoMode::Archive, gio::Cancellable::NONE)
        .with_context(|| format!("cannot create a repository in {}", path.display()))?;
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let shown = path.display().to_string();
    let text = format!("created an archive repository in {shown}");
    tell(json, "created", &json!({ "repo": shown }), &text);
    Ok(())
}

fn show_sshd_config(path: &Path, user: &str) {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    say("");
    say("Add this to /etc/ssh/sshd_config (receiver/MANUAL.md explains it):");
    say("");
    say(&format!("  Match User {user}"));
    say(&format!(
        "      ForceCommand bst-artifact-receive --pull-url https://example.com/artifacts {}",
        path.display()
    ));
    say("      ExposeAuthInfo yes");
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
             choose another directory, or make an archive of it, `ostree init --mode=archive \
             --repo={shown}.archive && ostree pull-local --repo={shown}.archive {shown}`",
            config.mode.as_str()
        );
    }
    Ok(())
}
