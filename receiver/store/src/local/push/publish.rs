//! Publication, in the only order that is safe at every instant (SPEC "Invariants"):
//!
//! 1. Everything that the new commits reach is here, and verified (INV-2).
//! 2. Every staged file is durable: objects, detached metadata, files to become refs.
//! 3. Under the repository's lock, the bases and refs on which the push relies are checked again.
//! 4. Files, dirmetas and dirtrees get their names, durably; then commits.
//! 5. Under our own lock of the refs, the updates whose refs still hold the value the client was
//!    told go on: their detached metadata get their names, durably, where permitted; then the refs
//!    are set, durably (INV-3, INV-4, INV-5).
//!
//! A process that dies anywhere in between leaves refs with their old or new values, and every
//! complete commit with everything it reaches.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::{io, mem};

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};
use artifact_protocol::frame::PushOptions;
use artifact_protocol::session::Published;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, if_there, make_dir, sync_dirs};
use crate::local::push::closure::{self, Closure, Reached};
use crate::local::push::state::PushState;
use crate::local::push::update::Update;
use crate::local::push::workspace::Workspace;
use crate::local::repository::objects::DetachedSums;
use crate::local::repository::refs::{self, Held, ParentDirs};
use crate::local::repository::{held, pulled};
use crate::update::{conflict, lost_race};

/// Publishes the accepted updates of a push, or returns the missing objects and changes nothing.
pub(crate) fn publish<F: Fs>(
    work: &Workspace<F>,
    state: &mut PushState,
) -> Result<Published, Error> {
    if state.published {
        return Err(Error::Misuse {
            what: "publish a push twice",
        });
    }
    if !state.options.contains(PushOptions::DRY_RUN)
        && let Some(missing) = publish_accepted(work, state)?
    {
        return Ok(Published::Missing(missing));
    }
    confirm_unchanged(work, state)?;
    state.published = true;
    state.objects = work.staging.len() + state.bases.beneath();
    work.staging.publish();
    Ok(Published::Done(state.updates.outcomes()))
}

/// Publishes the accepted updates; returns the objects missing for that.
fn publish_accepted<F: Fs>(
    work: &Workspace<F>,
    state: &mut PushState,
) -> Result<Option<Vec<ObjectId>>, Error> {
    let mut unseen = state.judge_commits(work)?;
    state.bases.doubt(&work.staging);
    // Each round but the last settles an update or loses a base, so that this ends.
    while state.updates.accepted().next().is_some() {
        // 1. Everything is here.
        let commits: Vec<_> = state.updates.accepted().map(Update::commit).collect();
        let depth = state.ancestors.depth();
        let reached = match closure::walk(work, &mut state.bases, &commits, depth)? {
            Closure::Complete(reached) => reached,
            Closure::Missing(missing) => return Ok(Some(missing)),
        };
        if !mem::take(&mut unseen).is_empty() {
            // The walk took over commits that this client has not offered: each of them is judged
            // as well.
            let unseen = state.judge_commits(work)?;
            if !unseen.is_empty() {
                return Ok(Some(unseen.into_iter().collect()));
            }
            continue;
        }
        if reached.is_empty() && state.updates.settle_unchanged() {
            continue;
        }
        check_detached(work, state)?;
        state.check_objects(work, work.staging.len())?;
        work.take_room(0, state.new_dirs.len() as u64)?;
        // 2. It is durable.
        let files = stage_refs(work, state)?;
        work.staging.sync()?;
        // 3. The bases and refs still hold (REQ-45, REQ-46).
        let lock = work.repo.lock(LockMode::Shared)?;
        let bases_hold = state.bases.confirm(work.fs())?;
        let refs_hold = state.confirm_refs(work.fs())?;
        if !bases_hold || !refs_hold {
            continue;
        }
        // 4. Objects, then 5. refs.
        held::charge(&work.repo, &work.staging, &work.load)?;
        install(work, &reached)?;
        set_refs(work, state, &files)?;
        drop(lock);
        return Ok(None);
    }
    Ok(None)
}

