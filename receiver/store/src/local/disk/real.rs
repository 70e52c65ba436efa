//! The file system of this machine, below one directory.
//!
//! Every path is opened beneath that directory, and no symbolic link is followed (`openat2`).

mod open;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use crate::local::disk::calls::{below, openat2, set_lock};
use crate::local::disk::dirs::Dirs;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{DirEntry, Fs, LockMode, Room, Stat, Xattr, if_there};

/// The real file system, below one directory.
#[derive(Debug)]
pub struct RealFs {
    // Opened before the first staged byte, so that `syncfs` on it reports every later failure.
    root: OwnedFd,
    boot_id: Option<String>,
    // Whether the umask takes away what files that all may read must have.
    masks: bool,
    pub(crate) dirs: Dirs,
}

impl Fs for RealFs {
    type File = File;
    type Lock = OwnedFd;

    fn create(&self, path: &RepoPath, mode: u32) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let (dir, name) = self.parent(path)?;
        let file = openat2(dir.as_fd(), name, flags, Mode::from_raw_mode(mode))?.into();
        if self.masks {
            self.set_mode(&file, mode)?;
        }
        Ok(file)
    }

    fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode))?)
    }

    fn open(&self, path: &RepoPath) -> io::Result<File> {
        // Opening a FIFO must not block.
        let file =
            File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?);
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !kind.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a regular file",
            ));
        }
        Ok(file)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn sync_dir(&self, path: &RepoPath) -> io::Result<()> {
        let dir = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        Ok(rustix::fs::fsync(dir)?)
    }

    fn sync_all(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn rename(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        Ok(rustix::fs::renameat(from_dir, from, to_dir, to)?)
    }

    fn link(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()> {
        let ((from_dir, from), (to_dir, to)) = (self.parent(from)?, self.parent(to)?);
        Ok(rustix::fs::linkat(
            from_dir,
            from,
            to_dir,
            to,
            AtFlags::empty(),
        )?)
    }

    fn unlink(&self, path: &RepoPath) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
    }

    fn mkdir(&self, path: &RepoPath, mode: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
    }

    fn rmdir(&self, path: &RepoPath) -> io::Result<()> {
        self.dirs.forget(path);
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.into())
    }

    fn read_dir(&self, path: &RepoPath, max: usize) -> io::Result<Vec<DirEntry>> {
        let dir = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in Dir::new(dir)? {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if entries.len() == max {
                break;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = match entry.file_type() {
                FileType::Unknown => match if_there(self.stat(&path.child(&name)))? {
                    Some(stat) => stat.kind,
                    None => continue,
                },
                known => known.into(),
            };
            entries.push(DirEntry { name, kind });
        }
        Ok(entries)
    }

    fn survey(&self, path: &RepoPath) -> io::Result<(Stat, Vec<(String, Stat)>)> {
        let dir = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let itself = rustix::fs::fstat(&dir)?.into();
        let mut entries = Vec::new();
        each_entry(&dir, &mut |name, stat| {
            entries.push((name.to_owned(), stat))
        })?;
        Ok((itself, entries))
    }

    fn each_entry(&self, path: &RepoPath, act: &mut dyn FnMut(&str, Stat)) -> io::Result<()> {
        let dir = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        each_entry(&dir, act)
    }

    fn stat_each(&self, path: &RepoPath, names: &[Box<str>]) -> io::Result<Vec<Option<Stat>>> {
        let dir = self.open_at(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
        let stats = names.iter().map(|name| {
            let stat = rustix::fs::statat(&dir, &**name, AtFlags::SYMLINK_NOFOLLOW);
            if_there(stat.map(Stat::from).map_err(io::Error::from))
        });
        stats.collect()
    }

    fn symlink(&self, target: &str, path: &RepoPath) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        Ok(rustix::fs::symlinkat(target, dir, name)?)
    }

    fn set_owner(&self, path: &RepoPath, uid: u32, gid: u32) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        Ok(rustix::fs::chownat(
            dir,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn set_xattr(&self, file: &File, name: &[u8], value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(
            file,
            name,
            value,
            XattrFlags::empty(),
        )?)
    }

    fn set_link_xattr(&self, path: &RepoPath, name: &[u8], value: &[u8]) -> io::Result<()> {
        let (dir, link) = self.parent(path)?;
        let link = below(&dir, link);
        Ok(rustix::fs::lsetxattr(
            link,
            name,
            value,
            XattrFlags::empty(),
        )?)
    }

    fn xattr(&self, file: &File, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = Vec::with_capacity(XATTR_LEN_MAX);
        match rustix::fs::fgetxattr(file, name, spare_capacity(&mut value)) {
            Ok(_) => Ok(Some(value)),
            Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn xattrs(&self, path: &RepoPath) -> io::Result<Vec<Xattr>> {
        let (dir, name) = self.parent(path)?;
        let path = below(&dir, name);
        let mut names = Vec::with_capacity(XATTR_LEN_MAX);
        match rustix::fs::llistxattr(&path, spare_capacity(&mut names)) {
            Ok(_) => {}
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
        let names = names.split(|byte| *byte == 0);
        let pairs = names.filter(|name| !name.is_empty()).map(|name| {
            let mut value = Vec::with_capacity(XATTR_LEN_MAX);
            rustix::fs::lgetxattr(&path, name, spare_capacity(&mut value))?;
            value.shrink_to_fit();
            Ok((name.to_vec(), value))
        });
        pairs.collect()
    }

    fn read_link(&self, path: &RepoPath) -> io::Result<String> {
        let (dir, name) = self.parent(path)?;
        let target = rustix::fs::readlinkat(dir, name, Vec::new())?;
        Ok(target.to_string_lossy().into_owned())
    }

    fn set_modified(&self, path: &RepoPath, seconds: i64) -> io::Result<()> {
        let (dir, name) = self.parent(path)?;
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: seconds,
                tv_nsec: 0,
            },
        };
        Ok(rustix::fs::utimensat(
            dir,
            name,
            &times,
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    fn touch_root(&self) -> io::Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_NOW,
        };
        let times = Timestamps {
            last_access: now,
            last_modification: now,
        };
        Ok(rustix::fs::futimens(&self.root, &times)?)
    }

    fn boot_id(&self) -> Option<&str> {
        self.boot_id.as_deref()
    }

    fn room(&self) -> io::Result<Room> {
        let stat = rustix::fs::fstatvfs(&self.root)?;
        Ok(Room {
            bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            bytes_free: stat.f_bavail.saturating_mul(stat.f_frsize),
            // Some file systems create inodes on demand, and report none.
            inodes_free: (stat.f_files > 0).then_some(stat.f_favail),
        })
    }

    fn try_lock(&self, path: &RepoPath, mode: LockMode) -> io::Result<Option<OwnedFd>> {
        let file = self.open_lock(path, OFlags::CREATE)?;
        Ok(set_lock(&file, mode, 0, 0)?.then_some(file))
    }

    fn try_lock_there(&self, path: &RepoPath) -> io::Result<Option<OwnedFd>> {
        let file = self.open_lock(path, OFlags::empty())?;
        Ok(set_lock(&file, LockMode::Exclusive, 0, 0)?.then_some(file))
    }

    fn try_lock_byte(&self, path: &RepoPath, bytes: Range<u64>) -> io::Result<Option<OwnedFd>> {
        let file = self.open_lock(path, OFlags::CREATE)?;
        for at in bytes {
            let at = i64::try_from(at).map_err(|_| io::ErrorKind::InvalidInput)?;
            if set_lock(&file, LockMode::Exclusive, at, 1)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }
}

fn each_entry(dir: &OwnedFd, act: &mut dyn FnMut(&str, Stat)) -> io::Result<()> {
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        if let Some(stat) = if_there(stat.map_err(io::Error::from))? {
            act(&name.to_string_lossy(), stat.into());
        }
    }
    Ok(())
}

/// The longest value and the longest list of extended attributes on Linux, in bytes.
const XATTR_LEN_MAX: usize = 64 * 1024;
