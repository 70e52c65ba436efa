//! A session's private directory, where objects wait until they are published.
//!
//! A file that has an object's name in there, and the mode it will be published with, is that
//! object, whole and verified. What is still being written has another mode, or is in a directory
//! below. Nothing in there is durable before [`Staging::sync`].
//! What becomes of it when the session ends before it published is said in `abandoned.rs`.

pub(crate) mod abandoned;

use std::io::{self, Write};
use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use artifact_formats::{LockTimeout, ObjectId, ObjectKind};
use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, PutFile, make_dir, read_file};
use crate::local::repository::Repo;
use crate::local::repository::descent::Levels;
use crate::local::repository::id_set::IdSet;
use crate::local::staging::abandoned::{IDENTITY, LOCK, Sibling, TMP};
use crate::verify::Verified;

/// A staging directory; when dropped it is removed, or left to be taken over.
#[derive(Debug)]
pub(crate) struct Staging<F: Fs> {
    fs: Arc<F>,
    timeout: LockTimeout,
    dir: RepoPath,
    siblings: Vec<Sibling>,
    // Held as long as this lives: it tells others that this session does.
    _alive: F::Lock,
    next: AtomicU64,
    // Those that have their names in here; marked are those that the last walk has reached.
    objects: Mutex<IdSet>,
    lost: AtomicBool,
    published: AtomicBool,
    reclaimed: AtomicBool,
    // How many may act at once here.
    threads: usize,
    clearing: Mutex<Option<JoinHandle<()>>>,
}

impl<F: Fs> Staging<F> {
    /// Makes a directory for a session of `identity`, and looks what others have left.
    pub(crate) fn create(repo: &Repo<F>, identity: &str, threads: usize) -> Result<Self, Error> {
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
            timeout,
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
        match staging.put_temporary(&abandoned::owner(identity)) {
            Ok(owner) => staging.name(&owner, &staging.dir.child(IDENTITY))?,
            // Refs and objects can be removed without a byte of room; what wants some fails by itself.
            Err(Error::Full { .. }) => {}
            Err(error) => return Err(error),
        }
        staging.siblings = abandoned::survey(&*staging.fs, &staging.dir, identity, timeout)?;
        Ok(staging)
    }

    /// Returns the directories of the same identity that objects can be taken over from.
    pub(crate) fn siblings(&self) -> &[Sibling] {
        &self.siblings
    }

    /// Says that the push is published, so that nothing needs to be taken over from here.
    pub(crate) fn publish(&self) {
        self.published.store(true, Ordering::Relaxed);
        // What comes now, the summary, wants memory of its own.
        let objects = mem::take(&mut *self.objects());
        if self.threads > 1 && objects.len() > OBJECTS_OF_A_THREAD {
            // And need not wait until the second names of so many are gone.
            let (fs, dir) = (Arc::clone(&self.fs), self.dir.clone());
            let clearing = thread::spawn(move || abandoned::empty(&*fs, &dir));
            *self.clearing.lock() = Some(clearing);
        }
    }

