//! The states of one ref of a push.
//!
//! ```text
//! announced -> UpToDate   the ref holds the commit
//!           -> Refused    by the rules, or by an entry that has its name
//!           -> Accepted -> Set        published, durably
//!                       -> UpToDate   the ref holds the commit by now
//!                       -> Refused    by the commit, or because another push was faster
//! ```
//!
//! Detached metadata that come unannounced take an up-to-date update back to Accepted, or to
//! Refused. The messages for the client are made from the state.

use artifact_formats::Checksum;
use artifact_protocol::frame::{RefOutcome, RefState, RefUpdate, Refusal, RefusalCode, Verdict};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::account::Account;
use crate::local::repository::objects::{self, DetachedSums};
use crate::local::repository::refs::{self, Held};
use crate::policy;

/// One ref of a push.
#[derive(Debug)]
pub(crate) struct Update {
    /// The client's request, and the detached metadata that came for it.
    pub(crate) wanted: RefUpdate,
    /// The ref on disk.
    pub(crate) path: RepoPath,
    /// The value the client was told; the compare-and-swap compares with it.
    pub(crate) held: Held,
    /// Whether it may replace detached metadata, once its commit was judged.
    pub(crate) signer: Result<(), Refusal>,
    state: State,
    // The ref's commit was not complete.
    incomplete: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    UpToDate,
    Accepted,
    Set,
    Refused(Refusal),
}

impl From<Verdict> for State {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::UpToDate => Self::UpToDate,
            Verdict::Accepted => Self::Accepted,
            Verdict::Refused(refusal) => Self::Refused(refusal),
        }
    }
}

impl Update {
    /// Begins with the judgement of the announcement.
    pub(crate) fn announced(
        wanted: &RefUpdate,
        path: RepoPath,
        held: Held,
        verdict: Verdict,
        incomplete: bool,
    ) -> Self {
        Self {
            wanted: wanted.clone(),
            path,
            held,
            signer: Ok(()),
            state: verdict.into(),
            incomplete,
        }
    }

    /// Returns the answer to the announcement.
    pub(crate) fn ref_state(&self) -> RefState {
        RefState {
            current: self.held.commit(),
            verdict: match &self.state {
                State::UpToDate => Verdict::UpToDate,
                State::Accepted | State::Set => Verdict::Accepted,
                State::Refused(refusal) => Verdict::Refused(refusal.clone()),
            },
        }
    }

    /// Returns the outcome, once the accepted updates were set.
    pub(crate) fn outcome(&self) -> RefOutcome {
        match &self.state {
            State::UpToDate => RefOutcome::Unchanged,
            State::Accepted => RefOutcome::WouldUpdate,
            State::Set => RefOutcome::Updated,
            State::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
        }
    }

    /// Returns whether it is accepted and not yet set.
    pub(crate) fn is_accepted(&self) -> bool {
        self.state == State::Accepted
    }

    pub(crate) fn is_up_to_date(&self) -> bool {
        self.state == State::UpToDate
    }

    pub(crate) fn is_set(&self) -> bool {
        self.state == State::Set
    }

    /// Returns whether the ref holds the commit already, and the commit is incomplete.
    pub(crate) fn heals(&self) -> bool {
        self.is_accepted() && self.is_held() && self.incomplete
    }

    /// Returns whether the ref holds the commit already.
    pub(crate) fn is_held(&self) -> bool {
        self.held.commit() == Some(self.wanted.commit)
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused(refusal);
    }

    /// Takes the judgement of detached metadata that came unannounced, if there is one.
    pub(crate) fn learn_detached(&mut self, judged: Option<Result<(), Refusal>>) {
        match judged {
            Some(Ok(())) => self.state = State::Accepted,
            Some(Err(refusal)) => self.refuse(refusal),
            None => {}
        }
    }

    /// Marks it as up to date.
    pub(crate) fn settle(&mut self) {
        self.state = State::UpToDate;
    }

    /// Marks the ref as set, durably (INV-3).
    pub(crate) fn set(&mut self) {
        self.state = State::Set;
    }

    /// Checks whether the ref still holds the value the client was told. If not, the update is up
    /// to date if the ref now holds the new commit, and refused otherwise: a client whose
    /// connection was lost may push again what its earlier session is about to publish.
    pub(crate) fn confirm<F: Fs>(
        &mut self,
        fs: &F,
        sums: &mut DetachedSums,
    ) -> Result<bool, Error> {
        let held = refs::look(fs, &self.path)?;
        if held == self.held {
            return Ok(true);
        }
        let commit = self.wanted.commit;
        let same = held.commit() == Some(commit)
            && objects::is_whole(fs, commit)?
            && (self.wanted.detached.is_none() || sums.of(fs, commit)? == self.wanted.detached);
        self.held = held;
        if same {
            self.settle();
        } else {
            self.refuse(lost_race());
        }
        Ok(false)
    }

    /// Makes sure that a ref which was up to date still is.
    pub(crate) fn confirm_unchanged<F: Fs>(&mut self, fs: &F) -> Result<(), Error> {
        if self.is_up_to_date() && refs::look(fs, &self.path)? != self.held {
            self.refuse(lost_race());
        }
        Ok(())
    }

    /// Judges the detached metadata against the current ones; returns whether the update may go on.
    pub(crate) fn confirm_detached<F: Fs>(
        &mut self,
        fs: &F,
        sums: &mut DetachedSums,
    ) -> Result<bool, Error> {
        let Err(refusal) = &self.signer else {
            return Ok(true);
        };
        let there = sums.of(fs, self.wanted.commit)?;
        if !policy::replaces(&self.wanted, there) {
            return Ok(true);
        }
        self.refuse(refusal.clone());
        Ok(false)
    }

    pub(crate) const fn commit(&self) -> Checksum {
        self.wanted.commit
    }
}

/// Another entry has the name.
pub(crate) fn conflict(why: &str) -> Refusal {
    Refusal::new(RefusalCode::NAME_CONFLICT, why)
}

/// Another push was faster.
pub(crate) fn lost_race() -> Refusal {
    Refusal::new(
        RefusalCode::LOST_RACE,
        "another push moved the ref meanwhile",
    )
}

/// The identity has used up its allowance of refs.
pub(crate) fn too_many_refs(account: &Account) -> Refusal {
    let (used, max) = account.standing();
    let text = format!(
        "too many refs: this identity's take {used} of {max}; ask the operator to remove some \
         (`artifact-cache-admin prune`), or to raise `refs-max` in the server's configuration"
    );
    Refusal::new(RefusalCode::NOT_PERMITTED, &text)
}
