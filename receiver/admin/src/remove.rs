//! `artifact-cache-admin remove`.

use std::path::PathBuf;

use anyhow::bail;
use artifact_formats::RefName;
use artifact_protocol::exit;
use artifact_store::bucket::upkeep;
use artifact_store::{Removal, StoredRef};
use serde_json::json;

use crate::bucket;
use crate::output::{complain, say, tell};
use crate::owner;
use crate::prune::too_much;
use crate::server::Server;

/// Remove refs from the repository and from the summary.
///
/// Pushes may run at the same time. The objects stay, for clients that are pulling them, until
/// `prune` removes those that no ref reaches.
///
/// Refuses to remove several refs at once if these are all refs of a project, or more than half of
/// all refs, unless --allow-remove-all is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    server: Server,
    /// Show which refs would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Proceed even if that removes all refs of a project, or more than half of all refs
    #[arg(long)]
    allow_remove_all: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    /// The repository, or s3://bucket/prefix
    pub(crate) repo: PathBuf,
    /// Refs to remove
    #[arg(required = true, value_name = "REF")]
    refs: Vec<RefName>,
}

/// Returns the exit code if nothing is to be removed: by the user's wish, or for safety.
fn hold(args: &Remove, refs: &[StoredRef]) -> anyhow::Result<Option<u8>> {
    let going: Vec<_> = refs
        .iter()
        .filter(|r| args.refs.contains(&r.name))
        .collect();
    // Whoever names one ref means that one.
    let too_much = (going.len() > 1).then(|| too_much(refs, &going)).flatten();
    let too_much = too_much.filter(|_| !args.allow_remove_all);
    if args.dry_run {
        for r in &going {
            let text = format!("would remove {}, which holds {}", r.name, r.commit);
            let fields = json!({"ref": r.name.as_str(), "commit": r.commit.to_hex()});
            tell(args.json, "would-remove", &fields, &text);
        }
    }
    match too_much {
        Some(why) => {
            complain(&format!(
                "artifact-cache-admin: nothing was removed: {why}; --allow-remove-all lets it"
            ));
            Ok(Some(exit::USAGE))
        }
        None => Ok(args.dry_run.then_some(exit::DONE)),
    }
}

pub(crate) fn run(args: &Remove) -> anyhow::Result<u8> {
    let summary = args.server.summary()?;
    let wanted: Vec<_> = args.refs.iter().map(|name| (name.clone(), None)).collect();
    let removals = if bucket::is_meant_by(&args.repo) {
        let client = bucket::open(&args.repo, args.server.config())?;
        if let Some(code) = hold(args, &upkeep::list_refs(&client)?)? {
            return Ok(code);
        }
        bucket::remove_refs(&client, &summary, &wanted, args.json)?
    } else {
        owner::become_owner_of(&args.repo)?;
        if let Some(code) = hold(args, &artifact_store::list_refs(&args.repo)?)? {
            return Ok(code);
        }
        artifact_store::remove_refs(&args.repo, summary, &wanted)?
    };
    let (mut removed, mut left) = (0, Vec::new());
    for (name, removal) in args.refs.iter().zip(removals) {
        match removal {
            Removal::Removed(commit) => {
                removed += 1;
                let text = format!("removed {name}, which held {commit}");
                let fields = json!({"ref": name.as_str(), "commit": commit.to_hex()});
                tell(args.json, "removed", &fields, &text);
            }
            Removal::RemovedOther => {
                removed += 1;
                let text = format!("removed {name}, which held no commit of its own");
                tell(args.json, "removed", &json!({"ref": name.as_str()}), &text);
            }
            Removal::LedTo(alias) => left.push(format!(
                "{name} was kept: {alias} is an alias of it, and must be removed before it or \
                 with it"
            )),
            Removal::NotThere => left.push(format!("there is no ref {name}")),
            Removal::Kept => left.push(format!("{name} was kept: it is not a ref")),
            Removal::SetAgain => left.push(format!(
                "a push that ran at the same time has set {name} again: remove it once more"
            )),
        }
    }
    if removed > 0 && !args.json {
        let repo = args.repo.display();
        say(&format!("to free space: artifact-cache-admin prune {repo}"));
    }
    if !left.is_empty() {
        bail!("{}", left.join("; "));
    }
    Ok(exit::DONE)
}
