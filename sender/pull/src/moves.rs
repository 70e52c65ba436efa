//! Decides which refs a pull may move: none that holds work of the user's.
//!
//! A ref may hold commits that were made here and exist nowhere else. If the pull moved it, the
//! next prune would delete them.

use artifact_formats::{Checksum, Commit, RefName};

use crate::error::Error;
use crate::local::Local;
use crate::origin::Origin;
use crate::report::Refusal;

/// Returns why a ref that holds `held` must not be moved to `commit`, if so.
pub(crate) async fn refusal(
    name: &RefName,
    held: Checksum,
    commit: Checksum,
    origin: &Origin,
    local: &Local,
) -> Result<Option<Refusal>, Error> {
    let is_free = held == commit
        || local.pulled_before(name) == Some(held)
        || descends(commit, held, origin, local).await?;
    Ok((!is_free).then_some(Refusal::HoldsWork { held }))
}

/// Follows the history of a commit, as far as it is here or at the cache.
async fn descends(
    commit: Checksum,
    ancestor: Checksum,
    origin: &Origin,
    local: &Local,
) -> Result<bool, Error> {
    let mut next = commit;
    for _ in 0..STEPS_MAX {
        let known = match local.commit(next) {
            Some(known) => Some(known),
            None => match origin.commit(next).await? {
                Some(bytes) => Some(parse(next, &bytes)?),
                None => None,
            },
        };
        match known.and_then(|known| known.parent) {
            Some(parent) if parent == ancestor => return Ok(true),
            Some(parent) => next = parent,
            None => break,
        }
    }
    Ok(false)
}

/// Parses a commit of the cache.
pub(crate) fn parse(commit: Checksum, bytes: &[u8]) -> Result<Commit, Error> {
    Commit::parse(bytes).map_err(|source| Error::BadCommit { commit, source })
}

/// Most commits to look at: each may cost a request.
const STEPS_MAX: usize = 1_000;
