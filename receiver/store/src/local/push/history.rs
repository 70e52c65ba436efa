//! Whether new commits descend from the refs' current ones.
//!
//! A push reads each commit once, however many refs' histories contain it, and no more commits than
//! the limits below: a push of a few kilobytes can announce thousands of refs whose histories are
//! long and lead nowhere.

use std::collections::HashMap;

use artifact_formats::limits::{MAX_HISTORY_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::push::workspace::Workspace;
use crate::local::repository::objects;
use crate::policy::Ancestry;
use crate::policy::new::New;

/// The known parents of commits.
#[derive(Debug)]
pub(crate) struct History {
    commits: Vec<Member>,
    places: HashMap<Checksum, usize>,
    // How many more commits of the repository may be read. Commits that were sent cost their sender
    // more.
    left: usize,
}

#[derive(Debug)]
struct Member {
    commit: Checksum,
    parent: Parent,
}

#[derive(Clone, Copy, Debug)]
enum Parent {
    NotRead,
    Nothing,
    At(usize),
}

impl History {
    /// Prepares for a push of this many refs.
    pub(crate) fn new(refs: usize) -> Self {
        Self {
            commits: Vec::new(),
            places: HashMap::new(),
            left: MAX_HISTORY_LEN + refs * READS_OF_REF,
        }
    }

    /// Follows the history that begins with `parent`, as far as it is here (LIM-22).
    pub(crate) fn ancestry<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        parent: Option<Checksum>,
        current: Checksum,
    ) -> Result<Ancestry, Error> {
        let Some(parent) = parent else {
            return Ok(Ancestry::Unrelated);
        };
        let wanted = self.place(current);
        let mut at = self.place(parent);
        for _ in 0..MAX_HISTORY_LEN {
            if at == wanted {
                return Ok(Ancestry::Descends);
            }
            match self.parent(work, at)? {
                Some(parent) => at = parent,
                None => break,
            }
        }
        Ok(Ancestry::Unrelated)
    }

    /// Returns the parent of a commit, if the commit is here and has one.
    pub(crate) fn parent_of<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        commit: Checksum,
    ) -> Result<Option<Checksum>, Error> {
        let at = self.place(commit);
        let parent = self.parent(work, at)?;
        Ok(parent.map(|parent| self.commits[parent].commit))
    }

    /// Returns whether this push may read no more commits of the repository.
    pub(crate) const fn is_spent(&self) -> bool {
        self.left == 0
    }

    fn place(&mut self, commit: Checksum) -> usize {
        *self.places.entry(commit).or_insert_with(|| {
            let parent = Parent::NotRead;
            self.commits.push(Member { commit, parent });
            self.commits.len() - 1
        })
    }

    fn parent<F: Fs>(&mut self, work: &Workspace<F>, at: usize) -> Result<Option<usize>, Error> {
        let member = &self.commits[at];
        match member.parent {
            Parent::At(parent) => return Ok(Some(parent)),
            Parent::Nothing => return Ok(None),
            Parent::NotRead => {}
        }
        let id = ObjectId::new(ObjectKind::Commit, member.commit);
        let content = match work.staging.read(&id, MAX_METADATA_LEN)? {
            Some(content) => content,
            None if self.left == 0 => return Ok(None),
            None => {
                let content = objects::read_metadata(work.fs(), id)?;
                let read = content.as_ref().map_or(0, Vec::len);
                self.left = self.left.saturating_sub(1 + read / READ_LEN);
                match content {
                    Some(content) => content,
                    // It may come yet.
                    None => return Ok(None),
                }
            }
        };
        let parent = Commit::parse(&content)
            .ok()
            .and_then(|commit| commit.parent);
        let parent = parent.map(|parent| self.place(parent));
        self.commits[at].parent = parent.map_or(Parent::Nothing, Parent::At);
        Ok(parent)
    }
}

/// Reads a new commit that is staged, or in the repository, whether complete or not. A commit bound
/// to an alias counts as bound to no ref.
pub(crate) fn read_new<F: Fs>(
    work: &Workspace<F>,
    commit: Checksum,
    is_alias: impl Fn(&str) -> bool,
) -> Result<Option<New>, Error> {
    let id = ObjectId::new(ObjectKind::Commit, commit);
    let content = match work.staging.read(&id, MAX_METADATA_LEN)? {
        Some(content) => Some(content),
        None => objects::read_metadata(work.fs(), id)?,
    };
    Ok(content.and_then(|content| New::parse(&content, is_alias)))
}

/// Commits read for each ref, in addition to [`MAX_HISTORY_LEN`] for the push: the history of most
/// refs leads to their current commits within a few.
const READS_OF_REF: usize = 4;
/// Bytes of a commit that cost as much as another commit.
const READ_LEN: usize = 16 * 1024;
