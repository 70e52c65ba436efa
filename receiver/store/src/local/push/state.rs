//! One push's announcement, and the decisions about it.

use std::collections::BTreeSet;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};
use artifact_protocol::frame::{PushOptions, RefUpdate};
use artifact_protocol::session::{Announcement, Opened};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::adopt;
use crate::local::push::ancestors::Ancestors;
use crate::local::push::bases::Bases;
use crate::local::push::glance::Glance;
use crate::local::push::history::{History, read_new};
use crate::local::push::pullable::Pullable;
use crate::local::push::pusher::Pusher;
use crate::local::push::resume::Resume;
use crate::local::push::update::{Update, Updates};
use crate::local::push::workspace::Workspace;
use crate::local::repository::account::Account;
use crate::local::repository::objects::DetachedSums;
use crate::local::repository::{Repo, objects, pulled, refs};
use crate::local::terms::Terms;
use crate::policy::new::New;
use crate::policy::{Ancestry, Existing, Policy};
use crate::update::{self, Footing, Lineage, Reads};

/// One push.
#[derive(Debug)]
pub(crate) struct PushState {
    pub(crate) policy: Policy,
    pub(crate) options: PushOptions,
    pub(crate) terms: Terms,
    pub(crate) updates: Updates,
    pub(crate) bases: Bases,
    pub(crate) ancestors: Ancestors,
    // The identity's refs so far, if their number is limited.
    pub(crate) account: Option<Account>,
    // Missing directories that its refs need.
    pub(crate) new_dirs: BTreeSet<RepoPath>,
    resume: Resume,
    pub(super) signed_reads: Reads,
    history: History,
    pub(super) glance: Glance,
    /// Whether it was published, which happens only once.
    pub(crate) published: bool,
    /// The number of objects staged or below bases, once published: the commits reach no more.
    pub(crate) objects: usize,
}

impl PushState {
    /// Begins without any judged update.
    pub(super) fn new(terms: Terms, pusher: Pusher<'_>, announcement: &Announcement) -> Self {
        Self {
            policy: pusher.policy.clone(),
            account: pusher.account,
            options: terms.options(announcement.options),
            terms,
            updates: Updates::with_capacity(announcement.refs.len()),
            bases: Bases::default(),
            ancestors: Ancestors::new(announcement.history),
            new_dirs: BTreeSet::new(),
            resume: Resume::default(),
            signed_reads: Reads::default(),
            history: History::new(announcement.refs.len()),
            glance: Glance::default(),
            published: false,
            objects: 0,
        }
    }

    /// Returns the answer for the client.
    pub(crate) fn opened(&self) -> Opened {
        Opened {
            refs: self.updates.states(&self.policy),
            complete: self.bases.commits(),
        }
    }

    /// Fails, by fault of the peer, if this many objects and the directories of refs exceed the
    /// limit.
    pub(crate) fn check_objects<F: Fs>(
        &self,
        work: &Workspace<F>,
        objects: usize,
    ) -> Result<(), Error> {
        let (got, limit) = (self.new_dirs.len() + objects, work.limits.push_objects_max);
        if got as u64 > limit {
            return Err(Error::TooManyObjects { limit });
        }
        Ok(())
    }

    /// Restricts the bases to these commits, which the client has as well. A suggested one gets its
    /// glance only now, so that the client waits for no glance at commits it lacks.
    pub(crate) fn rely<F: Fs>(
        &mut self,
        repo: &Repo<F>,
        commits: &[Checksum],
    ) -> Result<(), Error> {
        let lacks = |commit| Ok(self.glance.lacks(repo, commit)?.is_some());
        self.bases.rely(commits, lacks)
    }

