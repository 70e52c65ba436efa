//! What there is in a repository, counted without reading objects.

use std::path::Path;

use artifact_formats::ObjectKind;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, RealFs, Room, if_there};
use crate::local::repository;
use crate::local::upkeep::remove::{self, StoredRef};

/// What there is in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The refs, by name.
    pub refs: Vec<StoredRef>,
    /// Objects, of whatever kind.
    pub objects: Count,
    /// What sessions have staged: alive, or cut and not yet taken up again.
    pub staged: Count,
    /// How many sessions that is.
    pub sessions: u64,
    /// Length of the summary, and seconds since 1970 when it was written.
    pub summary: Option<(u64, i64)>,
    /// Room on the disk.
    pub room: Room,
}

/// A number of files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many.
    pub files: u64,
    /// Their length in bytes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, len: u64) {
        self.files += 1;
        self.bytes += len;
    }
}

/// Looks at the repository at `path`. What changes meanwhile is counted or not.
pub fn status(path: &Path) -> Result<Status, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    repository::read_config(&fs)?;
    let mut objects = Count::default();
    for first in 0..=u8::MAX {
        count_dir(&fs, &RepoPath::fan_out(first), &mut objects)?;
    }
    let (mut staged, mut sessions) = (Count::default(), 0);
    let all = RepoPath::all_staging();
    for entry in list(&fs, &all)? {
        if entry.kind == FileKind::Dir {
            sessions += 1;
            count_dir(&fs, &all.child(&entry.name), &mut staged)?;
        }
    }
    let path = RepoPath::summary();
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    let room = fs
        .room()
        .map_err(Error::io("looking for room in", &RepoPath::root()))?;
    Ok(Status {
        refs: remove::list(&fs)?,
        objects,
        staged,
        sessions,
        summary: stat.map(|stat| (stat.len, stat.modified.0)),
        room,
    })
}

/// Counts the dirtrees of the repository at `path`, without looking at them.
pub fn count_dirtrees(path: &Path) -> Result<u64, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let extension = format!(".{}", ObjectKind::Dirtree.archive_extension());
    let mut count = 0;
    for first in 0..=u8::MAX {
        let entries = list(&fs, &RepoPath::fan_out(first))?;
        let dirtrees = entries
            .iter()
            .filter(|entry| entry.name.ends_with(&extension));
        count += dirtrees.count() as u64;
    }
    Ok(count)
}

fn count_dir<F: Fs>(fs: &F, dir: &RepoPath, count: &mut Count) -> Result<(), Error> {
    for entry in list(fs, dir)? {
        if entry.kind != FileKind::File {
            continue;
        }
        let path = dir.child(&entry.name);
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        if let Some(stat) = stat {
            count.add(stat.len);
        }
    }
    Ok(())
}

fn list<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<crate::local::disk::DirEntry>, Error> {
    let entries = if_there(fs.read_dir(dir, usize::MAX)).map_err(Error::io("listing", dir))?;
    Ok(entries.unwrap_or_default())
}
