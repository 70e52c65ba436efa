//! All refs of a repository, including broken ones.

use std::collections::BTreeMap;
use std::iter;

use artifact_formats::{Checksum, RefName};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, if_there, list_dir, read_file};
use crate::local::repository::aliases::{self, Lost};
use crate::local::repository::refs::{MAX_REF_FILE_LEN, is_fragment, is_shape};

/// All refs of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AllRefs {
    /// The refs in `refs/heads`, by name.
    pub(crate) heads: BTreeMap<String, Checksum>,
    /// The refs in `refs/mirrors`, by collection and name.
    pub(crate) mirrors: BTreeMap<String, BTreeMap<String, Checksum>>,
    /// The refs in `refs/remotes`, by remote and name.
    pub(crate) remotes: BTreeMap<String, BTreeMap<String, Checksum>>,
    /// Entries in the place of a ref that are none.
    pub(crate) broken: Vec<(RepoPath, Broken)>,
}

impl AllRefs {
    /// Returns the names and values of all refs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Checksum)> {
        let others = self.mirrors.values().chain(self.remotes.values());
        let all = iter::once(&self.heads).chain(others).flatten();
        all.map(|(name, &commit)| (name.as_str(), commit))
    }
}

/// Why an entry in the place of a ref is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Its name is no ref name, or it is no file: other programs skip it.
    Foreign,
    /// A file that libostree leaves when it is killed while setting a ref, and mistakes for a ref.
    Leftover(Checksum),
    /// A file without a checksum.
    NoChecksum,
    /// An alias that leads to no ref.
    Lost(Lost),
}

impl Broken {
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Foreign => "is no ref; OSTree skips it",
            Self::Leftover(_) => "is a temporary file that another program left behind",
            Self::NoChecksum => "does not hold a checksum",
            Self::Lost(lost) => lost.why(),
        }
    }
}

/// Lists all refs.
pub(crate) fn list<F: Fs>(fs: &F) -> Result<AllRefs, Error> {
    let mut all = AllRefs::default();
    all.heads = list_below(fs, &RepoPath::heads(), &mut all.broken)?;
    all.mirrors = list_each_below(fs, &RepoPath::mirrors(), &mut all.broken)?;
    all.remotes = list_each_below(fs, &RepoPath::remotes(), &mut all.broken)?;
    Ok(all)
}

/// Returns names of refs in one directory below a directory of refs, the newest first.
pub(crate) fn newest_in<F: Fs>(
    fs: &F,
    top: &RepoPath,
    parent: &str,
    max: usize,
) -> Result<Vec<RefName>, Error> {
    let mut dir = top.clone();
    for component in parent.split('/') {
        dir = dir.child(component);
    }
    // The directory does not exist, or is none: there is nothing to suggest.
    let Ok(entries) = fs.read_dir(&dir, MAX_SEARCHED) else {
        return Ok(Vec::new());
    };
    let files = entries.into_iter().filter(|e| e.kind == FileKind::File);
    let names: Vec<_> = files.map(|entry| entry.name.into_boxed_str()).collect();
    let stats = fs.stat_each(&dir, &names);
    let stats = if_there(stats).map_err(Error::io("looking into", &dir))?;
    let mut found = Vec::new();
    for (name, stat) in names.iter().zip(stats.unwrap_or_default()) {
        if let (Some(stat), Ok(name)) = (stat, format!("{parent}/{name}").parse()) {
            found.push((stat.modified, name));
        }
    }
    found.sort_unstable_by(|a: &((i64, u64), RefName), b| b.cmp(a));
    found.truncate(max);
    Ok(found.into_iter().map(|(_, name)| name).collect())
}

fn list_each_below<F: Fs>(
    fs: &F,
    top: &RepoPath,
    broken: &mut Vec<(RepoPath, Broken)>,
) -> Result<BTreeMap<String, BTreeMap<String, Checksum>>, Error> {
    let mut all = BTreeMap::new();
    for (name, kind) in list_dir(fs, top)? {
        if kind == FileKind::Dir {
            let refs = list_below(fs, &top.child(&name), broken)?;
            if !refs.is_empty() {
                all.insert(name, refs);
            }
        }
    }
    Ok(all)
}

fn list_below<F: Fs>(
    fs: &F,
    top: &RepoPath,
    broken: &mut Vec<(RepoPath, Broken)>,
) -> Result<BTreeMap<String, Checksum>, Error> {
    let mut refs = BTreeMap::new();
    let mut dirs = vec![top.clone()];
    while let Some(dir) = dirs.pop() {
        for (name, kind) in list_dir(fs, &dir)? {
            let path = dir.child(&name);
            if kind == FileKind::Dir && is_fragment(&name) {
                dirs.push(path);
                continue;
            }
            match value(fs, &path, kind)? {
                Ok(Some(commit)) if is_leftover(&name) => {
                    broken.push((path, Broken::Leftover(commit)));
                }
                Ok(Some(commit)) => {
                    let name = path.below(top).unwrap_or_default().to_owned();
                    refs.insert(name, commit);
                }
                Ok(None) => {}
                Err(why) => broken.push((path, why)),
            }
        }
    }
    Ok(refs)
}

/// Reads an entry in the place of a ref, as a ref or an alias of one: `None` if it was removed
/// meanwhile, or why it is no ref.
pub(crate) fn value<F: Fs>(
    fs: &F,
    path: &RepoPath,
    kind: FileKind,
) -> Result<Result<Option<Checksum>, Broken>, Error> {
    // libostree skips them as well (`ostree-repo-refs.c`, `enumerate_refs_recurse`).
    if !is_fragment(path.split().1) || matches!(kind, FileKind::Dir | FileKind::Other) {
        return Ok(Err(Broken::Foreign));
    }
    let file = match kind {
        FileKind::Symlink => match aliases::follow(fs, path)? {
            Ok(way) => way.file,
            Err(lost) => return Ok(Err(Broken::Lost(lost))),
        },
        FileKind::File | FileKind::Dir | FileKind::Other => path.clone(),
    };
    match read_file(fs, &file, MAX_REF_FILE_LEN) {
        Ok(Some(content)) => Ok(Checksum::from_ref(&content)
            .map(Some)
            .ok_or(Broken::NoChecksum)),
        Ok(None) if kind == FileKind::Symlink => Ok(Err(Broken::Lost(Lost::Nothing))),
        Ok(None) => Ok(Ok(None)),
        Err(error) if is_shape(&error) => Ok(Err(Broken::NoChecksum)),
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}

/// Returns whether a file of this name may be a ref, or a directory may contain refs.
pub(crate) fn is_name(name: &str) -> bool {
    is_fragment(name) && !is_leftover(name)
}

/// Returns whether libostree leaves a file of this name behind when it is killed while setting a
/// ref (`ostree-repo-refs.c`, `write_checksum_file_at`).
fn is_leftover(name: &str) -> bool {
    name.strip_prefix("tmp.")
        .is_some_and(|rest| rest.len() == 6 && rest.bytes().all(|b| b.is_ascii_alphanumeric()))
}

/// Entries looked at for suggestions in one directory, in a fraction of a millisecond; in a larger
/// directory any of them will do, so that a push does not pay for other identities' refs.
const MAX_SEARCHED: usize = 256;
