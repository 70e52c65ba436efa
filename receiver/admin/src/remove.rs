//! `artifact-cache-admin remove`.

use std::path::PathBuf;

use anyhow::bail;
use artifact_formats::RefName;
use artifact_protocol::exit;
use artifact_store::Removal;

use crate::say;
use crate::server::Server;

/// Remove refs from the repository and from the summary.
///
/// Pushes may run at the same time. The objects stay, for clients that are pulling them, until
/// `prune` removes those that no ref reaches.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    server: Server,
    /// The repository
    pub(crate) repo: PathBuf,
    /// Refs to remove
    #[arg(required = true, value_name = "REF")]
    refs: Vec<RefName>,
}

pub(crate) fn run(args: &Remove) -> anyhow::Result<u8> {
    let summary = args.server.summary()?;
    crate::become_owner_of(&args.repo)?;
    let wanted: Vec<_> = args.refs.iter().map(|name| (name.clone(), None)).collect();
    let removals = artifact_store::remove_refs(&args.repo, summary, &wanted)?;
    let (mut removed, mut left) = (0, Vec::new());
    for (name, removal) in args.refs.iter().zip(removals) {
        match removal {
            Removal::Removed(commit) => {
                removed += 1;
                say(&format!("removed {name}, which held {commit}"));
            }
            Removal::RemovedOther => {
                removed += 1;
                say(&format!("removed {name}, which held no commit of its own"));
            }
            Removal::LedTo(alias) => left.push(format!(
                "{name} was kept: {alias} is an alias of it, and must be removed before it or \
                 with it"
            )),
            Removal::NotThere => left.push(format!("there is no ref {name}")),
            Removal::Kept => left.push(format!("{name} was kept: it is not a ref")),
        }
    }
    if removed > 0 {
        let repo = args.repo.display();
        say(&format!("to free space: artifact-cache-admin prune {repo}"));
    }
    if !left.is_empty() {
        bail!("{}", left.join("; "));
    }
    Ok(exit::DONE)
}
