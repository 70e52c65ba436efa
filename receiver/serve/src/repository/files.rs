//! The files of a repository, opened below its directory, and without waiting where possible.
//!
//! No component of a path may be a link, and only regular files are opened (`openat2`). The
//! requesting thread opens files that the kernel has in memory: handing that to another thread
//! costs more than doing it. Files on the disk are left to threads that may wait.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifact_formats::{RepoConfig, RepoMode};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::RepositoryError;

/// The directory of a repository.
#[derive(Debug)]
pub(crate) struct Files {
    root: OwnedFd,
}

/// A regular file open for reading.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: Arc<File>,
    pub(crate) identity: Identity,
}

/// Distinguishes a file from a later one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    inode: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, u64),
    pub(crate) len: u64,
}

/// The validators of a file.
#[derive(Clone, Debug)]
pub(crate) struct Validators {
    /// The strong entity tag, in its quotes.
    pub(crate) tag: String,
    /// The modification time, in whole seconds.
    pub(crate) modified: SystemTime,
    /// The length in bytes.
    pub(crate) len: u64,
}

impl Identity {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Self {
            inode: stat.st_ino,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            len: u64::try_from(stat.st_size).unwrap_or(0),
        }
    }

    pub(crate) fn validators(&self) -> Validators {
        let (seconds, nanoseconds) = self.modified;
        let modified = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Validators {
            tag: format!(
                "\"{:x}-{:x}-{seconds:x}.{nanoseconds:x}\"",
                self.inode, self.len
            ),
            modified: UNIX_EPOCH
                .checked_add(modified)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            len: self.len,
        }
    }
}

impl Files {
    /// Opens the directory of a repository, following links in `path` itself.
    pub(crate) fn open(path: &Path) -> Result<Self, RepositoryError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty());
        let root = root.map_err(|errno| RepositoryError::Open(errno.into()))?;
        Ok(Self { root })
    }

    /// Reads the configuration of a usable repository.
    pub(crate) fn config(&self) -> Result<RepoConfig, RepositoryError> {
        let found = self.find("config").map_err(RepositoryError::Config)?;
        let found = found.ok_or(RepositoryError::NoConfig)?;
        let mut text = String::new();
        let mut file = (&*found.file).take(MAX_CONFIG_LEN);
        file.read_to_string(&mut text)
            .map_err(RepositoryError::Config)?;
        let config = RepoConfig::parse(&text)?;
        if config.mode != RepoMode::Archive {
            return Err(RepositoryError::Mode(config.mode.as_str()));
        }
        match self.kind("objects") {
            Ok(Some(FileType::Directory)) => Ok(config),
            Ok(_) => Err(RepositoryError::NoObjects),
            Err(error) => Err(RepositoryError::Objects(error)),
        }
    }

    /// Opens a file, if it exists. May wait for the disk.
    pub(crate) fn find(&self, path: &str) -> io::Result<Option<Found>> {
        found(self.open_beneath(path, ResolveFlags::empty()))
    }

    /// Opens a file, if it exists and opening need not wait; otherwise fails with `WouldBlock`.
    pub(crate) fn find_now(&self, path: &str) -> io::Result<Option<Found>> {
        match self.open_beneath(path, ResolveFlags::CACHED) {
            // A kernel without the flag (before 5.12), or a file system that cannot tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Err(io::ErrorKind::WouldBlock.into()),
            other => found(other),
        }
    }

    /// Returns the regular file of this name in the repository's root.
    pub(crate) fn look(&self, name: &str) -> io::Result<Option<Identity>> {
        match rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(Identity::of(&stat)))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Returns whether this user may write to the repository.
    pub(crate) fn may_write(&self) -> bool {
        let access = rustix::fs::Access::WRITE_OK;
        rustix::fs::accessat(&self.root, "objects", access, AtFlags::EACCESS).is_ok()
    }

    fn kind(&self, name: &str) -> io::Result<Option<FileType>> {
        match rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_beneath(&self, path: &str, resolve: ResolveFlags) -> Result<OwnedFd, Errno> {
        // Opening a pipe must not block, nor a terminal become ours.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = resolve
            | ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS;
        let cached = resolve.contains(ResolveFlags::CACHED);
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // The kernel could not tell whether a concurrent rename led outside: try again.
                Err(Errno::AGAIN) if !cached => {}
                Err(Errno::INTR) => {}
                other => return other,
            }
        }
    }
}

/// A path that cannot be a regular file of the repository counts as missing.
fn found(opened: Result<OwnedFd, Errno>) -> io::Result<Option<Found>> {
    let opened = match opened {
        Ok(opened) => opened,
        // A missing component, one that is no directory, a link, a name that is too long; or a
        // socket.
        Err(
            Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV,
        ) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = rustix::fs::fstat(&opened)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    Ok(Some(Found {
        file: Arc::new(opened.into()),
        identity: Identity::of(&stat),
    }))
}

/// The longest configuration.
const MAX_CONFIG_LEN: u64 = 1024 * 1024;
