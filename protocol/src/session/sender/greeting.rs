//! The states before objects travel: greeting, announcement, plan.

use std::collections::HashSet;

use artifact_formats::ObjectId;

use super::super::error::{ApiMisuse, Error, Violation, unexpected};
use super::super::greeting::check_welcome;
use super::super::outputs::Outputs;
use super::super::source::{PlanRequest, SourceOp, SourceOutcome};
use super::super::store::Announcement;
use super::early::Early;
use super::transfer::Transfer;
use super::{Core, SenderEvent, SenderOutput, State, finish};
use crate::frame::{
    Announce, Basis, Detached, Extensions, Frame, Hello, RefOutcome, RefState, RefStatus, Verdict,
    Want,
};
use crate::limits::{MAX_COMPLETE, MAX_EARLY_FRAME_LEN};
use crate::text::Text;
use crate::version::{Features, Version};

/// Sends the first flight, which waits for nothing.
pub(super) fn send(
    agent: Text,
    announcement: &Announcement,
    early: Option<&Early>,
    outputs: &mut Outputs<SenderOutput>,
) {
    outputs.send(&Frame::Hello(Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        // What a server can do beyond pushes is of no use here.
        features: Features::default(),
        agent,
        extensions: Default::default(),
    }));
    let Announcement {
        options,
        refs,
        bases,
        history,
    } = announcement;
    let mut extensions = Extensions::default();
    if *history > 0 {
        extensions.set(Announce::HISTORY, history.to_le_bytes().to_vec());
    }
    let mut frame = Announce {
        options: *options,
        refs: Vec::new(),
        bases: bases.clone(),
        more: false,
        extensions,
    };
    let mut len = bases
        .iter()
        .map(|base| base.name.as_str().len() + ENTRY_LEN)
        .sum::<usize>();
    for update in refs {
        let entry_len = update.name.as_str().len() + ENTRY_LEN;
        if len + entry_len > EARLY_LEN && !frame.refs.is_empty() {
            frame.more = true;
            outputs.send(&Frame::Announce(frame.clone()));
            frame = Announce {
                refs: Vec::new(),
                bases: Vec::new(),
                more: false,
                ..frame
            };
            len = 0;
        }
        frame.refs.push(update.clone());
        len += entry_len;
    }
    outputs.send(&Frame::Announce(frame));
    if let Some(early) = early {
        outputs.send(&early.offer());
    }
}

/// Bytes for entries in an early frame (LIM-1); the rest is for its other fields.
const EARLY_LEN: usize = MAX_EARLY_FRAME_LEN as usize - 1_024;
/// Upper bound of a `RefUpdate` or `Base` without its name: length, two checksums with their tags,
/// expectation.
const ENTRY_LEN: usize = 8 + 32 + 33 + 36;

/// Waits for the server's `Welcome`.
#[derive(Debug)]
pub(super) struct ExpectWelcome {
    early: Option<Early>,
}

impl ExpectWelcome {
    pub(super) const fn new(early: Option<Early>) -> Self {
        Self { early }
    }

    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::Welcome(welcome) = frame else {
            return unexpected("Welcome", &frame);
        };
        check_welcome(&welcome)?;
        core.limits = welcome.limits;
        core.outputs.push(SenderEvent::Welcomed(welcome));
        Ok(State::ExpectRefStatus(ExpectRefStatus {
            early: self.early,
            so_far: None,
        }))
    }
}

/// Waits for the states of the announced refs.
#[derive(Debug)]
pub(super) struct ExpectRefStatus {
    early: Option<Early>,
    so_far: Option<RefStatus>,
}

