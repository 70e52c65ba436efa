//! Staging directories of other sessions: kept for a retry, and reclaimed in time (INV-6).
//!
//! A session that ends before it has published leaves its verified objects, so that the same
//! identity need not send them again (`resume.rs`). Such a directory is removed
//!
//! * at once if it contains no object; half-received objects go when its session ends, or is found
//!   dead by its lock;
//! * when a push that took an object over from it is published;
//! * 24 hours after its last object came, by the file system's own clock;
//! * when it is not among the newest 4 of its identity and the newest 64 of all, or when what the
//!   identity has left is more than its quota still lets one session bring; the newest always
//!   stays. The identity's own sessions do this, when they begin and when they leave something;
//!   others' sessions do it bit by bit, so that none of them waits for files it did not leave;
//! * an hour after its last object came, by a prune, some files a run;
//! * when the disk is full: then all dead directories go, and the failed write is repeated;
//! * when it does not name its identity. A failed sync removes the name from all: the objects that
//!   anybody staged before may be lost, and a process that opens the repository later would not be
//!   told.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use artifact_formats::{LockTimeout, ObjectId, RepoMode};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, LockMode, if_there, lock, read_file};
use crate::local::staging::names::{IDENTITY, LOCK, TMP};
use crate::local::staging::remove::{leave, remove, remove_some};
use crate::quota::load::Weight;

/// A staging directory of another session of the same identity, dead or alive.
#[derive(Debug)]
pub(crate) struct Sibling {
    dir: RepoPath,
    taken: AtomicBool,
}

impl Sibling {
    const fn new(dir: RepoPath) -> Self {
        Self {
            dir,
            taken: AtomicBool::new(false),
        }
    }

    /// Returns the path of an object staged there.
    pub(crate) fn path(&self, id: &ObjectId, mode: RepoMode) -> RepoPath {
        self.dir.staged(id, mode)
    }

    /// Returns whether a failed sync has put its objects in doubt.
    pub(crate) fn is_doubtful<F: Fs>(&self, fs: &F) -> Result<bool, Error> {
        let path = self.dir.child(IDENTITY);
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        Ok(stat.is_none())
    }

    /// Notes that an object was taken over from there.
    pub(crate) fn took(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }
}

/// An identity whose sessions stage objects.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    // The content of the file that names it. No part of it, as a power cut may leave one, names
    // another identity.
    name: Vec<u8>,
    // How much its dead sessions may leave together, if that is limited.
    room: Option<Weight>,
}

impl Owner {
    pub(crate) fn new(identity: &str, room: Option<Weight>) -> Self {
        let name = format!("{identity:?}\n").into_bytes();
        Self { name, room }
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }
}

/// The directory of a dead session.
#[derive(Debug)]
struct Dead {
    // When its last object came, in seconds.
    modified: i64,
    // Empty if it does not name its identity.
    owner: Vec<u8>,
    dir: RepoPath,
}

/// The staging directories of other sessions.
#[derive(Debug)]
struct Staged {
    // The newest first.
    dead: Vec<Dead>,
    // With the names of their owners.
    living: Vec<(Vec<u8>, RepoPath)>,
}

/// Looks at all staging directories except `own`: removes the expired ones, and returns those of
/// the same identity.
pub(crate) fn survey<F: Fs>(
    fs: &F,
    own: &RepoPath,
    owner: &Owner,
    timeout: LockTimeout,
) -> Result<Vec<Sibling>, Error> {
    let now = now(fs, own)?;
    let Staged { dead, living } = look(fs, own, timeout)?;
    let living = living.into_iter().filter(|(name, _)| *name == owner.name);
    let mut siblings: Vec<_> = living.map(|(_, dir)| Sibling::new(dir)).collect();
    let fitting = fitting(fs, &dead, owner);
    let (mut kept, mut kept_of) = (0, BTreeMap::new());
    let mut of_others = CLEARED_OF_OTHERS;
    for Dead {
        modified,
        owner: name,
        dir,
    } in dead
    {
        let is_own = name == owner.name;
        let most = if is_own { fitting } else { MAX_KEPT_OF_ONE };
        let young = now.saturating_sub(modified) < KEPT_SECONDS;
        let is_nobodys = name.is_empty();
        let of_owner: &mut usize = kept_of.entry(name).or_default();
        if is_nobodys || !young || *of_owner == most || kept == MAX_KEPT {
            if is_own {
                remove(fs, &dir);
            } else if of_others > 0 {
                of_others -= remove_some(fs, &dir, of_others);
            }
            continue;
        }
        kept += 1;
        *of_owner += 1;
        if is_own {
            siblings.push(Sibling::new(dir));
        }
    }
    Ok(siblings)
}

