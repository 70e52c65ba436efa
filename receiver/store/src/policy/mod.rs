//! Who may set which ref to what: pure rules, no storage.
//!
//! An update is judged twice. When it is announced only names and current values are known; when it
//! is published the commit is here, so that its bindings and its history can be looked at. Whoever
//! the client says it is changes nothing: rights come from the server's configuration.

mod grants;

use artifact_formats::{Checksum, Commit};
use artifact_protocol::frame::{Expect, PushOptions, RefUpdate, Refusal, RefusalCode, Verdict};

pub use crate::policy::grants::{Action, Grants, Rule};

/// The rules that hold for one client. The default is that of a server without a configuration:
/// whoever was let in may create refs, move them forward, and with [`PushOptions::FORCE`] anywhere.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    limited: Option<Limited>,
}

#[derive(Clone, Debug)]
struct Limited {
    who: String,
    grants: Grants,
}

/// What is there when an update is judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Current {
    /// The commit that the ref holds, if the ref is there.
    pub commit: Option<Checksum>,
    /// Whether everything that commit reaches is here.
    pub complete: bool,
    /// The new commit, if it is here whole, by whatever ref.
    pub new: Option<Existing>,
}

/// A commit that is announced and here already.
#[derive(Clone, Copy, Debug)]
pub struct Existing {
    /// SHA-256 of its detached metadata, if there is some.
    pub detached: Option<Checksum>,
}

/// How a new commit stands to the one it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// There is none to replace, or it is the same.
    Nothing,
    /// The new one descends from it.
    Descends,
    /// The new one's history does not lead to it, as far as that history is here.
    Unrelated,
}

impl Policy {
    /// The rules for a client that has these rights, and what to call it.
    pub const fn limited(who: String, grants: Grants) -> Self {
        Self {
            limited: Some(Limited { who, grants }),
        }
    }

    /// Returns what the client may do, a line for each right, as far as that is limited.
    pub fn rights(&self) -> Option<String> {
        self.limited
            .as_ref()
            .map(|limited| limited.grants.to_text())
    }

    /// Judges an update by what is known when it is announced.
    pub fn judge_announced(&self, update: &RefUpdate, current: Current) -> Verdict {
        let same = current.commit == Some(update.commit) && current.complete;
        if same && !changes_detached(update, current.new) {
            return Verdict::UpToDate;
        }
        let action = match current.commit {
            None => Some(Action::Create),
            Some(commit) if commit != update.commit => Some(Action::Move),
            Some(_) if !current.complete => Some(Action::Create),
            Some(_) => None,
        };
        let granted = action
            .map_or(Ok(()), |action| self.permit(action, update))
            .and_then(|()| self.judge_detached(update, current.new));
        if let Err(refusal) = granted {
            return Verdict::Refused(refusal);
        }
        let expected = match update.expect {
            Expect::Any => true,
            Expect::Absent => current.commit.is_none(),
            Expect::Is(commit) => current.commit == Some(commit),
        };
        if !expected {
            return Verdict::Refused(Refusal::new(
                RefusalCode::LOST_RACE,
                "the ref does not hold what was expected",
            ));
        }
        Verdict::Accepted
    }

    /// Judges the detached metadata of an update. They belong to the commit, whatever refs hold it:
    /// who may create refs must not change them for others.
    pub fn judge_detached(
        &self,
        update: &RefUpdate,
        existing: Option<Existing>,
    ) -> Result<(), Refusal> {
        if changes_detached(update, existing) {
            self.permit(Action::Sign, update)?;
        }
        Ok(())
    }

    /// Judges an accepted update by the commit itself.
    pub fn judge_commit(
        &self,
        update: &RefUpdate,
        commit: &Commit,
        ancestry: Ancestry,
        options: PushOptions,
    ) -> Result<(), Refusal> {
        let name = update.name.as_str();
        if let Some(bound) = &commit.ref_bindings
            && !bound.iter().any(|bound| bound == name)
        {
            return Err(Refusal::new(
                RefusalCode::BINDING,
                "the commit is bound to other refs, so that nobody could pull it by this one",
            ));
        }
        if ancestry != Ancestry::Unrelated {
            return Ok(());
        }
        let refuse = |text: &str| Err(Refusal::new(RefusalCode::NOT_FAST_FORWARD, text));
        match &self.limited {
            Some(limited) if limited.grants.rule == Rule::FastForward => refuse(&format!(
                "{} may move {name} forward only, and the commit does not descend from the current \
                 one, as far as its history is here",
                limited.who
            )),
            _ if options.contains(PushOptions::FORCE) => Ok(()),
            _ => refuse(
                "the commit does not descend from the current one, as far as its history is here",
            ),
        }
    }

    fn permit(&self, action: Action, update: &RefUpdate) -> Result<(), Refusal> {
        match &self.limited {
            Some(limited) if !limited.grants.permit(action, &update.name) => {
                Err(limited.grants.refusal(&limited.who, action, &update.name))
            }
            _ => Ok(()),
        }
    }
}

