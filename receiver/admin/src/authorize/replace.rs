//! Replaces a file atomically: readers, and a power cut, see the old or the new text.

use std::fs::{DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::libc;
use rustix::fs::{FlockOperation, flock};

/// Reads a file; a missing file reads as empty.
pub(super) fn read_if_there(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path);
    match opened.and_then(|mut file| file.read_to_string(&mut text)) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(text),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// A file's replacement, written and durable. Dropping it without `put` removes it.
pub(super) struct Replacement {
    path: PathBuf,
    /// `None` if nothing is left to do.
    temporary: Option<PathBuf>,
}

impl Replacement {
    /// Writes the new content beside the file, with the file's mode and owner; a new file gets
    /// `mode`.
    pub(super) fn prepare(path: &Path, content: &str, mode: u32) -> anyhow::Result<Self> {
        let temporary = path.with_extension(format!("new.{}", std::process::id()));
        let replacement = Self {
            path: path.to_owned(),
            temporary: Some(temporary.clone()),
        };
        write(&temporary, path, content, mode)
            .with_context(|| format!("cannot replace {}, which is as it was", path.display()))?;
        Ok(replacement)
    }

    /// For a file that does not change.
    pub(super) fn nothing(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            temporary: None,
        }
    }

    /// Takes the file's place, durably.
    pub(super) fn put(mut self) -> anyhow::Result<()> {
        let shown = self.path.display();
        let Some(temporary) = &self.temporary else {
            return Ok(());
        };
        std::fs::rename(temporary, &self.path)
            .with_context(|| format!("cannot replace {shown}, which is as it was"))?;
        File::open(dir_of(&self.path))
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("cannot sync the directory of {shown}"))?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Creating it may have failed.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

/// The lock of a directory: nobody else replaces files there until it is dropped.
pub(super) struct DirLock(File);

impl DirLock {
    /// Returns whether the lock covers the directory of `path`.
    pub(super) fn is_of(&self, path: &Path) -> bool {
        let id = |found: Metadata| (found.dev(), found.ino());
        let (own, other) = (self.0.metadata(), dir_of(path).metadata());
        matches!((own.map(id), other.map(id)), (Ok(own), Ok(other)) if own == other)
    }
}

/// Waits for the lock of the directory that contains `path`.
pub(super) fn lock_dir_of(path: &Path) -> anyhow::Result<DirLock> {
    let dir = dir_of(path);
    let lock = |file| {
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(DirLock(file))
    };
    let locked = File::open(dir).and_then(lock);
    locked.with_context(|| format!("cannot lock {}", dir.display()))
}

fn dir_of(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}

fn write(temporary: &Path, path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let old = match path.symlink_metadata() {
        Ok(metadata) => Some(metadata),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(temporary)?;
    file.write_all(content.as_bytes())?;
    if let Some(old) = &old {
        fchown(&file, Some(old.uid()), Some(old.gid()))?;
    }
    let mode = old.map_or(mode, |old| old.mode() & 0o7777);
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

/// Creates the directory that contains `path`, if it is missing.
pub(super) fn make_dir_of(path: &Path, mode: u32) -> anyhow::Result<()> {
    let Some(dir) = path.parent().filter(|dir| *dir != Path::new("")) else {
        return Ok(());
    };
    match DirBuilder::new().mode(mode).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", dir.display()))
        }
        _ => Ok(()),
    }
}