    /// Gives a file a temporary name in here as well; `None` if that cannot be.
    pub(crate) fn link(&self, path: &RepoPath) -> Result<Option<RepoPath>, Error> {
        let linked = self.temporary_name()?;
        match self.fs.link(path, &linked) {
            Ok(()) => Ok(Some(linked)),
            Err(error) => match error.kind() {
                // Not there, not ours to link, or linked too often: it must be sent again.
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

    /// Returns a name that no file has.
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

    /// Writes a whole object. It has its name from the beginning, since a mode is set in a fraction of
    /// the time that a rename takes.
    pub(crate) fn put(&self, object: &Verified, stored: &[u8]) -> Result<(), Error> {
        self.check_not_lost()?;
        let path = self.path(&object.id());
        let mut file = match self.make(&path, HALF) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // It comes twice at once, or was taken over meanwhile.
                let path = self.put_temporary(stored)?;
                return self.accept(&path, object);
            }
            Err(error) => return Err(Error::io("making", &path)(error)),
        };
        self.write(&mut file, &path, stored)?;
        self.fs
            .set_mode(&file, WHOLE)
            .map_err(Error::io("finishing", &path))?;
        self.objects().insert(object.id());
        Ok(())
    }

    /// Gives what was written under a temporary name the name of the object it was found to be.
    pub(crate) fn accept(&self, path: &RepoPath, object: &Verified) -> Result<(), Error> {
        self.accept_as(path, object.id())
    }

    /// Returns whether what another session gave an object's name is whole.
    pub(crate) fn is_whole(&self, path: &RepoPath) -> Result<bool, Error> {
        let stat = self.fs.stat(path).map_err(Error::io("looking at", path))?;
        Ok(stat.mode == WHOLE)
    }

    /// The same as [`accept`](Self::accept) for what another session has verified.
    pub(crate) fn accept_as(&self, path: &RepoPath, id: ObjectId) -> Result<(), Error> {
        self.name(path, &self.path(&id))?;
        self.objects().insert(id);
        Ok(())
    }

    /// Gives what was written under a temporary name another one.
    pub(crate) fn name(&self, path: &RepoPath, name: &RepoPath) -> Result<(), Error> {
        self.fs
            .rename(path, name)
            .map_err(Error::io("naming", name))
    }

    /// Takes back a temporary name. What is left is removed with the directory.
    pub(crate) fn forget(&self, path: &RepoPath) {
        let _ = self.fs.unlink(path);
    }

    /// Returns how many objects are staged.
    pub(crate) fn len(&self) -> usize {
        self.objects().len()
    }

    /// Returns whether an object is staged.
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

    /// Returns whether this is so of any staged object that was not in the repository.
    pub(crate) fn any_new(&self, is_so: impl Fn(&ObjectId) -> bool) -> bool {
        self.objects().unflagged().any(|id| is_so(&id))
    }

    /// From now on no object is reached.
    pub(crate) fn begin_walk(&self) {
        self.objects().unmark_all();
    }

    /// Notes that a walk is done with an object, which has these levels of directories below it.
    pub(crate) fn reach(&self, id: &ObjectId, levels: Levels) {
        self.objects().mark(id, levels);
    }

    /// Returns what a walk has noted of an object, `None` if it is not staged.
    pub(crate) fn reached(&self, id: &ObjectId) -> Option<Option<Levels>> {
        self.objects().look(id)
    }

    /// Acts on each object of some kinds that the last walk has reached. Where there are many, several
    /// threads do, each with what `begin` gives it; that is returned.
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

    /// Returns the name an object has once it is staged.
    pub(crate) fn path(&self, id: &ObjectId) -> RepoPath {
        self.dir.staged(id)
    }

    /// Returns the directory.
    pub(crate) const fn dir(&self) -> &RepoPath {
        &self.dir
    }

    /// Makes everything in here durable. After a failure nothing in here can be trusted, and trying
    /// again would not tell: pages that could not be written are clean to the kernel.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.check_not_lost()?;
        // Nobody's meanwhile, so that nothing is taken over from here if it fails and then nothing
        // can be written any more, or if nobody lives to say so.
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

    /// Writes to a file in here. When the disk is full it gives up what dead sessions left, once.
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

    /// Returns whether trying again may help against an error.
    fn reclaims_for(&self, error: &io::Error) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        full.contains(&error.kind()) && self.reclaim()
    }

    /// Gives up what dead sessions left, once; returns whether there was anything.
    pub(crate) fn reclaim(&self) -> bool {
        !self.reclaimed.swap(true, Ordering::Relaxed)
            && abandoned::remove_dead(&*self.fs, &self.dir, self.timeout)
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
            // One that panicked has said so; what it left is removed below.
            let _ = clearing.join();
        }
        let published = self.published.load(Ordering::Relaxed);
        if published || self.lost.load(Ordering::Relaxed) {
            abandoned::remove(&*self.fs, &self.dir);
        } else {
            abandoned::leave(&*self.fs, &self.dir);
        }
        if published {
            abandoned::remove_taken(&*self.fs, &self.siblings, self.timeout);
        }
    }
}

/// The mode of an object while it is written.
const HALF: u32 = 0o600;
/// The mode of an object, in staging and once it is published: everybody may read it.
const WHOLE: u32 = 0o644;

/// Fewer objects are not worth a thread.
const OBJECTS_OF_A_THREAD: usize = 1024;

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