    /// Notes staged detached metadata. Metadata that were not announced, as clients of the old
    /// protocols send them, are judged like any other, even if the rest of the update is up to
    /// date.
    pub(crate) fn learn_detached<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        commit: Checksum,
        checksum: Checksum,
    ) -> Result<(), Error> {
        self.updates.detached.insert(commit, checksum);
        let mut sums = DetachedSums::default();
        for update in &mut self.updates.all {
            if update.commit() != commit || update.wanted.detached.is_some() {
                continue;
            }
            update.wanted.detached = Some(checksum);
            if !update.is_up_to_date() {
                continue;
            }
            let existing = existing(work.fs(), &update.wanted, &mut self.signed_reads, &mut sums)?;
            let changed = existing.filter(|existing| existing.detached != Some(checksum));
            let judged =
                changed.map(|existing| self.policy.judge_detached(&update.wanted, Some(&existing)));
            update.learn_detached(judged);
        }
        Ok(())
    }

    /// Judges the accepted updates by their commits. An update whose commit is missing, or that
    /// this client has to send, stays unchanged; returns these commits.
    pub(crate) fn judge_commits<F: Fs>(
        &mut self,
        work: &Workspace<F>,
    ) -> Result<BTreeSet<ObjectId>, Error> {
        let (terms, policy, options) = (&self.terms, &self.policy, self.options);
        let aliases = self.updates.aliases(options);
        // Of a repository of one's own, only those who pull from it need to know.
        let collection = work.repo.config.collection_id.as_deref();
        let collection = collection.filter(|_| !terms.is_own());
        let mut unseen = BTreeSet::new();
        let mut read: Option<(Checksum, Option<New>)> = None;
        let mut lineage = Lineage::new(self.ancestors.depth());
        let mut sums = DetachedSums::default();
        for update in self.updates.accepted_by_commit() {
            let commit = update.commit();
            if read.as_ref().is_none_or(|(last, _)| *last != commit) {
                let is_alias = |name: &str| aliases.contains(&(commit, name.to_owned()));
                read = Some((commit, read_new(work, commit, is_alias)?));
            }
            let Some((_, Some(new))) = &mut read else {
                unseen.insert(ObjectId::new(ObjectKind::Commit, commit));
                continue;
            };
            if !work.adopts {
                let mut pullable = Pullable {
                    work,
                    policy,
                    history: &mut self.history,
                    bases: &self.bases,
                };
                match lineage.judge(&mut pullable, update.held.commit(), commit)? {
                    Footing::Firm => {}
                    Footing::Unsent => {
                        unseen.insert(ObjectId::new(ObjectKind::Commit, commit));
                        continue;
                    }
                    Footing::Foreign(ancestor) => {
                        update.refuse(policy.refuse_ancestor(ancestor));
                        continue;
                    }
                }
            }
            let ancestry = ancestry(work, terms, &mut self.history, update, new.parent())?;
            if update.judge_commit(policy, options, collection, new, ancestry) {
                // Another push may have signed it since the announcement. Refs are not locked yet,
                // but an update refused now needs no sync.
                update.confirm_detached(work.fs(), &mut sums)?;
            }
        }
        Ok(unseen)
    }

    /// Refuses the accepted updates whose refs no longer hold the value the client was told;
    /// returns whether there were none.
    pub(crate) fn confirm_refs<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let mut confirmed = true;
        let mut sums = DetachedSums::default();
        for update in self.updates.accepted_mut() {
            confirmed &= update.confirm(fs, &mut sums)?;
        }
        Ok(confirmed)
    }

    /// Makes the values of up-to-date refs durable: the session that set them may not have, and the
    /// client will not push again.
    pub(crate) fn sync_up_to_date<F: Fs>(&self, fs: &F) -> Result<(), Error> {
        let updates = &self.updates.all;
        let updates = updates.iter().filter(|update| update.is_up_to_date());
        refs::sync(fs, updates.map(|update| &update.place))
    }

    /// Answers whether the server has an object: alone if nothing can be below it, otherwise with
    /// everything below it.
    pub(crate) fn have<F: Fs>(&mut self, work: &Workspace<F>, id: ObjectId) -> Result<bool, Error> {
        if work.staging.holds(&id)
            || (work.adopts && self.ancestors.covers(&id))
            || self.bases.cover(work, &id)?.is_some()
        {
            return Ok(true);
        }
        match id.kind {
            ObjectKind::File | ObjectKind::Dirmeta => {
                Ok(adopt::take_over(work, id)? || adopt::adopt(work, id)?)
            }
            // *Have* covers everything below it, and its presence in the repository proves nothing
            // about that.
            ObjectKind::Dirtree | ObjectKind::Commit => {
                Ok(self.resume.take_over_whole(work, &mut self.bases, id)?
                    || (work.adopts && self.ancestors.holds(&work.repo, id)?))
            }
        }
    }

    /// Returns the refs with the announced values: those this push set, and those that held them
    /// before, since the session that set them may have died before the summary.
    pub(crate) fn current_refs(&self) -> impl Iterator<Item = (&RefName, Checksum)> {
        (self.updates.all)
            .iter()
            .filter(|update| update.is_up_to_date() || update.is_set())
            .map(|update| (&update.wanted.name, update.commit()))
    }

    /// Returns the commits of the refs that were set.
    pub(crate) fn set_commits(&self) -> impl Iterator<Item = Checksum> {
        let set = self.updates.all.iter().filter(|update| update.is_set());
        set.map(Update::commit)
    }
}

/// Returns the relation of a new commit, which has this parent, to the one that it replaces.
fn ancestry<F: Fs>(
    work: &Workspace<F>,
    terms: &Terms,
    history: &mut History,
    update: &Update,
    parent: Option<Checksum>,
) -> Result<Ancestry, Error> {
    let Some(current) = update.replaced() else {
        return Ok(Ancestry::Nothing);
    };
    // What a pull has set is nobody's work.
    if terms.is_own() && pulled::last(work.fs(), &update.wanted.name)? == Some(current) {
        return Ok(Ancestry::Descends);
    }
    history.ancestry(work, parent, current)
}

/// Looks up an announced commit, if its detached metadata are to be compared. These count together
/// with the rest of the commit that exists, or alone: `fsck` marks a commit partial, `prune` and
/// other programs may leave its metadata behind. Its bindings are read at most as often as `reads`
/// allows.
pub(super) fn existing<F: Fs>(
    fs: &F,
    wanted: &RefUpdate,
    reads: &mut Reads,
    sums: &mut DetachedSums,
) -> Result<Option<Existing>, Error> {
    let Some(announced) = wanted.detached else {
        return Ok(None);
    };
    let id = ObjectId::new(ObjectKind::Commit, wanted.commit);
    let detached = sums.of(fs, wanted.commit)?;
    if detached.is_none() && !objects::is_there(fs, &RepoPath::object(&id))? {
        return Ok(None);
    }
    let read = || objects::read_metadata(fs, id);
    update::existing(detached, announced, reads, read).map(Some)
}
