//! The known parents of commits, from staged commits, closure lists, and commits in the bucket.
//!
//! A list names up to 64 ancestors, and every 64th commit of a history that was pushed at once has
//! a list. So a long history takes one round of requests for every 64 commits. The number of
//! commits that a push reads is limited, because a few kilobytes can announce thousands of refs
//! whose histories are long and lead nowhere (LIM-22).

use std::collections::HashMap;

use artifact_formats::limits::MAX_HISTORY_LEN;
use artifact_formats::{Checksum, Commit, ObjectId};

use crate::bucket::records::closures::Heading;
use crate::bucket::records::layout;
use crate::bucket::requests::ask::{ask_all, found_at, get};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Request;
use crate::error::Error;
use crate::policy::Ancestry;

/// The known parents of commits.
#[derive(Debug)]
pub(crate) struct History {
    client: Client,
    parents: HashMap<Checksum, Option<Checksum>>,
    // How many more commits may be read. Commits that were sent do not count.
    left: usize,
}

impl History {
    /// Prepares for a push of this many refs.
    pub(crate) fn new(client: &Client, refs: usize) -> Self {
        Self {
            client: client.clone(),
            parents: HashMap::new(),
            left: MAX_HISTORY_LEN + refs * READS_OF_REF,
        }
    }

    /// Notes the parent of a commit that was verified.
    pub(crate) fn learn(&mut self, commit: Checksum, parent: Option<Checksum>) {
        self.parents.insert(commit, parent);
    }

    /// Notes the ancestors that the list of a commit names.
    pub(crate) fn learn_heading(&mut self, commit: Checksum, heading: &Heading) {
        let mut commit = commit;
        for parent in &heading.parents {
            self.parents.entry(commit).or_insert(Some(*parent));
            commit = *parent;
        }
    }

    /// Returns the parent of a commit, if the commit is known and has one.
    pub(crate) fn parent(&mut self, commit: Checksum) -> Result<Option<Checksum>, Error> {
        if let Some(parent) = self.parents.get(&commit) {
            return Ok(*parent);
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (list, key) = (
            layout::closure(commit),
            layout::object(&ObjectId::commit(commit)),
        );
        let heading = Request::GetRange {
            key: list.clone(),
            from: 0,
            most: Heading::LEN_MAX,
        };
        // Only some commits have lists, so the push reads the commit at the same time.
        let mut answers = ask_all(&self.client, vec![heading, get(&key)]).into_iter();
        let mut found = |key| {
            answers
                .next()
                .map_or(Ok(None), |answer| found_at(key, answer))
        };
        let (heading, content) = (found(&list)?, found(&key)?.map(|found| found.content));
        let len = content.as_ref().map_or(0, bytes::Bytes::len);
        self.left = self.left.saturating_sub(len / READ_LEN);
        if let Some(heading) = heading.and_then(|found| Heading::decode(commit, &found.content)) {
            self.learn_heading(commit, &heading);
            if let Some(parent) = self.parents.get(&commit) {
                return Ok(*parent);
            }
        }
        // A missing commit is not noted, because it may still come.
        let Some(content) = content.filter(|content| Checksum::of(content) == commit) else {
            return Ok(None);
        };
        let parent = Commit::parse(&content)
            .ok()
            .and_then(|commit| commit.parent);
        self.parents.insert(commit, parent);
        Ok(parent)
    }

    /// Returns whether this push may read no more commits of the bucket.
    pub(crate) const fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Returns up to `most` known ancestors of a commit, the nearest first, without any request.
    pub(crate) fn known_ancestors(&self, commit: Checksum, most: usize) -> Vec<Checksum> {
        let mut ancestors = Vec::new();
        let mut at = commit;
        while ancestors.len() < most
            && let Some(Some(parent)) = self.parents.get(&at)
        {
            ancestors.push(*parent);
            at = *parent;
        }
        ancestors
    }

    /// Follows the history that begins with `parent`, as far as the bucket has it (LIM-22).
    pub(crate) fn ancestry(
        &mut self,
        parent: Option<Checksum>,
        current: Checksum,
    ) -> Result<Ancestry, Error> {
        let mut next = parent;
        for _ in 0..MAX_HISTORY_LEN {
            match next {
                Some(commit) if commit == current => return Ok(Ancestry::Descends),
                Some(commit) => next = self.parent(commit)?,
                None => break,
            }
        }
        Ok(Ancestry::Unrelated)
    }
}

/// The most commits read for each ref, in addition to [`MAX_HISTORY_LEN`] for the push: most
/// histories reach the ref's current commit after a few.
const READS_OF_REF: usize = 4;
/// Bytes of a commit that cost as much as another commit.
const READ_LEN: usize = 16 * 1024;
