//! A glance at a commit that a push finds in place: whether what it reaches is there.
//!
//! A ref's commit is trusted to be whole (`bases.rs`). But objects are lost and cut short by other
//! programs and by disks, and then "up to date" would keep the one client that could heal the cache
//! from doing so. So a push of a commit that is there already looks at its objects first: commits and
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
    seen: HashSet<ObjectId>,
}

impl Default for Glance {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
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
        let root = ObjectId::new(ObjectKind::Commit, commit);
        let mut queue = VecDeque::from([root]);
        self.seen.remove(&root);
        while let Some(id) = queue.pop_front() {
            if self.seen.len() >= ALWAYS && self.begun.elapsed() > TIME {
                break;
            }
            if !self.seen.insert(id) {
                continue;
            }
            if id.kind == ObjectKind::File {
                if !has_content(fs, &id)? {
                    return Ok(Some(id));
                }
                continue;
            }
            let Some(content) = objects::read_metadata(fs, id)? else {
                return Ok(Some(id));
            };
            queue.extend(objects::children(id, &content).unwrap_or_default());
        }
        Ok(None)
    }
}

/// Returns whether an object is there, and no file that was cut to nothing.
fn has_content<F: Fs>(fs: &F, id: &ObjectId) -> Result<bool, Error> {
    let path = RepoPath::object(id);
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    Ok(stat.is_some_and(|stat| stat.kind == FileKind::File && stat.len > 0))
}

/// Objects that are looked at whatever time it takes.
const ALWAYS: usize = 256;
/// How long objects are looked at beyond that.
const TIME: Duration = Duration::from_millis(4);