impl ExpectRefStatus {
    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::RefStatus(status) = frame else {
            return unexpected("RefStatus", &frame);
        };
        let announced = core.announcement.refs.len();
        let whole = match self.so_far {
            None => {
                // LIM-23.
                Violation::limit("complete commits", MAX_COMPLETE, status.complete.len())?;
                status
            }
            // REQ-14.
            Some(_) if !status.complete.is_empty() || status.refs.is_empty() => {
                return Err(Violation::Rule("a further RefStatus must have only refs").into());
            }
            Some(mut whole) => {
                whole.refs.extend(status.refs);
                whole
            }
        };
        Violation::limit("ref states", announced, whole.refs.len())?;
        if whole.refs.len() < announced {
            return Ok(State::ExpectRefStatus(Self {
                so_far: Some(whole),
                ..self
            }));
        }
        core.outputs
            .push(SenderEvent::RefStatus(whole.refs.clone()));
        let mut plan = plan_request(&whole, core);
        if plan.targets.is_empty() {
            let outcomes = whole.refs.into_iter().map(settled_outcome).collect();
            return Ok(finish::nothing_to_do(outcomes, core));
        }
        let early = self.early.map(|early| {
            plan.offered = early.ids().to_vec();
            let targets: HashSet<_> = plan.targets.iter().map(|(commit, _)| *commit).collect();
            EarlyOffer {
                unneeded: early.unneeded(|commit| targets.contains(&commit)),
                ids: plan.offered.clone(),
                answer: None,
            }
        });
        core.request(SourceOp::Plan(plan));
        Ok(State::Planning(Planning { early }))
    }
}

/// Builds the source's task: the refs that the server accepted.
fn plan_request(status: &RefStatus, core: &Core) -> PlanRequest {
    let mut plan = PlanRequest {
        complete: status.complete.clone(),
        ..PlanRequest::default()
    };
    let mut with_detached = HashSet::new();
    for (update, state) in core.announcement.refs.iter().zip(&status.refs) {
        if state.verdict != Verdict::Accepted {
            continue;
        }
        plan.targets.push((update.commit, state.current));
        if update.detached.is_some() && with_detached.insert(update.commit) {
            plan.detached.push(update.commit);
        }
    }
    plan
}

/// Returns the outcome of a ref that no later frame mentions.
fn settled_outcome(state: RefState) -> RefOutcome {
    match state.verdict {
        Verdict::UpToDate | Verdict::Accepted => RefOutcome::Unchanged,
        Verdict::Refused(refusal) => RefOutcome::Refused(refusal),
    }
}

/// Waits for the source to compare the commits with the bases.
#[derive(Debug)]
pub(super) struct Planning {
    early: Option<EarlyOffer>,
}

/// The objects that were offered before the server's verdicts were known.
#[derive(Debug)]
pub(super) struct EarlyOffer {
    pub(super) ids: Vec<ObjectId>,
    /// Offered objects that no accepted ref needs: they are not sent.
    pub(super) unneeded: HashSet<ObjectId>,
    /// The answer may come before the plan is made.
    pub(super) answer: Option<Want>,
}

impl Planning {
    pub(super) fn handle(mut self, frame: Frame) -> Result<State, Error> {
        match (frame, &mut self.early) {
            (Frame::Want(want), Some(early)) if early.answer.is_none() => {
                early.answer = Some(want);
                Ok(State::Planning(self))
            }
            (Frame::Want(_), None) => {
                Err(Violation::Rule("Want came before anything was offered").into())
            }
            (Frame::Want(_), Some(_)) => {
                Err(Violation::Rule("Want came without an unanswered Offer").into())
            }
            (frame, _) => unexpected("Want", &frame),
        }
    }

    pub(super) fn handle_planned(
        self,
        outcome: SourceOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let SourceOutcome::Planned { basis, detached } = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        // A basis must come before the first offer, which has been sent already: the server relies
        // on all commits that it called complete.
        if !basis.is_empty() && self.early.is_none() {
            core.outputs.send(&Frame::Basis(Basis { commits: basis }));
        }
        let dry_run = core.is_dry_run();
        for (commit, metadata) in detached {
            if !dry_run {
                core.outputs
                    .send(&Frame::Detached(Detached { commit, metadata }));
            }
        }
        Transfer::begin(self.early, core)
    }
}