/// Checks that announced detached metadata is here; if not, its announcer is at fault.
fn check_detached<F: Fs>(work: &Workspace<F>, state: &PushState) -> Result<(), Error> {
    let mut sums = DetachedSums::default();
    for update in state.updates.accepted() {
        let commit = update.wanted.commit;
        if update.wanted.detached.is_some()
            && !state.updates.detached.contains_key(&commit)
            && sums.of(work.fs(), commit)? != update.wanted.detached
        {
            return Err(Error::DetachedMissing { commit });
        }
    }
    Ok(())
}

/// Writes the files that will be renamed to refs, so that the one sync makes them durable as well.
/// An update of detached metadata alone has no such file.
fn stage_refs<F: Fs>(
    work: &Workspace<F>,
    state: &PushState,
) -> Result<HashMap<RefName, RepoPath>, Error> {
    let mut files = HashMap::new();
    for update in state.updates.accepted().filter(|update| !update.is_held()) {
        let file = work
            .staging
            .put_temporary(&refs::content(update.commit()))?;
        files.insert(update.wanted.name.clone(), file);
    }
    Ok(files)
}

/// Gives the reached objects their names in the repository, durably; commits last (INV-2).
fn install<F: Fs>(work: &Workspace<F>, reached: &Reached) -> Result<(), Error> {
    let fs = work.fs();
    let give_name = |fan_out: &mut FanOut<'_, F>, id: ObjectId| {
        fan_out.give_name(&work.staging.path(&id), &work.repo.object(&id), id.checksum)
    };
    let below_commits = [ObjectKind::File, ObjectKind::Dirmeta, ObjectKind::Dirtree];
    let begin = || FanOut::new(fs);
    let named = work
        .staging
        .each_reached(&below_commits, begin, give_name)?;
    let mut fan_out = FanOut::new(fs);
    named.into_iter().for_each(|named| fan_out.join(named));
    fan_out.sync()?;
    for &commit in reached.commits.iter().rev() {
        give_name(&mut fan_out, ObjectId::new(ObjectKind::Commit, commit))?;
        let tombstone = RepoPath::tombstone(commit);
        if_there(fs.unlink(&tombstone)).map_err(Error::io("removing", &tombstone))?;
    }
    fan_out.sync()?;
    unmark_partial(fs, &reached.commits)
}

/// Removes the marks of commits that were partial and are complete now, durably.
fn unmark_partial<F: Fs>(fs: &F, commits: &[Checksum]) -> Result<(), Error> {
    let mut unmarked = false;
    for &commit in commits {
        let mark = RepoPath::partial(commit);
        unmarked |= if_there(fs.unlink(&mark))
            .map_err(Error::io("removing", &mark))?
            .is_some();
    }
    if unmarked {
        let state = RepoPath::state();
        fs.sync_dir(&state).map_err(Error::io("syncing", &state))?;
    }
    Ok(())
}

/// Compares and sets refs under our own lock (INV-4, INV-5). All are compared before the first is
/// set.
fn set_refs<F: Fs>(
    work: &Workspace<F>,
    state: &mut PushState,
    files: &HashMap<RefName, RepoPath>,
) -> Result<(), Error> {
    let fs = work.fs();
    let lock = work
        .repo
        .lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    // Reloaded, because other sessions of the same identity set refs as well.
    let mut account = match &state.account {
        Some(account) => Some(account.reload(fs)?),
        None => None,
    };
    let mut parents = ParentDirs::default();
    let mut sums = DetachedSums::default();
    for update in state.updates.accepted_mut() {
        if !update.confirm(fs, &mut sums)? || !update.confirm_detached(fs, &mut sums)? {
            continue;
        }
        if update.held == Held::Nothing
            && let Some(account) = &mut account
            && !account.admit(fs, &update.wanted.name)?
        {
            update.refuse(account.refuse());
            continue;
        }
        if let Some(why) = parents.prepare(fs, &update.place)? {
            update.refuse(conflict(why));
        }
    }
    if let Some(account) = &account {
        account.save(fs, &work.staging)?;
    }
    attach_detached(work, state, sums)?;
    let mut sums = DetachedSums::default();
    let mut set = Vec::new();
    for update in state.updates.accepted_mut() {
        // Programs that take no lock of ours may have moved it meanwhile.
        if !update.confirm(fs, &mut sums)? {
            continue;
        }
        if let Some(file) = files.get(&update.wanted.name) {
            refs::put(fs, &update.place, file)?;
            set.push(update.place.clone());
        }
    }
    refs::made_durable(fs, set.iter())?;
    if state.terms.is_own() {
        let set = state.updates.accepted().map(|update| &update.wanted);
        set.for_each(|set| pulled::note(fs, &work.staging, &set.name, set.commit));
    }
    state.updates.accepted_mut().for_each(Update::set);
    drop(lock);
    Ok(())
}

