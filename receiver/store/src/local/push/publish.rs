//! Publication, in the only order that is safe at every instant (SPEC "Invariants"):
//!
//! 1. everything the new commits reach is here, and verified;
//! 2. everything staged is durable: objects, detached metadata, files to become refs;
//! 3. under the repository's lock, what was relied on still holds;
//! 4. files, dirmetas and dirtrees get their names, durably; then commits;
//! 5. under our own lock of the refs, those that still hold what the client was told go on: their
//!    detached metadata get their names, durably, where they may; then the refs are set, durably.
//!
//! A process that dies anywhere in between leaves refs that are old or new, and objects of which
//! every whole commit has all it reaches.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::{io, mem};

use artifact_formats::{Checksum, ObjectId, ObjectKind, RefName};
use artifact_protocol::frame::{PushOptions, Verdict};
use artifact_protocol::session::Published;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, if_there, make_dir, sync_dirs};
use crate::local::push::closure::{self, Closure};
use crate::local::push::{Session, conflict, lost_race, too_many_refs};
use crate::local::repository::refs::{self, Held, Rooms};
use crate::local::repository::{Repo, objects};
use crate::policy::Policy;

/// Publishes what is accepted of a push, or says what is missing and changes nothing.
pub(crate) fn publish<F: Fs>(
    repo: &Repo<F>,
    policy: &Policy,
    session: &mut Session,
) -> Result<Published, Error> {
    if session.published {
        return Err(Error::Misuse {
            what: "publish a push twice",
        });
    }
    if !session.options.contains(PushOptions::DRY_RUN)
        && let Some(missing) = publish_accepted(repo, policy, session)?
    {
        return Ok(Published::Missing(missing));
    }
    confirm_unchanged(repo, session)?;
    session.published = true;
    session.objects = repo.staging.len() + session.bases.beneath();
    repo.staging.publish();
    Ok(Published::Done(session.outcomes()))
}

/// Publishes the accepted updates; returns what is missing for that.
fn publish_accepted<F: Fs>(
    repo: &Repo<F>,
    policy: &Policy,
    session: &mut Session,
) -> Result<Option<Vec<ObjectId>>, Error> {
    let mut unseen = session.judge_commits(repo, policy)?;
    session.bases.doubt(&repo.staging);
    // Each turn but the last settles an update or loses a base, so that this ends.
    while session.accepted().next().is_some() {
        let commits: Vec<_> = session.accepted().map(|a| a.update.commit).collect();
        let depth = session.ancestors.depth();
        let walked = closure::walk(repo, &mut session.bases, &commits, depth)?;
        let reached = match walked {
            Closure::Whole(commits) => commits,
            Closure::Missing(missing) => return Ok(Some(missing)),
        };
        if !mem::take(&mut unseen).is_empty() {
            // The walk took commits over that this client has not offered: none goes unjudged.
            let unseen = session.judge_commits(repo, policy)?;
            if !unseen.is_empty() {
                return Ok(Some(unseen.into_iter().collect()));
            }
            continue;
        }
        if reached.is_empty() && session.settle_unchanged() {
            continue;
        }
        check_detached(repo, session)?;
        session.check_objects(repo, repo.staging.len())?;
        repo.take_room(0, session.new_dirs.len() as u64)?;
        let files = stage_refs(repo, session)?;
        repo.staging.sync()?;
        // REQ-45, REQ-46.
        let lock = repo.lock(LockMode::Shared)?;
        let bases_hold = session.bases.confirm(&*repo.fs)?;
        let refs_hold = session.confirm_refs(&*repo.fs)?;
        if !bases_hold || !refs_hold {
            continue;
        }
        install(repo, &reached)?;
        set_refs(repo, session, &files)?;
        drop(lock);
        return Ok(None);
    }
    Ok(None)
}

/// Checks that announced detached metadata is here; whoever announced it is at fault.
fn check_detached<F: Fs>(repo: &Repo<F>, session: &Session) -> Result<(), Error> {
    for announced in session.accepted() {
        let commit = announced.update.commit;
        if announced.update.detached.is_some()
            && !session.detached.contains_key(&commit)
            && objects::detached_checksum(&*repo.fs, commit)? != announced.update.detached
        {
            return Err(Error::DetachedMissing { commit });
        }
    }
    Ok(())
}

/// Writes the files that will be renamed to refs, so that the one sync makes them durable as well.
/// An update of the detached metadata alone has none.
fn stage_refs<F: Fs>(
    repo: &Repo<F>,
    session: &Session,
) -> Result<HashMap<RefName, RepoPath>, Error> {
    let mut files = HashMap::new();
    for announced in session.accepted() {
        let update = &announced.update;
        if announced.held.commit() != Some(update.commit) {
            let file = repo.staging.put_temporary(&refs::content(update.commit))?;
            files.insert(update.name.clone(), file);
        }
    }
    Ok(files)
}

