//! Which refs a pull may move: none that holds work of the user's.
//!
//! A ref may hold commits that were made here and are nowhere else. Once it is moved to what the cache
//! has, the next prune takes them away.

use std::collections::BTreeMap;

use artifact_sender::{Checksum, RefName};

use super::found::Found;
use super::local::LocalRepo;
use crate::origin::Origin;
use crate::trouble::Trouble;

/// Why a ref is not moved.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What the cache has.
    pub(super) commit: Checksum,
    pub(super) text: String,
    pub(super) advice: String,
}

/// Sorts what a cache has into what may be pulled, and what may not unless that is forced.
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
            "it holds {held} here, which is not in the history of what the cache has, as far as \
             that is there"
        ),
        advice: format!(
            "push it first; or pull with --force to take what the cache has, and keep what is here \
             under another name: `ostree refs --create=NAME {name}`"
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

/// So many commits are looked at: each may be a request.
const STEPS_MAX: usize = 1_000;
