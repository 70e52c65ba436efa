//! What one push has announced, and what was decided about it.

use std::collections::{BTreeSet, HashMap, HashSet};

use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind, RefName};
use artifact_protocol::frame::{PushOptions, RefOutcome, RefUpdate};
use artifact_protocol::session::{Announcement, Opened};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::adopt;
use crate::local::push::ancestors::Ancestors;
use crate::local::push::bases::Bases;
use crate::local::push::glance::Glance;
use crate::local::push::history::{History, New};
use crate::local::push::resume::Resume;
use crate::local::push::update::Update;
use crate::local::push::workspace::Workspace;
use crate::local::repository::account::Account;
use crate::local::repository::objects;
use crate::local::repository::refs;
use crate::policy::{self, Ancestry, Existing, Policy};

/// One push.
#[derive(Debug)]
pub(crate) struct PushState {
    pub(crate) policy: Policy,
    pub(crate) options: PushOptions,
    pub(crate) updates: Vec<Update>,
    pub(crate) bases: Bases,
    pub(crate) ancestors: Ancestors,
    // What the identity has, if that is limited.
    pub(crate) account: Option<Account>,
    // Directories that its refs need and that are not there.
    pub(crate) new_dirs: BTreeSet<RepoPath>,
    resume: Resume,
    // How many more signed commits may be read while refs are announced: where others signed them,
    // the rest is judged when all is published, each commit once.
    pub(super) signed_reads: usize,
    history: History,
    pub(super) glance: Glance,
    /// SHA-256 of the detached metadata that is staged, by commit.
    pub(crate) detached: HashMap<Checksum, Checksum>,
    /// Whether it was published; then nothing more can be.
    pub(crate) published: bool,
    /// Objects that were staged or are beneath bases, once it is published: the commits have no more.
    pub(crate) objects: usize,
}

impl PushState {
    /// Begins with nothing announced.
    pub(super) fn new(
        policy: Policy,
        account: Option<Account>,
        announcement: &Announcement,
    ) -> Self {
        Self {
            policy,
            account,
            options: announcement.options,
            updates: Vec::with_capacity(announcement.refs.len()),
            bases: Bases::default(),
            ancestors: Ancestors::new(announcement.history),
            new_dirs: BTreeSet::new(),
            resume: Resume::default(),
            signed_reads: SIGNED_READS,
            history: History::new(announcement.refs.len()),
            glance: Glance::default(),
            detached: HashMap::new(),
            published: false,
            objects: 0,
        }
    }

    /// Returns what to tell the client.
    pub(crate) fn opened(&self) -> Opened {
        Opened {
            refs: self.updates.iter().map(Update::ref_state).collect(),
            complete: self.bases.commits(),
        }
    }

    /// Fails, by fault of the peer, if directories of refs and so many objects are too much.
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

    /// Has only these commits count from now on, which the client has as well. One that was suggested is
    /// glanced at now: of those that it does not have, nobody need wait for that.
    pub(crate) fn rely<F: Fs>(&mut self, fs: &F, commits: &[Checksum]) -> Result<(), Error> {
        let lacks = |commit| Ok(self.glance.lacks(fs, commit)?.is_some());
        self.bases.rely(commits, lacks)
    }

    /// Takes note of detached metadata that is staged. What was not announced, as clients of the old
    /// protocols send it, is judged like any other, also where all else of the update is up to date.
    pub(crate) fn learn_detached<F: Fs>(
        &mut self,
        work: &Workspace<F>,
        commit: Checksum,
        checksum: Checksum,
    ) -> Result<(), Error> {
        self.detached.insert(commit, checksum);
        for update in &mut self.updates {
            if update.commit() != commit || update.wanted.detached.is_some() {
                continue;
            }
            update.wanted.detached = Some(checksum);
            if !update.is_up_to_date() {
                continue;
            }
            let existing = existing(work.fs(), &update.wanted, &mut self.signed_reads)?;
            let changed = existing.filter(|existing| existing.detached != Some(checksum));
            let judged =
                changed.map(|existing| self.policy.judge_detached(&update.wanted, Some(&existing)));
            update.learn_detached(judged);
        }
        Ok(())
    }

    /// Returns whether other detached metadata than these was announced for a commit.
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

    /// Judges the accepted updates by their commits. One whose commit is not here stays as it is;
    /// returns these commits.
    pub(crate) fn judge_commits<F: Fs>(
        &mut self,
        work: &Workspace<F>,
    ) -> Result<BTreeSet<ObjectId>, Error> {
        let (policy, options) = (&self.policy, self.options);
        let aliases = self.aliases();
        let mut unseen = BTreeSet::new();
        let accepted = self.updates.iter_mut();
        let mut accepted: Vec<_> = accepted.filter(|update| update.is_accepted()).collect();
        // Thousands of refs may be set to one commit of megabytes: it is read once.
        accepted.sort_by_key(|update| update.wanted.commit);
        let mut read: Option<(Checksum, Option<New>)> = None;
        for update in accepted {
            let new = update.wanted.commit;
            if read.as_ref().is_none_or(|(commit, _)| *commit != new) {
                let is_alias = |name: &str| aliases.contains(&(new, name.to_owned()));
                read = Some((new, New::read(work, new, is_alias)?));
            }
            let Some((_, Some(commit))) = &mut read else {
                unseen.insert(ObjectId::new(ObjectKind::Commit, new));
                continue;
            };
            let ancestry = match update.held.commit() {
                None => Ancestry::Nothing,
                Some(current) if current == new => Ancestry::Nothing,
                Some(current) => self.history.ancestry(work, commit.parent(), current)?,
            };
            let wanted = &update.wanted;
            if wanted.detached.is_some() {
                update.signer = policy.judge_signer(wanted, commit.is_of(policy));
            }
            let own = work.repo.config.collection_id.as_deref();
            let commit = commit.as_bound_to(&wanted.name);
            let judged = policy::judge_collection(own, commit)
                .and_then(|()| policy.judge_commit(wanted, commit, ancestry, options));
            // Another push may have signed it since it was announced. Refs are not locked yet, but what is
            // refused now need not be made durable.
            match judged {
                Ok(()) => drop(update.confirm_detached(work.fs())?),
                Err(refusal) => update.refuse(refusal),
            }
        }
        Ok(unseen)
    }

