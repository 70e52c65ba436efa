//! A session's private directory, where objects wait until they are published.
//!
//! A file that has an object's name in there is that object, whole and verified; whatever is still
//! being written has a temporary name. Nothing in there is durable before [`Staging::sync`].
//! Directories whose owner is dead, as their lock tells, are removed by the next session.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use artifact_protocol::ObjectId;
use artifact_protocol::ostree::LockTimeout;

use super::fs::{FileKind, Fs, LockMode, if_there, make_dir, read_file};
use super::lock::{self, Pulse};
use super::path::RepoPath;
use crate::error::Error;
use crate::verify::Verified;

/// A staging directory; it is removed when dropped.
#[derive(Debug)]
pub(super) struct Staging<F: Fs> {
    fs: Arc<F>,
    dir: RepoPath,
    // Held as long as this lives: it tells others that this session does.
    _alive: F::Lock,
    next: AtomicU64,
    lost: AtomicBool,
}

impl<F: Fs> Staging<F> {
    /// Removes what dead sessions left, and makes a directory for this one.
    pub(super) fn create(fs: Arc<F>, identity: &str, timeout: LockTimeout) -> Result<Self, Error> {
        make_own_dirs(&*fs)?;
        reclaim(&*fs, timeout)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Error::io("choosing a name for", &"staging")(error.into()))?;
        let name = format!("{}.{:016x}", fs.boot_id(), u64::from_ne_bytes(random));
        let dir = RepoPath::all_staging().child(&name);
        // Whoever looks for dead directories holds this as well, so that nobody sees one that is
        // not locked yet.
        let judging = lock_judging(&*fs, timeout)?;
        fs.mkdir(&dir, 0o700).map_err(Error::io("making", &dir))?;
        let alive = fs
            .try_lock(&dir.child(LOCK), LockMode::Exclusive)
            .map_err(Error::io("locking", &dir))?
            .ok_or_else(|| Error::Busy {
                lock: dir.to_string(),
            })?;
        drop(judging);
        let staging = Self {
            fs,
            dir,
            _alive: alive,
            next: AtomicU64::new(0),
            lost: AtomicBool::new(false),
        };
        staging.write(&staging.dir.child(IDENTITY), identity.as_bytes())?;
        Ok(staging)
    }

    /// Makes a file with a temporary name.
    pub(super) fn temporary(&self) -> Result<(RepoPath, F::File), Error> {
        let path = self.temporary_name()?;
        let file = self.fs.create(&path).map_err(Error::io("making", &path))?;
        Ok((path, file))
    }

    /// Returns a name that no file has.
    pub(super) fn temporary_name(&self) -> Result<RepoPath, Error> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error::StagingLost);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir.child(&format!("tmp-{number}")))
    }

    /// Writes a file with a temporary name.
    pub(super) fn put_temporary(&self, content: &[u8]) -> Result<RepoPath, Error> {
        let path = self.temporary_name()?;
        self.write(&path, content)?;
        Ok(path)
    }

    /// Writes a whole object.
    pub(super) fn put(&self, object: &Verified, stored: &[u8]) -> Result<(), Error> {
        let path = self.put_temporary(stored)?;
        self.accept(&path, object)
    }

    /// Gives what was written under a temporary name the name of the object it was found to be.
    pub(super) fn accept(&self, path: &RepoPath, object: &Verified) -> Result<(), Error> {
        self.name(path, &self.dir.staged(&object.id()))
    }

    /// Gives what was written under a temporary name another one.
    pub(super) fn name(&self, path: &RepoPath, name: &RepoPath) -> Result<(), Error> {
        self.fs
            .rename(path, name)
            .map_err(Error::io("naming", name))
    }

    /// Takes back a temporary name. What is left is removed with the directory.
    pub(super) fn forget(&self, path: &RepoPath) {
        let _ = self.fs.unlink(path);
    }

    /// Returns whether an object is staged.
    pub(super) fn holds(&self, id: &ObjectId) -> Result<bool, Error> {
        let path = self.path(id);
        let stat = if_there(self.fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        Ok(stat.is_some())
    }

    /// Reads a staged object of at most `max` bytes.
    pub(super) fn read(&self, id: &ObjectId, max: usize) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(id);
        read_file(&*self.fs, &path, max).map_err(Error::io("reading", &path))
    }

    /// Returns the name an object has once it is staged.
    pub(super) fn path(&self, id: &ObjectId) -> RepoPath {
        self.dir.staged(id)
    }

    /// Returns the directory.
    pub(super) const fn dir(&self) -> &RepoPath {
        &self.dir
    }

    /// Makes everything in here durable. After a failure nothing in here can be trusted, and trying
    /// again would not tell: pages that could not be written are clean to the kernel.
    pub(super) fn sync(&self) -> Result<(), Error> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error::StagingLost);
        }
        self.fs.sync_all().map_err(|error| {
            self.lost.store(true, Ordering::Relaxed);
            empty(&*self.fs, &self.dir);
            Error::io("syncing", &self.dir)(error)
        })
    }

    fn write(&self, path: &RepoPath, content: &[u8]) -> Result<(), Error> {
        let written = self
            .fs
            .create(path)
            .and_then(|mut file| file.write_all(content));
        written.map_err(Error::io("writing", path))
    }
}

