//! What the objects of a commit take on the disk, so that a listing can say it without looking.
//!
//! Counted by whoever pushes a commit, and left in a file until the next summary is made: that may
//! be another session's, which then names it. Nothing relies on a size: what cannot be told is
//! left out.

use std::collections::HashMap;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, if_there, make_dir, read_file};
use crate::local::repository::id_set::IdSet;
use crate::local::repository::objects;

/// Counts what a commit reaches, and leaves the result for the next summary.
pub(crate) fn leave<F: Fs>(fs: &F, scratch: &impl PutFile, commit: Checksum) -> Result<(), Error> {
    let Some(size) = count(fs, commit)? else {
        return Ok(());
    };
    let dir = RepoPath::sizes();
    make_dir(fs, &dir, 0o775).map_err(Error::io("making", &dir))?;
    scratch.put_file(&dir.child(&commit.to_hex()), size.to_string().as_bytes())
}

/// Returns the sizes that were left.
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
            // As a power cut may leave it, since it is not synced.
            let _ = fs.unlink(&path);
        }
    }
    Ok(sizes)
}

/// Takes away sizes that are in the record by now.
pub(crate) fn clear<F: Fs>(fs: &F, recorded: &HashMap<Checksum, u64>) {
    for commit in recorded.keys() {
        let _ = fs.unlink(&RepoPath::sizes().child(&commit.to_hex()));
    }
}

/// Returns the stored bytes of a commit and all it reaches; `None` if something is not there, or
/// there are too many objects.
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
        let Ok(children) = objects::children(id, &content) else {
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
/// Sizes that are taken into account at once.
const MAX_LEFT: usize = 10_000;
/// Digits of the largest number, and some.
const MAX_DIGITS: usize = 32;
