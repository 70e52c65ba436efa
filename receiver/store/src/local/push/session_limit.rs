//! Limits the concurrent sessions: those of each identity, and all together.
//!
//! A place is a byte of one file, and a session locks its own: the locks are the kernel's and end
//! with their sessions, so that no stale lock remains (INV-7). An identity has places of its own,
//! of which each session takes one; and there are shared places, of which each session but one of
//! the identity's takes one as well. So every identity gets one session, whatever the others hold.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::config::Places;
use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, make_dir};

/// Takes a place for a session of `identity`, for the session's lifetime.
pub(crate) fn take<F: Fs>(fs: &F, identity: &str, places: Places) -> Result<Vec<F::Lock>, Error> {
    for dir in [&RepoPath::extensions(), &RepoPath::own()] {
        make_dir(fs, dir, DIR_MODE).map_err(Error::io("making", dir))?;
    }
    let file = RepoPath::sessions();
    let lock = |bytes: Range<u64>| {
        fs.try_lock_byte(&file, bytes)
            .map_err(Error::io("locking", &file))
    };
    let (max, own) = (places.of_one(), first_of(identity));
    let others = own + 1..own + u64::from(max).min(OWN_LEN);
    let for_all = || places.of_all.map(|max| (max, lock(0..max.into())));
    if max == 0 || places.of_all == Some(0) {
        return Err(Error::TooManySessions { max: 0 });
    }
    if let Some(first) = lock(own..own + 1)? {
        // The session leaves the shared places to others only when they are taken.
        let shared = for_all().map(|(_, shared)| shared).transpose()?;
        return Ok(shared.flatten().into_iter().chain([first]).collect());
    }
    let Some(another) = lock(others)? else {
        return Err(Error::TooManyOfOne { max });
    };
    match for_all() {
        None => Ok(vec![another]),
        Some((max, shared)) => match shared? {
            Some(shared) => Ok(vec![another, shared]),
            None => Err(Error::TooManySessions { max }),
        },
    }
}

/// Returns the first of an identity's own places, which lie beyond the shared ones.
fn first_of(identity: &str) -> u64 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(identity));
    (1 << 32) + u64::from(u32::from_be_bytes([a, b, c, d])) * OWN_LEN
}

/// Bytes reserved for one identity.
const OWN_LEN: u64 = 1 << 20;
const DIR_MODE: u32 = 0o775;
