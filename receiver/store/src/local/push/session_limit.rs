//! How many sessions there may be at once, of each identity and of all together.
//!
//! A place is a byte of one file, and a session locks its own: the locks are the kernel's, and die with
//! their sessions, so that nothing is left to be cleared up. An identity has places of its own, of
//! which it needs one; and there are places for all, of which it needs one as well, but for one of
//! its sessions: whatever others hold, an identity is served.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, make_dir};

/// How many sessions there may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Of all identities together, beyond the first of each; as many as they like if nothing is said.
    pub of_all: Option<u32>,
    /// Of each identity. If nothing is said, half of those of all, or 64.
    pub of_each: Option<u32>,
}

impl Places {
    /// Returns how many sessions an identity may have.
    fn of_one(self) -> u32 {
        let share = self.of_all.map_or(OF_EACH, |all| all.div_ceil(2));
        self.of_each.unwrap_or(share)
    }
}

/// Takes a place for a session of `identity`, to be kept as long as the session lives.
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
        // It leaves the places for all to others only when they are taken.
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

/// Returns the first of an identity's own places, which are beyond those for all.
fn first_of(identity: &str) -> u64 {
    let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(identity));
    (1 << 32) + u64::from(u32::from_be_bytes([a, b, c, d])) * OWN_LEN
}

/// Bytes that belong to one identity.
const OWN_LEN: u64 = 1 << 20;
/// Sessions of one identity where nothing is said: what builds side by side on many machines, and
/// bounded all the same.
const OF_EACH: u32 = 64;
const DIR_MODE: u32 = 0o775;
