//! The free space that the disk must have before a push is accepted.
//!
//! A full disk ends a push as well, and harms nothing; but it affects other programs, and the
//! client has sent everything in vain.

use std::sync::atomic::{AtomicU64, Ordering};

use artifact_formats::{MinFree, RepoConfig, Share};

use crate::config::HeadRoom;
use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;

/// Checks the free space repeatedly while a push fills the disk.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    head_room: HeadRoom,
    bytes: AtomicU64,
    files: AtomicU64,
    // The counts at which to check again.
    bytes_next: AtomicU64,
    files_next: AtomicU64,
}

/// The free and the required amount of a resource.
#[derive(Clone, Copy, Debug)]
struct Requirement {
    what: &'static str,
    free: u64,
    needed: u64,
}

impl Meter {
    /// Starts to watch a push.
    pub(crate) fn new(head_room: HeadRoom) -> Self {
        Self {
            head_room,
            ..Self::default()
        }
    }

    /// Fails if a push must not begin, even after `reclaim` has freed what it can.
    pub(crate) fn check<F: Fs>(
        &self,
        fs: &F,
        config: &RepoConfig,
        reclaim: impl FnOnce() -> bool,
    ) -> Result<(), Error> {
        let short = |requirement: &Requirement| requirement.free < requirement.needed;
        let mut standings = standings(fs, self.head_room, config)?;
        if standings.iter().any(short) && reclaim() {
            standings = self::standings(fs, self.head_room, config)?;
        }
        match standings.into_iter().find(short) {
            Some(requirement) => Err(requirement.into()),
            None => Ok(()),
        }
    }

    /// Counts bytes and files that a push is about to stage. Fails if this push leaves too little:
    /// a push that has taken much ends as soon as less is free than must be, and any push ends when
    /// half of that is gone.
    pub(crate) fn count<F: Fs>(
        &self,
        fs: &F,
        config: &RepoConfig,
        (bytes, files): (u64, u64),
        reclaim: impl FnOnce() -> bool,
    ) -> Result<(), Error> {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        if bytes < self.bytes_next.load(Ordering::Relaxed)
            && files < self.files_next.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let is_over = |s: &Requirement| {
            let taken = if s.what == BYTES { bytes } else { files };
            s.free < s.needed / 2 || (s.free < s.needed && taken > s.needed / 8)
        };
        let mut standings = standings(fs, self.head_room, config)?;
        if standings.iter().any(is_over) && reclaim() {
            standings = self::standings(fs, self.head_room, config)?;
        }
        if let Some(requirement) = standings.iter().find(|requirement| is_over(requirement)) {
            return Err((*requirement).into());
        }
        // Others fill the disk as well, so check again when half of the rest may be gone.
        let step = |what, (least, most): (u64, u64)| {
            let requirement = standings
                .iter()
                .find(|requirement| requirement.what == what);
            requirement.map_or(u64::MAX, |s| {
                (s.free.saturating_sub(s.needed) / 2).clamp(least, most)
            })
        };
        let bytes_next = bytes.saturating_add(step(BYTES, BYTES_STEP));
        let files_next = files.saturating_add(step(INODES, FILES_STEP));
        self.bytes_next.store(bytes_next, Ordering::Relaxed);
        self.files_next.store(files_next, Ordering::Relaxed);
        Ok(())
    }
}

impl From<Requirement> for Error {
    fn from(Requirement { what, free, needed }: Requirement) -> Self {
        Self::NoRoom { what, free, needed }
    }
}

/// Compares the free space with the requirements of the operator and of the repository's own
/// `config`.
fn standings<F: Fs>(
    fs: &F,
    head_room: HeadRoom,
    config: &RepoConfig,
) -> Result<Vec<Requirement>, Error> {
    let own = config.min_free.map(|min| match min {
        MinFree::Bytes(bytes) => Share::Bytes(bytes),
        MinFree::Percent(percent) => Share::Percent(percent),
    });
    if head_room.space.or(own).is_none() && head_room.inodes.is_none() {
        return Ok(Vec::new());
    }
    let room = fs
        .room()
        .map_err(Error::io("looking for room in", &RepoPath::root()))?;
    let shares = [head_room.space, own].into_iter().flatten();
    let bytes = shares.map(|share| share.of(room.bytes)).max();
    let bytes = bytes.map(|needed| (BYTES, room.bytes_free, needed));
    let inodes = head_room.inodes.zip(room.inodes_free);
    let inodes = inodes.map(|(needed, free)| (INODES, free, needed));
    let all = [bytes, inodes].into_iter().flatten();
    let all = all.map(|(what, free, needed)| Requirement { what, free, needed });
    Ok(all.collect())
}

const BYTES: &str = "bytes";
const INODES: &str = "inodes";
/// Least and most bytes between two checks.
const BYTES_STEP: (u64, u64) = (64 * 1024, 64 * 1024 * 1024);
/// The same for files.
const FILES_STEP: (u64, u64) = (64, 4096);
