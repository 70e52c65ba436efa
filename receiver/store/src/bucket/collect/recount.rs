//! Divides the refs by the identities that set them, and counts anew what those of each reach.
//!
//! Pushes add to the accounts while a collection counts. So the count replaces only the part of an
//! account that was there before the refs were read. A push that added its objects before that, and
//! set its refs afterwards, counts again at the next collection.

use std::collections::{HashMap, HashSet};
use std::mem;
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::limits::MAX_BUCKET_PUSH_SECS;

use crate::bucket::records::accounts::{self, Account};
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Key;
use crate::error::Error;
use crate::quota::load::Weight;
use crate::tree::id_set::IdSet;

/// The refs that nobody owns, and then those of each identity that has an account.
pub(super) struct Groups(Vec<Group>);

#[derive(Default)]
struct Group {
    /// The account as it was before the refs were read.
    account: Option<(Key, Account)>,
    /// The refs on the account that do not exist.
    gone: HashSet<Box<str>>,
    commits: Vec<Checksum>,
    /// The objects that this group reaches, and no group before it.
    reached: IdSet,
    weight: Weight,
}

impl Groups {
    /// Reads the accounts, before the refs.
    pub(super) fn of_accounts(client: &Client) -> Result<Self, Error> {
        let accounts = accounts::read_all(client)?;
        let group = |account| Group {
            account: Some(account),
            ..Group::default()
        };
        let nobodys = std::iter::once(Group::default());
        Ok(Self(
            nobodys.chain(accounts.into_iter().map(group)).collect(),
        ))
    }

    /// Divides the refs, given by their keys, with their commits.
    pub(super) fn divide(&mut self, refs: Vec<(Key, Checksum)>) {
        let mut owners = HashMap::new();
        for (at, group) in self.0.iter_mut().enumerate() {
            let account = group.account.as_ref();
            for name in account
                .into_iter()
                .flat_map(|(_, account)| account.refs.keys())
            {
                owners.insert(format!("{}{name}", layout::HEADS), at);
                group.gone.insert(name.clone());
            }
        }
        for (key, commit) in refs {
            let at = owners.get(key.as_str()).copied().unwrap_or_default();
            let name = key.as_str().strip_prefix(layout::HEADS).unwrap_or_default();
            self.0[at].commits.push(commit);
            self.0[at].gone.remove(name);
        }
    }

    /// Returns the commits of each group in turn.
    pub(super) fn commits(&mut self) -> Vec<Vec<Checksum>> {
        let groups = self.0.iter_mut();
        groups.map(|group| mem::take(&mut group.commits)).collect()
    }

    /// Takes an object that a group reaches.
    pub(super) fn reach(&mut self, at: usize, id: ObjectId) {
        if self.find(&id).is_none() {
            self.0[at].reached.insert(id);
        }
    }

    /// Returns the group that reaches an object.
    pub(super) fn find(&self, id: &ObjectId) -> Option<usize> {
        self.0.iter().position(|group| group.reached.contains(id))
    }

    /// Counts a file of an object that a group reaches.
    pub(super) fn count(&mut self, at: usize, len: u64) {
        let file = Weight {
            objects: 1,
            bytes: len,
        };
        self.0[at].weight = self.0[at].weight + file;
    }

    /// Forgets the objects, and keeps the count.
    pub(super) fn into_recount(self) -> Recount {
        let counted = self.0.into_iter().filter_map(|group| {
            let (key, before) = group.account?;
            Some(Counted {
                key,
                before,
                gone: group.gone,
                weight: group.weight,
            })
        });
        Recount(counted.collect())
    }
}

/// The results of a count.
#[derive(Default)]
pub(super) struct Recount(Vec<Counted>);

struct Counted {
    key: Key,
    before: Account,
    gone: HashSet<Box<str>>,
    weight: Weight,
}

impl Recount {
    /// Writes the count into the accounts at the end of a collection, at the server's time `now`.
    /// Objects that nothing reaches no longer count if they are older than the grace.
    pub(super) fn store(&self, client: &Client, now: u64, grace: Duration) -> Result<(), Error> {
        let ended = now.saturating_sub(MAX_BUCKET_PUSH_SECS);
        for counted in &self.0 {
            let before = &counted.before;
            accounts::change(client, &counted.key, &before.identity, None, |account| {
                let unchanged = account.clone();
                account.held = counted.weight + account.held.without(before.held);
                account.left.retain(|time, _| time + grace.as_secs() >= now);
                account.close(ended, |name| counted.gone.contains(name));
                Ok(*account != unchanged)
            })?;
        }
        Ok(())
    }
}
