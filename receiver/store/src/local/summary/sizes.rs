//! The size of a commit's objects on disk, so that a listing can show it without looking.
//!
//! The session that pushes a commit counts it, and leaves the result in a file for the next
//! summary, which may be another session's. Nothing relies on a size: an unknown size is left out.

use std::collections::HashMap;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, if_there, make_dir, read_file};
use crate::tree;
use crate::tree::id_set::IdSet;

/// Counts everything a commit reaches, and leaves the result for the next summary.
pub(crate) fn leave<F: Fs>(fs: &F, scratch: &impl PutFile, commit: Checksum) -> Result<(), Error> {
    let Some(size) = count(fs, commit)? else {
        return Ok(());
    };
    let dir = RepoPath::sizes();
    make_dir(fs, &dir, 0o775).map_err(Error::io("making", &dir))?;
    scratch.put_file(&dir.child(&commit.to_hex()), size.to_string().as_bytes())
}

/// Returns the sizes left so far.
pub(crate) fn left<F: Fs>(fs: &F) -> Result<HashMap<Checksum, u64>, Error> {
    let dir = RepoPath::sizes();
    let entries = if_there(fs.read_dir(&dir, MAX_LEFT)).map_err(Error::io("listing", &dir))?;
    let mut sizes = HashMap::new();
    for entry in entries.unwrap_or_default() {
        let path = dir.child(&entry.name);
        let content = read_file(fs, &path, MAX_DIGITS).ok().flatten();
        let size = content.and_then(|content| String::from_utf8(content).ok()?.parse().ok());
        if let (Ok(commit), Some(size)) = (entry.name.parse(), size) {
            sizes.insert(commit, size);
        } else {
            // A power cut may leave a damaged file, since it is not synced.
            let _ = fs.unlink(&path);
        }
    }
    Ok(sizes)
}

/// Removes the sizes that the record contains.
pub(crate) fn clear<F: Fs>(fs: &F, recorded: &HashMap<Checksum, u64>) {
    for commit in recorded.keys() {
        let _ = fs.unlink(&RepoPath::sizes().child(&commit.to_hex()));
    }
}

/// Returns the stored bytes of a commit and everything it reaches; `None` if an object is missing,
/// or there are too many objects.
pub(crate) fn count<F: Fs>(fs: &F, commit: Checksum) -> Result<Option<u64>, Error> {
    let mut counted = IdSet::default();
    let mut total = 0u64;
    let mut objects = 0;
    let mut stack = vec![ObjectId::new(ObjectKind::Commit, commit)];
    while let Some(id) = stack.pop() {
        let path = RepoPath::object(&id);
        let content =
            read_file(fs, &path, MAX_METADATA_LEN).map_err(Error::io("reading", &path))?;
        let Some(content) = content else {
            return Ok(None);
        };
        total += content.len() as u64;
        let Ok(children) = tree::children(id, &content) else {
            return Ok(None);
        };
        for child in children {
            if !counted.insert(child) {
                continue;
            }
            objects += 1;
            if objects > MAX_OBJECTS {
                return Ok(None);
            }
            match child.kind {
                ObjectKind::Commit | ObjectKind::Dirtree => stack.push(child),
                ObjectKind::File | ObjectKind::Dirmeta => {
                    let path = RepoPath::object(&child);
                    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
                    let Some(stat) = stat else { return Ok(None) };
                    total += stat.len;
                }
            }
        }
    }
    Ok(Some(total))
}

/// Objects of one commit that are counted.
const MAX_OBJECTS: usize = 10_000_000;
/// Sizes processed at once.
const MAX_LEFT: usize = 10_000;
/// Digits of the largest number, with some spare.
const MAX_DIGITS: usize = 32;
