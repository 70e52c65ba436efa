//! The closures of small commits, to offer along with the announcement.

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::session::SmallCommit;

use crate::error::Error;
use crate::source::Repository;

/// Returns the closures of the commits, if together they have at most `max` objects; each commit
/// once. Reads no more of a large commit than it needs to decide.
pub(crate) fn small_closures(
    repository: &Repository,
    commits: impl Iterator<Item = Checksum>,
    max: usize,
) -> Result<Option<Vec<SmallCommit>>, Error> {
    let mut small: Vec<SmallCommit> = Vec::new();
    let mut all = HashSet::new();
    for commit in commits {
        if small.iter().any(|known| known.commit == commit) {
            continue;
        }
        if repository.complete_commit(commit)?.is_none() {
            return Ok(None);
        }
        let mut closure = vec![ObjectId::commit(commit)];
        let mut seen = HashSet::from([ObjectId::commit(commit)]);
        let mut expanded = 0;
        while let Some(id) = closure.get(expanded).copied() {
            expanded += 1;
            closure.extend(
                repository
                    .children(id)?
                    .into_iter()
                    .filter(|id| seen.insert(*id)),
            );
            if closure.len() > max {
                return Ok(None);
            }
        }
        all.extend(seen);
        if all.len() > max {
            return Ok(None);
        }
        small.push(SmallCommit { commit, closure });
    }
    Ok(Some(small))
}
