//! The seam between the store and a file system: what the store may ask. `real.rs` is the real thing.
//!
//! Thin on purpose: it decides nothing, so that a model which loses and reorders what was not
//! synced can stand in for it. Beside this wing, only threads and clocks of the store reach the
//! operating system.

pub(crate) mod dates;
pub(crate) mod dirs;
pub(crate) mod lock;
pub(crate) mod path;
pub(crate) mod real;
pub(crate) mod space;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;

use nix::libc;

use crate::error::Error;
use crate::local::disk::path::RepoPath;

/// A file system as a store sees it, rooted at the repository. No operation follows a symbolic
/// link, in any component.
pub trait Fs: fmt::Debug + Send + Sync + 'static {
    /// An open regular file.
    type File: Read + Write + fmt::Debug + Send;
    /// A held lock; dropping it releases it, and so does the death of the process.
    type Lock: fmt::Debug + Send + Sync;

    /// Makes a file that must not exist, with this mode less the process's umask, to be written.
    fn create(&self, path: &RepoPath, mode: u32) -> io::Result<Self::File>;
    /// Gives a file another mode.
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;
    /// Opens a regular file to be read.
    fn open(&self, path: &RepoPath) -> io::Result<Self::File>;
    /// Makes a file's content durable.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &RepoPath) -> io::Result<()>;
    /// Makes everything durable, and reports every failure to write back since this was opened.
    fn sync_all(&self) -> io::Result<()>;
    /// Gives a file another name, replacing what has it.
    fn rename(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()>;
    /// Gives a file a second name, which must not exist.
    fn link(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()>;
    /// Takes a file's name away.
    fn unlink(&self, path: &RepoPath) -> io::Result<()>;
    /// Makes a directory that must not exist, with this mode less the process's umask.
    fn mkdir(&self, path: &RepoPath, mode: u32) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &RepoPath) -> io::Result<()>;
    /// Looks at what has a name, at a symbolic link itself.
    fn stat(&self, path: &RepoPath) -> io::Result<Stat>;
    /// Lists at most `max` entries of a directory, in no order.
    fn read_dir(&self, path: &RepoPath, max: usize) -> io::Result<Vec<DirEntry>>;
    /// Lists a directory with what is known of each entry, in no order. What is said of the directory
    /// itself was so before the first entry was looked at.
    fn survey(&self, path: &RepoPath) -> io::Result<(Stat, Vec<(String, Stat)>)>;
    /// Looks at entries of a directory, each by its one component; `None` for what is not there.
    fn stat_each(&self, path: &RepoPath, names: &[Box<str>]) -> io::Result<Vec<Option<Stat>>>;
    /// Reads the text of a symbolic link.
    fn read_link(&self, path: &RepoPath) -> io::Result<String>;
    /// Sets the time of modification of what has a name, in seconds since 1970.
    fn set_modified(&self, path: &RepoPath, seconds: i64) -> io::Result<()>;
    /// Sets the root's time of modification to now.
    fn touch_root(&self) -> io::Result<()>;
    /// Returns what tells this boot from others, if that is known.
    fn boot_id(&self) -> Option<&str>;
    /// Looks how much room there is.
    fn room(&self) -> io::Result<Room>;
    /// Takes a lock on a file, which is made if need be; `None` if it is held otherwise.
    fn try_lock(&self, path: &RepoPath, mode: LockMode) -> io::Result<Option<Self::Lock>>;
    /// Takes the exclusive lock on a file that must be there; `None` if it is held otherwise.
    fn try_lock_there(&self, path: &RepoPath) -> io::Result<Option<Self::Lock>>;
    /// Takes the exclusive lock on the first of these bytes of a file that nobody holds, whether the
    /// file is that long or not; it is made if need be. `None` if all are held.
    fn try_lock_byte(&self, path: &RepoPath, bytes: Range<u64>) -> io::Result<Option<Self::Lock>>;
}

/// What has a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Something no repository has.
    Other,
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

/// What is known of a file without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileKind,
    /// Its permissions, as `chmod` takes them.
    pub mode: u32,
    /// Length in bytes.
    pub len: u64,
    /// Seconds and nanoseconds since 1970 at the last modification.
    pub modified: (i64, u64),
    /// The same at the last change of anything about it, its name included: nobody can set that.
    pub changed: (i64, u64),
    /// Its number, which no other file has at the same time.
    pub inode: u64,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name; what is not UTF-8 in it is replaced, and so cannot be opened by it.
    pub name: String,
    /// What has it.
    pub kind: FileKind,
}

/// How a lock is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// With others that share it.
    Shared,
    /// With nobody.
    Exclusive,
}

/// Returns `None` for what is not there.
pub(crate) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether an error says that a symbolic link was met, which no operation follows.
pub(crate) fn is_symlink(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Returns what lies in a directory, or nothing where it is missing.
pub(crate) fn list_dir<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<(String, FileKind)>, Error> {
    let entries = if_there(fs.read_dir(dir, usize::MAX)).map_err(Error::io("listing", dir))?;
    let entries = entries.unwrap_or_default();
    Ok(entries
        .into_iter()
        .map(|entry| (entry.name, entry.kind))
        .collect())
}

/// Makes a directory unless it is there; returns whether it made it.
pub(crate) fn make_dir<F: Fs>(fs: &F, path: &RepoPath, mode: u32) -> io::Result<bool> {
    match fs.mkdir(path, mode) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a whole file of at most `max` bytes; `None` if it is not there. A longer file is
/// `InvalidData`.
pub(crate) fn read_file<F: Fs>(fs: &F, path: &RepoPath, max: usize) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = if_there(fs.open(path))? else {
        return Ok(None);
    };
    let mut content = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut content)?;
    if content.len() > max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the file is too long",
        ));
    }
    Ok(Some(content))
}

/// Makes the names in directories durable, lower ones first. Of many directories each would cost a
/// flush of the disk; then one sync of everything is cheaper.
pub(crate) fn sync_dirs<F: Fs>(fs: &F, dirs: &BTreeSet<RepoPath>) -> Result<(), Error> {
    if dirs.len() > MAX_SINGLE_SYNCS {
        return fs
            .sync_all()
            .map_err(Error::io("syncing", &"the repository"));
    }
    for dir in dirs.iter().rev() {
        fs.sync_dir(dir).map_err(Error::io("syncing", dir))?;
    }
    Ok(())
}

/// Directories that are synced one by one.
const MAX_SINGLE_SYNCS: usize = 16;
