//! A collector's knowledge of garbage: its own list, and the condemned objects that have to stay.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use super::lists::{decode_ids, spared_in};
use super::mark::mark;
use super::reach::{Lists, Reach, Trust, read_refs, read_summary};
use super::record::{ListName, damaged};
use super::recount::{Groups, Recount};
use crate::bucket::requests::client::Client;
use crate::error::Error;

/// The garbage of a bucket, as far as a collector knows it.
pub(super) struct Garbage<'a> {
    client: &'a Client,
    /// The commits visited by the last walk from the refs.
    reach: Reach<'a>,
    /// The list that this collector made, and the commits visited for it: it names nothing that
    /// these reach.
    own: Option<(ListName, Reach<'a>)>,
    /// The lengths of the objects on that list.
    sizes: Vec<(ObjectId, u64)>,
    /// What the refs of each identity reached when this collector made its list.
    recount: Recount,
}

impl<'a> Garbage<'a> {
    pub(super) fn new(client: &'a Client) -> Self {
        Self {
            client,
            reach: Reach::new(client),
            own: None,
            sizes: Vec::new(),
            recount: Recount::default(),
        }
    }

    /// Finds the objects for a list of this name; returns the number of all objects as well.
    pub(super) fn find(
        &mut self,
        name: ListName,
        grace: Duration,
        now: u64,
    ) -> Result<(u64, Arc<[ObjectId]>), Error> {
        self.reach = Reach::new(self.client);
        self.reach.trust(Trust::Mend);
        let groups = Groups::of_accounts(self.client)?;
        let skipped = HashSet::new();
        let marked = mark(self.client, &mut self.reach, grace, now, &skipped, groups)?;
        let list = marked.garbage.iter().map(|(id, _)| *id).collect();
        self.own = Some((name, self.reach.clone()));
        self.sizes = marked.garbage;
        self.recount = marked.recount;
        Ok((marked.objects, list))
    }

    /// Returns the objects of a list that are reached now (R17, R19). `name` is the list's.
    pub(super) fn find_reached(
        &mut self,
        name: Option<ListName>,
        list: &[ObjectId],
    ) -> Result<Vec<ObjectId>, Error> {
        // Each walk continues from the mark, because an earlier walk's visits count only for that
        // walk. Another collector's list may name objects that the mark for our list has visited.
        self.reach = match &self.own {
            Some((own, marked)) if Some(*own) == name => marked.clone(),
            Some(_) | None => {
                self.sizes = Vec::new();
                Reach::new(self.client)
            }
        };
        let is_listed = |commit: &Checksum| list.binary_search(&ObjectId::commit(*commit)).is_ok();
        let refs = read_refs(self.client, &HashSet::new())?;
        let refs = refs.into_iter().map(|(_, commit)| commit);
        let lists = Lists::read(self.client)?;
        let others = lists.iter().map(|(commit, _)| commit);
        let others = others.filter(|commit| !is_listed(commit));
        let others: Vec<_> = others.chain(read_summary(self.client)?).collect();
        let mut reached = HashSet::new();
        // A push that began before the mark may rely on objects that a list named then.
        self.reach.trust(Trust::All);
        self.reach.walk(&lists, refs, others, &mut |id| {
            if list.binary_search(&id).is_ok() {
                reached.insert(id);
            }
        })?;
        Ok(reached.into_iter().collect())
    }

    /// Returns the objects that sessions spare (R18), and everything that spared commits reach. An
    /// earlier push may have left such a commit complete, and the session that spares it may not
    /// have spared the objects beneath it yet.
    pub(super) fn read_spared(&mut self, epoch: u64) -> Result<Vec<ObjectId>, Error> {
        let prefix = spared_in(epoch);
        let entries = self.client.list_all(&prefix);
        let entries = entries.map_err(Error::bucket("listing", &prefix))?;
        let mut spared = Vec::new();
        for entry in entries {
            let found = self.client.get(&entry.key);
            let found = found.map_err(Error::bucket("reading", &entry.key))?;
            let list = found.and_then(|found| decode_ids(&found.content));
            spared.extend(list.ok_or_else(|| damaged(&entry.key))?.iter());
        }
        let is_commit = |id: &&ObjectId| id.kind == ObjectKind::Commit;
        let commits: Vec<_> = spared
            .iter()
            .filter(is_commit)
            .map(|id| id.checksum)
            .collect();
        let below = &mut |id| spared.push(id);
        self.reach.walk(&Lists::default(), [], commits, below)?;
        Ok(spared)
    }

    /// Returns whether the closure list of a commit has to stay.
    pub(super) fn keeps_list(&self, commit: &Checksum) -> bool {
        self.reach.keeps_list(commit)
    }

    /// Returns what the refs of each identity reach, if this collector has counted it.
    pub(super) const fn recount(&self) -> &Recount {
        &self.recount
    }

    /// Returns the length of a garbage object; 0 if another collector condemned it.
    pub(super) fn len_of(&self, id: &ObjectId) -> u64 {
        let found = self.sizes.binary_search_by_key(id, |(id, _)| *id);
        found.map_or(0, |at| self.sizes[at].1)
    }
}
