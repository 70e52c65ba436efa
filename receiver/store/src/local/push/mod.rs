//! What one push has announced so far, and what was decided about it.

pub(crate) mod abandoned;
pub(crate) mod ancestors;
pub(crate) mod bases;
pub(crate) mod closure;
pub(crate) mod glance;
mod history;
pub(crate) mod publish;
pub(crate) mod resume;
pub(crate) mod session_limit;
pub(crate) mod staging;

use std::collections::{BTreeSet, HashMap, HashSet};

use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind, RefName};
use artifact_protocol::frame::{
    PushOptions, RefOutcome, RefState, RefUpdate, Refusal, RefusalCode, Verdict,
};
use artifact_protocol::limits::MAX_BASES;
use artifact_protocol::session::{Announcement, Opened};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::local::push::ancestors::Ancestors;
use crate::local::push::bases::Bases;
use crate::local::push::glance::Glance;
use crate::local::push::history::{History, New};
use crate::local::push::resume::Resume;
use crate::local::repository::account::Account;
use crate::local::repository::listing;
use crate::local::repository::refs::{self, Held};
use crate::local::repository::{Repo, objects};
use crate::policy::{self, Ancestry, Current, Existing, Policy};

/// One push.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) options: PushOptions,
    pub(crate) updates: Vec<Announced>,
    pub(crate) bases: Bases,
    pub(crate) ancestors: Ancestors,
    // What the identity has, if that is limited.
    pub(crate) account: Option<Account>,
    // Directories that its refs need and that are not there.
    pub(crate) new_dirs: BTreeSet<RepoPath>,
    resume: Resume,
    // How many more signed commits may be read while refs are announced: where others signed them,
    // the rest is judged when all is published, each commit once.
    signed_reads: usize,
    history: History,
    glance: Glance,
    /// SHA-256 of the detached metadata that is staged, by commit.
    pub(crate) detached: HashMap<Checksum, Checksum>,
    /// Whether it was published; then nothing more can be.
    pub(crate) published: bool,
    /// Objects that were staged or are beneath bases, once it is published: the commits have no more.
    pub(crate) objects: usize,
}

/// One ref of a push.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) update: RefUpdate,
    /// What the client was told the ref holds; the update is compared with it.
    pub(crate) held: Held,
    /// What will become of it, as far as is known.
    pub(crate) verdict: Verdict,
    /// Whether it may replace detached metadata, once its commit was judged.
    pub(crate) signer: Result<(), Refusal>,
    /// Whether the ref's commit was not whole.
    incomplete: bool,
}

impl Announced {
    /// Returns whether the ref holds the commit already, which is not whole.
    fn heals(&self) -> bool {
        self.held.commit() == Some(self.update.commit)
            && self.verdict == Verdict::Accepted
            && self.incomplete
    }

    /// Looks whether the ref still holds what the client was told. If not, the update is up to date
    /// where the ref holds by now what it was to hold, and refused otherwise: a client whose
    /// connection was lost may push again what the session before is about to publish.
    pub(crate) fn confirm<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let held = refs::look(fs, &self.update.name)?;
        if held == self.held {
            return Ok(true);
        }
        let commit = self.update.commit;
        let same = held.commit() == Some(commit)
            && objects::is_whole(fs, commit)?
            && (self.update.detached.is_none()
                || objects::detached_checksum(fs, commit)? == self.update.detached);
        self.held = held;
        self.verdict = if same { Verdict::UpToDate } else { lost_race() };
        Ok(false)
    }

    /// Judges the detached metadata by those that are there now; returns whether it may go on.
    pub(super) fn confirm_detached<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let Err(refusal) = &self.signer else {
            return Ok(true);
        };
        let there = objects::detached_checksum(fs, self.update.commit)?;
        if !policy::replaces(&self.update, there) {
            return Ok(true);
        }
        self.verdict = Verdict::Refused(refusal.clone());
        Ok(false)
    }
}

