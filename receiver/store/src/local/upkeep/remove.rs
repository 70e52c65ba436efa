//! Removing refs, beside pushes that run.
//!
//! What they named stays until a prune. A push that relies on a removed ref is told to ask again: it
//! looks at its refs once more under the repository's lock, before it publishes.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use artifact_formats::{Checksum, RefName};
use artifact_protocol::limits::Limits;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, LockMode, RealFs, if_there};
use crate::local::repository::refs::{self, Held};
use crate::local::repository::{Repo, account};
use crate::local::summary;
use crate::local::summary::config::SummaryConfig;

/// A ref, what it holds, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRef {
    /// Its name.
    pub name: RefName,
    /// The commit it holds.
    pub commit: Checksum,
    /// Seconds and nanoseconds since 1970 when it was set.
    pub set: (i64, u64),
}

/// What became of a ref that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone, durably.
    Removed(Checksum),
    /// It was not there.
    NotThere,
    /// It holds another commit than expected, or is no plain ref, and was left as it is.
    Kept,
}

/// Lists the refs that a push can set, or could by an earlier version, by name. Aliases are passed
/// over.
pub fn list_refs(path: &Path) -> Result<Vec<StoredRef>, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    list(&fs)
}

pub(crate) fn list<F: Fs>(fs: &F) -> Result<Vec<StoredRef>, Error> {
    let mut found = Vec::new();
    for (name, commit) in refs::list(fs)?.heads {
        let Ok(name) = RefName::parse_stored(&name) else {
            continue;
        };
        let path = RepoPath::head(&name);
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        if let Some(stat) = stat.filter(|stat| stat.kind == FileKind::File) {
            let set = stat.modified;
            found.push(StoredRef { name, commit, set });
        }
    }
    Ok(found)
}

/// Removes refs, each only if it still holds the commit that is given with it, and brings the
/// summary up to date.
pub fn remove_refs(
    path: &Path,
    summary: SummaryConfig,
    wanted: &[(RefName, Option<Checksum>)],
) -> Result<Vec<Removal>, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let repo = Repo::open(fs, WHO, Limits::default(), summary, 1)?;
    let removals = remove(&repo, wanted)?;
    summary::update(&repo, std::iter::empty())?;
    // Nothing is staged that anybody could take over.
    repo.staging.publish();
    Ok(removals)
}

/// Takes away what refs that are gone have left, by whatever means they went: directories without a
/// ref in them, names in accounts. And what was staged by sessions that are over.
pub fn tidy(path: &Path, summary: SummaryConfig) -> Result<(), Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let repo = Repo::open(fs, WHO, Limits::default(), summary, 1)?;
    let fs = &*repo.fs;
    // Other programs make directories for a ref while they hold this lock as well.
    let exclusive = repo.lock(LockMode::Exclusive)?;
    let lock = repo.lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    refs::remove_all_hollow(fs)?;
    account::close(&repo, |name| Ok(!account::is_there(fs, name)?))?;
    drop(lock);
    drop(exclusive);
    repo.staging.make_room();
    repo.staging.publish();
    Ok(())
}

fn remove<F: Fs>(
    repo: &Repo<F>,
    wanted: &[(RefName, Option<Checksum>)],
) -> Result<Vec<Removal>, Error> {
    let fs = &*repo.fs;
    // Exclusive, since other programs that set a ref make the directories for it before that.
    let exclusive = repo.lock(LockMode::Exclusive)?;
    let lock = repo.lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    let mut removals = Vec::with_capacity(wanted.len());
    for (name, expected) in wanted {
        removals.push(match refs::look(fs, name)? {
            Held::Nothing => Removal::NotThere,
            Held::Commit(commit) if expected.is_none_or(|expected| expected == commit) => {
                let path = RepoPath::head(name);
                fs.unlink(&path).map_err(Error::io("removing", &path))?;
                Removal::Removed(commit)
            }
            Held::Commit(_) | Held::Malformed | Held::Conflict(_) => Removal::Kept,
        });
    }
    let removed = wanted.iter().zip(&removals);
    let removed = removed.filter(|(_, removal)| matches!(removal, Removal::Removed(_)));
    let removed: BTreeSet<_> = removed.map(|((name, _), _)| name).collect();
    if !removed.is_empty() {
        refs::remove_hollow_above(fs, removed.iter().copied())?;
        let removed: HashSet<_> = removed.iter().map(|name| name.as_str()).collect();
        account::close(repo, |name| Ok(removed.contains(name)))?;
    }
    drop(lock);
    drop(exclusive);
    Ok(removals)
}

/// For whom the staging directory is that every session has.
const WHO: &str = "artifact-cache-admin";
