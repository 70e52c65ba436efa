//! The contents of a repository, counted without reading objects.

use std::path::Path;

use artifact_formats::RepoMode;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{FileKind, Fs, Room, if_there};
use crate::local::repository::stored::{self, Stored};
use crate::local::repository::{self, listing};
use crate::local::upkeep::remove;
use crate::upkeep::{Count, StoredRef};

/// The contents of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The refs, by name.
    pub refs: Vec<StoredRef>,
    /// Entries in the place of a ref that are none, and why.
    pub broken: Vec<(String, &'static str)>,
    /// Objects: files, dirtrees, dirmetas and commits.
    pub objects: Count,
    /// Other files among them: detached metadata, and files that OSTree or other programs keep
    /// there.
    pub others: Count,
    /// Objects that sessions have staged: live ones, and cut ones not yet taken over.
    pub staged: Count,
    /// The number of those sessions.
    pub sessions: u64,
    /// Length of the summary, and seconds since 1970 at its last writing.
    pub summary: Option<(u64, i64)>,
    /// Free space on the disk.
    pub room: Room,
}

/// Looks at the repository at `path`. Concurrent changes are counted or not.
pub fn status(path: &Path) -> Result<Status, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    repository::read_config(&fs)?;
    let (objects, others) = count(&fs)?;
    let (mut staged, mut sessions) = (Count::default(), 0);
    let all = RepoPath::all_staging();
    for entry in list(&fs, &all)? {
        if entry.kind == FileKind::Dir {
            sessions += 1;
            count_dir(&fs, &all.child(&entry.name), |_, len| staged.add(len))?;
        }
    }
    let path = RepoPath::summary();
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    let room = fs
        .room()
        .map_err(Error::io("looking for room in", &RepoPath::root()))?;
    Ok(Status {
        refs: remove::list(&fs)?,
        broken: broken(&fs)?,
        objects,
        others,
        staged,
        sessions,
        summary: stat.map(|stat| (stat.len, stat.modified.0)),
        room,
    })
}

/// Lists entries in the place of a ref that are none, and why, without looking at objects.
pub fn broken_refs(path: &Path) -> Result<Vec<(String, &'static str)>, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    broken(&fs)
}

fn broken<F: Fs>(fs: &F) -> Result<Vec<(String, &'static str)>, Error> {
    let broken = listing::list(fs)?.broken.into_iter();
    let named = broken.map(|(path, broken)| (remove::shown(&path), broken.why()));
    Ok(named.collect())
}

/// Counts the objects in the repository at `path`, and the other files among them. It looks at
/// every file, which takes seconds for a million, and needs only the right to read.
pub fn count_objects(path: &Path) -> Result<(Count, Count), Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    count(&fs)
}

fn count<F: Fs>(fs: &F) -> Result<(Count, Count), Error> {
    let (mut objects, mut others) = (Count::default(), Count::default());
    for first in 0..=u8::MAX {
        count_dir(fs, &RepoPath::fan_out(first), |name, len| {
            match stored::look(RepoMode::Archive, first, name, FileKind::File) {
                Stored::Object(_) => objects.add(len),
                Stored::Detached(_) | Stored::Companion | Stored::Foreign => others.add(len),
                // Files never have that shape.
                Stored::Misshapen(_) => {}
            }
        })?;
    }
    Ok((objects, others))
}

/// Passes the name and length of each file in a directory to `count`.
fn count_dir<F: Fs>(fs: &F, dir: &RepoPath, mut count: impl FnMut(&str, u64)) -> Result<(), Error> {
    for entry in list(fs, dir)? {
        if entry.kind != FileKind::File {
            continue;
        }
        let path = dir.child(&entry.name);
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        if let Some(stat) = stat {
            count(&entry.name, stat.len);
        }
    }
    Ok(())
}

fn list<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<crate::local::disk::DirEntry>, Error> {
    let entries = if_there(fs.read_dir(dir, usize::MAX)).map_err(Error::io("listing", dir))?;
    Ok(entries.unwrap_or_default())
}
