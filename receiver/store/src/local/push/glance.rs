//! A glance at the objects of an existing commit: whether they exist.
//!
//! A push trusts a ref's commit to be complete (`bases.rs`). But other programs and disks lose and
//! truncate objects, and then "up to date" would keep the one client that could heal the cache from
//! doing so; and a push that shares a lost object would rely on it. So a push first looks at the
//! objects of an existing commit, and at those of each commit it might rely on: it reads and
//! verifies commits and directories, and only stats files. An answer to a push with nothing to send
//! must take no longer than starting ssh, whatever the size: [`ALWAYS`] objects are looked at in
//! any case, more only while [`TIME`] lasts, some 4,000 of a warm cache. `fsck` checks every
//! object.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::repository::{Repo, objects};
use crate::tree;

/// The objects a session has looked at.
#[derive(Debug)]
pub(crate) struct Glance {
    begun: Instant,
    looked_at: usize,
    // Each was looked at together with everything below it.
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
    /// Returns an object below a commit that is missing or damaged, if the glance meets one.
    pub(crate) fn lacks<F: Fs>(
        &mut self,
        repo: &Repo<F>,
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
            let below = below(repo, id)?;
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

/// Returns the objects that an object names; `None` if it is missing or visibly damaged.
fn below<F: Fs>(repo: &Repo<F>, id: ObjectId) -> Result<Option<Vec<ObjectId>>, Error> {
    if id.kind == ObjectKind::File {
        return Ok(repo.has_content(&id)?.then(Vec::new));
    }
    let content = objects::read_metadata(&*repo.fs, id)?;
    Ok(content.map(|content| tree::children(id, &content).unwrap_or_default()))
}

/// Objects looked at, however long that takes.
const ALWAYS: usize = 256;
/// Time for looking at further objects.
const TIME: Duration = Duration::from_millis(4);
