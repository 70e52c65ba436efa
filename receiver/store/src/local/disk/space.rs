//! Room on the disk: how much there must be before a push is accepted.
//!
//! A full disk ends a push as well, and harms nothing; but it takes other programs along, and
//! whoever pushed has sent everything for nothing.

use std::sync::atomic::{AtomicU64, Ordering};

use artifact_formats::{MinFree, RepoConfig, Share};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;

/// What must be free for a push to be accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadRoom {
    /// Room for data.
    pub space: Option<Share>,
    /// Room for files, whatever their length.
    pub inodes: Option<u64>,
}

/// Looks at the room again and again while a push fills it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    head_room: HeadRoom,
    bytes: AtomicU64,
    files: AtomicU64,
    // When it is time to look again.
    bytes_next: AtomicU64,
    files_next: AtomicU64,
}

/// What is free of something, and what ought to be.
#[derive(Clone, Copy, Debug)]
struct Standing {
    what: &'static str,
    free: u64,
    needed: u64,
}

impl Meter {
    /// Begins to watch a push.
    pub(crate) fn new(head_room: HeadRoom) -> Self {
        Self {
            head_room,
            ..Self::default()
        }
    }

    /// Fails if there is too little room for a push to begin, also without what `make_room` gives up.
    pub(crate) fn check<F: Fs>(
        &self,
        fs: &F,
        config: &RepoConfig,
        make_room: impl FnOnce() -> bool,
    ) -> Result<(), Error> {
        let short = |standing: &Standing| standing.free < standing.needed;
        let mut standings = standings(fs, self.head_room, config)?;
        if standings.iter().any(short) && make_room() {
            standings = self::standings(fs, self.head_room, config)?;
        }
        match standings.into_iter().find(short) {
            Some(standing) => Err(standing.into()),
            None => Ok(()),
        }
    }

    /// Takes note of what a push is about to stage. Fails if it is this push that leaves too little:
    /// one that has taken much is over as soon as there is less than must be free, and any push when
    /// half of that is gone.
    pub(crate) fn count<F: Fs>(
        &self,
        fs: &F,
        config: &RepoConfig,
        (bytes, files): (u64, u64),
        make_room: impl FnOnce() -> bool,
    ) -> Result<(), Error> {
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let files = self.files.fetch_add(files, Ordering::Relaxed) + files;
        if bytes < self.bytes_next.load(Ordering::Relaxed)
            && files < self.files_next.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let is_over = |s: &Standing| {
            let taken = if s.what == BYTES { bytes } else { files };
            s.free < s.needed / 2 || (s.free < s.needed && taken > s.needed / 8)
        };
        let mut standings = standings(fs, self.head_room, config)?;
        if standings.iter().any(is_over) && make_room() {
            standings = self::standings(fs, self.head_room, config)?;
        }
        if let Some(standing) = standings.iter().find(|standing| is_over(standing)) {
            return Err((*standing).into());
        }
        // Others fill it as well: so it is looked at when half of what is left may be gone.
        let step = |what, (least, most): (u64, u64)| {
            let standing = standings.iter().find(|standing| standing.what == what);
            standing.map_or(u64::MAX, |s| {
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

impl From<Standing> for Error {
    fn from(Standing { what, free, needed }: Standing) -> Self {
        Self::NoRoom { what, free, needed }
    }
}

/// Looks at all that the operator, or the repository's own `config`, wants free.
fn standings<F: Fs>(
    fs: &F,
    head_room: HeadRoom,
    config: &RepoConfig,
) -> Result<Vec<Standing>, Error> {
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
    let all = all.map(|(what, free, needed)| Standing { what, free, needed });
    Ok(all.collect())
}

const BYTES: &str = "bytes";
const INODES: &str = "inodes";
/// The room is looked at after so many bytes at least, and at most.
const BYTES_STEP: (u64, u64) = (64 * 1024, 64 * 1024 * 1024);
/// The same for files.
const FILES_STEP: (u64, u64) = (64, 4096);
