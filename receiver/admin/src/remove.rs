//! `artifact-cache-admin remove`.

use std::path::PathBuf;

use anyhow::bail;
use artifact_formats::RefName;
use artifact_protocol::exit;
use artifact_store::Removal;

use crate::say;
use crate::server::Server;

/// Remove refs, and with them what they name from the summary.
///
/// Pushes may run beside it. Objects stay, for whoever is pulling them, until `prune` removes what
/// no ref reaches any more.
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
                say(&format!("removed {name}, which held no commit itself"));
            }
            Removal::LedTo(alias) => left.push(format!(
                "{name} was left: {alias} is an alias of it, and has to go before it or with it"
            )),
            Removal::NotThere => left.push(format!("there is no ref {name}")),
            Removal::Kept => left.push(format!("{name} was left: it is no ref")),
        }
    }
    if removed > 0 {
        let repo = args.repo.display();
        say(&format!("to make room: artifact-cache-admin prune {repo}"));
    }
    if !left.is_empty() {
        bail!("{}", left.join("; "));
    }
    Ok(exit::DONE)
}
