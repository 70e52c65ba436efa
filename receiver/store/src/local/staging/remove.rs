//! Removes staging directories, or leaves what a later session may take over.

use crate::local::disk::path::RepoPath;
use crate::local::disk::{DirEntry, Fs, if_there};
use crate::local::staging::names::{IDENTITY, LOCK, TMP};

/// Leaves the directory of an ended session to be taken over: complete objects, and their identity.
/// Removes it if it has none; returns whether it has.
pub(super) fn leave<F: Fs>(fs: &F, dir: &RepoPath) -> bool {
    empty(fs, &dir.child(TMP));
    let holds = |names: Vec<DirEntry>| {
        names
            .iter()
            .any(|entry| ![LOCK, IDENTITY, TMP].contains(&entry.name.as_str()))
    };
    let left = fs.read_dir(dir, 4).is_ok_and(holds);
    if left {
        // The missing lock tells that no half-received object remains.
        let _ = fs.unlink(&dir.child(LOCK));
    } else {
        remove(fs, dir);
    }
    left
}

/// Removes a staging directory, its lock last.
pub(super) fn remove<F: Fs>(fs: &F, dir: &RepoPath) {
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
pub(super) fn remove_some<F: Fs>(fs: &F, dir: &RepoPath, most: usize) -> usize {
    let _ = fs.unlink(&dir.child(IDENTITY));
    let mut removed = 0;
    let tmp = dir.child(TMP);
    for from in [&tmp, dir] {
        let entries = fs.read_dir(from, most - removed).unwrap_or_default();
        let files = entries.iter().filter(|entry| entry.name != LOCK);
        removed += files
            .filter(|e| fs.unlink(&from.child(&e.name)).is_ok())
            .count();
        // Fails unless it is empty. It must not take the place of a file in the next list.
        let _ = fs.rmdir(&tmp);
    }
    if removed < most {
        remove(fs, dir);
    }
    removed
}

/// Removes all files but the lock from a directory, and no subdirectory.
pub(super) fn empty<F: Fs>(fs: &F, dir: &RepoPath) {
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

/// Bounds the listing in memory of a directory being removed.
const ENTRIES_AT_ONCE: usize = 4096;
