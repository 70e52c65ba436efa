//! One push into a bucket.
//!
//! [`announce`] judges the client's updates. The objects that the client then offers and sends pass
//! through [`bases`], the [journal](crate::bucket::records::journal) and the [`stager`].
//! [`publish`] makes them visible, in the only order that is safe at every instant. Threads share
//! the [`work`].

mod account;
mod ancestors;
mod announce;
mod bases;
mod closure;
mod confirm;
mod history;
mod join;
mod keeper;
mod known;
mod lease;
mod outline;
mod publish;
mod pullable;
mod secure;
mod set;
mod stager;
mod state;
pub(crate) mod survey;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod update;
mod work;

use std::collections::HashSet;
use std::sync::Arc;

use artifact_formats::limits::MAX_DETACHED_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind, RepoConfig, check_detached};
use artifact_protocol::Text;
use artifact_protocol::frame::{RefOutcome, SummaryDone};
use artifact_protocol::session::{Announcement, Opened, Published};
use bytes::Bytes;

use crate::bucket::push::closure::Beneath;
use crate::bucket::push::keeper::Keeper;
use crate::bucket::push::secure::secure;
use crate::bucket::push::state::PushState;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::records::layout;
use crate::bucket::records::pending::Pending;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Key;
use crate::bucket::summary::{self, Maker};
use crate::config::StoreConfig;
use crate::error::Error;
use crate::seam::Push;
use crate::summary::config::SummaryConfig;

pub use self::stager::{BucketStager, BucketStream};

/// A push into a bucket.
#[derive(Debug)]
pub struct BucketPush {
    work: Arc<Work>,
    state: PushState,
    summary: Box<SummaryConfig>,
    repo: RepoConfig,
    // The keys to delete when the push is over.
    spent: Vec<Key>,
    // Dropped before the lease is removed.
    keeper: Option<Keeper>,
}

impl BucketPush {
    /// Begins a push, and returns the state of its refs.
    pub(crate) fn begin(
        client: &Client,
        config: &StoreConfig,
        repo: &RepoConfig,
        announcement: &Announcement,
    ) -> Result<(Opened, Self), Error> {
        let collection = repo.collection_id.as_deref();
        let (work, state) = announce::announce(client, config, collection, announcement)?;
        let opened = state.opened(&work);
        let keeper = work.writer.is_some().then(|| Keeper::start(&work));
        let mut push = Self {
            work,
            state,
            summary: Box::new(config.summary.clone()),
            repo: repo.clone(),
            spent: Vec::new(),
            keeper,
        };
        if push.state.updates.accepted().next().is_none() && !push.state.is_dry_run() {
            // The client will leave now, without asking for the summary.
            push.mend_summary();
        }
        Ok((opened, push))
    }

    /// Updates a summary that lacks a ref's current commit, because the session that set the ref
    /// died before its summary. A failure here does not fail the push.
    fn mend_summary(&mut self) {
        if let Err(error) = self.update_summary() {
            tracing::warn!(%error, "the summary could not be brought up to date");
        }
    }

    fn update_summary(&mut self) -> Result<(), Error> {
        let held_back = self.work.held_back.lock();
        let updates = self.state.updates.all.iter();
        let current = updates.filter(|update| update.is_up_to_date() || update.is_set());
        let wanted = Pending::of(current.map(|update| {
            let content = held_back.commit(update.commit());
            let content = content.map(|held| held.content.clone());
            (&update.wanted.name, update.commit(), content)
        }));
        drop(held_back);
        let maker = Maker {
            client: &self.work.client,
            config: &self.summary,
            repo: &self.repo,
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let writer = self.work.writer.as_ref();
        let own = writer.map(|writer| layout::pending(writer.membership.id()));
        self.spent
            .extend(summary::update(maker, &wanted, own.as_ref())?);
        Ok(())
    }

    /// Reads the long lists of the bases when they are first needed.
    fn read_lists(&mut self) -> Result<(), Error> {
        let work = &self.work;
        let since = work.epoch();
        let read = work.bases.lock().read(&work.client)?;
        match read.is_empty() {
            true => Ok(()),
            false => secure(work, &mut self.state.history, &read, since),
        }
    }

    /// Returns whether the client need not send an object that it offers.
    fn has(&mut self, id: ObjectId) -> Result<bool, Error> {
        let work = &self.work;
        if work.known.lock().holds(&id) || work.bases.lock().cover(&id).is_some() {
            return Ok(true);
        }
        let Some(writer) = &work.writer else {
            return Ok(false);
        };
        let membership = &writer.membership;
        let take = |epoch| {
            membership.take_over(epoch, &id, || {
                work.known.lock().take(id, &[]);
            })
        };
        if id.kind.has_children() || !self.state.earlier.names(&work.client, &id, take)? {
            return Ok(false);
        }
        // A third push can rely on it, too.
        writer.journal.note(id);
        Ok(true)
    }

    /// Returns for each object whether it is a commit that the bucket has complete and that the
    /// push need not publish: a client that sends history offers all of it each time. A client that
    /// may not pull everything does not learn this, and sends them.
    fn are_ancestors(&mut self, ids: &[ObjectId]) -> Result<Vec<bool>, Error> {
        let PushState {
            updates,
            ancestors,
            policy,
            ..
        } = &mut self.state;
        if ancestors.depth == 0 || policy.readable().is_some() {
            return Ok(vec![false; ids.len()]);
        }
        let tips: HashSet<_> = updates.all.iter().map(Update::commit).collect();
        let is_asked =
            |id: &&ObjectId| id.kind == ObjectKind::Commit && !tips.contains(&id.checksum);
        let asked = ids.iter().filter(is_asked).map(|id| id.checksum);
        ancestors.look(&self.work.client, asked)?;
        let writer = self.work.writer.as_ref();
        let stays = |id: &ObjectId| writer.is_none_or(|writer| writer.membership.keeps(id));
        // R4. The client sends a condemned commit again.
        let is_ancestor = |id| is_asked(&id) && ancestors.has(&id.checksum) && stays(id);
        Ok(ids.iter().map(is_ancestor).collect())
    }
}

impl Push for BucketPush {
    type Stager = BucketStager;