/// Gives the reached objects their names in the repository, durably; commits last.
fn install<F: Fs>(repo: &Repo<F>, commits: &[Checksum]) -> Result<(), Error> {
    let fs = &*repo.fs;
    let give_name = |fan_out: &mut FanOut<'_, F>, id: ObjectId| {
        fan_out.give_name(&repo.staging.path(&id), &RepoPath::object(&id), id.checksum)
    };
    let below_commits = [ObjectKind::File, ObjectKind::Dirmeta, ObjectKind::Dirtree];
    let begin = || FanOut::new(fs);
    let named = repo
        .staging
        .each_reached(&below_commits, begin, give_name)?;
    let mut fan_out = FanOut::new(fs);
    named.into_iter().for_each(|named| fan_out.join(named));
    fan_out.sync()?;
    for &commit in commits.iter().rev() {
        give_name(&mut fan_out, ObjectId::new(ObjectKind::Commit, commit))?;
        let tombstone = RepoPath::tombstone(commit);
        if_there(fs.unlink(&tombstone)).map_err(Error::io("removing", &tombstone))?;
    }
    fan_out.sync()?;
    unmark_partial(fs, commits)
}

/// Removes the marks of commits that were not whole and are now, durably.
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

/// Compares and sets refs under our own lock. All are compared before the first is set.
fn set_refs<F: Fs>(
    repo: &Repo<F>,
    session: &mut Session,
    files: &HashMap<RefName, RepoPath>,
) -> Result<(), Error> {
    let fs = &*repo.fs;
    let lock = repo.lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    // As it is now: other sessions of the same identity set refs as well.
    let mut account = match &session.account {
        Some(account) => Some(account.reload(fs)?),
        None => None,
    };
    let mut rooms = Rooms::default();
    for announced in session.accepted_mut() {
        if !announced.confirm(fs)? || !announced.confirm_detached(fs)? {
            continue;
        }
        if announced.held == Held::Nothing
            && let Some(account) = &mut account
            && !account.admit(fs, &announced.update.name)?
        {
            announced.verdict = too_many_refs(account);
            continue;
        }
        if let Some(why) = rooms.make(fs, &announced.update.name)? {
            announced.verdict = conflict(why);
        }
    }
    if let Some(account) = &account {
        account.save(repo)?;
    }
    attach_detached(repo, session)?;
    let mut set = Vec::new();
    for announced in session.accepted_mut() {
        // Programs that take no lock of ours may have moved it meanwhile.
        if !announced.confirm(fs)? {
            continue;
        }
        let name = &announced.update.name;
        if let Some(file) = files.get(name) {
            refs::put(fs, name, file)?;
            set.push(name.clone());
        }
    }
    refs::made_durable(fs, set.iter())?;
    drop(lock);
    Ok(())
}

/// Gives the staged detached metadata of accepted updates their names, durably, before a ref leads to
/// their commits. Those of a commit that only others' histories lead to stay as they are: the right
/// to change that was not looked at.
fn attach_detached<F: Fs>(repo: &Repo<F>, session: &mut Session) -> Result<(), Error> {
    let fs = &*repo.fs;
    let mut fan_out = FanOut::new(fs);
    let mut attached = HashSet::new();
    let staged = mem::take(&mut session.detached);
    for announced in session.accepted_mut() {
        let commit = announced.update.commit;
        let Some(wanted) = announced.update.detached else {
            continue;
        };
        if attached.contains(&commit) {
            continue;
        }
        if objects::detached_checksum(fs, commit)? == Some(wanted) {
            continue;
        }
        if staged.contains_key(&commit) {
            let from = repo.staging.dir().staged_detached(commit);
            fan_out.give_name(&from, &RepoPath::detached(commit), commit)?;
            attached.insert(commit);
        } else {
            // They were there when this was announced, and another push has replaced them.
            announced.verdict = lost_race();
        }
    }
    session.detached = staged;
    fan_out.sync()
}

/// Makes sure that refs which were up to date still are, durably.
fn confirm_unchanged<F: Fs>(repo: &Repo<F>, session: &mut Session) -> Result<(), Error> {
    let fs = &*repo.fs;
    for announced in &mut session.updates {
        if announced.verdict == Verdict::UpToDate
            && refs::look(fs, &announced.update.name)? != announced.held
        {
            announced.verdict = lost_race();
        }
    }
    session.sync_up_to_date(fs)
}

/// The directories of objects, made when they are needed, and which of them must be synced.
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

    /// Gives a staged file its name among the objects, replacing what has it.
    ///
    /// It mostly keeps the name it has as well, until all of staging goes. A link is made in a third of
    /// the time that a rename takes, and from several threads: only renames wait for each other in
    /// all of a file system. It replaces nothing; where something is in its way, or a file may have
    /// no second name, there is the rename.
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

    /// Takes over what another one has done.
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
