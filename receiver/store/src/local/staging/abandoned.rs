//! Staging directories of other sessions: kept for a retry, and reclaimed in time.
//!
//! A session that ends before it has published leaves what it verified, so that the same identity
//! need not send it again (`resume.rs`). Such a directory is removed
//!
//! * at once when no object is in it; half-received objects go when its session ends or is found
//!   dead, as its lock tells;
//! * when a push that took something over from it is published;
//! * 24 hours after its last object came, by the file system's own clock;
//! * when it is not among the newest 4 of its identity and the newest 64 of all: by a session of that
//!   identity, or bit by bit by those of others, none of which waits for what it has not left itself;
//! * when the disk is full: then all dead ones go, and what could not be written is tried again;
//! * when it does not say whose it is. After a failed sync none does any more: what anybody staged
//!   before may be lost, and whoever opens the repository later would not be told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use artifact_formats::{LockTimeout, ObjectId};

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

    /// Returns the path of an object that is staged there, if it is.
    pub(crate) fn path(&self, id: &ObjectId) -> RepoPath {
        self.dir.staged(id)
    }

    /// Returns whether a failed sync has put what is there in doubt.
    pub(crate) fn is_doubtful<F: Fs>(&self, fs: &F) -> Result<bool, Error> {
        let path = self.dir.child(IDENTITY);
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        Ok(stat.is_none())
    }

    /// Notes that something was taken over from there.
    pub(crate) fn took(&self) {
        self.taken.store(true, Ordering::Relaxed);
    }
}

/// Returns what to write into a staging directory of `identity`. No part of it, as a power cut may
/// leave one, is that of another identity.
pub(crate) fn owner(identity: &str) -> Vec<u8> {
    format!("{identity:?}\n").into_bytes()
}

/// Looks at all staging directories but `own`: removes those to be removed, and returns those of
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
            // Another's that lives, or gone meanwhile.
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

/// Removes those a published push took something over from, as far as they are dead.
pub(crate) fn remove_taken<F: Fs>(fs: &F, siblings: &[Sibling], timeout: LockTimeout) {
    let taken = siblings.iter().filter(|s| s.taken.load(Ordering::Relaxed));
    for Sibling { dir, .. } in taken {
        if is_dead(fs, dir, timeout).unwrap_or(false) {
            remove(fs, dir);
        }
    }
}

/// Removes all that are dead, whosever they are; returns whether there were any.
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

/// Puts all that is staged by anybody in doubt. Those who live are told by their own sync, if they
/// were there before; those who come later take nothing over.
pub(crate) fn distrust_all<F: Fs>(fs: &F) {
    for dir in others(fs, &RepoPath::root()).unwrap_or_default() {
        let path = dir.child(IDENTITY);
        if let Err(error) = if_there(fs.unlink(&path)) {
            tracing::error!(%path, %error, "what is staged there may be taken over, and is lost");
        }
    }
}

/// Leaves a directory to be taken over, its session being over: whole objects, and whose they are.
pub(crate) fn leave<F: Fs>(fs: &F, dir: &RepoPath) {
    empty(fs, &dir.child(TMP));
    let holds = |names: Vec<crate::local::disk::DirEntry>| {
        names
            .iter()
            .any(|entry| ![LOCK, IDENTITY, TMP].contains(&entry.name.as_str()))
    };
    if fs.read_dir(dir, 4).is_ok_and(holds) {
        // The absent lock says that nothing is half-received any more.
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

/// Removes so many files at most of a staging directory, and itself when it has no more; returns how
/// many. Whose it was goes first, so that nobody takes over what is left.
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

/// Removes all but the lock from a directory, and no directory from it.
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

/// Takes the lock under which a staging directory gets its own lock, or is judged dead, so that
/// nobody sees one that is not locked yet.
pub(crate) fn lock_judging<F: Fs>(fs: &F, timeout: LockTimeout) -> Result<F::Lock, Error> {
    lock::acquire(fs, &RepoPath::staging_lock(), LockMode::Exclusive, timeout)
}

/// Returns whether the session of a directory is over. One that was killed is tidied up.
fn is_dead<F: Fs>(fs: &F, dir: &RepoPath, timeout: LockTimeout) -> Result<bool, Error> {
    let lock = dir.child(LOCK);
    let judging = lock_judging(fs, timeout)?;
    // Nothing is made there: whoever is just removing the directory could not then.
    let claim = if_there(fs.try_lock_there(&lock)).map_err(Error::io("locking", &lock))?;
    let Some(claim) = claim else {
        return Ok(true);
    };
    drop(judging);
    // Held until it is tidied up, so that nobody else does so as well.
    Ok(claim.map(|_claim| leave(fs, dir)).is_some())
}

/// Lists the staging directories but `own`.
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

/// The file in a staging directory whose lock is held by the living session.
pub(crate) const LOCK: &str = "lock";
/// The file in a staging directory that says for whom it was staged.
pub(crate) const IDENTITY: &str = "identity";
/// The directory in a staging directory where files are that are still written, and what else goes with
/// the session.
pub(crate) const TMP: &str = STAGED_TMP;
/// Directories looked at by one session; the rest is left to the next ones.
const MAX_LISTED: usize = 256;
/// Bounds what is listed in memory of a directory that is being removed.
const ENTRIES_AT_ONCE: usize = 4096;
/// Files that a session removes of what others have left, in some milliseconds at most.
const CLEARED_OF_OTHERS: usize = 256;
/// A longer identity, in bytes, is nobody's.
const MAX_IDENTITY_LEN: usize = 64 * 1024;
/// How long what nobody takes over is kept.
const KEPT_SECONDS: i64 = 24 * 60 * 60;
/// Dead directories kept for one identity.
const MAX_KEPT_OF_ONE: usize = 4;
/// Dead directories kept for all.
const MAX_KEPT: usize = 64;
