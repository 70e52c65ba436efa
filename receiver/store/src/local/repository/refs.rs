//! One ref on disk: reading it, and setting it after a comparison. `listing.rs` lists all of them.
//!
//! A rename replaces a ref file by a durable one, so that the ref has its old or its new value at
//! any moment (INV-4). Other programs write refs without our lock: the compare-and-swap holds among
//! receivers.

use std::collections::{BTreeSet, HashSet};
use std::io;

use artifact_formats::{Checksum, RefName};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{
    FileKind, Fs, dates, if_there, is_symlink, list_dir, make_dir, read_file, sync_dirs,
};

/// The state of a ref's name on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// No file, perhaps directories without a file in them.
    Nothing,
    Commit(Checksum),
    /// A file with no valid content, as a power cut may leave it. A push may replace it.
    Malformed,
    /// Another kind of entry, which blocks the ref.
    Conflict(&'static str),
}

impl Held {
    pub(crate) const fn commit(self) -> Option<Checksum> {
        match self {
            Self::Commit(commit) => Some(commit),
            Self::Nothing | Self::Malformed | Self::Conflict(_) => None,
        }
    }
}

/// Reads a ref.
pub(crate) fn look<F: Fs>(fs: &F, path: &RepoPath) -> Result<Held, Error> {
    match read_file(fs, path, MAX_REF_FILE_LEN) {
        Ok(None) => Ok(Held::Nothing),
        Ok(Some(content)) => Ok(Checksum::from_ref(&content).map_or(Held::Malformed, Held::Commit)),
        Err(error) => match error.kind() {
            io::ErrorKind::InvalidData => Ok(Held::Malformed),
            io::ErrorKind::NotADirectory => Ok(Held::Conflict("a part of its name is a ref")),
            _ if is_symlink(&error) => Ok(Held::Conflict(
                "it is an alias of another ref, or below one",
            )),
            io::ErrorKind::IsADirectory if is_hollow(fs, path)? => Ok(Held::Nothing),
            io::ErrorKind::IsADirectory => Ok(Held::Conflict("there are refs below it")),
            _ => Err(Error::io("reading", path)(error)),
        },
    }
}

/// The directories above refs about to be set, each made and looked at once.
///
/// No process removes one while the repository's lock and the lock of refs are held.
#[derive(Debug, Default)]
pub(crate) struct ParentDirs {
    there: HashSet<RepoPath>,
}

impl ParentDirs {
    /// Makes the directories above a ref, and removes empty directories of its own name. Returns
    /// the reason if another entry blocks the ref.
    pub(crate) fn prepare<F: Fs>(
        &mut self,
        fs: &F,
        path: &RepoPath,
    ) -> Result<Option<&'static str>, Error> {
        let mut new = Vec::new();
        let mut dir = path.parent();
        while dir != RepoPath::refs() && !self.there.contains(&dir) {
            let above = dir.parent();
            new.push(dir);
            dir = above;
        }
        for dir in new.into_iter().rev() {
            make_dir(fs, &dir, DIR_MODE).map_err(Error::io("making", &dir))?;
            let stat = if_there(fs.stat(&dir)).map_err(Error::io("looking at", &dir))?;
            if stat.is_none_or(|stat| stat.kind != FileKind::Dir) {
                return Ok(Some("a part of its name is a ref"));
            }
            self.there.insert(dir);
        }
        let stat = if_there(fs.stat(path)).map_err(Error::io("looking at", path))?;
        match stat.map(|stat| stat.kind) {
            Some(FileKind::File) | None => Ok(None),
            Some(FileKind::Dir) if remove_hollow(fs, path)? => {
                self.there.clear();
                Ok(None)
            }
            Some(FileKind::Dir) => Ok(Some("there are refs below it")),
            Some(FileKind::Symlink | FileKind::Other) => Ok(Some("it is an alias of another ref")),
        }
    }
}

/// Sets a ref, at once, from a durable file with the new value. The change is not durable yet.
pub(crate) fn put<F: Fs>(fs: &F, path: &RepoPath, file: &RepoPath) -> Result<(), Error> {
    dates::later_than(fs, file, &[dates::of(fs, path)?])?;
    fs.rename(file, path).map_err(Error::io("setting", path))
}

/// Makes the setting of these refs durable, and touches the root for other programs.
pub(crate) fn made_durable<'a, F: Fs>(
    fs: &F,
    paths: impl Iterator<Item = &'a RepoPath>,
) -> Result<(), Error> {
    changed(fs, &paths.flat_map(dirs_above).collect())
}

/// Makes the removal of these refs durable, and removes the directories that led to no other ref.
/// The lock of refs must be held: a push makes the directories of a ref before the ref.
pub(crate) fn remove_hollow_above<'a, F: Fs>(
    fs: &F,
    names: impl Iterator<Item = &'a RefName>,
) -> Result<(), Error> {
    let top = RepoPath::heads();
    let mut touched: BTreeSet<_> = names.map(|name| RepoPath::head(name).parent()).collect();
    let mut left = BTreeSet::from([RepoPath::refs()]);
    // Subdirectories come after their directory.
    while let Some(dir) = touched.pop_last() {
        if dir != top && remove_empty(fs, &dir)? {
            touched.insert(dir.parent());
        } else {
            left.insert(dir);
        }
    }
    changed(fs, &left)
}