    /// Returns the names that one commit is to have together, where the client may give it several.
    fn aliases(&self) -> HashSet<(Checksum, String)> {
        if !self.options.contains(PushOptions::ALIASES) {
            return HashSet::new();
        }
        let updates = self.updates.iter().map(|update| &update.wanted);
        updates
            .map(|update| (update.commit, update.name.to_string()))
            .collect()
    }

    /// Takes back the accepted updates whose refs no longer hold what the client was told; returns
    /// whether there were none.
    pub(crate) fn confirm_refs<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let mut confirmed = true;
        for update in self.accepted_mut() {
            confirmed &= update.confirm(fs)?;
        }
        Ok(confirmed)
    }

    /// Makes durable that refs which are up to date are: whoever set them may not have, and the
    /// client will not push again.
    pub(crate) fn sync_up_to_date<F: Fs>(&self, fs: &F) -> Result<(), Error> {
        let updates = self.updates.iter().filter(|update| update.is_up_to_date());
        refs::sync(fs, updates.map(|update| &update.wanted.name))
    }

    /// Returns the updates that are to be done.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Update> {
        self.updates.iter().filter(|update| update.is_accepted())
    }

    /// Returns the updates that are to be done.
    pub(crate) fn accepted_mut(&mut self) -> impl Iterator<Item = &mut Update> {
        self.updates
            .iter_mut()
            .filter(|update| update.is_accepted())
    }

    /// Answers whether an object is had: by itself if nothing can be below it, and with everything
    /// below otherwise.
    pub(crate) fn have<F: Fs>(&mut self, work: &Workspace<F>, id: ObjectId) -> Result<bool, Error> {
        if work.staging.holds(&id)
            || self.ancestors.covers(&id)
            || self.bases.cover(work, &id)?.is_some()
        {
            return Ok(true);
        }
        match id.kind {
            ObjectKind::File | ObjectKind::Dirmeta => {
                Ok(adopt::take_over(work, id)? || adopt::adopt(work, id)?)
            }
            // Everything below it is claimed; of one in the repository nothing is known about that.
            ObjectKind::Dirtree | ObjectKind::Commit => {
                Ok(self.resume.take_over_whole(work, &mut self.bases, id)?
                    || self.ancestors.holds(work.fs(), id)?)
            }
        }
    }

    /// Takes updates as up to date whose refs hold their commits, where nothing came for these;
    /// returns whether there were any.
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

    /// Returns the refs that hold what was announced, with their values: those that were set, and
    /// those that held it before, since whoever set them may have died before the summary.
    pub(crate) fn current_refs(&self) -> impl Iterator<Item = (&RefName, Checksum)> {
        self.updates
            .iter()
            .filter(|update| update.is_up_to_date() || update.is_set())
            .map(|update| (&update.wanted.name, update.commit()))
    }

    /// Returns the commits of the refs that were set.
    pub(crate) fn set_commits(&self) -> impl Iterator<Item = Checksum> {
        let set = self.updates.iter().filter(|update| update.is_set());
        set.map(Update::commit)
    }

    /// Says what became of each update once the accepted ones are done.
    pub(crate) fn outcomes(&self) -> Vec<RefOutcome> {
        self.updates.iter().map(Update::outcome).collect()
    }
}

/// Looks what is here of an announced commit; only where its detached metadata are to be compared. They
/// count with whatever else of it is here, or alone: `fsck` marks a commit partial, `prune` and
/// others may leave its metadata behind. What it is bound to is looked at `reads` times.
pub(super) fn existing<F: Fs>(
    fs: &F,
    wanted: &RefUpdate,
    reads: &mut usize,
) -> Result<Option<Existing>, Error> {
    let Some(announced) = wanted.detached else {
        return Ok(None);
    };
    let id = ObjectId::new(ObjectKind::Commit, wanted.commit);
    let detached = objects::detached_checksum(fs, wanted.commit)?;
    if detached.is_none() && !objects::is_there(fs, &RepoPath::object(&id))? {
        return Ok(None);
    }
    let mut bound = None;
    let differs = detached.is_some_and(|there| there != announced) && *reads > 0;
    *reads -= usize::from(differs);
    if differs
        && let Some(content) = objects::read_metadata(fs, id)?
        && let Ok(commit) = Commit::parse(&content)
    {
        bound = Some(commit.ref_bindings.unwrap_or_default());
    }
    Ok(Some(Existing { detached, bound }))
}

/// Commits of up to 10 MiB, which a client names for 100 bytes each.
const SIGNED_READS: usize = 16;
