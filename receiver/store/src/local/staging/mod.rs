//! A session's private directory, where objects wait until they are published.
//!
//! A file that has an object's name here, and the mode for publication, is that object, complete
//! and verified (INV-1). A file still being written has another mode, or is in a subdirectory.
//! Nothing here is durable before [`Staging::sync`]. `abandoned.rs` describes a directory whose
//! session ends before it published.

pub(crate) mod abandoned;
mod bare;
mod files;
mod names;
mod remove;
mod walk;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::{io, mem};

use artifact_formats::{LockTimeout, ObjectId, RepoMode};
use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, make_dir, read_file};
use crate::local::repository::Repo;
use crate::local::staging::abandoned::{Owner, Sibling};
use crate::local::staging::names::{IDENTITY, LOCK, TMP};
use crate::tree::id_set::IdSet;

/// A staging directory; when dropped it is removed, or left to be taken over.
#[derive(Debug)]
pub(crate) struct Staging<F: Fs> {
    fs: Arc<F>,
    mode: RepoMode,
    timeout: LockTimeout,
    owner: Owner,
    dir: RepoPath,
    siblings: Vec<Sibling>,
    // Held as long as this lives: it tells others that this session is alive.
    _alive: F::Lock,
    next: AtomicU64,
    // The objects that have their names here; the last walk marked those it reached.
    objects: Mutex<IdSet>,
    lost: AtomicBool,
    published: AtomicBool,
    reclaimed: AtomicBool,
    // The number of concurrent threads.
    threads: usize,
    clearing: Mutex<Option<JoinHandle<()>>>,
}

impl<F: Fs> Staging<F> {
    /// Makes a directory for a session, and surveys the directories of others.
    pub(crate) fn create(repo: &Repo<F>, owner: Owner, threads: usize) -> Result<Self, Error> {
        let (fs, timeout) = (Arc::clone(&repo.fs), repo.config.lock_timeout);
        make_own_dirs(&*fs)?;
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Error::io("choosing a name for", &"staging")(error.into()))?;
        let name = format!("{:016x}", u64::from_ne_bytes(random));
        let dir = RepoPath::all_staging().child(&name);
        let judging = abandoned::lock_judging(&*fs, timeout)?;
        fs.mkdir(&dir, 0o700).map_err(Error::io("making", &dir))?;
        let alive = fs
            .try_lock(&dir.child(LOCK), LockMode::Exclusive)
            .map_err(Error::io("locking", &dir))?
            .ok_or_else(|| Error::Busy {
                lock: dir.to_string(),
            })?;
        drop(judging);
        let mut staging = Self {
            fs,
            mode: repo.config.mode,
            timeout,
            owner,
            dir,
            siblings: Vec::new(),
            _alive: alive,
            next: AtomicU64::new(0),
            objects: Mutex::default(),
            lost: AtomicBool::new(false),
            published: AtomicBool::new(false),
            reclaimed: AtomicBool::new(false),
            threads: threads.max(1),
            clearing: Mutex::default(),
        };
        let tmp = staging.dir.child(TMP);
        let made = staging.fs.mkdir(&tmp, 0o700);
        made.map_err(Error::io("making", &tmp))?;
        match staging.put_temporary(staging.owner.name()) {
            Ok(name) => staging.name(&name, &staging.dir.child(IDENTITY))?,
            // Removing refs and objects needs no free space; other writes fail by themselves.
            Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        let Self { fs, dir, owner, .. } = &staging;
        staging.siblings = abandoned::survey(&**fs, dir, owner, timeout)?;
        Ok(staging)
    }

    /// Returns the directories of the same identity from which objects can be taken over.
    pub(crate) fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// Marks the push as published, so that nothing needs to be taken over from here.
    pub(crate) fn publish(&self) {
        self.published.store(true, Ordering::Relaxed);
        // The summary comes next, and needs the memory.
        let objects = mem::take(&mut *self.objects());
        if self.threads > 1 && objects.len() > OBJECTS_OF_A_THREAD {
            // And it need not wait until the second names of so many objects are removed.
            let (fs, dir) = (Arc::clone(&self.fs), self.dir.clone());
            let clearing = thread::spawn(move || remove::empty(&*fs, &dir));
            *self.clearing.lock() = Some(clearing);
        }
    }