/// Removes every directory of refs that leads to none, and makes that durable.
pub(crate) fn remove_all_hollow<F: Fs>(fs: &F) -> Result<(), Error> {
    // The directories down to the current one, each with its subdirectories not looked at yet.
    let mut path = vec![(RepoPath::heads(), dirs_in(fs, &RepoPath::heads())?)];
    let mut left = BTreeSet::new();
    while let Some((dir, rest)) = path.last_mut() {
        if let Some(name) = rest.pop() {
            let child = dir.child(&name);
            let dirs = dirs_in(fs, &child)?;
            path.push((child, dirs));
        } else if let Some((dir, _)) = path.pop()
            && dir != RepoPath::heads()
            && remove_empty(fs, &dir)?
        {
            left.insert(dir.parent());
        }
    }
    // The removed ones themselves need no sync.
    left.retain(|dir| fs.stat(dir).is_ok());
    changed(fs, &left)
}

fn dirs_in<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<String>, Error> {
    let entries = list_dir(fs, dir)?.into_iter();
    let dirs = entries.filter(|(_, kind)| *kind == FileKind::Dir);
    Ok(dirs.map(|(name, _)| name).collect())
}

/// Removes a directory if it is empty; returns whether it is gone.
fn remove_empty<F: Fs>(fs: &F, dir: &RepoPath) -> Result<bool, Error> {
    match if_there(fs.rmdir(dir)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        // Another kind of entry has its name by now.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(Error::io("removing", dir)(error)),
    }
}

/// Makes changes in directories of refs durable, and touches the root for other programs.
fn changed<F: Fs>(fs: &F, dirs: &BTreeSet<RepoPath>) -> Result<(), Error> {
    if dirs.is_empty() {
        return Ok(());
    }
    sync_dirs(fs, dirs)?;
    // libostree does so after each ref, and other programs look at the root's time to see that a
    // summary is stale (`ostree-repo-refs.c`, `_ostree_repo_write_ref`).
    fs.touch_root()
        .map_err(Error::io("touching", &RepoPath::root()))
}

/// Makes the current values of refs durable. libostree does not sync after setting one.
pub(crate) fn sync<'a, F: Fs>(
    fs: &F,
    paths: impl Iterator<Item = &'a RepoPath>,
) -> Result<(), Error> {
    sync_dirs(fs, &paths.flat_map(dirs_above).collect())
}

/// Returns the content of a ref file.
pub(crate) fn content(commit: Checksum) -> Vec<u8> {
    format!("{commit}\n").into_bytes()
}

/// Returns whether a directory contains only directories, at any depth.
fn is_hollow<F: Fs>(fs: &F, dir: &RepoPath) -> Result<bool, Error> {
    let mut dirs = vec![dir.clone()];
    while let Some(dir) = dirs.pop() {
        for (name, kind) in list_dir(fs, &dir)? {
            if kind != FileKind::Dir {
                return Ok(false);
            }
            dirs.push(dir.child(&name));
        }
    }
    Ok(true)
}

/// Removes a directory that contains only directories; returns false, and may have removed some of
/// these, if it contains anything else.
fn remove_hollow<F: Fs>(fs: &F, dir: &RepoPath) -> Result<bool, Error> {
    let mut found = vec![dir.clone()];
    let mut next = 0;
    while let Some(dir) = found.get(next).cloned() {
        next += 1;
        for (name, kind) in list_dir(fs, &dir)? {
            if kind != FileKind::Dir {
                return Ok(false);
            }
            found.push(dir.child(&name));
        }
    }
    for dir in found.iter().rev() {
        match if_there(fs.rmdir(dir)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(false),
            Err(error) => return Err(Error::io("removing", dir)(error)),
        }
    }
    Ok(true)
}

/// Returns the directories whose entries make up a ref's name, including `refs`.
fn dirs_above(path: &RepoPath) -> Vec<RepoPath> {
    let mut dirs = vec![RepoPath::refs()];
    let mut path = path.parent();
    while path != RepoPath::refs() {
        let parent = path.parent();
        dirs.push(path);
        path = parent;
    }
    dirs
}

/// Returns whether an error means that an entry is not a readable file.
pub(crate) fn is_shape(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory
    ) || is_symlink(error)
}

/// libostree's rule (`ostree-core.c`, `_ostree_validate_ref_fragment`).
pub(crate) fn is_fragment(name: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    name.starts_with(word) && name.chars().all(|c| word(c) || c == '-' || c == '.')
}

const DIR_MODE: u32 = 0o775;
/// A checksum in digits and an end of line; reading a little more reveals longer content.
pub(crate) const MAX_REF_FILE_LEN: usize = 128;