impl Session {
    /// Looks at the announced refs and judges them, and collects commits to rely on.
    pub(crate) fn open<F: Fs>(
        repo: &Repo<F>,
        policy: &Policy,
        account: Option<Account>,
        announcement: &Announcement,
    ) -> Result<Self, Error> {
        let mut session = Self {
            account,
            new_dirs: BTreeSet::new(),
            options: announcement.options,
            updates: Vec::with_capacity(announcement.refs.len()),
            bases: Bases::default(),
            ancestors: Ancestors::new(announcement.history),
            resume: Resume::default(),
            signed_reads: SIGNED_READS,
            history: History::new(announcement.refs.len()),
            glance: Glance::default(),
            detached: HashMap::new(),
            published: false,
            objects: 0,
        };
        let fs = &*repo.fs;
        for base in announcement.bases.iter().take(MAX_BASES) {
            if refs::look(fs, &base.name)?.commit() == Some(base.commit)
                && objects::is_whole(fs, base.commit)?
                && !session.lacks(fs, base.commit)?
            {
                session.bases.add(base.name.clone(), base.commit);
            }
        }
        let most = session.bases.len() + MAX_BASES;
        let mut taken = BTreeSet::new();
        for update in &announcement.refs {
            session.announce(fs, policy, update, &mut taken, most)?;
        }
        session.find_new_dirs(repo)?;
        if session.updates.iter().any(Announced::heals) {
            // Whoever lost something beneath one commit may have lost it beneath others: everything
            // is verified.
            session.bases = Bases::default();
        } else {
            session.suggest(fs, most)?;
        }
        session.sync_up_to_date(fs)?;
        Ok(session)
    }

    /// Returns what to tell the client.
    pub(crate) fn opened(&self) -> Opened {
        let state = |announced: &Announced| RefState {
            current: announced.held.commit(),
            verdict: announced.verdict.clone(),
        };
        Opened {
            refs: self.updates.iter().map(state).collect(),
            complete: self.bases.commits(),
        }
    }