/// Gives the staged detached metadata of accepted updates their names, durably, before a ref leads
/// to their commits. The metadata of a commit that only others' histories lead to stay unchanged:
/// the right to change those was not checked.
fn attach_detached<F: Fs>(
    work: &Workspace<F>,
    state: &mut PushState,
    mut sums: DetachedSums,
) -> Result<(), Error> {
    let fs = work.fs();
    let mut fan_out = FanOut::new(fs);
    let mut attached = HashSet::new();
    let staged = mem::take(&mut state.updates.detached);
    for update in state.updates.accepted_mut() {
        let commit = update.wanted.commit;
        let Some(wanted) = update.wanted.detached else {
            continue;
        };
        if attached.contains(&commit) {
            continue;
        }
        if sums.of(fs, commit)? == Some(wanted) {
            continue;
        }
        if staged.contains_key(&commit) {
            let from = work.staging.dir().staged_detached(commit);
            fan_out.give_name(&from, &RepoPath::detached(commit), commit)?;
            attached.insert(commit);
        } else {
            // The metadata were present when this was up to date, and another push has replaced
            // them.
            update.refuse(lost_race());
        }
    }
    state.updates.detached = staged;
    fan_out.sync()
}

/// Makes sure that refs which were up to date still are, durably.
fn confirm_unchanged<F: Fs>(work: &Workspace<F>, state: &mut PushState) -> Result<(), Error> {
    let fs = work.fs();
    for update in &mut state.updates.all {
        update.confirm_unchanged(fs)?;
    }
    state.sync_up_to_date(fs)
}

/// The directories of objects: makes them when needed, and remembers which must be synced.
struct FanOut<'a, F: Fs> {
    fs: &'a F,
    touched: BTreeSet<u8>,
    made: bool,
}

impl<'a, F: Fs> FanOut<'a, F> {
    const fn new(fs: &'a F) -> Self {
        Self {
            fs,
            touched: BTreeSet::new(),
            made: false,
        }
    }

    /// Gives a staged file its name among the objects, replacing any file of that name.
    ///
    /// Usually the file keeps its staged name as well, until the whole staging directory is
    /// removed. A link takes a third of the time of a rename, and several threads can make links at
    /// once: renames alone wait for each other across a whole file system. A link replaces no file;
    /// if the name is taken, or the file may have no second name, the file is renamed.
    fn give_name(
        &mut self,
        from: &RepoPath,
        to: &RepoPath,
        checksum: Checksum,
    ) -> Result<(), Error> {
        let [first, ..] = *checksum.as_bytes();
        self.touched.insert(first);
        let mut linked = self.fs.link(from, to);
        if matches!(&linked, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            let dir = RepoPath::fan_out(first);
            self.made |= make_dir(self.fs, &dir, DIR_MODE).map_err(Error::io("making", &dir))?;
            linked = self.fs.link(from, to);
        }
        linked
            .or_else(|_| self.fs.rename(from, to))
            .map_err(Error::io("publishing", to))
    }

    /// Adds the directories of another thread.
    fn join(&mut self, mut other: Self) {
        self.touched.append(&mut other.touched);
        self.made |= other.made;
    }

    /// Makes the names given so far durable.
    fn sync(&mut self) -> Result<(), Error> {
        let touched = mem::take(&mut self.touched).into_iter();
        let mut dirs: BTreeSet<_> = touched.map(RepoPath::fan_out).collect();
        if mem::take(&mut self.made) {
            dirs.insert(RepoPath::objects());
        }
        sync_dirs(self.fs, &dirs)
    }
}

const DIR_MODE: u32 = 0o775;
