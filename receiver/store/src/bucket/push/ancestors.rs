//! The ancestors of pushed commits: which of them the bucket has.
//!
//! A client that sends history offers all of it each time, so that a push fills in ancestors that
//! were never sent. The bucket puts a commit after everything that the commit reaches, so a commit
//! in the bucket is complete. A push asks for each commit once, and for many at once.

use std::collections::HashSet;

use artifact_formats::Checksum;
use artifact_formats::limits::MAX_HISTORY_LEN;

use crate::bucket::push::history::History;
use crate::bucket::records::commits::are_there;
use crate::bucket::requests::client::Client;
use crate::error::Error;

/// What a push knows of the history of its commits.
#[derive(Debug)]
pub(crate) struct Ancestors {
    /// How many ancestors of each commit the client offers.
    pub(crate) depth: usize,
    // Commits that the bucket has.
    there: HashSet<Checksum>,
}

impl Ancestors {
    /// Prepares for a client that offers this many ancestors of each commit.
    pub(super) fn new(depth: u32) -> Self {
        let depth = usize::try_from(depth).unwrap_or(usize::MAX);
        Self {
            depth: depth.min(MAX_HISTORY_LEN),
            there: HashSet::new(),
        }
    }

    /// Returns the commits among these whose ancestors, as far as the client may offer them, are
    /// all in the bucket. Leaves out commits whose histories are too long to ask for: the client
    /// offers them.
    pub(super) fn filled(
        &mut self,
        client: &Client,
        history: &mut History,
        commits: &[Checksum],
    ) -> Result<HashSet<Checksum>, Error> {
        let (mut histories, mut asked) = (Vec::new(), HashSet::new());
        let mut followed = 0;
        for &commit in commits {
            let mut ancestors = Vec::new();
            let mut at = commit;
            while ancestors.len() < self.depth
                && followed < FOLLOWED_MAX
                && let Some(parent) = history.parent(at)?
            {
                followed += 1;
                ancestors.push(parent);
                at = parent;
            }
            let new = ancestors.iter().filter(|commit| !asked.contains(*commit));
            if followed < FOLLOWED_MAX && asked.len() + new.count() <= ASKED_MAX {
                asked.extend(ancestors.iter().copied());
                histories.push((commit, ancestors));
            }
        }
        self.look(client, asked.into_iter())?;
        histories.retain(|(_, ancestors)| ancestors.iter().all(|commit| self.has(commit)));
        Ok(histories.into_iter().map(|(commit, _)| commit).collect())
    }

    /// Asks which of these commits the bucket has.
    pub(super) fn look(
        &mut self,
        client: &Client,
        commits: impl Iterator<Item = Checksum>,
    ) -> Result<(), Error> {
        let unknown: Vec<_> = commits.filter(|commit| !self.has(commit)).collect();
        let there = are_there(client, &unknown)?.into_iter();
        let found = unknown.into_iter().zip(there);
        self.there
            .extend(found.filter_map(|(commit, is_there)| is_there.then_some(commit)));
        Ok(())
    }

    /// Returns whether a commit was there when [`look`](Self::look) asked for it.
    pub(super) fn has(&self, commit: &Checksum) -> bool {
        self.there.contains(commit)
    }
}

/// Ancestors followed in memory, of all refs together.
const FOLLOWED_MAX: usize = 100_000;
/// The most commits that a push asks for to find out whether histories are there, in some seconds.
const ASKED_MAX: usize = 2 * MAX_HISTORY_LEN;
