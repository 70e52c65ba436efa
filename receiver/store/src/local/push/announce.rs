//! The beginning of a push: looks up and judges its updates, and collects commits to rely on.

use std::collections::BTreeSet;

use artifact_formats::Checksum;
use artifact_protocol::frame::{RefUpdate, Verdict};
use artifact_protocol::limits::MAX_BASES;
use artifact_protocol::session::Announcement;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::local::push::bases::Bases;
use crate::local::push::pusher::Pusher;
use crate::local::push::state::{PushState, existing};
use crate::local::push::update::Update;
use crate::local::push::workspace::Workspace;
use crate::local::repository::objects::DetachedSums;
use crate::local::repository::refs::{self, Held};
use crate::local::repository::{Repo, listing, objects};
use crate::local::terms::Terms;
use crate::policy::Current;
use crate::update::{Taken, conflict};

/// Looks up the announced refs and judges them.
///
/// Fails, by fault of the peer, when the refs need more directories than a push may bring.
pub(crate) fn announce<F: Fs>(
    work: &Workspace<F>,
    terms: Terms,
    pusher: Pusher<'_>,
    announcement: &Announcement,
) -> Result<PushState, Error> {
    let fs = work.fs();
    let mut opening = Opening {
        fs,
        repo: &work.repo,
        state: PushState::new(terms, pusher, announcement),
        taken: Taken::default(),
        sums: DetachedSums::default(),
        bases_max: 0,
    };
    for base in announcement.bases.iter().take(MAX_BASES) {
        if opening.state.policy.lets_pull(&base.name)
            && let Some(place) = opening.state.terms.holder(fs, base)?
            && objects::is_whole(fs, base.commit)?
            && !opening.lacks(base.commit)?
        {
            opening.state.bases.add(place, base.commit);
        }
    }
    opening.bases_max = opening.state.bases.len() + MAX_BASES;
    for wanted in &announcement.refs {
        let update = opening.judge(wanted)?;
        opening.state.updates.all.push(update);
    }
    opening.find_new_dirs()?;
    opening.state.check_objects(work, 0)?;
    if opening.state.updates.all.iter().any(Update::heals) {
        // A server that lost an object below one commit may have lost some below others: everything
        // is verified.
        opening.state.bases = Bases::default();
    } else if !opening.state.terms.is_own() {
        opening.suggest()?;
    }
    opening.state.sync_up_to_date(fs)?;
    Ok(opening.state)
}

struct Opening<'a, F: Fs> {
    fs: &'a F,
    repo: &'a Repo<F>,
    state: PushState,
    taken: Taken<'a>,
    sums: DetachedSums,
    /// The largest number of commits to collect.
    bases_max: usize,
}

impl<'a, F: Fs> Opening<'a, F> {
    fn judge(&mut self, wanted: &'a RefUpdate) -> Result<Update, Error> {
        let (fs, name) = (self.fs, &wanted.name);
        let path = self.state.terms.place(name);
        let held = refs::look(fs, &path)?;
        let mut current = Current {
            commit: held.commit(),
            ..Current::default()
        };
        if let Some(commit) = current.commit {
            current.complete = objects::is_whole(fs, commit)? && !self.lacks(commit)?;
            if current.complete
                && self.state.bases.len() < self.bases_max
                && self.state.policy.lets_pull(name)
            {
                self.state.bases.add(path.clone(), commit);
            }
            if current.complete && commit == wanted.commit {
                // If offered ancestors are missing, the push is not up to date.
                current.complete = self.state.ancestors.is_filled(self.repo, commit)?;
            }
        }
        current.new = existing(fs, wanted, &mut self.state.signed_reads, &mut self.sums)?;
        let incomplete = !current.complete;
        let mut verdict = match held {
            Held::Conflict(why) if self.state.policy.shows(name) => Verdict::Refused(conflict(why)),
            Held::Conflict(_) | Held::Nothing | Held::Commit(_) | Held::Malformed => {
                self.state.policy.judge_announced(wanted, current)
            }
        };
        if verdict == Verdict::Accepted
            && let Err(refusal) = self.taken.judge(name.as_str())
        {
            verdict = Verdict::Refused(refusal);
        }
        if verdict == Verdict::Accepted
            && held == Held::Nothing
            && let Some(account) = &mut self.state.account
            && !account.admit(fs, name)?
        {
            verdict = Verdict::Refused(account.refuse());
        }
        if verdict == Verdict::Accepted {
            self.taken.insert(name.as_str());
        }
        Ok(Update::announced(wanted, path, held, verdict, incomplete))
    }

    /// Counts the directories to make for refs; each counts as one of the push's objects.
    fn find_new_dirs(&mut self) -> Result<(), Error> {
        let mut there = BTreeSet::from([RepoPath::refs(), RepoPath::heads()]);
        let mut new = BTreeSet::new();
        for update in self
            .state
            .updates
            .accepted()
            .filter(|a| a.held == Held::Nothing)
        {
            let mut dir = update.place.parent();
            while !there.contains(&dir) && !new.contains(&dir) {
                let stat = if_there(self.fs.stat(&dir));
                let is_there = stat.map_err(Error::io("looking at", &dir))?.is_some();
                let parent = dir.parent();
                if is_there { &mut there } else { &mut new }.insert(dir);
                dir = parent;
            }
        }
        self.state.new_dirs = new;
        Ok(())
    }

    /// Returns whether a commit visibly lacks an object below it.
    fn lacks(&mut self, commit: Checksum) -> Result<bool, Error> {
        let lacking = self.state.glance.lacks(self.repo, commit)?;
        if let Some(id) = lacking {
            tracing::warn!(%commit, %id, "a ref's commit is not complete: nothing relies on it");
        }
        Ok(lacking.is_some())
    }

    /// Adds the newest refs beside those that the push will set.
    fn suggest(&mut self) -> Result<(), Error> {
        let fs = self.fs;
        let heads = RepoPath::heads();
        let mut searched = BTreeSet::new();
        for update in &self.state.updates.all {
            let Some(parent) = update.wanted.name.parent() else {
                continue;
            };
            if !update.is_accepted() || !searched.insert(parent) {
                continue;
            }
            for name in listing::newest_in(fs, &heads, parent, MAX_BASES)? {
                if self.state.bases.len() >= self.bases_max {
                    return Ok(());
                }
                let place = RepoPath::head(&name);
                if self.state.policy.lets_pull(&name)
                    && let Some(commit) = refs::look(fs, &place)?.commit()
                    && objects::is_whole(fs, commit)?
                {
                    self.state.bases.suggest(place, commit);
                }
            }
        }
        Ok(())
    }
}