    /// Reads a staged object of at most `max` bytes.
    pub(crate) fn read(&self, id: &ObjectId, max: usize) -> Result<Option<Vec<u8>>, Error> {
        let path = self.path(id);
        read_file(&*self.fs, &path, max).map_err(Error::io("reading", &path))
    }

    /// Returns the path of an object once it is staged.
    pub(crate) fn path(&self, id: &ObjectId) -> RepoPath {
        self.dir.staged(id, self.mode)
    }

    pub(crate) const fn dir(&self) -> &RepoPath {
        &self.dir
    }

    /// Makes all files here durable. After a failure no file here can be trusted, and a second sync
    /// would not help: the kernel considers the unwritten pages clean.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.check_not_lost()?;
        // The directory has no identity meanwhile, so that no session takes objects over if the
        // sync fails and then nothing can be written, or the process dies.
        let (owner, doubtful) = (
            self.dir.child(IDENTITY),
            self.dir.child(TMP).child(IDENTITY),
        );
        self.name(&owner, &doubtful)?;
        self.fs.sync_all().map_err(|error| {
            self.lost.store(true, Ordering::Relaxed);
            abandoned::distrust_all(&*self.fs);
            remove::empty(&*self.fs, &self.dir);
            Error::io("syncing", &self.dir)(error)
        })?;
        self.name(&doubtful, &owner)
    }

    fn check_not_lost(&self) -> Result<(), Error> {
        if self.lost.load(Ordering::Relaxed) {
            return Err(Error::StagingLost);
        }
        Ok(())
    }

    fn objects(&self) -> MutexGuard<'_, IdSet> {
        self.objects.lock()
    }

    /// Returns whether trying again may succeed after this error.
    fn reclaims_for(&self, error: &io::Error) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        full.contains(&error.kind()) && self.reclaim()
    }

    /// Removes the files of dead sessions, once; returns whether there were any.
    pub(crate) fn reclaim(&self) -> bool {
        !self.reclaimed.swap(true, Ordering::Relaxed)
            && abandoned::remove_dead(&*self.fs, &self.dir, self.timeout)
    }

    /// Removes some of the files that dead sessions have left for long; the rest goes next time.
    pub(crate) fn remove_old(&self) -> Result<(), Error> {
        if abandoned::remove_old(&*self.fs, &self.dir, REMOVED_AT_ONCE, self.timeout)? {
            tracing::info!(
                files = REMOVED_AT_ONCE,
                "removed what interrupted pushes have left; the rest goes with the next prune"
            );
        }
        Ok(())
    }

    /// Leaves what is staged to a later session of the same identity.
    fn leave(&self) {
        let left = remove::leave(&*self.fs, &self.dir);
        if left
            && !self.siblings.is_empty()
            && let Err(error) = abandoned::trim(&*self.fs, &self.owner, self.timeout)
        {
            tracing::warn!(%error, "what interrupted pushes have left stays for now");
        }
    }
}

impl<F: Fs> Drop for Staging<F> {
    fn drop(&mut self) {
        if let Some(clearing) = self.clearing.lock().take() {
            // A thread that panicked has reported it; the files it left are removed below.
            let _ = clearing.join();
        }
        let published = self.published.load(Ordering::Relaxed);
        if published || self.lost.load(Ordering::Relaxed) {
            remove::remove(&*self.fs, &self.dir);
        } else {
            self.leave();
        }
        if published {
            abandoned::remove_taken(&*self.fs, &self.siblings, self.timeout);
        }
    }
}

/// Files of interrupted pushes that one prune removes, in a second or two.
const REMOVED_AT_ONCE: usize = 4096;
/// Below this number of objects, a thread does not pay off.
const OBJECTS_OF_A_THREAD: usize = 1024;

/// Makes the project's own directories in a repository.
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
