//! Decides the outcome of each ref from the values that the server holds.

use std::collections::HashMap;

use artifact_formats::Checksum;

use super::super::message::{Change, Info, Message};
use super::super::version::Dialect;
use super::{Core, State};
use crate::frame::{
    CloseCode, Expect, PushOptions, RefOutcome, RefState, RefUpdate, Refusal, RefusalCode, Verdict,
    Welcome,
};
use crate::limits::Limits;
use crate::session::{ApiMisuse, Error, Fault, SenderEvent, SourceOp, SourceOutcome};
use crate::text::Text;

/// The state of each ref, in the order announced.
#[derive(Debug)]
pub(super) struct Pending {
    refs: Vec<PendingRef>,
}

#[derive(Debug)]
pub(super) struct PendingRef {
    pub(super) update: RefUpdate,
    /// The ref's value, as far as the server tells.
    pub(super) current: Option<Checksum>,
    /// `None` if the ref is to be set.
    outcome: Option<RefOutcome>,
}

impl Pending {
    /// Returns the refs to set.
    pub(super) fn open(&self) -> impl Iterator<Item = &PendingRef> {
        self.refs.iter().filter(|one| one.outcome.is_none())
    }

    /// Decides the outcome of the refs to set.
    pub(super) fn settle(&mut self, outcome: impl Fn(&PendingRef) -> RefOutcome) {
        for one in self.refs.iter_mut().filter(|one| one.outcome.is_none()) {
            one.outcome = Some(outcome(one));
        }
    }

    /// Ends the session with the outcome of each ref.
    pub(super) fn finish(self, core: &mut Core) -> State {
        let outcomes = self.refs.into_iter().filter_map(|one| one.outcome);
        core.tell(SenderEvent::Finalized(outcomes.collect()));
        State::Finished
    }

    fn tell_status(&self, core: &mut Core) {
        let state = |one: &PendingRef| RefState {
            current: one.current,
            verdict: match &one.outcome {
                None => Verdict::Accepted,
                Some(RefOutcome::Refused(refusal)) => Verdict::Refused(refusal.clone()),
                Some(_) => Verdict::UpToDate,
            },
        };
        core.tell(SenderEvent::RefStatus(
            self.refs.iter().map(state).collect(),
        ));
    }

    /// Asks the server to set the remaining refs, unless none is left or this is a dry run.
    fn go_on(mut self, core: &mut Core) -> State {
        self.tell_status(core);
        if core.options().contains(PushOptions::DRY_RUN) {
            self.settle(|_| RefOutcome::WouldUpdate);
        }
        let changes: Vec<_> = self.open().map(change).collect();
        if changes.is_empty() {
            core.send(&Message::Done);
            return self.finish(core);
        }
        core.send(&Message::Update(changes));
        State::ExpectStatus(self)
    }
}

fn change(one: &PendingRef) -> Change {
    let old = one.current.map_or_else(|| ZEROS.to_owned(), |c| c.to_hex());
    Change {
        name: one.update.name.to_string(),
        old,
        new: one.update.commit.to_hex(),
    }
}

const ZEROS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// Takes the server's introduction.
pub(super) fn handle_info(info: Info, core: &mut Core) -> Result<State, Error> {
    core.tell(SenderEvent::Welcomed(Welcome {
        version: core.dialect.version(),
        features: Default::default(),
        limits: Limits::default(),
        agent: Text::new(match core.dialect {
            Dialect::V0 => "a receiver of ostree-push 0.x",
            Dialect::V1 => "a receiver of BuildStream 1.x",
        }),
        pull_url: info.pull_url.as_deref().map(Text::new),
        identity: None,
        extensions: Default::default(),
    }));
    if info.mode != Info::ARCHIVE {
        return Err(Error::Fault(Fault {
            code: CloseCode::STORAGE_FAILED,
            text: "the server's repository is not an archive, so nothing can be pushed to it"
                .to_owned(),
        }));
    }
    let told: HashMap<_, Checksum> = info
        .refs
        .into_iter()
        .filter_map(|(name, commit)| Some((name, commit.parse().ok()?)))
        .collect();
    let refs = core.announcement.refs.iter().map(|update| {
        let current = told.get(update.name.as_str()).copied();
        PendingRef {
            update: update.clone(),
            current,
            outcome: judge(update, current, core.dialect),
        }
    });
    let pending = Pending {
        refs: refs.collect(),
    };
    let force = core.options().contains(PushOptions::FORCE);
    let moves: Vec<_> = pending
        .open()
        .filter_map(|one| Some((one.update.commit, one.current?)))
        .collect();
    if force || moves.is_empty() {
        return Ok(pending.go_on(core));
    }
    core.request(SourceOp::Descends(moves));
    Ok(State::Comparing(Comparing { pending }))
}

/// Decides about a ref by its value, as a server of version 2 would.
fn judge(update: &RefUpdate, current: Option<Checksum>, dialect: Dialect) -> Option<RefOutcome> {
    if current == Some(update.commit) {
        return Some(RefOutcome::Unchanged);
    }
    let refuse = |text| {
        let refusal = Refusal::new(RefusalCode::LOST_RACE, text);
        Some(RefOutcome::Refused(refusal))
    };
    // Servers of version 1 report none of the existing refs, except those made last.
    match (update.expect, current, dialect) {
        (Expect::Any, ..) | (Expect::Absent, None, Dialect::V0) => None,
        (Expect::Is(expected), Some(current), _) if expected == current => None,
        (Expect::Absent | Expect::Is(_), None, Dialect::V1) => refuse(
            "the ref's value cannot be compared: the server is an old one, and does not tell it",
        ),
        (Expect::Absent | Expect::Is(_), ..) => refuse("the ref does not hold what was expected"),
    }
}

/// Waits for the source to tell which refs would move forward.
#[derive(Debug)]
pub(super) struct Comparing {
    pending: Pending,
}

impl Comparing {
    pub(super) fn handle_compared(
        mut self,
        outcome: SourceOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let SourceOutcome::Descends(answers) = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        let refs = self.pending.refs.iter_mut();
        let mut moves = refs.filter(|one| one.outcome.is_none() && one.current.is_some());
        for descends in answers {
            let one = moves.next().ok_or(ApiMisuse::Outcome)?;
            if !descends {
                one.outcome = Some(RefOutcome::Refused(Refusal::new(
                    RefusalCode::NOT_FAST_FORWARD,
                    "the commit does not descend from the current one, as far as its history is \
                     here",
                )));
            }
        }
        if moves.next().is_some() {
            return Err(ApiMisuse::Outcome.into());
        }
        Ok(self.pending.go_on(core))
    }
}
