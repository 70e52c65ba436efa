//! The commits that a client may build upon if it may not pull everything.
//!
//! A client that may pull a ref may pull the ancestors of its commit. A commit can name any parent,
//! so without this rule a client could get at a commit that it may not pull by naming it as a
//! parent.

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::push::history::History;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::records::commits::are_there;
use crate::bucket::records::refs::{self, values};
use crate::bucket::requests::client::Client;
use crate::error::Error;
use crate::policy::{Ancestry, Policy};
use crate::update::Value;

/// The commits of the refs that a client may pull, read when they are first needed.
#[derive(Debug, Default)]
pub(super) struct Pullable(Option<HashSet<Checksum>>);

impl Pullable {
    /// Returns whether a new commit of a ref may have this parent: the client has sent it, the
    /// bucket does not have it, it is in the history of this ref, or another ref that the client
    /// may pull holds it.
    pub(super) fn has(
        &mut self,
        work: &Work,
        policy: &Policy,
        history: &mut History,
        update: &Update,
        parent: Checksum,
    ) -> Result<bool, Error> {
        let id = ObjectId::commit(parent);
        let held = update.held.commit();
        if held == Some(parent) || work.known.lock().holds(&id) {
            return Ok(true);
        }
        if are_there(&work.client, &[parent])? == [false]
            || history.ancestry(held, parent)? == Ancestry::Descends
        {
            return Ok(true);
        }
        Ok(self.heads(&work.client, policy)?.contains(&parent))
    }

    fn heads(&mut self, client: &Client, policy: &Policy) -> Result<&HashSet<Checksum>, Error> {
        let heads = match self.0.take() {
            Some(heads) => heads,
            None => read(client, policy)?,
        };
        Ok(self.0.insert(heads))
    }
}

/// Reads the values of all refs that a client may pull.
fn read(client: &Client, policy: &Policy) -> Result<HashSet<Checksum>, Error> {
    let mut names = Vec::new();
    for entry in refs::list(client) {
        let (name, _) = entry?;
        names.extend(Some(name).filter(|name| policy.lets_pull(name)));
    }
    let heads = values(client, &names)?.into_iter();
    Ok(heads.map(|(_, commit)| commit).collect())
}