    fn stager(&self) -> BucketStager {
        BucketStager::new(&self.work)
    }

    fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error> {
        self.work.bases.lock().rely(commits)
    }

    fn have(&mut self, ids: &[ObjectId]) -> Result<Vec<bool>, Error> {
        self.work.keep_up()?;
        self.read_lists()?;
        if !self.state.earlier.is_empty()
            && let Some(writer) = &self.work.writer
        {
            writer
                .membership
                .read_last_list(|id| self.work.relies_on(id))?;
        }
        let ancestors = self.are_ancestors(ids)?;
        ids.iter()
            .zip(ancestors)
            .map(|(&id, is_ancestor)| Ok(is_ancestor || self.has(id)?))
            .collect()
    }

    fn stage_detached(&mut self, commit: Checksum, metadata: &[u8]) -> Result<(), Error> {
        debug_assert!(
            metadata.len() <= MAX_DETACHED_LEN,
            "the session has checked it"
        );
        check_detached(metadata).map_err(|source| Error::DetachedMalformed { commit, source })?;
        let checksum = Checksum::of(metadata);
        if self.state.updates.announce_other_detached(commit, checksum) {
            return Err(Error::DetachedDiffers { commit });
        }
        self.work.load.bring(1, metadata.len() as u64)?;
        let content = Bytes::copy_from_slice(metadata);
        self.work.held_back.lock().take_detached(commit, content)?;
        self.state.learn_detached(&self.work, commit, checksum)
    }

    fn lack(&mut self, ids: &[ObjectId]) -> Result<(), Error> {
        self.work.bases.lock().lack(ids);
        Ok(())
    }

    fn publish(&mut self) -> Result<Published, Error> {
        if self.work.writer.is_some() {
            self.read_lists()?;
        }
        let published = publish::publish(&self.work, &mut self.state)?;
        if let Published::Done(outcomes) = &published
            && !outcomes.contains(&RefOutcome::Updated)
            && !self.state.is_dry_run()
        {
            // Other sessions did everything, and the client will leave without asking for the
            // summary.
            self.mend_summary();
        }
        Ok(published)
    }

    fn summarize(&mut self) -> SummaryDone {
        match self.update_summary() {
            Ok(()) => {
                if let Some(writer) = &self.work.writer {
                    self.spent.push(layout::pending(writer.membership.id()));
                }
                SummaryDone::Current
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the summary could not be brought up to date");
                SummaryDone::Failed(Text::new(&error.to_fault().text))
            }
        }
    }
}

impl Drop for BucketPush {
    /// Removes the records of the push, or writes a journal for a later push. Nothing depends on
    /// its success.
    fn drop(&mut self) {
        drop(self.keeper.take());
        let Some(writer) = &self.work.writer else {
            return;
        };
        let client = &self.work.client;
        if self.state.published {
            self.spent.extend(writer.journal.keys());
        } else {
            // Objects still on their way count as well, if they arrive.
            let _ = self.work.window.settle();
            writer
                .journal
                .write_rest(client, || writer.membership.epoch());
        }
        if let Some(account) = &self.work.account
            && let Err(error) = account.lock().charge(client, self.work.load.brought())
        {
            tracing::warn!(%error, "the account of the identity lacks what this push has brought");
        }
        if !writer.doubt.is_there() {
            // R9.
            self.spent.push(layout::session(writer.membership.id()));
            if !self.state.updates.all.iter().any(Update::is_set) {
                // The note names only refs that were never set.
                self.spent.push(layout::pending(writer.membership.id()));
            }
        }
        if let Err(error) = client.delete(&self.spent) {
            tracing::debug!(%error, "the lease of this push stays until it ends");
        }
    }
}
