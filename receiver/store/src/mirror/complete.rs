//! The commits of a bucket that are complete: the bucket has everything that they reach.

use std::collections::{BTreeSet, HashSet};

use artifact_formats::Checksum;

use crate::bucket::records::closures::INCOMPLETE;
use crate::bucket::records::commits::are_there;
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::error::Error;
use crate::mirror::heads::Heads;

/// The complete commits, as far as they are known.
pub(crate) struct Complete {
    client: Client,
    /// Commits whose closure lists the bucket had. If the bucket has such a commit, it also has
    /// everything beneath it, because a push or a mirror puts a commit last.
    listed: HashSet<Checksum>,
    /// Commits that the bucket had.
    confirmed: HashSet<Checksum>,
    /// Commits that this mirror has put, with everything that they reach.
    put: HashSet<Checksum>,
}

impl Complete {
    /// Lists the closure lists of the bucket.
    pub(crate) fn look(client: &Client, heads: &Heads) -> Result<Self, Error> {
        let mut listed = HashSet::new();
        for entry in client.list_each(layout::CLOSURES) {
            let entry = entry.map_err(Error::bucket("listing", &"closure lists"))?;
            // Puts everything beneath an incomplete commit again.
            let is_list = entry.len > INCOMPLETE.len() as u64;
            listed.extend(layout::closure_of(&entry.key).filter(|_| is_list));
        }
        Ok(Self {
            client: client.clone(),
            listed,
            confirmed: heads.commits().collect(),
            put: HashSet::new(),
        })
    }

    /// Checks which of the commits with a list are in the bucket: an interrupted push or mirror, or
    /// a late put, may have left a list without its commit.
    pub(crate) fn confirm(&mut self, commits: impl Iterator<Item = Checksum>) -> Result<(), Error> {
        let is_open =
            |commit: &Checksum| self.listed.contains(commit) && !self.confirmed.contains(commit);
        let open: BTreeSet<_> = commits.filter(is_open).collect();
        let open: Vec<_> = open.into_iter().collect();
        let there = are_there(&self.client, &open)?;
        for (commit, is_there) in open.into_iter().zip(there) {
            match is_there {
                true => _ = self.confirmed.insert(commit),
                false => _ = self.listed.remove(&commit),
            }
        }
        Ok(())
    }

    /// Notes commits that this mirror has put, with everything that they reach.
    pub(crate) fn note_put(&mut self, commits: impl IntoIterator<Item = Checksum>) {
        self.put.extend(commits);
    }

    /// Returns whether the bucket has a commit and everything that it reaches.
    pub(crate) fn has(&self, commit: Checksum) -> bool {
        let is_whole = self.listed.contains(&commit) && self.confirmed.contains(&commit);
        is_whole || self.put.contains(&commit)
    }

    /// Returns whether the bucket has all these commits and everything that they reach.
    pub(crate) fn has_all(&self, commits: &BTreeSet<Checksum>) -> bool {
        commits.iter().all(|commit| self.has(*commit))
    }

    /// Returns whether this mirror has put a commit.
    pub(crate) fn was_put(&self, commit: &Checksum) -> bool {
        self.put.contains(commit)
    }

    /// Returns whether the bucket had no closure lists.
    pub(crate) fn had_no_lists(&self) -> bool {
        self.listed.is_empty()
    }
}
