//! A glance at a commit that a push finds in place: whether what it reaches is there.
//!
//! A ref's commit is trusted to be whole (`bases.rs`). But objects are lost and cut short by other
//! programs and by disks, and then "up to date" would keep the one client that could heal the cache
//! from doing so; and a push that shares what is lost would rely on it. So a push looks first at the
//! objects of a commit that is there already, and of those that it might rely on: commits and
//! directories are read and verified, files only looked at. An answer without anything to send must
//! take no longer than starting ssh, at any size: some objects are looked at in any case, more only as
//! long as [`TIME`] lasts, 4,000 or so of a warm cache. A scrub of all is `fsck`'s business.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, if_there};
use crate::local::repository::objects;

/// What a session has looked at.
#[derive(Debug)]
pub(crate) struct Glance {
    begun: Instant,
    looked_at: usize,
    // With all below them that was looked at.
    seen: HashSet<ObjectId>,
}

impl Default for Glance {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            looked_at: 0,
            seen: HashSet::new(),
        }
    }
}

impl Glance {
    /// Returns an object beneath a commit that is missing or damaged, if it sees one.
    pub(crate) fn lacks<F: Fs>(
        &mut self,
        fs: &F,
        commit: Checksum,
    ) -> Result<Option<ObjectId>, Error> {
        let mut queue = VecDeque::from([ObjectId::new(ObjectKind::Commit, commit)]);
        while let Some(id) = queue.pop_front() {
            if self.looked_at >= ALWAYS && self.begun.elapsed() > TIME {
                break;
            }
            if !self.seen.insert(id) {
                continue;
            }
            self.looked_at += 1;
            let below = below(fs, id)?;
            let Some(below) = below else {
                // Other commits may lack it as well.
                self.seen.clear();
                return Ok(Some(id));
            };
            queue.extend(below);
        }
        Ok(None)
    }
}

/// Returns what an object names; `None` if it is missing or can be seen to be damaged.
fn below<F: Fs>(fs: &F, id: ObjectId) -> Result<Option<Vec<ObjectId>>, Error> {
    if id.kind == ObjectKind::File {
        return Ok(has_content(fs, &id)?.then(Vec::new));
    }
    let content = objects::read_metadata(fs, id)?;
    Ok(content.map(|content| objects::children(id, &content).unwrap_or_default()))
}

/// Returns whether an object is there, and no file that was cut to nothing.
pub(super) fn has_content<F: Fs>(fs: &F, id: &ObjectId) -> Result<bool, Error> {
    let path = RepoPath::object(id);
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    Ok(stat.is_some_and(|stat| stat.kind == FileKind::File && stat.len > 0))
}

/// Objects that are looked at whatever time it takes.
const ALWAYS: usize = 256;
/// How long objects are looked at beyond that.
const TIME: Duration = Duration::from_millis(4);
