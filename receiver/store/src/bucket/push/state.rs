//! One push's announcement, and the decisions about it.

use std::collections::{BTreeSet, HashMap};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::{PushOptions, RefUpdate};
use artifact_protocol::session::{Announcement, Opened};

use crate::bucket::push::ancestors::Ancestors;
use crate::bucket::push::history::History;
use crate::bucket::push::pullable::Pullable;
use crate::bucket::push::update::Updates;
use crate::bucket::push::work::Work;
use crate::bucket::records::guards::Guards;
use crate::bucket::records::journal::Earlier;
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Tag;
use crate::error::Error;
use crate::policy::new::New;
use crate::policy::{Ancestry, Existing, Policy};
use crate::update::{self, Footing, Lineage, Reads, Value};

/// One push.
#[derive(Debug)]
pub(crate) struct PushState {
    pub(crate) policy: Policy,
    pub(crate) options: PushOptions,
    /// The collection of the repository.
    pub(crate) collection: Option<String>,
    pub(crate) updates: Updates,
    pub(crate) guards: Guards,
    pub(crate) history: History,
    pub(crate) ancestors: Ancestors,
    pub(crate) earlier: Earlier,
    /// Detached metadata in the bucket: checksum and tag, by commit.
    pub(crate) attached: HashMap<Checksum, (Checksum, Tag)>,
    signed_reads: Reads,
    /// Whether the push was published, which happens only once.
    pub(crate) published: bool,
}

impl PushState {
    /// Begins without updates.
    pub(crate) fn new(
        client: &Client,
        policy: &Policy,
        collection: Option<&str>,
        announcement: &Announcement,
    ) -> Self {
        Self {
            policy: policy.clone(),
            options: announcement.options,
            collection: collection.map(str::to_owned),
            updates: Updates::with_capacity(announcement.refs.len()),
            guards: Guards::default(),
            history: History::new(client, announcement.refs.len()),
            ancestors: Ancestors::new(announcement.history),
            earlier: Earlier::default(),
            attached: HashMap::new(),
            signed_reads: Reads::default(),
            published: false,
        }
    }

    /// Returns the answer for the client.
    pub(crate) fn opened(&self, work: &Work) -> Opened {
        Opened {
            refs: self.updates.states(&self.policy),
            complete: work.bases.lock().commits(),
        }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.options.contains(PushOptions::DRY_RUN)
    }

    /// Notes detached metadata that was sent. Metadata that was not announced, as clients of the
    /// old protocols send it, is judged like any other, even if the rest of the update is up to
    /// date.
    pub(crate) fn learn_detached(
        &mut self,
        work: &Work,
        commit: Checksum,
        checksum: Checksum,
    ) -> Result<(), Error> {
        self.updates.detached.insert(commit, checksum);
        for at in 0..self.updates.all.len() {
            let update = &mut self.updates.all[at];
            if update.commit() != commit || update.wanted.detached.is_some() {
                continue;
            }
            update.wanted.detached = Some(checksum);
            if !update.is_up_to_date() {
                continue;
            }
            let (wanted, is_held) = (update.wanted.clone(), update.is_held());
            self.look_at_detached(&work.client, commit)?;
            let existing = self.existing(work, &wanted, is_held)?;
            let changed = existing.filter(|existing| existing.detached != Some(checksum));
            let judged =
                changed.map(|existing| self.policy.judge_detached(&wanted, Some(&existing)));
            self.updates.all[at].learn_detached(judged);
        }
        Ok(())
    }

    /// Reads the detached metadata that the bucket has for a commit.
    pub(crate) fn look_at_detached(
        &mut self,
        client: &Client,
        commit: Checksum,
    ) -> Result<(), Error> {
        let key = layout::detached(commit);
        let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
        match found {
            Some(found) => {
                let there = (Checksum::of(&found.content), found.tag);
                self.attached.insert(commit, there);
            }
            None => _ = self.attached.remove(&commit),
        }
        Ok(())
    }

    /// Returns the parts of an announced commit that the bucket has, if its detached metadata must
    /// be compared. Reads the commit's bindings at most as often as [`Reads`] allows.
    pub(crate) fn existing(
        &mut self,
        work: &Work,
        wanted: &RefUpdate,
        is_held: bool,
    ) -> Result<Option<Existing>, Error> {
        let Some(announced) = wanted.detached else {
            return Ok(None);
        };
        let detached = self.attached.get(&wanted.commit).map(|there| there.0);
        if detached.is_none() && !is_held {
            return Ok(None);
        }
        let read = || read_commit(work, wanted.commit);
        update::existing(detached, announced, &mut self.signed_reads, read).map(Some)
    }

    /// Judges the accepted updates by their commits. Returns the commits that are missing, or that
    /// this client has to send, whose updates stay unchanged.
    pub(crate) fn judge_commits(&mut self, work: &Work) -> Result<BTreeSet<ObjectId>, Error> {
        let (policy, options, history) = (&self.policy, self.options, &mut self.history);
        let aliases = self.updates.aliases(options);
        let mut unseen = BTreeSet::new();
        let mut read: Option<(Checksum, Option<New>)> = None;
        let mut lineage = Lineage::new(self.ancestors.depth);
        for update in self.updates.accepted_by_commit() {
            let commit = update.commit();
            if read.as_ref().is_none_or(|(last, _)| *last != commit) {
                let is_alias = |name: &str| aliases.contains(&(commit, name.to_owned()));
                let content = read_commit(work, commit)?;
                let new = content.and_then(|content| New::parse(&content, is_alias));
                if let Some(new) = &new {
                    history.learn(commit, new.parent());
                }
                read = Some((commit, new));
            }
            let Some((_, Some(new))) = &mut read else {
                unseen.insert(ObjectId::commit(commit));
                continue;
            };
            if policy.readable().is_some() {
                let mut pullable = Pullable {
                    work,
                    policy,
                    history,
                };
                match lineage.judge(&mut pullable, update.held.commit(), commit)? {
                    Footing::Firm => {}
                    Footing::Unsent => {
                        unseen.insert(ObjectId::commit(commit));
                        continue;
                    }
                    Footing::Foreign(ancestor) => {
                        update.refuse(policy.refuse_ancestor(ancestor));
                        continue;
                    }
                }
            }
            let ancestry = match update.replaced() {
                Some(current) => history.ancestry(new.parent(), current)?,
                None => Ancestry::Nothing,
            };
            let collection = self.collection.as_deref();
            if update.judge_commit(policy, options, collection, new, ancestry) {
                let there = self.attached.get(&commit).map(|there| there.0);
                update.judge_detached(there);
            }
        }
        Ok(unseen)
    }
}

/// Returns the content of a commit that was sent, or is in the bucket.
pub(crate) fn read_commit(work: &Work, commit: Checksum) -> Result<Option<bytes::Bytes>, Error> {
    if let Some(held) = work.held_back.lock().commit(commit) {
        return Ok(Some(held.content.clone()));
    }
    let key = layout::object(&ObjectId::commit(commit));
    let found = work
        .client
        .get(&key)
        .map_err(Error::bucket("reading", &key))?;
    let content = found.map(|found| found.content);
    Ok(content.filter(|content| Checksum::of(content) == commit))
}
