//! How many sessions there may be at once: so many files, of which each session locks one.
//!
//! The locks are the kernel's, and die with their sessions: nothing is left to be cleared up.

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, make_dir};

/// Takes a place among `max` sessions, to be kept as long as the session lives.
pub(crate) fn take<F: Fs>(fs: &F, max: u32) -> Result<F::Lock, Error> {
    let dir = RepoPath::slots();
    for dir in [&RepoPath::extensions(), &RepoPath::own(), &dir] {
        make_dir(fs, dir, DIR_MODE).map_err(Error::io("making", dir))?;
    }
    for number in 0..max {
        let slot = dir.child(&number.to_string());
        let lock = fs.try_lock(&slot, LockMode::Exclusive);
        if let Some(lock) = lock.map_err(Error::io("locking", &slot))? {
            return Ok(lock);
        }
    }
    Err(Error::TooManySessions { max })
}

const DIR_MODE: u32 = 0o775;
