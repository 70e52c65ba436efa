//! All updates of one push.

use std::collections::{HashMap, HashSet};

use artifact_formats::Checksum;
use artifact_protocol::frame::{PushOptions, RefOutcome, RefState};

use crate::policy::Policy;
use crate::update::machine::{Update, Value};

/// All updates of one push, in the order of the announcement.
#[derive(Debug)]
pub(crate) struct Updates<P, V> {
    pub(crate) all: Vec<Update<P, V>>,
    /// SHA-256 of the detached metadata that came, by commit.
    pub(crate) detached: HashMap<Checksum, Checksum>,
}

impl<P, V: Value> Updates<P, V> {
    /// Begins without updates.
    pub(crate) fn with_capacity(refs: usize) -> Self {
        Self {
            all: Vec::with_capacity(refs),
            detached: HashMap::new(),
        }
    }

    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Update<P, V>> {
        self.all.iter().filter(|update| update.is_accepted())
    }

    pub(crate) fn accepted_mut(&mut self) -> impl Iterator<Item = &mut Update<P, V>> {
        self.all.iter_mut().filter(|update| update.is_accepted())
    }

    /// Returns the accepted updates, grouped by commit: a push may set thousands of refs to one
    /// commit of megabytes, which a store then reads only once.
    pub(crate) fn accepted_by_commit(&mut self) -> Vec<&mut Update<P, V>> {
        let mut accepted: Vec<_> = self.accepted_mut().collect();
        accepted.sort_by_key(|update| update.commit());
        accepted
    }

    /// Returns whether different detached metadata were announced for a commit.
    pub(crate) fn announce_other_detached(&self, commit: Checksum, checksum: Checksum) -> bool {
        let of_commit = |update: &&Update<P, V>| update.commit() == commit;
        let mut announced = self.all.iter().filter(of_commit);
        announced.any(|update| {
            update
                .wanted
                .detached
                .is_some_and(|other| other != checksum)
        })
    }

    /// Returns the names that each commit gets together, if the client may give it several.
    pub(crate) fn aliases(&self, options: PushOptions) -> HashSet<(Checksum, String)> {
        if !options.contains(PushOptions::ALIASES) {
            return HashSet::new();
        }
        let updates = self.all.iter().map(|update| &update.wanted);
        updates
            .map(|update| (update.commit, update.name.to_string()))
            .collect()
    }

    /// Settles updates whose refs hold their commits and for which nothing came; returns whether it
    /// settled any.
    pub(crate) fn settle_unchanged(&mut self) -> bool {
        let mut settled = false;
        for update in &mut self.all {
            if update.is_accepted()
                && update.is_held()
                && !self.detached.contains_key(&update.commit())
            {
                update.settle();
                settled = true;
            }
        }
        settled
    }

    /// Returns the answers to the announcement.
    pub(crate) fn states(&self, policy: &Policy) -> Vec<RefState> {
        let states = self.all.iter().map(|update| update.ref_state(policy));
        states.collect()
    }

    /// Says what became of each update once the accepted ones are done.
    pub(crate) fn outcomes(&self) -> Vec<RefOutcome> {
        self.all.iter().map(Update::outcome).collect()
    }
}
