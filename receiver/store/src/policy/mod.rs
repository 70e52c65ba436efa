//! The rules about who may set which ref to what: pure, without storage.
//!
//! An update is judged twice: at its announcement, when only names and current values are known;
//! and at its publication, when the commit is here, so that its bindings and its history are known.
//! Rights come from the server's configuration alone; nothing that the client says changes them.

mod grants;
pub(crate) mod new;

use artifact_formats::{Checksum, Commit, RefName, RefPattern};
use artifact_protocol::frame::{Expect, PushOptions, RefUpdate, Refusal, RefusalCode, Verdict};

pub use crate::policy::grants::{Action, Grants, Rule};

/// The rules for one client. By default those of a server without a configuration: any client may
/// create refs, move them forward, and with [`PushOptions::FORCE`] anywhere.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    limited: Option<Limited>,
}

#[derive(Clone, Debug)]
struct Limited {
    who: String,
    grants: Grants,
}

/// The state of the repository when an update is judged.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// The commit that the ref holds, if the ref exists.
    pub commit: Option<Checksum>,
    /// Whether everything that this commit reaches is here.
    pub complete: bool,
    /// The parts of the new commit that are here already, through whatever ref: all of it, or a
    /// part, or only its detached metadata.
    pub new: Option<Existing>,
}

/// An announced commit that is here already.
#[derive(Clone, Debug)]
pub struct Existing {
    /// SHA-256 of its detached metadata, if it has some.
    pub detached: Option<Checksum>,
    /// The refs that it is bound to, if known: needed only if its detached metadata differs from
    /// the announced one.
    pub bound: Option<Vec<String>>,
}

/// The relation of a new commit to the one that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ancestry {
    /// It replaces none, or the same.
    Nothing,
    /// It descends from that one.
    Descends,
    /// Its history does not lead to that one, as far as the history is here.
    Unrelated,
}

impl Policy {
    /// Returns the rules for a client with these rights; `who` is its name in refusals.
    pub const fn limited(who: String, grants: Grants) -> Self {
        Self {
            limited: Some(Limited { who, grants }),
        }
    }

    /// Returns the text for a client without any right; `None` if it has some.
    pub fn turns_away(&self) -> Option<String> {
        let limited = self.limited.as_ref()?;
        (limited.grants.is_empty()).then(|| format!("{} may do nothing here", limited.who))
    }

    /// Returns the text for a client that may pull, and may not change anything; `None` if it may.
    pub fn only_reads(&self) -> Option<String> {
        let limited = self.limited.as_ref()?;
        (!limited.grants.permit_changes())
            .then(|| format!("{} may pull from here, and not push", limited.who))
    }

    /// Returns the refs that the client may pull; `None` is all of them.
    pub fn readable(&self) -> Option<&[RefPattern]> {
        self.limited.as_ref()?.grants.readable()
    }

    /// Returns whether the client may pull a ref.
    pub fn lets_pull(&self, name: &RefName) -> bool {
        self.readable()
            .is_none_or(|patterns| patterns.iter().any(|p| p.matches(name.as_str())))
    }

    /// Returns whether the client may know the value of a ref: it may pull the ref, or move it.
    pub fn tells(&self, name: &RefName) -> bool {
        self.lets_pull(name) || self.grants_any(&[Action::Move], name)
    }

    /// Returns whether the client may know that a ref exists: it may pull the ref, or change it.
    pub fn shows(&self, name: &RefName) -> bool {
        let changes = [Action::Create, Action::Move, Action::Sign];
        self.lets_pull(name) || self.grants_any(&changes, name)
    }

    /// Refuses a commit with an ancestor that the client has not sent and may not pull: whoever may
    /// pull the ref could pull its ancestors as well.
    pub fn refuse_ancestor(&self, ancestor: Checksum) -> Refusal {
        let who = self
            .limited
            .as_ref()
            .map_or("the client", |limited| &limited.who);
        let text = format!(
            "{who} may not pull the commit's ancestor {ancestor}, and so must send it: push with \
             --depth"
        );
        Refusal::new(RefusalCode::NOT_PERMITTED, &text)
    }

    /// Returns the client's rights, a line for each, if they are limited.
    pub fn rights(&self) -> Option<String> {
        self.limited
            .as_ref()
            .map(|limited| limited.grants.to_text())
    }

    /// Judges an update at its announcement. A ref that the client may not know of is judged as if
    /// it did not exist.
    pub fn judge_announced(&self, update: &RefUpdate, current: Current) -> Verdict {
        let current = match self.shows(&update.name) {
            true => current,
            false => Current::default(),
        };
        let same = current.commit == Some(update.commit) && current.complete;
        let new = current.new.as_ref();
        if same && !changes_detached(update, new) {
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
            .and_then(|()| self.judge_detached(update, new));
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

    /// Judges detached metadata by what is here of the commit. If the commit itself is missing,
    /// publication judges it.
    pub fn judge_detached(
        &self,
        update: &RefUpdate,
        existing: Option<&Existing>,
    ) -> Result<(), Refusal> {
        match existing {
            Some(Existing {
                detached,
                bound: Some(bound),
            }) if replaces(update, *detached) => {
                let bound = bound.iter().map(String::as_str);
                self.judge_signer(update, self.may_create_any(bound))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns whether the client may create one of these refs: then a commit that is bound to them
    /// belongs to the client.
    pub fn may_create_any<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let Some(limited) = &self.limited else {
            return true;
        };
        let may_create = |name: RefName| limited.grants.permit(Action::Create, &name);
        names.any(|name| name.parse().is_ok_and(may_create))
    }

    /// Judges whether the client may replace the detached metadata of a commit; `is_theirs` tells
    /// whether the commit belongs to the client. Detached metadata belongs to the commit, whatever
    /// refs hold it: the right to create other refs must not allow changing it.
    pub fn judge_signer(&self, update: &RefUpdate, is_theirs: bool) -> Result<(), Refusal> {
        match is_theirs {
            true => Ok(()),
            false => self.permit(Action::Sign, update),
        }
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
                "the commit is bound to other refs, so nobody could pull it by this one",
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

    fn grants_any(&self, actions: &[Action], name: &RefName) -> bool {
        let grants = self.limited.as_ref().map(|limited| &limited.grants);
        grants.is_none_or(|grants| actions.iter().any(|action| grants.permit(*action, name)))
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

/// Refuses a commit that is bound to another collection than this repository's: clients that know
/// the collection would refuse it.
pub fn judge_collection(own: Option<&str>, commit: &Commit) -> Result<(), Refusal> {
    match (own, commit.collection_binding.as_deref()) {
        (Some(own), Some(bound)) if own != bound => {
            let text = format!(
                "the commit is bound to the collection {bound}, and this repository is {own}: \
                 nobody \
                 could pull it from here"
            );
            Err(Refusal::new(RefusalCode::BINDING, &text))
        }
        _ => Ok(()),
    }
}

/// Returns whether an update would change the detached metadata of a commit that is here.
fn changes_detached(update: &RefUpdate, existing: Option<&Existing>) -> bool {
    existing
        .is_some_and(|existing| update.detached.is_some() && update.detached != existing.detached)
}

/// Returns whether an update would replace existing detached metadata. If there is none, anybody
/// may attach some.
pub fn replaces(update: &RefUpdate, detached: Option<Checksum>) -> bool {
    detached.is_some() && update.detached.is_some() && update.detached != detached
}

#[cfg(test)]
mod tests;
