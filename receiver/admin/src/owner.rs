//! The user that a command runs as.

use std::path::Path;

use anyhow::Context;
use artifact_sandbox::privilege;

/// Becomes the owner of the repository if root runs the program on another user's repository.
pub(crate) fn become_owner_of(repo: &Path) -> anyhow::Result<()> {
    privilege::become_owner_of(repo)
        .with_context(|| format!("cannot switch to the owner of {}", repo.display()))?;
    Ok(())
}