    fn announce<'a, F: Fs>(
        &mut self,
        fs: &F,
        policy: &Policy,
        update: &'a RefUpdate,
        taken: &mut BTreeSet<&'a str>,
        most: usize,
    ) -> Result<(), Error> {
        let name = &update.name;
        let held = refs::look(fs, name)?;
        let mut current = Current {
            commit: held.commit(),
            ..Current::default()
        };
        if let Some(commit) = current.commit {
            current.complete = objects::is_whole(fs, commit)? && !self.lacks(fs, commit)?;
            if current.complete && self.bases.len() < most {
                self.bases.add(name.clone(), commit);
            }
            if current.complete && commit == update.commit {
                // Without the ancestors that are offered there is something to do.
                current.complete = self.ancestors.is_filled(fs, commit)?;
            }
        }
        current.new = existing(fs, update, &mut self.signed_reads)?;
        let incomplete = !current.complete;
        let verdict = match held {
            Held::Conflict(why) => conflict(why),
            Held::Nothing | Held::Commit(_) | Held::Malformed => {
                policy.judge_announced(update, current)
            }
        };
        let verdict = match verdict {
            Verdict::Accepted if is_in_the_way(name.as_str(), taken) => {
                conflict("the push sets another ref above or below it")
            }
            verdict => verdict,
        };
        let verdict = match (verdict, &mut self.account) {
            (Verdict::Accepted, Some(account)) if held == Held::Nothing => {
                if account.admit(fs, name)? {
                    Verdict::Accepted
                } else {
                    too_many_refs(account)
                }
            }
            (verdict, _) => verdict,
        };
        if verdict == Verdict::Accepted {
            taken.insert(name.as_str());
        }
        self.updates.push(Announced {
            update: update.clone(),
            held,
            verdict,
            signer: Ok(()),
            incomplete,
        });
        Ok(())
    }

    /// Counts the directories that are to be made for refs: each is one of the push's objects.
    fn find_new_dirs<F: Fs>(&mut self, repo: &Repo<F>) -> Result<(), Error> {
        let mut there = BTreeSet::from([RepoPath::heads()]);
        let mut new = BTreeSet::new();
        for announced in self.accepted().filter(|a| a.held == Held::Nothing) {
            let mut dir = RepoPath::head(&announced.update.name).parent();
            while !there.contains(&dir) && !new.contains(&dir) {
                let stat = if_there(repo.fs.stat(&dir));
                let is_there = stat.map_err(Error::io("looking at", &dir))?.is_some();
                let parent = dir.parent();
                if is_there { &mut there } else { &mut new }.insert(dir);
                dir = parent;
            }
        }
        self.new_dirs = new;
        self.check_objects(repo, 0)
    }

    /// Fails, by fault of the peer, if directories of refs and so many objects are too much.
    pub(crate) fn check_objects<F: Fs>(&self, repo: &Repo<F>, objects: usize) -> Result<(), Error> {
        let (got, limit) = (self.new_dirs.len() + objects, repo.limits.push_objects_max);
        if got as u64 > limit {
            return Err(Error::TooManyObjects { limit });
        }
        Ok(())
    }

    /// Returns whether something can be seen to be missing beneath a commit.
    fn lacks<F: Fs>(&mut self, fs: &F, commit: Checksum) -> Result<bool, Error> {
        let lacking = self.glance.lacks(fs, commit)?;
        if let Some(id) = lacking {
            tracing::warn!(%commit, %id, "a ref's commit is not whole: nothing relies on it");
        }
        Ok(lacking.is_some())
    }

    /// Adds the newest refs beside those that will be set, up to `most` commits.
    fn suggest<F: Fs>(&mut self, fs: &F, most: usize) -> Result<(), Error> {
        let mut searched = BTreeSet::new();
        for announced in &self.updates {
            let Some(parent) = announced.update.name.parent() else {
                continue;
            };
            if announced.verdict != Verdict::Accepted || !searched.insert(parent) {
                continue;
            }
            for name in listing::newest_in(fs, parent, MAX_BASES)? {
                if self.bases.len() >= most {
                    return Ok(());
                }
                if let Some(commit) = refs::look(fs, &name)?.commit()
                    && objects::is_whole(fs, commit)?
                {
                    self.bases.suggest(name, commit);
                }
            }
        }
        Ok(())
    }

    /// Has only these commits count from now on, which the client has as well. One that was suggested is
    /// glanced at now: of those that it does not have, nobody need wait for that.
    pub(crate) fn rely<F: Fs>(&mut self, fs: &F, commits: &[Checksum]) -> Result<(), Error> {
        let lacks = |commit| Ok(self.glance.lacks(fs, commit)?.is_some());
        self.bases.rely(commits, lacks)
    }

    /// Takes note of detached metadata that was not announced, as clients of the old protocols send
    /// it: it is judged like any other, also where all else of the update is up to date.
    pub(crate) fn learn_detached<F: Fs>(
        &mut self,
        repo: &Repo<F>,
        policy: &Policy,
        commit: Checksum,
        checksum: Checksum,
    ) -> Result<(), Error> {
        for announced in &mut self.updates {
            if announced.update.commit != commit || announced.update.detached.is_some() {
                continue;
            }
            announced.update.detached = Some(checksum);
            if announced.verdict != Verdict::UpToDate {
                continue;
            }
            let existing = existing(&*repo.fs, &announced.update, &mut self.signed_reads)?;
            let existing = existing.as_ref();
            if existing.is_some_and(|existing| existing.detached != Some(checksum)) {
                announced.verdict = match policy.judge_detached(&announced.update, existing) {
                    Ok(()) => Verdict::Accepted,
                    Err(refusal) => Verdict::Refused(refusal),
                };
            }
        }
        Ok(())
    }

    /// Judges the accepted updates by their commits. One whose commit is not here stays as it is;
    /// returns these commits.
    pub(crate) fn judge_commits<F: Fs>(
        &mut self,
        repo: &Repo<F>,
        policy: &Policy,
    ) -> Result<BTreeSet<ObjectId>, Error> {
        let options = self.options;
        let aliases = self.aliases();
        let mut unseen = BTreeSet::new();
        let accepted = self.updates.iter_mut();
        let accepted = accepted.filter(|announced| announced.verdict == Verdict::Accepted);
        let mut accepted: Vec<_> = accepted.collect();
        // Thousands of refs may be set to one commit of megabytes: it is read once.
        accepted.sort_by_key(|announced| announced.update.commit);
        let mut read: Option<(Checksum, Option<New>)> = None;
        for announced in accepted {
            let new = announced.update.commit;
            if read.as_ref().is_none_or(|(commit, _)| *commit != new) {
                let is_alias = |name: &str| aliases.contains(&(new, name.to_owned()));
                read = Some((new, New::read(repo, new, is_alias)?));
            }
            let Some((_, Some(commit))) = &mut read else {
                unseen.insert(ObjectId::new(ObjectKind::Commit, new));
                continue;
            };
            let ancestry = match announced.held.commit() {
                None => Ancestry::Nothing,
                Some(current) if current == new => Ancestry::Nothing,
                Some(current) => self.history.ancestry(repo, commit.parent(), current)?,
            };
            let update = &announced.update;
            if update.detached.is_some() {
                announced.signer = policy.judge_signer(update, commit.is_of(policy));
            }
            let own = repo.config.collection_id.as_deref();
            let commit = commit.as_bound_to(&update.name);
            let judged = policy::judge_collection(own, commit)
                .and_then(|()| policy.judge_commit(update, commit, ancestry, options));
            // Another push may have signed it since it was announced. Refs are not locked yet, but what is
            // refused now need not be made durable.
            match judged {
                Ok(()) => drop(announced.confirm_detached(&*repo.fs)?),
                Err(refusal) => announced.verdict = Verdict::Refused(refusal),
            }
        }
        Ok(unseen)
    }

    /// Returns the names that one commit is to have together, where the client may give it several.
    fn aliases(&self) -> HashSet<(Checksum, String)> {
        if !self.options.contains(PushOptions::ALIASES) {
            return HashSet::new();
        }
        let updates = self.updates.iter().map(|announced| &announced.update);
        updates
            .map(|update| (update.commit, update.name.to_string()))
            .collect()
    }

    /// Takes back the accepted updates whose refs no longer hold what the client was told; returns
    /// whether there were none.
    pub(crate) fn confirm_refs<F: Fs>(&mut self, fs: &F) -> Result<bool, Error> {
        let mut confirmed = true;
        for announced in self.accepted_mut() {
            confirmed &= announced.confirm(fs)?;
        }
        Ok(confirmed)
    }

    /// Makes durable that refs which are up to date are: whoever set them may not have, and the
    /// client will not push again.
    pub(crate) fn sync_up_to_date<F: Fs>(&self, fs: &F) -> Result<(), Error> {
        let updates = self
            .updates
            .iter()
            .filter(|a| a.verdict == Verdict::UpToDate);
        refs::sync(fs, updates.map(|announced| &announced.update.name))
    }

    /// Returns the updates that are to be done.
    pub(crate) fn accepted(&self) -> impl Iterator<Item = &Announced> {
        self.updates
            .iter()
            .filter(|announced| announced.verdict == Verdict::Accepted)
    }

    /// Returns the updates that are to be done.
    pub(crate) fn accepted_mut(&mut self) -> impl Iterator<Item = &mut Announced> {
        self.updates
            .iter_mut()
            .filter(|announced| announced.verdict == Verdict::Accepted)
    }

    /// Answers whether an object is had: by itself if nothing can be below it, and with everything
    /// below otherwise.
    pub(crate) fn have<F: Fs>(&mut self, repo: &Repo<F>, id: ObjectId) -> Result<bool, Error> {
        if repo.staging.holds(&id)
            || self.ancestors.covers(&id)
            || self.bases.cover(repo, &id)?.is_some()
        {
            return Ok(true);
        }
        match id.kind {
            ObjectKind::File | ObjectKind::Dirmeta => {
                Ok(resume::take_over(repo, id)? || closure::adopt(repo, id)?)
            }
            // Everything below it is claimed; of one in the repository nothing is known about that.
            ObjectKind::Dirtree | ObjectKind::Commit => {
                Ok(self.resume.take_over_whole(repo, &mut self.bases, id)?
                    || self.ancestors.holds(&*repo.fs, id)?)
            }
        }
    }

    /// Takes updates as up to date whose refs hold their commits, where nothing came for these;
    /// returns whether there were any.
    pub(crate) fn settle_unchanged(&mut self) -> bool {
        let mut settled = false;
        for announced in &mut self.updates {
            let commit = announced.update.commit;
            if announced.verdict == Verdict::Accepted
                && announced.held.commit() == Some(commit)
                && !self.detached.contains_key(&commit)
            {
                announced.verdict = Verdict::UpToDate;
                settled = true;
            }
        }
        settled
    }

    /// Returns the refs that hold what was announced, with their values: those that were set, and
    /// those that held it before, since whoever set them may have died before the summary.
    pub(crate) fn current_refs(&self) -> impl Iterator<Item = (&RefName, Checksum)> {
        let set = self.published && !self.options.contains(PushOptions::DRY_RUN);
        self.updates
            .iter()
            .filter(move |announced| match announced.verdict {
                Verdict::UpToDate => true,
                Verdict::Accepted => set,
                Verdict::Refused(_) => false,
            })
            .map(|announced| (&announced.update.name, announced.update.commit))
    }

    /// Returns the commits of the refs that were set.
    pub(crate) fn set_commits(&self) -> impl Iterator<Item = Checksum> {
        let set = self.published && !self.options.contains(PushOptions::DRY_RUN);
        let updates = self.accepted().filter(move |_| set);
        updates.map(|announced| announced.update.commit)
    }

    /// Says what became of each update once the accepted ones are done.
    pub(crate) fn outcomes(&self) -> Vec<RefOutcome> {
        let dry = self.options.contains(PushOptions::DRY_RUN);
        let outcome = |announced: &Announced| match &announced.verdict {
            Verdict::UpToDate => RefOutcome::Unchanged,
            Verdict::Accepted if dry => RefOutcome::WouldUpdate,
            Verdict::Accepted => RefOutcome::Updated,
            Verdict::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
        };
        self.updates.iter().map(outcome).collect()
    }
}

