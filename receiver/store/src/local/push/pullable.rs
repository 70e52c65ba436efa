//! The commits of a push and of its repository, for the rule about what a client may build upon if
//! it may not pull everything.

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::bases::Bases;
use crate::local::push::history::History;
use crate::local::push::workspace::Workspace;
use crate::local::repository::{listing, objects};
use crate::policy::Policy;
use crate::update::Commits;

/// The commits of a push and of its repository.
pub(super) struct Pullable<'a, F: Fs> {
    pub(super) work: &'a Workspace<F>,
    pub(super) policy: &'a Policy,
    pub(super) history: &'a mut History,
    pub(super) bases: &'a Bases,
}

impl<F: Fs> Commits for Pullable<'_, F> {
    fn is_sent(&self, commit: Checksum) -> bool {
        let id = ObjectId::new(ObjectKind::Commit, commit);
        self.work.staging.holds(&id)
    }

    fn parent(&mut self, commit: Checksum) -> Result<Option<Checksum>, Error> {
        self.history.parent_of(self.work, commit)
    }

    fn is_spent(&self) -> bool {
        self.history.is_spent()
    }

    fn are_there(&self, commits: &[Checksum]) -> Result<Vec<bool>, Error> {
        let is_there = |commit: &Checksum| {
            let id = ObjectId::new(ObjectKind::Commit, *commit);
            objects::is_there(self.work.fs(), &RepoPath::object(&id))
        };
        commits.iter().map(is_there).collect()
    }

    fn is_base(&self, commit: Checksum) -> bool {
        self.bases.commits().contains(&commit)
    }

    fn heads(&self) -> Result<HashSet<Checksum>, Error> {
        let lets_pull = |name: &str| {
            let name = RefName::parse_stored(name);
            name.is_ok_and(|name| self.policy.lets_pull(&name))
        };
        let all = listing::list(self.work.fs())?.heads.into_iter();
        let heads = all.filter(|(name, _)| lets_pull(name));
        Ok(heads.map(|(_, commit)| commit).collect())
    }
}
