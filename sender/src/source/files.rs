//! Opens and reads files of the repository.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::fault::FileFault;

/// Name and value of an extended attribute.
type Xattr = (Vec<u8>, Vec<u8>);

/// The repository's directory. Every path is below it.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
    root: OwnedFd,
}

impl Files {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&path, flags, Mode::empty())?;
        Ok(Self { path, root })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a regular file, and returns it with its length in bytes; `None` if it does not exist.
    pub(super) fn regular(
        &self,
        relative: &str,
        flags: OFlags,
    ) -> Result<Option<(OwnedFd, u64)>, FileFault> {
        // Opening a pipe in the place of a file must not wait for its writer.
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match rustix::fs::openat(&self.root, relative, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(FileFault::io("open", errno)),
        };
        Self::checked(file)
    }

    /// Opens a regular file like [`regular`](Self::regular), with no symbolic link in its path.
    fn regular_beneath(&self, relative: &str) -> Result<Option<(OwnedFd, u64)>, FileFault> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        loop {
            let opened = rustix::fs::openat2(&self.root, relative, flags, Mode::empty(), beneath);
            return match opened {
                Ok(file) => Self::checked(file),
                // The kernel could not tell whether a concurrent rename led outside: try again.
                Err(Errno::AGAIN | Errno::INTR) => continue,
                Err(
                    Errno::NOENT
                    | Errno::NOTDIR
                    | Errno::LOOP
                    | Errno::XDEV
                    | Errno::NAMETOOLONG
                    | Errno::NXIO,
                ) => Ok(None),
                Err(errno) => Err(FileFault::io("open", errno)),
            };
        }
    }

    /// Returns an open file with its length in bytes; `None` if it is a directory.
    fn checked(file: OwnedFd) -> Result<Option<(OwnedFd, u64)>, FileFault> {
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| FileFault::io("ask for the length of", errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some((file, stat.st_size.unsigned_abs()))),
            // A directory holds refs whose names begin with the requested one.
            FileType::Directory => Ok(None),
            _ => {
                let source = io::Error::other("it is neither file nor directory");
                Err(FileFault::io("read", source))
            }
        }
    }

    /// Reads a file of at most `limit` bytes; `None` if it does not exist.
    pub(super) fn read(
        &self,
        relative: &str,
        flags: OFlags,
        limit: usize,
    ) -> Result<Option<Bytes>, FileFault> {
        Self::whole(self.regular(relative, flags)?, limit)
    }

    /// Reads a file like [`read`](Self::read), with no symbolic link in its path.
    pub(super) fn read_beneath(
        &self,
        relative: &str,
        limit: usize,
    ) -> Result<Option<Bytes>, FileFault> {
        Self::whole(self.regular_beneath(relative)?, limit)
    }

    fn whole(opened: Option<(OwnedFd, u64)>, limit: usize) -> Result<Option<Bytes>, FileFault> {
        let Some((file, len)) = opened else {
            return Ok(None);
        };
        let capacity = usize::try_from(len).ok().filter(|len| *len <= limit);
        let capacity = capacity.ok_or(FileFault::TooLarge { len, limit })?;
        let mut bytes = Vec::with_capacity(capacity);
        fill(&file, &mut bytes).map_err(|source| FileFault::io("read", source))?;
        Ok(Some(bytes.into()))
    }

    /// Returns the status of a file without following a symbolic link; `None` if it does not exist.
    pub(super) fn stat(&self, relative: &str) -> Result<Option<Stat>, FileFault> {
        match rustix::fs::statat(&self.root, relative, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(FileFault::io("look for", errno)),
        }
    }

    /// Reads the target of a symbolic link.
    pub(super) fn link(&self, relative: &str) -> Result<Vec<u8>, FileFault> {
        rustix::fs::readlinkat(&self.root, relative, Vec::new())
            .map(std::ffi::CString::into_bytes)
            .map_err(|errno| FileFault::io("read", errno))
    }

    /// Reads the extended attributes of a file or symbolic link, as pairs of name and value.
    pub(super) fn xattrs(&self, relative: &str) -> Result<Vec<Xattr>, FileFault> {
        let path = self.path.join(relative);
        let unreadable = |errno: Errno| FileFault::io("read attributes of", errno);
        let mut names = Vec::with_capacity(XATTR_LEN_MAX);
        match rustix::fs::llistxattr(&path, spare_capacity(&mut names)) {
            Ok(_) => {}
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(unreadable(errno)),
        }
        let mut pairs = Vec::new();
        for name in names
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            let mut value = Vec::with_capacity(XATTR_LEN_MAX);
            rustix::fs::lgetxattr(&path, name, spare_capacity(&mut value)).map_err(unreadable)?;
            value.shrink_to_fit();
            pairs.push((name.to_vec(), value));
        }
        Ok(pairs)
    }
}

/// Reads one extended attribute of an open file; `None` if it has none of that name.
pub(super) fn xattr(file: &OwnedFd, name: &str) -> Result<Option<Vec<u8>>, FileFault> {
    let mut value = Vec::with_capacity(XATTR_LEN_MAX);
    match rustix::fs::fgetxattr(file, name, spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(errno) => Err(FileFault::io("read attributes of", errno)),
    }
}

/// Reads until the capacity of `bytes` is used up or the file ends.
pub(super) fn fill(file: &OwnedFd, bytes: &mut Vec<u8>) -> io::Result<()> {
    while bytes.len() < bytes.capacity() {
        match rustix::io::read(file, spare_capacity(bytes)) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Reads until `bytes` is full or the file ends; returns the number of bytes read.
pub(super) fn fill_slice(file: &OwnedFd, bytes: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while let Some(rest) = bytes.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match rustix::io::read(file, rest) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(len)
}

/// The longest value and the longest list of extended attributes on Linux, in bytes.
const XATTR_LEN_MAX: usize = 64 * 1024;
