//! Staging directories of other sessions: kept for a retry, and reclaimed in time (INV-6).
//!
//! A session that ends before it has published leaves its verified objects, so that the same
//! identity need not send them again (`resume.rs`). Such a directory is removed
//!
//! * at once if it contains no object; half-received objects go when its session ends, or is found
//!   dead by its lock;
//! * when a push that took an object over from it is published;
//! * 24 hours after its last object came, by the file system's own clock;
//! * when it is not among the newest 4 of its identity and the newest 64 of all: by a session of
//!   that identity, or bit by bit by others' sessions, none of which waits for files it did not
//!   leave itself;
//! * when the disk is full: then all dead directories go, and the failed write is repeated;
//! * when it does not name its identity. A failed sync removes the name from all: the objects that
//!   anybody staged before may be lost, and a process that opens the repository later would not be
//!   told.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use artifact_formats::{LockTimeout, ObjectId, RepoMode};

use crate::error::Error;
use crate::local::disk::path::{RepoPath, STAGED_TMP};
use crate::local::disk::{FileKind, Fs, LockMode, if_there, lock, read_file};

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

/// Returns the content of the file that names the identity. No part of it, as a power cut may leave
/// one, names another identity.
pub(crate) fn owner(identity: &str) -> Vec<u8> {
    format!("{identity:?}\n").into_bytes()
}

/// Looks at all staging directories except `own`: removes the expired ones, and returns those of
/// the same identity.
pub(crate) fn survey<F: Fs>(
    fs: &F,
    own: &RepoPath,
    identity: &str,
    timeout: LockTimeout,
) -> Result<Vec<Sibling>, Error> {
    let now = fs.stat(own).map_err(Error::io("looking at", own))?.modified;
    let identity = owner(identity);
    let (mut siblings, mut dead) = (Vec::new(), Vec::new());
    for dir in others(fs, own)? {
        let is_dead = is_dead(fs, &dir, timeout)?;
        let owner = read_file(fs, &dir.child(IDENTITY), MAX_IDENTITY_LEN).unwrap_or_default();
        match fs.stat(&dir) {
            Ok(stat) if is_dead => dead.push((stat.modified, owner.unwrap_or_default(), dir)),
            Ok(_) if owner.as_ref() == Some(&identity) => siblings.push(Sibling::new(dir)),
            // A live session's of another identity, or one removed meanwhile.
            Ok(_) | Err(_) => {}
        }
    }
    dead.sort_unstable_by(|a, b| b.cmp(a));
    let (mut kept, mut kept_of) = (0, BTreeMap::new());
    let mut of_others = CLEARED_OF_OTHERS;
    for (modified, owner, dir) in dead {
        let of_owner: &mut usize = kept_of.entry(owner.clone()).or_default();
        let young = now.0.saturating_sub(modified.0) < KEPT_SECONDS;
        if owner.is_empty() || !young || *of_owner == MAX_KEPT_OF_ONE || kept == MAX_KEPT {
            if owner == identity {
                remove(fs, &dir);
            } else if of_others > 0 {
                of_others -= remove_some(fs, &dir, of_others);
            }
            continue;
        }
        kept += 1;
        *of_owner += 1;
        if owner == identity {
            siblings.push(Sibling::new(dir));
        }
    }
    Ok(siblings)
}

/// Returns at most `most` objects that sessions of an identity have staged, dead or alive.
pub(crate) fn staged<F: Fs>(
    fs: &F,
    identity: &str,
    mode: RepoMode,
    most: usize,
) -> Result<Vec<ObjectId>, Error> {
    let identity = owner(identity);
    let mut found = Vec::new();
    if if_there(fs.stat(&RepoPath::all_staging()))
        .map_err(Error::io("looking at", &RepoPath::all_staging()))?
        .is_none()
    {
        return Ok(found);
    }
    for dir in others(fs, &RepoPath::root())? {
        let owner = read_file(fs, &dir.child(IDENTITY), MAX_IDENTITY_LEN).unwrap_or_default();
        if owner.as_ref() == Some(&identity) {
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

/// Leaves the directory of an ended session to be taken over: complete objects, and their identity.
pub(crate) fn leave<F: Fs>(fs: &F, dir: &RepoPath) {
    empty(fs, &dir.child(TMP));
    let holds = |names: Vec<crate::local::disk::DirEntry>| {
        names
            .iter()
            .any(|entry| ![LOCK, IDENTITY, TMP].contains(&entry.name.as_str()))
    };
    if fs.read_dir(dir, 4).is_ok_and(holds) {
        // The missing lock tells that no half-received object remains.
        let _ = fs.unlink(&dir.child(LOCK));
    } else {
        remove(fs, dir);
    }
}

/// Removes a staging directory, its lock last.
pub(crate) fn remove<F: Fs>(fs: &F, dir: &RepoPath) {
    let tmp = dir.child(TMP);
    empty(fs, &tmp);
    let _ = fs.rmdir(&tmp);
    empty(fs, dir);
    let gone = if_there(fs.unlink(&dir.child(LOCK))).and_then(|_| if_there(fs.rmdir(dir)));
    if let Err(error) = gone {
        tracing::warn!(%dir, %error, "cannot remove a staging directory");
    }
}

/// Removes at most this many files of a staging directory, and the empty directory itself; returns
/// their number. The identity's name goes first, so that no session takes over the rest.
fn remove_some<F: Fs>(fs: &F, dir: &RepoPath, most: usize) -> usize {
    let _ = fs.unlink(&dir.child(IDENTITY));
    let mut removed = 0;
    for from in [dir.child(TMP), dir.clone()] {
        let entries = fs.read_dir(&from, most - removed).unwrap_or_default();
        let files = entries.iter().filter(|entry| entry.name != LOCK);
        removed += files
            .filter(|e| fs.unlink(&from.child(&e.name)).is_ok())
            .count();
    }
    if removed < most {
        remove(fs, dir);
    }
    removed
}

/// Removes all files but the lock from a directory, and no subdirectory.
pub(crate) fn empty<F: Fs>(fs: &F, dir: &RepoPath) {
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
    Ok(claim.map(|_claim| leave(fs, dir)).is_some())
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

/// The file in a staging directory whose lock the live session holds.
pub(crate) const LOCK: &str = "lock";
/// The file in a staging directory that names its identity.
pub(crate) const IDENTITY: &str = "identity";
/// The subdirectory of files still being written, and of everything else that ends with the
/// session.
pub(crate) const TMP: &str = STAGED_TMP;
/// Directories looked at by one session; the rest is left to later sessions.
const MAX_LISTED: usize = 256;
/// Bounds the listing in memory of a directory being removed.
const ENTRIES_AT_ONCE: usize = 4096;
/// Files of other identities that a session removes, in some milliseconds at most.
const CLEARED_OF_OTHERS: usize = 256;
/// The longest identity, in bytes; a longer one is treated as missing.
const MAX_IDENTITY_LEN: usize = 64 * 1024;
/// How long an abandoned directory is kept.
const KEPT_SECONDS: i64 = 24 * 60 * 60;
/// Dead directories kept for one identity.
const MAX_KEPT_OF_ONE: usize = 4;
/// Dead directories kept for all.
const MAX_KEPT: usize = 64;
