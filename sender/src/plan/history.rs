//! Chooses the commits of a history to push, as far as the history is here.

use artifact_formats::Checksum;
use artifact_formats::limits::MAX_HISTORY_LEN;

use crate::error::Error;
use crate::source::Repository;

/// A commit to push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The commit.
    pub commit: Checksum,
    /// The current value of the server's ref. The server itself says whether it is complete there.
    pub current: Option<Checksum>,
}

/// Returns for each pair whether the first commit descends from the second, as far as the history
/// is here.
pub(crate) fn descends(
    repository: &Repository,
    pairs: &[(Checksum, Checksum)],
) -> Result<Vec<bool>, Error> {
    pairs
        .iter()
        .map(|(commit, ancestor)| {
            let mut parent = Some(*commit);
            for _ in 0..=MAX_HISTORY_LEN {
                match parent {
                    Some(commit) if commit == *ancestor => return Ok(true),
                    Some(commit) => {
                        let commit = repository.complete_commit(commit)?;
                        parent = commit.and_then(|commit| commit.parent);
                    }
                    None => break,
                }
            }
            Ok(false)
        })
        .collect()
}

/// Returns the commits to push for a target, newest first.
pub(super) fn history(
    repository: &Repository,
    target: &Target,
    depth: u32,
) -> Result<Vec<Checksum>, Error> {
    // If the ref holds the commit already, only its ancestors are useful.
    let is_there = target.current == Some(target.commit);
    if is_there && depth == 0 {
        return Ok(Vec::new());
    }
    let depth = usize::try_from(depth).unwrap_or(usize::MAX);
    let commit = target.commit;
    let newest = repository.commit(commit).map_err(|error| match error {
        Error::MissingObject { .. } => Error::NoSuchCommit { commit },
        error => error,
    })?;
    let mut commits = vec![target.commit];
    let mut parent = newest.parent;
    // REQ-20, LIM-22.
    let mut between = None; // how many commits are newer than the current one
    while let Some(ancestor) = parent {
        if target.current == Some(ancestor) {
            between = Some(commits.len());
        }
        let searching = target.current.is_some() && between.is_none() && !is_there;
        if commits.len() > depth && !(searching && commits.len() <= MAX_HISTORY_LEN) {
            break;
        }
        let Some(commit) = repository.complete_commit(ancestor)? else {
            break;
        };
        commits.push(ancestor);
        parent = commit.parent;
    }
    commits.truncate(between.unwrap_or(1).max(depth.saturating_add(1)));
    if is_there {
        commits.remove(0);
    }
    Ok(commits)
}
