//! The commits of a push and of its bucket, for the rule about what a client may build upon if it
//! may not pull everything.

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::push::history::History;
use crate::bucket::push::work::Work;
use crate::bucket::records::commits;
use crate::bucket::records::refs::{self, values};
use crate::error::Error;
use crate::policy::Policy;
use crate::update::Commits;

/// The commits of a push and of its bucket.
pub(super) struct Pullable<'a> {
    pub(super) work: &'a Work,
    pub(super) policy: &'a Policy,
    pub(super) history: &'a mut History,
}

impl Commits for Pullable<'_> {
    fn is_sent(&self, commit: Checksum) -> bool {
        self.work.known.lock().holds(&ObjectId::commit(commit))
    }

    fn parent(&mut self, commit: Checksum) -> Result<Option<Checksum>, Error> {
        let sent = self.work.held_back.lock().commit(commit).map(|c| c.parent);
        match sent {
            Some(parent) => Ok(parent),
            None => self.history.parent(commit),
        }
    }

    fn is_spent(&self) -> bool {
        self.history.is_spent()
    }

    fn are_there(&self, commits: &[Checksum]) -> Result<Vec<bool>, Error> {
        // Not from closure lists, which name ancestors that the bucket may lack.
        commits::are_there(&self.work.client, commits)
    }

    fn is_base(&self, commit: Checksum) -> bool {
        self.work.bases.lock().commits().contains(&commit)
    }

    fn heads(&self) -> Result<HashSet<Checksum>, Error> {
        let client = &self.work.client;
        let mut names = Vec::new();
        for entry in refs::list(client) {
            let (name, _) = entry?;
            names.extend(Some(name).filter(|name| self.policy.lets_pull(name)));
        }
        let heads = values(client, &names)?.into_iter();
        Ok(heads.map(|(_, commit)| commit).collect())
    }
}
