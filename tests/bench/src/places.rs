//! The directories of one run of the suite: on the disk, and in memory.
//!
//! **Deletes nothing on disk between runs**: ext4 skips recently deleted inodes, which makes
//! creating files several times slower for minutes. Data in memory is deleted at once, because
//! memory is scarce. Before each run everything written so far is synced, so that no run pays for
//! another.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use artifact_tests::exec::Failure;
use tempfile::TempDir;

use crate::case::{Place, Work};
use crate::data::{make_dir, remove};

#[derive(Debug)]
pub(crate) struct Places {
    disk: TempDir,
    memory: TempDir,
    counter: usize,
}

impl Places {
    /// Makes both; the one on disk lies in `dir`.
    pub(crate) fn make(dir: &Path) -> Result<Self, Failure> {
        make_dir(dir)?;
        let directory = |place: &Path| {
            tempfile::Builder::new()
                .prefix("artifact-bench-")
                .tempdir_in(place)
                .map_err(Failure::doing(format!("make a directory in {place:?}")))
        };
        Ok(Self {
            disk: directory(dir)?,
            memory: directory(Path::new("/dev/shm"))?,
            counter: 0,
        })
    }

    pub(crate) fn dir(&self, place: Place) -> &Path {
        match place {
            Place::Memory => self.memory.path(),
            Place::Disk => self.disk.path(),
        }
    }

    /// Returns an unused path.
    pub(crate) fn scratch(&mut self, place: Place) -> PathBuf {
        self.counter += 1;
        self.dir(place).join(self.counter.to_string())
    }

    /// Completes all work that earlier runs have left to the system. With `cold`, empties the page
    /// cache, which needs root.
    pub(crate) fn settle(&self, place: Place, cold: bool) -> Result<(), Failure> {
        let dir = self.dir(place);
        let disk = File::open(dir).map_err(Failure::doing(format!("open {dir:?}")))?;
        rustix::fs::syncfs(&disk)
            .map_err(|errno| Failure::doing(format!("sync {dir:?}"))(errno.into()))?;
        if cold {
            fs::write("/proc/sys/vm/drop_caches", "3")
                .map_err(Failure::doing("empty the page cache"))?;
        }
        Ok(())
    }

    /// Frees space after a run, where that disturbs no measurement.
    pub(crate) fn clear(&self, place: Place, work: Work, used: &[&Path]) -> Result<(), Failure> {
        if place == Place::Memory && work != Work::Nothing {
            for path in used {
                remove(path)?;
            }
        }
        Ok(())
    }

    /// Removes all repositories in memory.
    pub(crate) fn clear_memory(&self) -> Result<(), Failure> {
        let dir = self.memory.path();
        let reading = || Failure::doing(format!("list {dir:?}"));
        for entry in fs::read_dir(dir).map_err(reading())? {
            let path = entry.map_err(reading())?.path();
            if path.is_dir() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}
