//! One ref on disk: looking at it, and setting it after comparing. `listing.rs` lists all of them.
//!
//! A ref file is replaced by rename, from a file that is durable already, so that it holds its old
//! or its new value at any moment. Foreign programs write refs without our lock: the comparison
//! holds among receivers.

use std::collections::{BTreeSet, HashSet};
use std::io;

use artifact_formats::{Checksum, RefName};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{
    FileKind, Fs, dates, if_there, is_symlink, list_dir, make_dir, read_file, sync_dirs,
};

/// What is found under the name of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Nothing, or directories without a file in them.
    Nothing,
    /// A commit.
    Commit(Checksum),
    /// A file that no ref looks like, as a power cut may leave it. It may be replaced.
    Malformed,
    /// Something else, which is in the way.
    Conflict(&'static str),
}

impl Held {
    /// Returns the commit.
    pub(crate) const fn commit(self) -> Option<Checksum> {
        match self {
            Self::Commit(commit) => Some(commit),
            Self::Nothing | Self::Malformed | Self::Conflict(_) => None,
        }
    }
}

/// Looks at a ref.
pub(crate) fn look<F: Fs>(fs: &F, name: &RefName) -> Result<Held, Error> {
    let path = RepoPath::head(name);
    match read_file(fs, &path, MAX_REF_FILE_LEN) {
        Ok(None) => Ok(Held::Nothing),
        Ok(Some(content)) => Ok(parse(&content).map_or(Held::Malformed, Held::Commit)),
        Err(error) => match error.kind() {
            io::ErrorKind::InvalidData => Ok(Held::Malformed),
            io::ErrorKind::NotADirectory => Ok(Held::Conflict("a part of its name is a ref")),
            _ if is_symlink(&error) => Ok(Held::Conflict(
                "it is an alias of another ref, or below one",
            )),
            io::ErrorKind::IsADirectory if is_hollow(fs, &path)? => Ok(Held::Nothing),
            io::ErrorKind::IsADirectory => Ok(Held::Conflict("there are refs below it")),
            _ => Err(Error::io("reading", &path)(error)),
        },
    }
}

/// The directories above refs that are about to be set, each made and looked at once.
///
/// Nobody removes one as long as the repository's lock and that of refs are held.
#[derive(Debug, Default)]
pub(crate) struct Rooms {
    there: HashSet<RepoPath>,
}

impl Rooms {
    /// Makes room for a ref: the directories above it are made, empty ones of its own name removed.
    /// Returns what is in the way, if something is.
    pub(crate) fn make<F: Fs>(
        &mut self,
        fs: &F,
        name: &RefName,
    ) -> Result<Option<&'static str>, Error> {
        let path = RepoPath::head(name);
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
        let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
        match stat.map(|stat| stat.kind) {
            Some(FileKind::File) | None => Ok(None),
            Some(FileKind::Dir) if remove_hollow(fs, &path)? => {
                self.there.clear();
                Ok(None)
            }
            Some(FileKind::Dir) => Ok(Some("there are refs below it")),
            Some(FileKind::Symlink | FileKind::Other) => Ok(Some("it is an alias of another ref")),
        }
    }
}

/// Sets a ref, at once, from a durable file that holds the new value. Not durable.
pub(crate) fn put<F: Fs>(fs: &F, name: &RefName, file: &RepoPath) -> Result<(), Error> {
    let path = RepoPath::head(name);
    dates::later_than(fs, file, &[dates::of(fs, &path)?])?;
    fs.rename(file, &path).map_err(Error::io("setting", &path))
}

/// Makes durable that these refs were set, and says so to others.
pub(crate) fn made_durable<'a, F: Fs>(
    fs: &F,
    names: impl Iterator<Item = &'a RefName>,
) -> Result<(), Error> {
    changed(fs, &names.flat_map(dirs_above).collect())
}

/// Makes durable that these refs were removed, and removes the directories that led to nothing else.
/// The lock of refs must be held: a push makes the directories of a ref before the ref.
pub(crate) fn remove_hollow_above<'a, F: Fs>(
    fs: &F,
    names: impl Iterator<Item = &'a RefName>,
) -> Result<(), Error> {
    let top = RepoPath::heads();
    let mut touched: BTreeSet<_> = names.map(|name| RepoPath::head(name).parent()).collect();
    let mut left = BTreeSet::from([RepoPath::refs()]);
    // Those below a directory come after it.
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
    // What leads to where it looks, each with the directories in it that are not looked at yet.
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
    // Those that went themselves need not be durable.
    left.retain(|dir| fs.stat(dir).is_ok());
    changed(fs, &left)
}

fn dirs_in<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<String>, Error> {
    let entries = list_dir(fs, dir)?.into_iter();
    let dirs = entries.filter(|(_, kind)| *kind == FileKind::Dir);
    Ok(dirs.map(|(name, _)| name).collect())
}

/// Removes a directory, unless there is something in it; returns whether it is gone.
fn remove_empty<F: Fs>(fs: &F, dir: &RepoPath) -> Result<bool, Error> {
    match if_there(fs.rmdir(dir)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
        // Something else has its name by now.
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(Error::io("removing", dir)(error)),
    }
}

/// Makes durable what has changed in directories of refs, and says so to others.
fn changed<F: Fs>(fs: &F, dirs: &BTreeSet<RepoPath>) -> Result<(), Error> {
    if dirs.is_empty() {
        return Ok(());
    }
    sync_dirs(fs, dirs)?;
    // libostree does so after each ref, and others look at it to see that a summary is stale
    // (`ostree-repo-refs.c`, `_ostree_repo_write_ref`).
    fs.touch_root()
        .map_err(Error::io("touching", &RepoPath::root()))
}

/// Makes durable that refs hold what they hold. libostree itself does not, after setting one.
pub(crate) fn sync<'a, F: Fs>(
    fs: &F,
    names: impl Iterator<Item = &'a RefName>,
) -> Result<(), Error> {
    sync_dirs(fs, &names.flat_map(dirs_above).collect())
}

/// Returns the content of a ref file.
pub(crate) fn content(commit: Checksum) -> Vec<u8> {
    format!("{commit}\n").into_bytes()
}

/// Returns whether there is nothing but directories below a directory.
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

/// Removes a directory that holds nothing but directories; returns false, and may have removed some
/// of these, if it holds anything else.
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

/// Returns the directories whose entries make up a ref's name, `refs` included.
fn dirs_above(name: &RefName) -> Vec<RepoPath> {
    let mut dirs = vec![RepoPath::refs()];
    let mut path = RepoPath::head(name).parent();
    while path != RepoPath::refs() {
        let parent = path.parent();
        dirs.push(path);
        path = parent;
    }
    dirs
}

/// Reads the content of a ref file; `None` if it holds no checksum.
pub(crate) fn parse(content: &[u8]) -> Option<Checksum> {
    std::str::from_utf8(content)
        .ok()?
        .trim_ascii_end()
        .parse()
        .ok()
}

/// Returns whether an error says that something is not a file that can be read.
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
/// A checksum in digits and an end of line; a little more is read to see that there is no more.
pub(crate) const MAX_REF_FILE_LEN: usize = 128;
