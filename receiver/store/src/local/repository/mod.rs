//! The contents of a repository, for the other modules.

pub(crate) mod account;
pub(crate) mod aliases;
pub(crate) mod deltas;
pub(crate) mod form;
pub(crate) mod heads;
pub(crate) mod held;
pub(crate) mod leftovers;
pub(crate) mod listing;
pub(crate) mod objects;
pub(crate) mod pulled;
pub(crate) mod refs;
pub(crate) mod stored;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use artifact_formats::{LockTimeout, ObjectId, RepoConfig, RepoMode};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{FileKind, Fs, LockMode, if_there, lock, make_dir, read_file, sync_dirs};

/// A repository.
#[derive(Debug)]
pub(crate) struct Repo<F: Fs> {
    pub(crate) fs: Arc<F>,
    pub(crate) config: RepoConfig,
}

impl<F: Fs> Repo<F> {
    /// Opens the repository of mode archive that is the root of a file system, and restores its
    /// missing standard directories.
    pub(crate) fn open(fs: F) -> Result<Self, Error> {
        let config = read_config(&fs)?;
        Self::mended(fs, config)
    }

    /// Opens a repository of any mode, and does the same.
    pub(crate) fn open_any(fs: F) -> Result<Self, Error> {
        let config = read_config_of_any(&fs)?;
        Self::mended(fs, config)
    }

    // Nothing is created in a directory that is no repository.
    fn mended(fs: F, config: RepoConfig) -> Result<Self, Error> {
        make_dirs(&fs)?;
        Ok(Self {
            fs: Arc::new(fs),
            config,
        })
    }

    /// Returns the path of an object.
    pub(crate) fn object(&self, id: &ObjectId) -> RepoPath {
        RepoPath::object_of(id, self.config.mode)
    }

    /// Returns whether an object exists.
    pub(crate) fn has(&self, id: &ObjectId) -> Result<bool, Error> {
        form::has(&*self.fs, self.config.mode, id)
    }

    /// Returns whether an object exists and is not visibly empty.
    pub(crate) fn has_content(&self, id: &ObjectId) -> Result<bool, Error> {
        let stat = form::stat(&*self.fs, self.config.mode, id)?;
        let may_be_empty = !form::is_as_sent(self.config.mode, id.kind);
        Ok(stat.is_some_and(|stat| may_be_empty || stat.len > 0))
    }

    /// Takes libostree's lock of the repository, unless the configuration disables locking.
    pub(crate) fn lock(&self, mode: LockMode) -> Result<Option<F::Lock>, Error> {
        if !self.config.locking {
            return Ok(None);
        }
        self.lock_own(&RepoPath::repo_lock(), mode).map(Some)
    }

    /// Takes one of the project's own locks.
    pub(crate) fn lock_own(&self, path: &RepoPath, mode: LockMode) -> Result<F::Lock, Error> {
        lock::acquire(&*self.fs, path, mode, self.timeout())
    }

    const fn timeout(&self) -> LockTimeout {
        self.config.lock_timeout
    }
}

/// Restores the missing standard directories of the repository at `path`.
pub fn mend(path: &Path) -> Result<(), Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    read_config(&fs)?;
    make_dirs(&fs)
}

/// Makes the directories that libostree makes with a repository, as far as they are missing: git
/// and some archives copy a repository without its empty directories, and libostree can neither
/// list refs of such a copy nor prune it.
pub(crate) fn make_dirs<F: Fs>(fs: &F) -> Result<(), Error> {
    let dirs = [
        RepoPath::tmp(),
        RepoPath::tmp().child("cache"),
        RepoPath::extensions(),
        RepoPath::state(),
        RepoPath::refs(),
        RepoPath::heads(),
        RepoPath::mirrors(),
        RepoPath::remotes(),
        RepoPath::objects(),
    ];
    let mut parents = BTreeSet::new();
    for dir in dirs {
        if make_dir(fs, &dir, DIR_MODE).map_err(Error::io("making", &dir))? {
            parents.insert(dir.parent());
        }
    }
    // INV-3: a ref set below them is durable only if they are.
    sync_dirs(fs, &parents)
}

/// Reads the configuration of a usable repository of mode archive.
pub(crate) fn read_config<F: Fs>(fs: &F) -> Result<RepoConfig, Error> {
    let config = read_config_of_any(fs)?;
    if config.mode != RepoMode::Archive {
        return Err(Error::NotARepository {
            why: "its mode is not archive",
        });
    }
    Ok(config)
}

/// Reads the configuration of a usable repository of any mode.
///
/// A repository without objects is an empty one, unless it has refs: then the objects are
/// elsewhere, perhaps on a disk that is not mounted.
pub(crate) fn read_config_of_any<F: Fs>(fs: &F) -> Result<RepoConfig, Error> {
    let path = RepoPath::config();
    let text = read_file(fs, &path, MAX_CONFIG_LEN).map_err(Error::io("reading", &path))?;
    let text = text.ok_or(Error::NotARepository {
        why: "it has no config",
    })?;
    let text = String::from_utf8(text).map_err(|_| Error::NotARepository {
        why: "its config is not UTF-8",
    })?;
    let config = RepoConfig::parse(&text)?;
    let objects = RepoPath::objects();
    let stat = if_there(fs.stat(&objects)).map_err(Error::io("looking at", &objects))?;
    let has_objects = stat.is_some_and(|stat| stat.kind == FileKind::Dir);
    if !has_objects && (stat.is_some() || listing::list(fs)?.iter().next().is_some()) {
        return Err(Error::NotARepository {
            why: "it has no directory of objects",
        });
    }
    Ok(config)
}

/// As libostree makes them (`ostree-repo.c`, `repo_create_at_internal`).
const DIR_MODE: u32 = 0o775;
const MAX_CONFIG_LEN: usize = 1024 * 1024;