/// Removes what dead sessions of an identity have left beyond what they may.
pub(crate) fn trim<F: Fs>(fs: &F, owner: &Owner, timeout: LockTimeout) -> Result<(), Error> {
    let mut dead = look(fs, &RepoPath::root(), timeout)?.dead;
    dead.retain(|dead| dead.owner == owner.name);
    for surplus in dead.iter().skip(fitting(fs, &dead, owner)) {
        remove(fs, &surplus.dir);
    }
    Ok(())
}

/// Removes at most so many files that dead sessions of any identity left an hour ago or longer, the
/// oldest first; returns whether more are left.
pub(crate) fn remove_old<F: Fs>(
    fs: &F,
    own: &RepoPath,
    most: usize,
    timeout: LockTimeout,
) -> Result<bool, Error> {
    let now = now(fs, own)?;
    let dead = look(fs, own, timeout)?.dead;
    let mut left = most;
    for Dead {
        modified,
        owner,
        dir,
    } in dead.iter().rev()
    {
        if owner.is_empty() || now.saturating_sub(*modified) >= RETRIED_SECONDS {
            left -= remove_some(fs, dir, left);
            if left == 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns the file system's own time, by a directory that has just changed.
fn now<F: Fs>(fs: &F, changed: &RepoPath) -> Result<i64, Error> {
    let stat = fs.stat(changed);
    Ok(stat.map_err(Error::io("looking at", changed))?.modified.0)
}

/// Looks at all staging directories except one.
fn look<F: Fs>(fs: &F, except: &RepoPath, timeout: LockTimeout) -> Result<Staged, Error> {
    let (mut dead, mut living) = (Vec::new(), Vec::new());
    for dir in others(fs, except)? {
        let is_dead = is_dead(fs, &dir, timeout)?;
        let owner = read_file(fs, &dir.child(IDENTITY), MAX_IDENTITY_LEN).unwrap_or_default();
        let owner = owner.unwrap_or_default();
        match fs.stat(&dir) {
            Ok(stat) if is_dead => dead.push((stat.modified, owner, dir)),
            Ok(_) => living.push((owner, dir)),
            // Removed meanwhile.
            Err(_) => {}
        }
    }
    dead.sort_unstable_by(|a, b| b.cmp(a));
    let dead = dead.into_iter().map(|(modified, owner, dir)| Dead {
        modified: modified.0,
        owner,
        dir,
    });
    Ok(Staged {
        dead: dead.collect(),
        living,
    })
}

/// Returns how many directories of an identity stay, of `dead` from the newest on.
fn fitting<F: Fs>(fs: &F, dead: &[Dead], owner: &Owner) -> usize {
    let own: Vec<_> = dead
        .iter()
        .filter(|dead| dead.owner == owner.name)
        .collect();
    let most = own.len().min(MAX_KEPT_OF_ONE);
    let Some(room) = owner.room.filter(|_| most > 1) else {
        return most;
    };
    let mut sum = Weight::default();
    let fit = own.iter().take(most).take_while(|dead| {
        sum = sum + weigh(fs, &dead.dir);
        sum.fits(room)
    });
    fit.count().max(1)
}

/// Counts the objects in a staging directory, and their bytes. Of one that cannot be read, or is
/// removed meanwhile, it counts as many as it sees.
fn weigh<F: Fs>(fs: &F, dir: &RepoPath) -> Weight {
    let mut sum = Weight::default();
    let _ = fs.each_entry(dir, &mut |name, stat| {
        if ![LOCK, IDENTITY, TMP].contains(&name) {
            sum = sum
                + Weight {
                    objects: 1,
                    bytes: stat.len,
                };
        }
    });
    sum
}

/// Returns at most `most` objects that sessions of an identity have staged, dead or alive.
pub(crate) fn staged<F: Fs>(
    fs: &F,
    identity: &str,
    mode: RepoMode,
    most: usize,
) -> Result<Vec<ObjectId>, Error> {
    let wanted = Owner::new(identity, None);
    let mut found = Vec::new();
    if if_there(fs.stat(&RepoPath::all_staging()))
        .map_err(Error::io("looking at", &RepoPath::all_staging()))?
        .is_none()
    {
        return Ok(found);
    }
    for dir in others(fs, &RepoPath::root())? {
        let owner = read_file(fs, &dir.child(IDENTITY), MAX_IDENTITY_LEN).unwrap_or_default();
        if owner.as_deref() == Some(wanted.name()) {
            let entries = fs.read_dir(&dir, most - found.len()).unwrap_or_default();
            let ids = entries
                .iter()
                .map(|entry| RepoPath::staged_id(&entry.name, mode));
            found.extend(ids.flatten());
        }
    }
    Ok(found)
}

/// Removes the dead directories from which a published push took objects over.
pub(crate) fn remove_taken<F: Fs>(fs: &F, siblings: &[Sibling], timeout: LockTimeout) {
    let taken = siblings.iter().filter(|s| s.taken.load(Ordering::Relaxed));
    for Sibling { dir, .. } in taken {
        if is_dead(fs, dir, timeout).unwrap_or(false) {
            remove(fs, dir);
        }
    }
}

/// Removes all dead directories, of any identity; returns whether there were any.
pub(crate) fn remove_dead<F: Fs>(fs: &F, own: &RepoPath, timeout: LockTimeout) -> bool {
    let mut removed = false;
    for dir in others(fs, own).unwrap_or_default() {
        if is_dead(fs, &dir, timeout).unwrap_or(false) {
            remove(fs, &dir);
            removed = true;
        }
    }
    removed
}

/// Puts all staged objects in doubt. Sessions that live now learn of it from their own sync; later
/// ones take nothing over.
pub(crate) fn distrust_all<F: Fs>(fs: &F) {
    for dir in others(fs, &RepoPath::root()).unwrap_or_default() {
        let path = dir.child(IDENTITY);
        if let Err(error) = if_there(fs.unlink(&path)) {
            tracing::error!(%path, %error, "what is staged there may be taken over, and is lost");
        }
    }
}

/// Takes the lock that protects the making and judging of staging directories, so that no other
/// session sees one that is not locked yet.
pub(crate) fn lock_judging<F: Fs>(fs: &F, timeout: LockTimeout) -> Result<F::Lock, Error> {
    lock::acquire(fs, &RepoPath::staging_lock(), LockMode::Exclusive, timeout)
}

/// Returns whether a directory's session is over. The directory of a killed session is tidied up.
fn is_dead<F: Fs>(fs: &F, dir: &RepoPath, timeout: LockTimeout) -> Result<bool, Error> {
    let lock = dir.child(LOCK);
    let judging = lock_judging(fs, timeout)?;
    // Never creates the file: a session that is just removing the directory would then fail.
    let claim = match if_there(fs.try_lock_there(&lock)) {
        // Another user's: only that user's sessions can tell.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        claim => claim.map_err(Error::io("locking", &lock))?,
    };
    let Some(claim) = claim else {
        return Ok(true);
    };
    drop(judging);
    // Held until it is tidied up, so that no other session does the same.
    Ok(claim.map(|_claim| _ = leave(fs, dir)).is_some())
}

/// Lists the staging directories except `own`.
fn others<F: Fs>(fs: &F, own: &RepoPath) -> Result<Vec<RepoPath>, Error> {
    let all = RepoPath::all_staging();
    let entries = fs
        .read_dir(&all, MAX_LISTED)
        .map_err(Error::io("listing", &all))?;
    let dirs = entries
        .iter()
        .filter(|entry| entry.kind == FileKind::Dir)
        .map(|entry| all.child(&entry.name))
        .filter(|dir| dir != own);
    Ok(dirs.collect())
}

/// Directories looked at by one session; the rest is left to later sessions.
const MAX_LISTED: usize = 256;
/// Files of other identities that a session removes: 10 to 40 ms on ext4 once they are synced.
const CLEARED_OF_OTHERS: usize = 64;
/// The longest identity, in bytes; a longer one is treated as missing.
const MAX_IDENTITY_LEN: usize = 64 * 1024;
/// How long an abandoned directory is kept.
const KEPT_SECONDS: i64 = 24 * 60 * 60;
/// How long a prune leaves an abandoned directory to a client that tries again.
const RETRIED_SECONDS: i64 = 60 * 60;
/// Dead directories kept for one identity.
const MAX_KEPT_OF_ONE: usize = 4;
/// Dead directories kept for all.
const MAX_KEPT: usize = 64;
