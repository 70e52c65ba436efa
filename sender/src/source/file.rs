//! How files of the repository are opened and read, and what is told when that fails.

use std::io;
use std::os::fd::OwnedFd;

use artifact_formats::{ObjectId, ObjectKind, RepoMode};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Repository;
use crate::Error;

impl Repository {
    /// Returns an object's path below the repository.
    pub(super) fn relative_path(&self, id: ObjectId) -> String {
        let extension = if id.kind == ObjectKind::File && self.mode != RepoMode::Archive {
            "file"
        } else {
            id.kind.archive_extension()
        };
        format!("objects/{}", id.loose_path(extension))
    }

    /// Opens an object that is a regular file; returns its length, too.
    pub(super) fn open_object(&self, id: ObjectId) -> Result<(OwnedFd, u64), Error> {
        self.open_regular(&self.relative_path(id), OFlags::NOFOLLOW)?
            .ok_or_else(|| self.missing(id))
    }

    /// Reads a file that is to have at most `limit` bytes; `None` if there is none.
    pub(super) fn read_file(&self, relative: &str, limit: usize) -> Result<Option<Bytes>, Error> {
        let Some((file, len)) = self.open_regular(relative, OFlags::empty())? else {
            return Ok(None);
        };
        let capacity = usize::try_from(len).ok().filter(|len| *len <= limit);
        let capacity = capacity.ok_or_else(|| Error::TooLarge {
            path: self.path.join(relative),
            len,
            limit,
        })?;
        let mut bytes = Vec::with_capacity(capacity);
        fill(&file, &mut bytes).map_err(|source| self.io("read", relative, source))?;
        Ok(Some(bytes.into()))
    }

    /// Asks about a file without following a symbolic link; `None` if there is none.
    pub(super) fn stat(&self, relative: &str) -> Result<Option<Stat>, Error> {
        match rustix::fs::statat(&self.root, relative, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.io("look for", relative, errno.into())),
        }
    }

    /// Names a file of the repository in an error of the operating system.
    pub(super) fn io(&self, action: &'static str, relative: &str, source: io::Error) -> Error {
        Error::Io {
            action,
            path: self.path.join(relative),
            source,
        }
    }

    fn open_regular(&self, relative: &str, flags: OFlags) -> Result<Option<(OwnedFd, u64)>, Error> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.root, relative, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(errno) => return Err(self.io("open", relative, errno.into())),
        };
        let stat = rustix::fs::fstat(&file)
            .map_err(|errno| self.io("ask for the length of", relative, errno.into()))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok(Some((file, stat.st_size.unsigned_abs()))),
            FileType::Directory => Ok(None), // of refs whose names begin with the one asked for
            _ => {
                let source = io::Error::other("it is neither file nor directory");
                Err(self.io("read", relative, source))
            }
        }
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

/// Reads until `bytes` is full or the file ends; returns how much that was.
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
