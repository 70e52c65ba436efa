//! Divides the refs by the identities that created them, and counts anew what those of each reach.

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
use crate::tree::id_map::IdMap;

/// The refs that nobody owns, and then those of each identity that has an account.
pub(super) struct Groups {
    all: Vec<Group>,
    /// The objects that refs reach, each with the first group that reaches it.
    reached: IdMap<u32>,
}

#[derive(Default)]
struct Group {
    /// The account as it was before the refs were read.
    account: Option<(Key, Account)>,
    /// The refs on the account that do not exist, or that another identity created later.
    gone: HashSet<Box<str>>,
    commits: Vec<Checksum>,
    weight: Weight,
}

impl Groups {
    /// Takes all refs for nobody's.
    pub(super) fn of_nobody() -> Self {
        Self {
            all: vec![Group::default()],
            reached: IdMap::default(),
        }
    }

    /// Reads the accounts, before the refs.
    pub(super) fn of_accounts(client: &Client) -> Result<Self, Error> {
        let mut groups = Self::of_nobody();
        // They come in the order of their keys. When several identities reach an object, each
        // collection thus counts it for the same one.
        for account in accounts::read_all(client)? {
            groups.all.push(Group {
                account: Some(account),
                ..Group::default()
            });
        }
        Ok(groups)
    }

    /// Divides the refs, given by their keys, with their commits. A ref belongs to the identity
    /// that has announced it last: an earlier one lost a race, or its ref was removed.
    pub(super) fn divide(&mut self, refs: Vec<(Key, Checksum)>) {
        let mut owners: HashMap<String, (u64, usize)> = HashMap::new();
        for (at, group) in self.all.iter_mut().enumerate() {
            let account = group.account.iter();
            for (name, announced) in account.flat_map(|(_, account)| &account.refs) {
                let owner = owners.entry(format!("{}{name}", layout::HEADS));
                let owner = owner.or_default();
                *owner = (*owner).max((*announced, at));
                group.gone.insert(name.clone());
            }
        }
        for (key, commit) in refs {
            let (_, at) = owners.get(key.as_str()).copied().unwrap_or_default();
            let name = key.as_str().strip_prefix(layout::HEADS).unwrap_or_default();
            self.all[at].commits.push(commit);
            self.all[at].gone.remove(name);
        }
    }

    /// Takes the commits of each group in turn.
    pub(super) fn take_commits(&mut self) -> Vec<Vec<Checksum>> {
        let groups = self.all.iter_mut();
        groups.map(|group| mem::take(&mut group.commits)).collect()
    }

    /// Takes an object that a group reaches.
    pub(super) fn reach(&mut self, at: usize, id: ObjectId) {
        // So many accounts do not exist; the objects of others would be nobody's.
        self.reached
            .insert(id, u32::try_from(at).unwrap_or_default());
    }

    /// Returns whether a group reaches an object.
    pub(super) fn has(&self, id: &ObjectId) -> bool {
        self.reached.get(id).is_some()
    }

    /// Counts a file of an object, if a group reaches the object; returns whether one does.
    pub(super) fn count(&mut self, id: &ObjectId, len: u64) -> bool {
        let Some(at) = self.reached.get(id) else {
            return false;
        };
        let file = Weight {
            objects: 1,
            bytes: len,
        };
        if let Some(group) = self.all.get_mut(*at as usize) {
            group.weight = group.weight + file;
        }
        true
    }

    /// Forgets the objects, and keeps the count of a bucket that was looked at at the server's time
    /// `marked`.
    pub(super) fn into_recount(self, marked: u64) -> Recount {
        let counted = self.all.into_iter().filter_map(|group| {
            let (key, account) = group.account?;
            Some(Counted {
                key,
                identity: account.identity,
                gone: group.gone,
                weight: group.weight,
            })
        });
        Recount {
            marked,
            counted: counted.collect(),
        }
    }
}

/// The results of a count.
#[derive(Default)]
pub(super) struct Recount {
    marked: u64,
    counted: Vec<Counted>,
}

struct Counted {
    key: Key,
    identity: String,
    gone: HashSet<Box<str>>,
    weight: Weight,
}

impl Recount {
    /// Writes the count into the accounts, at the end of a collection that has deleted what nothing
    /// reaches and is older than the grace. Returns the first failure, after it has tried all.
    pub(super) fn store(&self, client: &Client, grace: Duration) -> Result<(), Error> {
        // The pushes that announced a ref before this have ended.
        let ended = self.marked.saturating_sub(MAX_BUCKET_PUSH_SECS);
        let store = |counted: &Counted| {
            accounts::change(client, &counted.key, &counted.identity, None, |account| {
                let unchanged = account.clone();
                account.recount(counted.weight, self.marked, grace.as_secs());
                account.close(ended, |name| counted.gone.contains(name));
                Ok(*account != unchanged)
            })
        };
        let stored: Vec<_> = self.counted.iter().map(store).collect();
        stored.into_iter().try_for_each(|stored| stored.map(|_| ()))
    }
}
