//! What a client that may not pull everything may build upon.
//!
//! Whoever may pull a ref may pull the ancestors of its commit. A commit can name any parent, so a
//! client could get at a commit that it may not pull by naming it as one.

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::history::History;
use crate::local::push::update::Update;
use crate::local::push::workspace::Workspace;
use crate::local::repository::{listing, objects};
use crate::policy::{Ancestry, Policy};

/// The commits of refs that a client may pull, once they were needed.
#[derive(Debug, Default)]
pub(super) struct Pullable(Option<HashSet<Checksum>>);

impl Pullable {
    /// Returns whether a new commit of a ref may have this parent: if the client has sent it, if it
    /// is not here, or in the history of this ref or at the head of one that the client may pull.
    pub(super) fn has<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        policy: &Policy,
        history: &mut History,
        update: &Update,
        parent: Checksum,
    ) -> Result<bool, Error> {
        let id = ObjectId::new(ObjectKind::Commit, parent);
        let held = update.held.commit();
        if held == Some(parent)
            || work.staging.holds(&id)
            || !objects::is_there(work.fs(), &RepoPath::object(&id))?
            || self.heads(work, policy)?.contains(&parent)
        {
            return Ok(true);
        }
        Ok(history.ancestry(work, held, parent)? == Ancestry::Descends)
    }

    fn heads<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        policy: &Policy,
    ) -> Result<&HashSet<Checksum>, Error> {
        let heads = match self.0.take() {
            Some(heads) => heads,
            None => {
                let lets_pull = |name: &str| {
                    let name = RefName::parse_stored(name);
                    name.is_ok_and(|name| policy.lets_pull(&name))
                };
                let all = listing::list(work.fs())?.heads.into_iter();
                let heads = all.filter(|(name, _)| lets_pull(name));
                heads.map(|(_, commit)| commit).collect()
            }
        };
        Ok(self.0.insert(heads))
    }
}
