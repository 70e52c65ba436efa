//! Open directories that a session needs for each object.
//!
//! Opening a directory costs more than the operation in it. Only directories that nobody removes or
//! moves during a session are kept: those of objects, and the session's own in staging. All others,
//! above all those of refs, are opened each time.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, getrlimit};

use crate::local::disk::path::RepoPath;

/// Open directories, by path.
#[derive(Debug)]
pub(crate) struct Dirs {
    open: Mutex<HashMap<String, Arc<OwnedFd>>>,
    max: usize,
}

impl Dirs {
    /// Starts empty, and never uses more than half of the process's descriptors.
    ///
    /// Enlarges the descriptor table while the process has only one thread: later, each enlargement
    /// makes the kernel wait some 10 milliseconds (`expand_fdtable`).
    pub(crate) fn new(any: BorrowedFd<'_>) -> Self {
        let files = getrlimit(Resource::Nofile).current;
        let files = files.map_or(usize::MAX, |files| {
            usize::try_from(files).unwrap_or(usize::MAX)
        });
        let max = MAX_OPEN.min(files / 2);
        // Works without it, only slower.
        let _ = fcntl_dupfd_cloexec(any, i32::try_from(max).unwrap_or_default() + BESIDE);
        Self {
            open: Mutex::default(),
            max,
        }
    }

    /// Returns a directory, and opens it with `open` if it is not kept.
    pub(crate) fn get(
        &self,
        path: &str,
        open: impl FnOnce() -> io::Result<OwnedFd>,
    ) -> io::Result<Arc<OwnedFd>> {
        if !RepoPath::is_steady(path) {
            return open().map(Arc::new);
        }
        if let Some(dir) = self.open.lock().get(path) {
            return Ok(Arc::clone(dir));
        }
        let dir = Arc::new(open()?);
        let mut kept = self.open.lock();
        if kept.len() >= self.max {
            kept.clear();
        }
        kept.insert(path.to_owned(), Arc::clone(&dir));
        Ok(dir)
    }

    /// Drops a directory that is about to be removed.
    pub(crate) fn forget(&self, path: &RepoPath) {
        self.open.lock().remove(path.as_str());
    }
}

/// The directories of objects, and some of staging.
const MAX_OPEN: usize = 256 + 16;
/// Descriptors that a session may use otherwise.
const BESIDE: i32 = 64;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::local::disk::Fs;
    use crate::local::disk::real::RealFs;

    /// A file system with a kept directory, and the path of a file in it.
    fn kept(dir: &TempDir) -> (RealFs, RepoPath) {
        let real = RealFs::open(dir.path()).unwrap();
        let file = RepoPath::fan_out(1).child("file");
        real.mkdir(&RepoPath::objects(), 0o700).unwrap();
        real.mkdir(&RepoPath::fan_out(1), 0o700).unwrap();
        real.create(&file, 0o644).unwrap();
        real.unlink(&file).unwrap();
        assert_eq!(real.dirs.open.lock().len(), 2);
        (real, file)
    }

    #[test]
    fn a_directory_that_is_removed_and_made_again_is_the_new_one() {
        let dir = TempDir::new().unwrap();
        let (real, file) = kept(&dir);
        real.rmdir(&RepoPath::fan_out(1)).unwrap();
        real.mkdir(&RepoPath::fan_out(1), 0o700).unwrap();
        real.create(&file, 0o644).unwrap();
        assert!(dir.path().join(file.as_str()).exists());
    }

    #[test]
    fn a_link_in_the_place_of_a_kept_directory_is_not_followed() {
        let dir = TempDir::new().unwrap();
        let outside = TempDir::new().unwrap();
        let (real, file) = kept(&dir);
        let place = dir.path().join("objects/01");
        fs::rename(&place, dir.path().join("elsewhere")).unwrap();
        symlink(outside.path(), place).unwrap();
        real.create(&file, 0o644).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn no_more_are_kept_than_half_of_what_may_be_open() {
        let dir = TempDir::new().unwrap();
        let (mut real, _) = kept(&dir);
        real.dirs.max = 3;
        for first in 0..10 {
            let fan_out = RepoPath::fan_out(first);
            let _ = real.mkdir(&fan_out, 0o700);
            real.create(&fan_out.child("file"), 0o644).unwrap();
            assert!(real.dirs.open.lock().len() <= 3);
        }
    }
}
