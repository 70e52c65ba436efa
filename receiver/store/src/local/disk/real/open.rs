//! Opens the root directory of a repository, and paths beneath it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::RealFs;
use crate::local::disk::calls::{boot_id, openat2, umask};
use crate::local::disk::dirs::Dirs;
use crate::local::disk::path::RepoPath;

impl RealFs {
    /// Opens the directory of a repository. Follows symbolic links in `path` itself.
    ///
    /// Fails with `Unsupported` if the kernel lacks `openat2` (before Linux 5.6): nothing else
    /// keeps paths below the root.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        match openat2(root.as_fd(), ".", flags, Mode::empty()) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the kernel lacks openat2",
                ));
            }
            other => other?,
        };
        let boot_id = boot_id();
        let dirs = Dirs::new(root.as_fd());
        Ok(Self {
            root,
            boot_id,
            masks: umask().is_some_and(|umask| umask & READABLE != 0),
            dirs,
        })
    }

    /// Opens a directory, and makes it first if it is missing, but not the one above it.
    pub(crate) fn open_or_make(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Self::open(path),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(super) fn open_at(
        &self,
        path: &RepoPath,
        flags: OFlags,
        mode: Mode,
    ) -> io::Result<OwnedFd> {
        let path = if path.as_str().is_empty() {
            "."
        } else {
            path.as_str()
        };
        openat2(
            self.root.as_fd(),
            path,
            flags | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            mode,
        )
    }

    /// Opens a file for locking, as libostree does (`ostree-repo.c`, `push_repo_lock`).
    pub(super) fn open_lock(&self, path: &RepoPath, make: OFlags) -> io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | make;
        // The kernel accepts a mode only if the call may create a file.
        let mode = if make.is_empty() { 0 } else { 0o660 };
        self.open_at(path, flags, Mode::from_raw_mode(mode))
    }

    /// Opens the directory of `path`; returns it with the name in it.
    pub(super) fn parent<'p>(&self, path: &'p RepoPath) -> io::Result<(Parent<'_>, &'p str)> {
        let (dir, name) = path.split();
        if dir.is_empty() {
            return Ok((Parent::Root(self.root.as_fd()), name));
        }
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            openat2(self.root.as_fd(), dir, flags, Mode::empty())
        };
        Ok((Parent::Below(self.dirs.get(dir, open)?), name))
    }
}

/// An open directory.
pub(super) enum Parent<'a> {
    Root(BorrowedFd<'a>),
    Below(Arc<OwnedFd>),
}

impl AsFd for Parent<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

/// What the user and all others may do with most files of a repository.
const READABLE: u32 = 0o644;
