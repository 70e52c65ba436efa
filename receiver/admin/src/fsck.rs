//! `artifact-cache-admin fsck`.

use std::path::PathBuf;

use artifact_protocol::limits::Limits;
use artifact_protocol::{escape, exit};

use crate::say;

/// Check a whole repository as strictly as a push is checked.
///
/// Every object is read and verified, with its container; every ref and commit must reach all that
/// belongs to it. Prints a line for each fault, and what was looked at. `ostree fsck` passes file
/// objects that nobody can pull; this does not. Exits with 9 when there are faults.
#[derive(Debug, clap::Args)]
pub(crate) struct Fsck {
    /// Print nothing but faults
    #[arg(short, long)]
    quiet: bool,
    /// The repository
    repo: PathBuf,
}

pub(crate) fn run(args: &Fsck) -> anyhow::Result<u8> {
    crate::become_owner_of(&args.repo)?;
    let object_len_max = Limits::default().object_len_max;
    let checked = artifact_store::fsck(&args.repo, object_len_max, &|fault| {
        say(&escape(&format!("{}: {}", fault.what, fault.why)));
    })?;
    if !args.quiet {
        say(&format!(
            "checked {} objects ({} bytes), {} commits, {} refs: {} faults",
            checked.objects, checked.bytes, checked.commits, checked.refs, checked.faults
        ));
    }
    Ok(if checked.faults == 0 {
        exit::DONE
    } else {
        exit::STORAGE
    })
}
