//! Decides which refs a pull may move: none that holds work of the user's.
//!
//! A ref may hold commits that were made here and exist nowhere else. If the pull moved it, the
//! next prune would delete them.

use std::collections::BTreeMap;

use artifact_sender::{Checksum, RefName};

use super::found::Found;
use super::local::LocalRepo;
use crate::origin::Origin;
use crate::trouble::Trouble;

/// Why a ref is not moved.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The commit that the cache has.
    pub(super) commit: Checksum,
    pub(super) text: String,
    pub(super) advice: String,
}

/// Separates the refs that may be pulled from those that need `--force`.
pub(super) fn sort(
    found: Found,
    origin: &Origin,
    repo: &LocalRepo,
    force: bool,
) -> Result<(Found, BTreeMap<RefName, Refusal>), Trouble> {
    let (mut good, mut refused) = (Found::new(), BTreeMap::new());
    for (name, commit) in found {
        match repo.commit_of(&name) {
            Some(held)
                if !force
                    && held != commit
                    && repo.pulled_before(&name) != Some(held)
                    && !descends(commit, held, origin, repo)? =>
            {
                refused.insert(name.clone(), refuse(&name, commit, held));
            }
            _ => drop(good.insert(name, commit)),
        }
    }
    Ok((good, refused))
}

fn refuse(name: &RefName, commit: Checksum, held: Checksum) -> Refusal {
    Refusal {
        commit,
        text: format!(
            "it holds {held} here, which is not in the history of the cache's commit, as far as \
             that history is available"
        ),
        advice: format!(
            "push it first; or keep it under another name (`ostree refs --create=NAME {name}`), \
             and pull with --force to take the cache's commit"
        ),
    }
}

/// Follows the history of a commit, as far as it is here or at the cache.
fn descends(
    commit: Checksum,
    ancestor: Checksum,
    origin: &Origin,
    repo: &LocalRepo,
) -> Result<bool, Trouble> {
    let mut next = commit;
    for _ in 0..STEPS_MAX {
        let known = match repo.commit(next) {
            Some(known) => Some(known),
            None => origin.commit(next)?,
        };
        match known.and_then(|known| known.parent) {
            Some(parent) if parent == ancestor => return Ok(true),
            Some(parent) => next = parent,
            None => break,
        }
    }
    Ok(false)
}

/// Most commits to look at: each may cost a request.
const STEPS_MAX: usize = 1_000;
