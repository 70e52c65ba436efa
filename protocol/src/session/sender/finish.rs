//! The states after `Finalize`, and the end.

use std::collections::HashSet;

use super::super::error::{Error, Violation, unexpected};
use super::transfer::Transfer;
use super::{Core, SenderEvent, State};
use crate::frame::{CloseCode, Frame, Missing, PushOptions, RefOutcome};
use crate::limits::{MAX_FINALIZE_ROUNDS, MAX_MISSING_IDS};

/// Waits for the server to publish.
#[derive(Debug)]
pub(super) struct ExpectFinalized {
    transfer: Box<Transfer>,
    outcomes: Vec<RefOutcome>,
}

impl ExpectFinalized {
    pub(super) fn new(transfer: Transfer) -> Self {
        Self {
            transfer: Box::new(transfer),
            outcomes: Vec::new(),
        }
    }

    pub(super) fn handle(mut self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        if let Frame::Missing(missing) = frame {
            return self.handle_missing(missing, core);
        }
        let Frame::Finalized(finalized) = frame else {
            if matches!(frame, Frame::SummaryDone(_)) {
                let rule = "SummaryDone came before an outcome for each announced ref";
                return Err(Violation::Rule(rule).into());
            }
            return unexpected("Finalized", &frame);
        };
        core.check_outcomes(&finalized.refs)?;
        if finalized.refs.is_empty() {
            return Err(Violation::Rule("a Finalized has no outcome").into());
        }
        self.outcomes.extend(finalized.refs);
        let announced = core.announcement.refs.len();
        Violation::limit("outcomes", announced, self.outcomes.len())?;
        if self.outcomes.len() < announced {
            return Ok(State::ExpectFinalized(self));
        }
        core.settle(self.outcomes);
        Ok(State::ExpectSummary(ExpectSummary))
    }

    fn handle_missing(self, missing: Missing, core: &mut Core) -> Result<State, Error> {
        if !self.outcomes.is_empty() {
            return Err(Violation::Rule("Missing came after an outcome").into());
        }
        // REQ-30: whatever else is wrong with it, it says that nothing was published.
        core.is_unsettled = false;
        // LIM-20.
        Violation::limit("missing objects", MAX_MISSING_IDS, missing.ids.len())?;
        if core.is_dry_run() {
            return Err(Violation::Rule("Missing came in a dry run").into());
        }
        if missing.ids.is_empty() {
            return Err(Violation::Rule("a Missing has no id").into());
        }
        if self.transfer.rounds == MAX_FINALIZE_ROUNDS {
            return Err(Violation::Rule("Missing came more often than the limit allows").into());
        }
        // REQ-27. The source reads an object for one stream at a time.
        let mut named = HashSet::new();
        if !missing.ids.iter().all(|id| named.insert(*id)) {
            return Err(Violation::Rule("a Missing lists an object twice").into());
        }
        self.transfer.send_again(missing.ids, core)
    }
}

/// Waits for the server to update its summary.
#[derive(Debug)]
pub(super) struct ExpectSummary;

impl ExpectSummary {
    pub(super) fn handle(self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        let Frame::SummaryDone(done) = frame else {
            return unexpected("SummaryDone", &frame);
        };
        core.outputs.push(SenderEvent::Summary(done));
        Ok(say_goodbye(core))
    }
}

/// Ends a session in which the server accepted no update.
pub(super) fn nothing_to_do(outcomes: Vec<RefOutcome>, core: &mut Core) -> State {
    core.settle(outcomes);
    say_goodbye(core)
}

fn say_goodbye(core: &mut Core) -> State {
    core.outputs.close(CloseCode::DONE, "");
    State::Finished
}

impl Core {
    /// Checks that outcomes are those of a dry run if and only if this is one.
    fn check_outcomes(&self, outcomes: &[RefOutcome]) -> Result<(), Violation> {
        let (alien, rule) = match self.is_dry_run() {
            true => (RefOutcome::Updated, "Updated came in a dry run"),
            false => (
                RefOutcome::WouldUpdate,
                "WouldUpdate came outside of a dry run",
            ),
        };
        // REQ-28.
        match outcomes.contains(&alien) {
            true => Err(Violation::Rule(rule)),
            false => Ok(()),
        }
    }

    fn settle(&mut self, outcomes: Vec<RefOutcome>) {
        self.is_unsettled = false;
        self.outputs.push(SenderEvent::Finalized(outcomes));
    }

    pub(super) fn is_dry_run(&self) -> bool {
        self.announcement.options.contains(PushOptions::DRY_RUN)
    }
}
