//! `artifact-cache-admin fsck`.

use std::path::{Path, PathBuf};

use artifact_formats::{Size, counted};
use artifact_protocol::limits::Limits;
use artifact_protocol::{escape, exit};
use artifact_store::{Finding, Repaired, Weight};

use crate::say;

/// Check a whole repository as strictly as a push is checked.
///
/// Reads and verifies every object and its container, and checks that every ref and commit reaches
/// all of its objects. Prints a line for each fault, and a summary of the check. Harmless findings,
/// such as files that other programs left, are printed as remarks. Stricter than `ostree fsck`,
/// which accepts some file objects that nobody can pull. Exits with 9 if there are faults.
#[derive(Debug, clap::Args)]
pub(crate) struct Fsck {
    /// Print only faults
    #[arg(short, long)]
    quiet: bool,
    /// Mark commits with missing objects as partial, and move damaged objects to
    /// extensions/artifact-cache/quarantine, so that a push of what is missing completes the
    /// commits again
    #[arg(long)]
    repair: bool,
    /// The repository
    repo: PathBuf,
}

pub(crate) fn run(args: &Fsck) -> anyhow::Result<u8> {
    crate::become_owner_of(&args.repo)?;
    let object_len_max = Limits::default().object_len_max;
    let report = |finding: Finding| {
        let remark = match finding.weight {
            Weight::Fault => "",
            Weight::Remark => "remark: ",
        };
        if remark.is_empty() || !args.quiet {
            say(&escape(&format!(
                "{remark}{}: {}",
                finding.what, finding.why
            )));
        }
    };
    let (checked, repaired) = if args.repair {
        artifact_store::repair(&args.repo, object_len_max, &report)?
    } else {
        let checked = artifact_store::fsck(&args.repo, object_len_max, &report)?;
        (checked, Repaired::default())
    };
    show(&repaired, &args.repo);
    if !args.quiet {
        say(&format!(
            "checked {} ({}), {}, {}: {}, {}",
            counted(checked.objects, "object"),
            Size(checked.bytes),
            counted(checked.commits, "commit"),
            counted(checked.refs, "ref"),
            counted(checked.faults, "fault"),
            counted(checked.remarks, "remark"),
        ));
    }
    Ok(if checked.faults == 0 {
        exit::DONE
    } else {
        exit::STORAGE
    })
}

/// Prints what the repair did, and what is left to do.
fn show(repaired: &Repaired, repo: &Path) {
    for (from, to) in &repaired.moved {
        say(&escape(&format!("moved {from} to {to}")));
    }
    for commit in &repaired.marked {
        say(&format!("marked commit {commit} as partial"));
    }
    for commit in &repaired.unmarked {
        say(&format!("commit {commit} is complete again"));
    }
    if repaired.refs.is_empty() {
        return;
    }
    say(
        "these refs lack objects; have somebody who has them push them with `artifact-cache push`,",
    );
    say(&format!(
        "then check again with `artifact-cache-admin fsck --repair {}`:",
        repo.display()
    ));
    for name in &repaired.refs {
        say(&escape(&format!("  {name}")));
    }
}
