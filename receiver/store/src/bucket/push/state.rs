//! One push's announcement, and the decisions about it.

use std::collections::{BTreeSet, HashMap, HashSet};

use artifact_formats::{Checksum, Commit, ObjectId};
use artifact_protocol::frame::{PushOptions, RefOutcome};
use artifact_protocol::session::{Announcement, Opened};

use crate::bucket::client::Client;
use crate::bucket::journal::Earlier;
use crate::bucket::layout;
use crate::bucket::push::guards::Guards;
use crate::bucket::push::history::History;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::seam::Tag;
use crate::error::Error;
use crate::policy::new::New;
use crate::policy::{self, Ancestry, Existing, Policy};

/// One push.
#[derive(Debug)]
pub(crate) struct PushState {
    pub(crate) policy: Policy,
    pub(crate) options: PushOptions,
    /// The collection of the repository.
    pub(crate) collection: Option<String>,
    pub(crate) updates: Vec<Update>,
    pub(crate) guards: Guards,
    pub(crate) history: History,
    /// How many ancestors of each commit the client offers.
    pub(crate) depth: usize,
    pub(crate) earlier: Earlier,
    /// Detached metadata in the bucket: checksum and tag, by commit.
    pub(crate) attached: HashMap<Checksum, (Checksum, Tag)>,
    /// SHA-256 of the detached metadata that was sent, by commit.
    pub(crate) detached: HashMap<Checksum, Checksum>,
    // How many more signed commits may be read while refs are announced.
    pub(crate) signed_reads: usize,
    /// Whether the push was published, which happens only once.
    pub(crate) published: bool,
}

impl PushState {
    /// Begins without any update.
    pub(crate) fn new(
        client: &Client,
        policy: &Policy,
        collection: Option<&str>,
        announcement: &Announcement,
    ) -> Self {
        let depth = usize::try_from(announcement.history).unwrap_or(usize::MAX);
        Self {
            policy: policy.clone(),
            options: announcement.options,
            collection: collection.map(str::to_owned),
            updates: Vec::with_capacity(announcement.refs.len()),
            guards: Guards::default(),
            history: History::new(client, announcement.refs.len()),
            depth: depth.min(artifact_formats::limits::MAX_HISTORY_LEN),
            earlier: Earlier::default(),
            attached: HashMap::new(),
            detached: HashMap::new(),
            signed_reads: SIGNED_READS,
            published: false,
        }
    }

    /// Returns the answer for the client.
    pub(crate) fn opened(&self, work: &Work) -> Opened {
        Opened {
            refs: self.updates.iter().map(Update::ref_state).collect(),
            complete: work.bases.lock().commits(),
        }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.options.contains(PushOptions::DRY_RUN)
    }

    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Update> {
        self.updates.iter().filter(|update| update.is_accepted())
    }

    pub(crate) fn accepted_mut(&mut self) -> impl Iterator<Item = &mut Update> {
        self.updates
            .iter_mut()
            .filter(|update| update.is_accepted())
    }

    /// Returns the distinct commits of the accepted updates.
    pub(crate) fn accepted_commits(&self) -> Vec<Checksum> {
        let commits: BTreeSet<_> = self.accepted().map(Update::commit).collect();
        commits.into_iter().collect()
    }