/// Refuses a commit that says it is of another collection than this repository's: clients that know
/// the collection refuse it.
pub fn judge_collection(own: Option<&str>, commit: &Commit) -> Result<(), Refusal> {
    match (own, commit.collection_binding.as_deref()) {
        (Some(own), Some(bound)) if own != bound => {
            let text = format!(
                "the commit is bound to the collection {bound}, and this repository is {own}: nobody \
                 could pull it from here"
            );
            Err(Refusal::new(RefusalCode::BINDING, &text))
        }
        _ => Ok(()),
    }
}

/// Returns whether an update would change what is attached to a commit that is here.
fn changes_detached(update: &RefUpdate, existing: Option<Existing>) -> bool {
    existing
        .is_some_and(|existing| update.detached.is_some() && update.detached != existing.detached)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Checksum = Checksum::new([1; 32]);
    const NEW: Checksum = Checksum::new([2; 32]);
    const SIGNATURE: Checksum = Checksum::new([3; 32]);

    fn update(expect: Expect, detached: Option<Checksum>) -> RefUpdate {
        RefUpdate {
            name: "a/b".parse().unwrap(),
            commit: NEW,
            detached,
            expect,
        }
    }

    fn holds(commit: Checksum) -> Current {
        let existing = Existing {
            detached: Some(SIGNATURE),
        };
        Current {
            commit: Some(commit),
            complete: true,
            new: (commit == NEW).then_some(existing),
        }
    }

    fn code(verdict: &Verdict) -> Option<RefusalCode> {
        match verdict {
            Verdict::Refused(refusal) => Some(refusal.code),
            Verdict::UpToDate | Verdict::Accepted => None,
        }
    }

    #[test]
    fn a_ref_is_up_to_date_only_with_the_same_complete_commit_and_detached_metadata() {
        let judge =
            |update: RefUpdate, current| Policy::default().judge_announced(&update, current);
        assert_eq!(
            judge(update(Expect::Any, None), holds(NEW)),
            Verdict::UpToDate
        );
        assert_eq!(
            judge(update(Expect::Any, Some(SIGNATURE)), holds(NEW)),
            Verdict::UpToDate
        );
        assert_eq!(
            judge(update(Expect::Any, Some(OLD)), holds(NEW)),
            Verdict::Accepted
        );
        let partial = Current {
            complete: false,
            new: None,
            ..holds(NEW)
        };
        assert_eq!(judge(update(Expect::Any, None), partial), Verdict::Accepted);
        assert_eq!(
            judge(update(Expect::Any, None), holds(OLD)),
            Verdict::Accepted
        );
        assert_eq!(
            judge(update(Expect::Any, None), Current::default()),
            Verdict::Accepted
        );
    }

    #[test]
    fn what_was_expected_is_compared_with_what_is_there() {
        let judge = |expect, current| {
            code(&Policy::default().judge_announced(&update(expect, None), current))
        };
        let lost = Some(RefusalCode::LOST_RACE);
        assert_eq!(judge(Expect::Absent, Current::default()), None);
        assert_eq!(judge(Expect::Absent, holds(OLD)), lost);
        assert_eq!(judge(Expect::Is(OLD), holds(OLD)), None);
        assert_eq!(judge(Expect::Is(OLD), Current::default()), lost);
        assert_eq!(judge(Expect::Is(OLD), holds(SIGNATURE)), lost);
        // A retry whose first try was done, and its acknowledgement lost.
        assert_eq!(judge(Expect::Is(OLD), holds(NEW)), None);
    }

    #[test]
    fn a_commit_is_judged_by_bindings_and_history() {
        let commit = |bound: Option<&[&str]>| Commit {
            parent: None,
            tree: OLD,
            meta: OLD,
            timestamp: 0,
            subject: String::new(),
            body: String::new(),
            ref_bindings: bound.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
            collection_binding: None,
            version: None,
        };
        let judge = |bound, ancestry, options| {
            Policy::default()
                .judge_commit(
                    &update(Expect::Any, None),
                    &commit(bound),
                    ancestry,
                    options,
                )
                .err()
                .map(|refusal| refusal.code)
        };
        let plain = PushOptions::default();
        assert_eq!(judge(None, Ancestry::Nothing, plain), None);
        assert_eq!(judge(Some(&["x", "a/b"]), Ancestry::Descends, plain), None);
        let binding = Some(RefusalCode::BINDING);
        assert_eq!(judge(Some(&["a"]), Ancestry::Nothing, plain), binding);
        assert_eq!(
            judge(Some(&[]), Ancestry::Nothing, PushOptions::FORCE),
            binding
        );
        let unrelated = Some(RefusalCode::NOT_FAST_FORWARD);
        assert_eq!(judge(None, Ancestry::Unrelated, plain), unrelated);
        assert_eq!(judge(None, Ancestry::Unrelated, PushOptions::FORCE), None);
    }
}
