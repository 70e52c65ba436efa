//! The states of one update, and its steps.

use std::fmt;

use artifact_formats::Checksum;
use artifact_protocol::frame::{
    PushOptions, RefOutcome, RefState, RefUpdate, Refusal, RefusalCode, Verdict,
};

use crate::policy::new::New;
use crate::policy::{self, Ancestry, Policy};

/// The value of a ref as a store reads it.
pub(crate) trait Value: fmt::Debug + PartialEq {
    /// Returns the commit, if the ref holds one.
    fn commit(&self) -> Option<Checksum>;
}

/// One ref of a push.
#[derive(Debug)]
pub(crate) struct Update<P, V> {
    /// The client's request, and the detached metadata that came for it.
    pub(crate) wanted: RefUpdate,
    /// The place of the ref in the store.
    pub(crate) place: P,
    /// The value the client was told; the compare-and-swap compares with it.
    pub(crate) held: V,
    /// Whether it may replace detached metadata, once its commit has been judged.
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

impl<P, V: Value> Update<P, V> {
    /// Begins with the judgement of the announcement.
    pub(crate) fn announced(
        wanted: &RefUpdate,
        place: P,
        held: V,
        verdict: Verdict,
        incomplete: bool,
    ) -> Self {
        Self {
            wanted: wanted.clone(),
            place,
            held,
            signer: Ok(()),
            state: verdict.into(),
            incomplete,
        }
    }

    /// Returns the answer to the announcement. A refusal tells the ref's value only to a client
    /// that may know it; any other answer is for a client that may move the ref, or names its
    /// commit.
    pub(crate) fn ref_state(&self, policy: &Policy) -> RefState {
        let is_refused = matches!(self.state, State::Refused(_));
        let is_told = !is_refused || policy.tells(&self.wanted.name);
        RefState {
            current: self.held.commit().filter(|_| is_told),
            verdict: match &self.state {
                State::UpToDate => Verdict::UpToDate,
                State::Accepted | State::Set => Verdict::Accepted,
                State::Refused(refusal) => Verdict::Refused(refusal.clone()),
            },
        }
    }

    /// Returns the outcome, once the accepted updates have been set.
    pub(crate) fn outcome(&self) -> RefOutcome {
        match &self.state {
            State::UpToDate => RefOutcome::Unchanged,
            State::Accepted => RefOutcome::WouldUpdate,
            State::Set => RefOutcome::Updated,
            State::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
        }
    }

    /// Returns whether it is accepted but not yet set.
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

    pub(crate) const fn commit(&self) -> Checksum {
        self.wanted.commit
    }

    /// Returns the commit that the new one replaces, if it replaces another.
    pub(crate) fn replaced(&self) -> Option<Checksum> {
        self.held.commit().filter(|_| !self.is_held())
    }

    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.state = State::Refused(refusal);
    }

    /// Marks it as up to date.
    pub(crate) fn settle(&mut self) {
        self.state = State::UpToDate;
    }

    /// Marks the ref as set, durably (INV-3).
    pub(crate) fn set(&mut self) {
        self.state = State::Set;
    }

    /// Takes the judgement of detached metadata that came unannounced, if any.
    pub(crate) fn learn_detached(&mut self, judged: Option<Result<(), Refusal>>) {
        match judged {
            Some(Ok(())) => self.state = State::Accepted,
            Some(Err(refusal)) => self.refuse(refusal),
            None => {}
        }
    }

    /// Judges it by its commit; returns whether it may go on. `collection` is the repository's.
    pub(crate) fn judge_commit(
        &mut self,
        policy: &Policy,
        options: PushOptions,
        collection: Option<&str>,
        new: &mut New,
        ancestry: Ancestry,
    ) -> bool {
        let wanted = &self.wanted;
        if wanted.detached.is_some() {
            self.signer = policy.judge_signer(wanted, new.is_of(policy));
        }
        let bound = new.as_bound_to(&wanted.name);
        let judged = policy::judge_collection(collection, bound)
            .and_then(|()| policy.judge_commit(wanted, bound, ancestry, options));
        match judged {
            Ok(()) => true,
            Err(refusal) => {
                self.refuse(refusal);
                false
            }
        }
    }

    /// Judges the detached metadata against the existing metadata; returns whether the update may
    /// go on.
    pub(crate) fn judge_detached(&mut self, there: Option<Checksum>) -> bool {
        let Err(refusal) = &self.signer else {
            return true;
        };
        if !policy::replaces(&self.wanted, there) {
            return true;
        }
        self.refuse(refusal.clone());
        false
    }

    /// Takes the ref's new value. The update is up to date if that is the wanted value, and refused
    /// otherwise: a client that lost its connection may push again the commit that its earlier
    /// session is about to publish.
    pub(crate) fn moved(&mut self, now: V, is_wanted: bool) {
        self.held = now;
        if is_wanted {
            self.settle();
        } else {
            self.refuse(lost_race());
        }
    }
}

/// The refusal of a name that has another use.
pub(crate) fn conflict(why: &str) -> Refusal {
    Refusal::new(RefusalCode::NAME_CONFLICT, why)
}

/// The refusal after another push was faster.
pub(crate) fn lost_race() -> Refusal {
    Refusal::new(
        RefusalCode::LOST_RACE,
        "another push moved the ref meanwhile",
    )
}