    /// Returns whether the client announced different detached metadata for a commit.
    pub(crate) fn announces_other_detached(&self, commit: Checksum, checksum: Checksum) -> bool {
        let of_commit = |update: &&Update| update.commit() == commit;
        let mut announced = self.updates.iter().filter(of_commit);
        announced.any(|update| {
            update
                .wanted
                .detached
                .is_some_and(|other| other != checksum)
        })
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
        self.detached.insert(commit, checksum);
        for at in 0..self.updates.len() {
            let update = &mut self.updates[at];
            if update.commit() != commit || update.wanted.detached.is_some() {
                continue;
            }
            update.wanted.detached = Some(checksum);
            if !update.is_up_to_date() {
                continue;
            }
            self.look_at_detached(&work.client, commit)?;
            let existing = self.existing(work, at)?;
            let update = &mut self.updates[at];
            let changed = existing.filter(|existing| existing.detached != Some(checksum));
            let judged =
                changed.map(|existing| self.policy.judge_detached(&update.wanted, Some(&existing)));
            update.learn_detached(judged);
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
    /// be compared. Reads the bindings of at most [`SIGNED_READS`] commits.
    pub(crate) fn existing(&mut self, work: &Work, at: usize) -> Result<Option<Existing>, Error> {
        let update = &self.updates[at];
        let Some(announced) = update.wanted.detached else {
            return Ok(None);
        };
        let commit = update.commit();
        let detached = self.attached.get(&commit).map(|(checksum, _)| *checksum);
        if detached.is_none() && !update.is_held() {
            return Ok(None);
        }
        let mut bound = None;
        let differs = detached.is_some_and(|there| there != announced) && self.signed_reads > 0;
        self.signed_reads -= usize::from(differs);
        if differs
            && let Some(content) = read_commit(work, commit)?
            && let Ok(commit) = Commit::parse(&content)
        {
            bound = Some(commit.ref_bindings.unwrap_or_default());
        }
        Ok(Some(Existing { detached, bound }))
    }

    /// Judges the accepted updates by their commits. Returns the commits that are missing, whose
    /// updates stay unchanged.
    pub(crate) fn judge_commits(&mut self, work: &Work) -> Result<BTreeSet<ObjectId>, Error> {
        let aliases = self.aliases();
        let (policy, options, history) = (&self.policy, self.options, &mut self.history);
        let mut unseen = BTreeSet::new();
        let accepted = self.updates.iter_mut();
        let mut accepted: Vec<_> = accepted.filter(|update| update.is_accepted()).collect();
        // Thousands of refs may be set to one commit of megabytes, which is read only once.
        accepted.sort_by_key(|update| update.wanted.commit);
        let mut read: Option<(Checksum, Option<New>)> = None;
        for update in accepted {
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
            let replaced = update.held.commit().filter(|_| !update.is_held());
            let ancestry = match replaced {
                Some(current) => history.ancestry(new.parent(), current)?,
                None => Ancestry::Nothing,
            };
            let wanted = &update.wanted;
            if wanted.detached.is_some() {
                update.signer = policy.judge_signer(wanted, new.is_of(policy));
            }
            let bound = new.as_bound_to(&wanted.name);
            let judged = policy::judge_collection(self.collection.as_deref(), bound)
                .and_then(|()| policy.judge_commit(wanted, bound, ancestry, options));
            let there = self.attached.get(&commit).map(|(checksum, _)| *checksum);
            match judged {
                Ok(()) => _ = update.confirm_detached(there),
                Err(refusal) => update.refuse(refusal),
            }
        }
        Ok(unseen)
    }

    /// Returns the pairs of commits and names in this push, if the client gives one commit several
    /// names.
    fn aliases(&self) -> HashSet<(Checksum, String)> {
        if !self.options.contains(PushOptions::ALIASES) {
            return HashSet::new();
        }
        let updates = self.updates.iter().map(|update| &update.wanted);
        updates
            .map(|update| (update.commit, update.name.to_string()))
            .collect()
    }

    /// Settles updates whose refs hold their commits and that brought no detached metadata; returns
    /// whether there were any.
    pub(crate) fn settle_unchanged(&mut self) -> bool {
        let mut settled = false;
        for update in &mut self.updates {
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

    /// Returns the outcome of each update once the accepted ones are done.
    pub(crate) fn outcomes(&self) -> Vec<RefOutcome> {
        self.updates.iter().map(Update::outcome).collect()
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

/// The most reads of signed commits: a client names a commit of up to 10 MiB in 100 bytes.
const SIGNED_READS: usize = 16;
