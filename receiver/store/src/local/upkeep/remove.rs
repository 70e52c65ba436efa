//! Removing refs, beside running pushes.
//!
//! Their commits stay until a prune. A push that relies on a removed ref has to ask again: it
//! checks its refs once more under the repository's lock, before it publishes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::Path;

use artifact_formats::{Checksum, RefName};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{FileKind, Fs, LockMode, if_there, is_symlink};
use crate::local::repository::refs::{self, Held};
use crate::local::repository::{Repo, account, aliases, listing};
use crate::local::staging::Staging;
use crate::local::staging::abandoned::Owner;
use crate::local::summary::{self, Maker};
use crate::summary::config::SummaryConfig;
use crate::upkeep::{Removal, StoredRef};

/// Lists the refs that a push can set, or could in an earlier version, by name. Aliases are
/// skipped.
pub fn list_refs(path: &Path) -> Result<Vec<StoredRef>, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    list(&fs)
}

pub(crate) fn list<F: Fs>(fs: &F) -> Result<Vec<StoredRef>, Error> {
    let aliases = aliases::list(fs)?;
    let targets = aliases::targets(&aliases);
    let mut found = Vec::new();
    for (name, commit) in listing::list(fs)?.heads {
        let Ok(name) = RefName::parse_stored(&name) else {
            continue;
        };
        let path = RepoPath::head(&name);
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        if let Some(stat) = stat.filter(|stat| stat.kind == FileKind::File) {
            let set = stat.modified;
            let alias = targets.get(&path);
            found.push(StoredRef {
                name,
                commit,
                set,
                alias: alias.map(|alias| shown(alias)),
            });
        }
    }
    Ok(found)
}

/// Returns the name by which a ref is shown: its own, or its path for a mirror or remote.
pub(crate) fn shown(path: &RepoPath) -> String {
    let name = path.below(&RepoPath::heads());
    name.unwrap_or(path.as_str()).to_owned()
}

/// Removes refs, each only if it still holds the commit given with it, and brings the summary up to
/// date.
pub fn remove_refs(
    path: &Path,
    summary: SummaryConfig,
    wanted: &[(RefName, Option<Checksum>)],
) -> Result<Vec<Removal>, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let repo = Repo::open(fs)?;
    let scratch = scratch(&repo)?;
    let removals = remove(&repo, &scratch, wanted)?;
    update_summary(&repo, &scratch, &summary)?;
    // Nothing is staged that another session could take over.
    scratch.publish();
    Ok(removals)
}

/// Removes the remains of refs that are gone, by whatever means: directories without refs, names in
/// accounts. It also removes some of the files that interrupted pushes have left for an hour.
pub fn tidy(path: &Path) -> Result<(), Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let repo = Repo::open(fs)?;
    let scratch = scratch(&repo)?;
    let fs = &*repo.fs;
    // Other programs make directories for a ref while they hold this lock as well.
    let exclusive = repo.lock(LockMode::Exclusive)?;
    let lock = repo.lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    refs::remove_all_hollow(fs)?;
    if_room(account::close(fs, &scratch, |name| {
        Ok(!account::is_there(fs, name)?)
    }))?;
    drop(lock);
    drop(exclusive);
    scratch.remove_old()?;
    scratch.publish();
    Ok(())
}

/// Makes a directory for files that are written before they get their names.
pub(crate) fn scratch<F: Fs>(repo: &Repo<F>) -> Result<Staging<F>, Error> {
    Staging::create(repo, Owner::new(WHO, None), 1)
}

/// Brings the summary up to date after refs or deltas were removed, unless the disk is full.
pub(crate) fn update_summary<F: Fs>(
    repo: &Repo<F>,
    scratch: &Staging<F>,
    config: &SummaryConfig,
) -> Result<(), Error> {
    let maker = Maker {
        repo,
        config,
        scratch,
    };
    if_room(summary::update(maker, std::iter::empty()))
}

/// Ignores an error from a full disk: a prune makes room, and repeats the action.
pub(crate) fn if_room(done: Result<(), Error>) -> Result<(), Error> {
    match done {
        Err(error @ Error::Full { .. }) => {
            tracing::warn!(%error, "left for when there is room");
            Ok(())
        }
        done => done,
    }
}

fn remove<F: Fs>(
    repo: &Repo<F>,
    scratch: &Staging<F>,
    wanted: &[(RefName, Option<Checksum>)],
) -> Result<Vec<Removal>, Error> {
    let fs = &*repo.fs;
    // Exclusive, because other programs make the directories for a ref before they set it.
    let exclusive = repo.lock(LockMode::Exclusive)?;
    let lock = repo.lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    let paths: Vec<_> = wanted
        .iter()
        .map(|(name, _)| RepoPath::head(name))
        .collect();
    let mut aliases = aliases::list(fs)?;
    // An alias that is removed as well protects no ref.
    let meant: HashSet<_> = paths.iter().collect();
    aliases.retain(|alias| !meant.contains(&alias.path));
    let targets = aliases::targets(&aliases);
    let mut removals = Vec::with_capacity(wanted.len());
    let mut going = BTreeMap::new();
    for ((name, expected), path) in wanted.iter().zip(&paths) {
        let removal = match refs::look(fs, path)? {
            Held::Nothing => Removal::NotThere,
            Held::Commit(commit) if expected.is_none_or(|expected| expected == commit) => {
                Removal::Removed(commit)
            }
            Held::Malformed if expected.is_none() => Removal::RemovedOther,
            Held::Conflict(_) if expected.is_none() && is_alias(fs, path)? => Removal::RemovedOther,
            Held::Commit(_) | Held::Malformed | Held::Conflict(_) => Removal::Kept,
        };
        let goes = matches!(removal, Removal::Removed(_) | Removal::RemovedOther);
        match targets.get(path).filter(|_| goes) {
            Some(alias) => removals.push(Removal::LedTo(shown(alias))),
            None => {
                removals.push(removal);
                if goes {
                    going.insert(name, path);
                }
            }
        }
    }
    // Aliases first: at no moment does one of them lead nowhere.
    let (links, files): (Vec<_>, Vec<_>) = going
        .iter()
        .partition(|(_, path)| is_alias(fs, path).unwrap_or(false));
    for (_, path) in links.into_iter().chain(files) {
        fs.unlink(path).map_err(Error::io("removing", path))?;
    }
    let removed: BTreeSet<_> = going.into_keys().collect();
    if !removed.is_empty() {
        refs::remove_hollow_above(fs, removed.iter().copied())?;
        let removed: HashSet<_> = removed.iter().map(|name| name.as_str()).collect();
        if_room(account::close(fs, scratch, |name| {
            Ok(removed.contains(name))
        }))?;
    }
    drop(lock);
    drop(exclusive);
    Ok(removals)
}

/// Returns whether this very path is a symbolic link.
fn is_alias<F: Fs>(fs: &F, path: &RepoPath) -> Result<bool, Error> {
    match fs.stat(path) {
        Ok(stat) => Ok(stat.kind == FileKind::Symlink),
        // Below an alias or a ref.
        Err(error) if is_symlink(&error) || error.kind() == io::ErrorKind::NotADirectory => {
            Ok(false)
        }
        Err(error) => Err(Error::io("looking at", path)(error)),
    }
}

/// The identity that the staging directory of an upkeep command names.
const WHO: &str = "artifact-cache-admin";