impl<F: Fs> Drop for Staging<F> {
    fn drop(&mut self) {
        remove(&*self.fs, &self.dir);
    }
}

/// Removes the staging directories of dead sessions. What cannot be removed is left, and said.
fn reclaim<F: Fs>(fs: &F, timeout: LockTimeout) -> Result<(), Error> {
    let all = RepoPath::all_staging();
    let entries = fs
        .read_dir(&all, MAX_RECLAIMED)
        .map_err(Error::io("listing", &all))?;
    for entry in entries.iter().filter(|entry| entry.kind == FileKind::Dir) {
        let dir = all.child(&entry.name);
        let judging = lock_judging(fs, timeout)?;
        let claim = fs.try_lock(&dir.child(LOCK), LockMode::Exclusive);
        drop(judging);
        match claim {
            // Held until the directory is gone, so that nobody else removes it as well.
            Ok(Some(_claim)) => remove(fs, &dir),
            Ok(None) => {}
            Err(error) => tracing::warn!(%dir, %error, "cannot judge a staging directory"),
        }
    }
    Ok(())
}

/// Removes a staging directory, its lock last.
fn remove<F: Fs>(fs: &F, dir: &RepoPath) {
    empty(fs, dir);
    let gone = if_there(fs.unlink(&dir.child(LOCK))).and_then(|_| if_there(fs.rmdir(dir)));
    if let Err(error) = gone {
        tracing::warn!(%dir, %error, "cannot remove a staging directory");
    }
}

/// Removes all but the lock from a staging directory.
fn empty<F: Fs>(fs: &F, dir: &RepoPath) {
    loop {
        let Ok(entries) = fs.read_dir(dir, ENTRIES_AT_ONCE) else {
            return;
        };
        let mut removed = false;
        for entry in entries.iter().filter(|entry| entry.name != LOCK) {
            removed |= fs.unlink(&dir.child(&entry.name)).is_ok();
        }
        if !removed {
            return;
        }
    }
}

fn lock_judging<F: Fs>(fs: &F, timeout: LockTimeout) -> Result<F::Lock, Error> {
    lock::acquire(
        fs,
        &RepoPath::staging_lock(),
        LockMode::Exclusive,
        timeout,
        &Pulse::new(&|| ()),
    )
}

/// Makes the directories of this project in a repository.
fn make_own_dirs<F: Fs>(fs: &F) -> Result<(), Error> {
    let dirs = [
        (RepoPath::extensions(), 0o775),
        (RepoPath::own(), 0o775),
        (RepoPath::all_staging(), 0o700),
    ];
    for (dir, mode) in dirs {
        make_dir(fs, &dir, mode).map_err(Error::io("making", &dir))?;
    }
    Ok(())
}

/// The file in a staging directory whose lock is held by the living session.
const LOCK: &str = "lock";
/// The file in a staging directory that says for whom it was staged.
const IDENTITY: &str = "identity";
/// Dead directories looked at by one session; the rest is left to the next ones.
const MAX_RECLAIMED: usize = 256;
/// Bounds what is listed in memory of a directory that is being removed.
const ENTRIES_AT_ONCE: usize = 4096;