/// Refuses an update because of what has its name.
pub(crate) fn conflict(why: &str) -> Verdict {
    Verdict::Refused(Refusal::new(RefusalCode::NAME_CONFLICT, why))
}

/// Refuses an update because somebody else was faster.
pub(crate) fn lost_race() -> Verdict {
    Verdict::Refused(Refusal::new(
        RefusalCode::LOST_RACE,
        "another push moved the ref meanwhile",
    ))
}

/// Refuses a ref that the identity has no room for.
pub(crate) fn too_many_refs(account: &Account) -> Verdict {
    let (used, max) = account.standing();
    let text = format!(
        "too many refs: those set by this identity count {used} of {max}; have some removed \
         (`artifact-cache-admin prune`), or `refs-max` of the server's configuration raised"
    );
    Verdict::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, &text))
}

/// Looks what is here of an announced commit; only where its detached metadata are to be compared. They
/// count with whatever else of it is here, or alone: `fsck` marks a commit partial, `prune` and
/// others may leave its metadata behind. What it is bound to is looked at `reads` times.
fn existing<F: Fs>(
    fs: &F,
    update: &RefUpdate,
    reads: &mut usize,
) -> Result<Option<Existing>, Error> {
    let Some(announced) = update.detached else {
        return Ok(None);
    };
    let id = ObjectId::new(ObjectKind::Commit, update.commit);
    let detached = objects::detached_checksum(fs, update.commit)?;
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

/// Returns whether a name has one of these above or below it.
fn is_in_the_way(name: &str, taken: &BTreeSet<&str>) -> bool {
    let above = name
        .match_indices('/')
        .any(|(end, _)| name.get(..end).is_some_and(|above| taken.contains(above)));
    let below = format!("{name}/");
    above
        || taken
            .range(below.as_str()..)
            .next()
            .is_some_and(|next| next.starts_with(&below))
}

/// Commits of up to 10 MiB, which a client names for 100 bytes each.
const SIGNED_READS: usize = 16;
