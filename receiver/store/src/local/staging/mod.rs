//! A session's private directory, where objects wait until they are published.
//!
//! A file that has an object's name here, and the mode for publication, is that object, complete
//! and verified (INV-1). A file still being written has another mode, or is in a subdirectory.
//! Nothing here is durable before [`Staging::sync`]. `abandoned.rs` describes a directory whose
//! session ends before it published.

pub(crate) mod abandoned;
mod bare;

use std::io::{self, Write};
use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use artifact_formats::{LockTimeout, ObjectId, ObjectKind, RepoMode};
use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, PutFile, make_dir, read_file};
use crate::local::repository::descent::Levels;
use crate::local::repository::id_set::IdSet;
use crate::local::repository::{Repo, form};
use crate::local::staging::abandoned::{IDENTITY, LOCK, Owner, Sibling, TMP};
use crate::verify::Verified;

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
            let clearing = thread::spawn(move || abandoned::empty(&*fs, &dir));
            *self.clearing.lock() = Some(clearing);
        }
    }

    /// Gives a file a temporary name here as well; `None` if that is impossible.
    pub(crate) fn link(&self, path: &RepoPath) -> Result<Option<RepoPath>, Error> {
        let linked = self.temporary_name()?;
        match self.fs.link(path, &linked) {
            Ok(()) => Ok(Some(linked)),
            Err(error) => match error.kind() {
                // The file is gone, is not ours to link, or has too many links: it must be sent
                // again.
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::TooManyLinks => Ok(None),
                _ => Err(Error::io("linking", path)(error)),
            },
        }
    }

    /// Makes a file with a temporary name.
    pub(crate) fn temporary(&self) -> Result<(RepoPath, F::File), Error> {
        let path = self.temporary_name()?;
        let file = self.make(&path, WHOLE);
        let file = file.map_err(Error::io("making", &path))?;
        Ok((path, file))
    }

    fn make(&self, path: &RepoPath, mode: u32) -> io::Result<F::File> {
        match self.fs.create(path, mode) {
            Err(error) if self.reclaims_for(&error) => self.fs.create(path, mode),
            made => made,
        }
    }

    /// Returns an unused name.
    pub(crate) fn temporary_name(&self) -> Result<RepoPath, Error> {
        self.check_not_lost()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir.child(TMP).child(&number.to_string()))
    }

    /// Writes a file with a temporary name.
    pub(crate) fn put_temporary(&self, content: &[u8]) -> Result<RepoPath, Error> {
        let (path, mut file) = self.temporary()?;
        self.write(&mut file, &path, content)?;
        Ok(path)
    }

    /// Writes a whole object. It has its name from the beginning: setting a mode takes a fraction
    /// of the time of a rename.
    pub(crate) fn put(&self, object: &Verified, stored: &[u8]) -> Result<(), Error> {
        self.check_not_lost()?;
        let path = self.path(&object.id());
        let Some(mut file) = self.make_new(&path)? else {
            // The object comes twice at once, or was taken over meanwhile.
            let path = self.put_temporary(stored)?;
            return self.accept(&path, object);
        };
        self.write(&mut file, &path, stored)?;
        self.fs
            .set_mode(&file, WHOLE)
            .map_err(Error::io("finishing", &path))?;
        self.objects().insert(object.id());
        Ok(())
    }

    /// Makes a file for an object; `None` if there is one of its name.
    fn make_new(&self, path: &RepoPath) -> Result<Option<F::File>, Error> {
        match self.make(path, HALF) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(Error::io("making", path)(error)),
        }
    }

    /// Renames a temporary file to the object that it was verified to be.
    pub(crate) fn accept(&self, path: &RepoPath, object: &Verified) -> Result<(), Error> {
        self.accept_as(path, object.id())
    }

    /// Returns whether a file to which another session gave an object's name is complete.
    pub(crate) fn is_whole(&self, path: &RepoPath, kind: ObjectKind) -> Result<bool, Error> {
        let stat = self.fs.stat(path).map_err(Error::io("looking at", path))?;
        Ok(match form::is_as_sent(self.mode, kind) {
            true => stat.mode == WHOLE,
            false => Self::is_dressed(&stat),
        })
    }

    /// The same as [`accept`](Self::accept), for a file that another session has verified.
    pub(crate) fn accept_as(&self, path: &RepoPath, id: ObjectId) -> Result<(), Error> {
        self.name(path, &self.path(&id))?;
        self.objects().insert(id);
        Ok(())
    }

    /// Renames a temporary file.
    pub(crate) fn name(&self, path: &RepoPath, name: &RepoPath) -> Result<(), Error> {
        self.fs
            .rename(path, name)
            .map_err(Error::io("naming", name))
    }

    /// Removes a temporary file. If that fails, it goes with the directory.
    pub(crate) fn forget(&self, path: &RepoPath) {
        let _ = self.fs.unlink(path);
    }

    pub(crate) fn len(&self) -> usize {
        self.objects().len()
    }

    pub(crate) fn holds(&self, id: &ObjectId) -> bool {
        self.objects().contains(id)
    }

    /// Notes that a staged object was in the repository before.
    pub(crate) fn was_here(&self, id: &ObjectId) {
        self.objects().flag(id);
    }

    /// Returns whether an object is staged that was not in the repository.
    pub(crate) fn holds_new(&self, id: &ObjectId) -> bool {
        self.objects().flagged(id) == Some(false)
    }

    /// Returns whether `is_so` is true of any staged object that was not in the repository.
    pub(crate) fn any_new(&self, is_so: impl Fn(&ObjectId) -> bool) -> bool {
        self.objects().unflagged().any(|id| is_so(&id))
    }

    /// Begins a walk, which has reached no object yet.
    pub(crate) fn begin_walk(&self) {
        self.objects().unmark_all();
    }

    /// Notes that a walk has finished an object, which has these levels of directories below it.
    pub(crate) fn reach(&self, id: &ObjectId, levels: Levels) {
        self.objects().mark(id, levels);
    }

    /// Returns a walk's note about an object; `None` if it is not staged.
    pub(crate) fn reached(&self, id: &ObjectId) -> Option<Option<Levels>> {
        self.objects().look(id)
    }

    /// Runs an action on each object of some kinds that the last walk has reached. Several threads
    /// share many objects, each with its own value from `begin`; returns these values.
    pub(crate) fn each_reached<T: Send>(
        &self,
        kinds: &[ObjectKind],
        begin: impl Fn() -> T + Sync,
        act: impl Fn(&mut T, ObjectId) -> Result<(), Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let objects = &*self.objects();
        let threads = self.threads.min(1 + objects.len() / OBJECTS_OF_A_THREAD);
        let work = |part| {
            let mut own = begin();
            for kind in kinds {
                let mut ids = objects.marked_of_kind(*kind, part, threads);
                ids.try_for_each(|id| act(&mut own, id))?;
            }
            Ok(own)
        };
        if threads == 1 {
            return Ok(vec![work(0)?]);
        }
        thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> = (0..threads)
                .map(|part| scope.spawn(move || work(part)))
                .collect();
            let done = started.into_iter().map(|thread| thread.join());
            done.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
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
            abandoned::empty(&*self.fs, &self.dir);
            Error::io("syncing", &self.dir)(error)
        })?;
        self.name(&doubtful, &owner)
    }

    /// Writes to a file here. When the disk is full, it removes the files of dead sessions, once.
    pub(crate) fn write(
        &self,
        file: &mut F::File,
        path: &RepoPath,
        content: &[u8],
    ) -> Result<(), Error> {
        let mut rest = content;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(Error::io("writing", path)(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.reclaims_for(&error) => {}
                Err(error) => return Err(Error::io("writing", path)(error)),
            }
        }
        Ok(())
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
        let left = abandoned::leave(&*self.fs, &self.dir);
        if left
            && !self.siblings.is_empty()
            && let Err(error) = abandoned::trim(&*self.fs, &self.owner, self.timeout)
        {
            tracing::warn!(%error, "what interrupted pushes have left stays for now");
        }
    }
}

impl<F: Fs> PutFile for Staging<F> {
    fn put_file(&self, path: &RepoPath, content: &[u8]) -> Result<(), Error> {
        self.name(&self.put_temporary(content)?, path)
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
            abandoned::remove(&*self.fs, &self.dir);
        } else {
            self.leave();
        }
        if published {
            abandoned::remove_taken(&*self.fs, &self.siblings, self.timeout);
        }
    }
}

/// The mode of an object while it is written.
const HALF: u32 = 0o600;
/// The mode of an object, in staging and once published: everybody may read it.
const WHOLE: u32 = 0o644;

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
