//! Room on the disk: how much there must be before a push is accepted.
//!
//! A full disk ends a push as well, and harms nothing; but it takes other programs along, and
//! whoever pushed has sent everything for nothing.

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

/// The room on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// All its bytes.
    pub bytes: u64,
    /// Those that are free to anybody.
    pub bytes_free: u64,
    /// Files that can be made; `None` where that has no bound of its own.
    pub inodes_free: Option<u64>,
}

/// Fails when less is free than the operator, or the repository's own `config`, wants free.
pub(crate) fn check<F: Fs>(fs: &F, head_room: HeadRoom, config: &RepoConfig) -> Result<(), Error> {
    let own = config.min_free.map(|min| match min {
        MinFree::Bytes(bytes) => Share::Bytes(bytes),
        MinFree::Percent(percent) => Share::Percent(percent),
    });
    if head_room.space.or(own).is_none() && head_room.inodes.is_none() {
        return Ok(());
    }
    let room = fs
        .room()
        .map_err(Error::io("looking for room in", &RepoPath::root()))?;
    let shares = [head_room.space, own].into_iter().flatten();
    let needed = shares.map(|share| share.of(room.bytes)).max().unwrap_or(0);
    if room.bytes_free < needed {
        let free = room.bytes_free;
        let what = "bytes";
        return Err(Error::NoRoom { what, free, needed });
    }
    if let (Some(needed), Some(free)) = (head_room.inodes, room.inodes_free)
        && free < needed
    {
        let what = "inodes";
        return Err(Error::NoRoom { what, free, needed });
    }
    Ok(())
}
