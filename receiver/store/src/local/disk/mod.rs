//! The seam between the store and a file system: every operation that the store may use. `real.rs`
//! implements it for this machine.
//!
//! Thin on purpose: it decides nothing, so that a model which loses and reorders unsynced data can
//! replace it. Outside of this wing, the store uses only threads and clocks of the operating
//! system.

mod calls;
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
/// link, in any component (INV-5).
pub trait Fs: fmt::Debug + Send + Sync + 'static {
    /// An open regular file.
    type File: Read + Write + fmt::Debug + Send;
    /// A held lock; dropping it releases it, and so does the death of the process.
    type Lock: fmt::Debug + Send + Sync;

    /// Creates a file for writing with this mode. It ignores the umask, as libostree does. The file
    /// must not exist.
    fn create(&self, path: &RepoPath, mode: u32) -> io::Result<Self::File>;
    /// Changes the mode of a file.
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()>;
    /// Opens a regular file for reading.
    fn open(&self, path: &RepoPath) -> io::Result<Self::File>;
    /// Makes a file's content durable.
    fn sync_data(&self, file: &Self::File) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &RepoPath) -> io::Result<()>;
    /// Makes everything durable, and reports every failure to write back since the file system was
    /// opened.
    fn sync_all(&self) -> io::Result<()>;
    /// Renames a file, replacing any file of the new name.
    fn rename(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()>;
    /// Gives a file a second name, which must not exist.
    fn link(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &RepoPath) -> io::Result<()>;
    /// Creates a directory, which must not exist; the process's umask reduces the mode.
    fn mkdir(&self, path: &RepoPath, mode: u32) -> io::Result<()>;
    /// Removes an empty directory.
    fn rmdir(&self, path: &RepoPath) -> io::Result<()>;
    /// Returns the status of a file; does not follow a symbolic link.
    fn stat(&self, path: &RepoPath) -> io::Result<Stat>;
    /// Lists at most `max` entries of a directory, in no order.
    fn read_dir(&self, path: &RepoPath, max: usize) -> io::Result<Vec<DirEntry>>;
    /// Lists a directory with the status of each entry, in no order. The status of the directory
    /// itself was taken before that of any entry.
    fn survey(&self, path: &RepoPath) -> io::Result<(Stat, Vec<(String, Stat)>)>;
    /// Runs an action on the name and the status of each entry of a directory, in no order, and
    /// keeps none of them.
    fn each_entry(&self, path: &RepoPath, act: &mut dyn FnMut(&str, Stat)) -> io::Result<()>;
    /// Returns the status of entries of a directory, each named by its one component; `None` for
    /// missing ones.
    fn stat_each(&self, path: &RepoPath, names: &[Box<str>]) -> io::Result<Vec<Option<Stat>>>;
    /// Makes a symbolic link, which must not exist.
    fn symlink(&self, target: &str, path: &RepoPath) -> io::Result<()>;
    /// Gives a file or symbolic link to a user and a group.
    fn set_owner(&self, path: &RepoPath, uid: u32, gid: u32) -> io::Result<()>;
    /// Sets an extended attribute of a file.
    fn set_xattr(&self, file: &Self::File, name: &[u8], value: &[u8]) -> io::Result<()>;
    /// Sets an extended attribute of a symbolic link.
    fn set_link_xattr(&self, path: &RepoPath, name: &[u8], value: &[u8]) -> io::Result<()>;
    /// Returns an extended attribute of a file, if it has one of that name.
    fn xattr(&self, file: &Self::File, name: &[u8]) -> io::Result<Option<Vec<u8>>>;
    /// Returns names and values of the extended attributes of a file or symbolic link, in no order.
    fn xattrs(&self, path: &RepoPath) -> io::Result<Vec<Xattr>>;
    /// Reads the text of a symbolic link.
    fn read_link(&self, path: &RepoPath) -> io::Result<String>;
    /// Sets the modification time of a file, in seconds since 1970.
    fn set_modified(&self, path: &RepoPath, seconds: i64) -> io::Result<()>;
    /// Sets the root's modification time to now.
    fn touch_root(&self) -> io::Result<()>;
    /// Returns an id of this boot, if known.
    fn boot_id(&self) -> Option<&str>;
    /// Returns the free space.
    fn room(&self) -> io::Result<Room>;
    /// Takes a lock on a file, and creates it if necessary; `None` if somebody holds a conflicting
    /// lock.
    fn try_lock(&self, path: &RepoPath, mode: LockMode) -> io::Result<Option<Self::Lock>>;
    /// Takes the exclusive lock on an existing file; `None` if somebody holds a conflicting lock.
    fn try_lock_there(&self, path: &RepoPath) -> io::Result<Option<Self::Lock>>;
    /// Takes the exclusive lock on the first free byte of `bytes` in a file, whatever the file's
    /// length; creates the file if necessary. `None` if all bytes are locked.
    fn try_lock_byte(&self, path: &RepoPath, bytes: Range<u64>) -> io::Result<Option<Self::Lock>>;
}

/// Name and value of an extended attribute.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// The kind of a directory entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// Something that no repository contains.
    Other,
}

/// The space on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Its total bytes.
    pub bytes: u64,
    /// Bytes that are free to any user.
    pub bytes_free: u64,
    /// Files that can still be created; `None` if the file system has no such bound.
    pub inodes_free: Option<u64>,
}

/// The status of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its kind.
    pub kind: FileKind,
    /// Its permissions, as `chmod` takes them.
    pub mode: u32,
    /// The ids of its user and its group.
    pub owner: (u32, u32),
    /// Length in bytes.
    pub len: u64,
    /// Seconds and nanoseconds since 1970 at the last modification.
    pub modified: (i64, u64),
    /// The same for the last change of anything about it, including its name: no program can set
    /// it.
    pub changed: (i64, u64),
    /// Its inode number, unique among existing files.
    pub inode: u64,
}

/// An entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, with replacements for anything that is not UTF-8: such an entry cannot be opened
    /// by it.
    pub name: String,
    /// Its kind.
    pub kind: FileKind,
}

/// The kind of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockMode {
    /// Others may hold a shared lock at the same time.
    Shared,
    /// Nobody else may hold the lock.
    Exclusive,
}

/// Returns `None` if the file does not exist.
pub(crate) fn if_there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns whether the operation met a symbolic link, which none follows.
pub(crate) fn is_symlink(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Returns the entries of a directory; none if it is missing.
pub(crate) fn list_dir<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<(String, FileKind)>, Error> {
    let entries = if_there(fs.read_dir(dir, usize::MAX)).map_err(Error::io("listing", dir))?;
    let entries = entries.unwrap_or_default();
    Ok(entries
        .into_iter()
        .map(|entry| (entry.name, entry.kind))
        .collect())
}

/// Writes files beside those that they replace.
pub(crate) trait PutFile {
    /// Writes a file that replaces what has its name, in one step. Not durable.
    fn put_file(&self, path: &RepoPath, content: &[u8]) -> Result<(), Error>;
}

/// Creates a directory unless it exists; returns whether it did.
pub(crate) fn make_dir<F: Fs>(fs: &F, path: &RepoPath, mode: u32) -> io::Result<bool> {
    match fs.mkdir(path, mode) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads a whole file of at most `max` bytes; `None` if it does not exist. A longer file is
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

/// Makes the names in directories durable, lower ones first. Each directory costs a flush of the
/// disk; if there are many, one sync of everything is cheaper.
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

/// Up to this many directories are synced one by one.
const MAX_SINGLE_SYNCS: usize = 16;
