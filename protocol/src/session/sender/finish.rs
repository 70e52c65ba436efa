//! The states after `Finalize`, and the end.

use std::collections::HashSet;

use super::super::error::{Error, Violation};
use super::transfer::Transfer;
use super::{Core, SenderEvent, State, unexpected};
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
            return unexpected("Finalized", &frame);
        };
        if finalized.refs.is_empty() {
            return Err(Violation::Rule("a Finalized without an outcome").into());
        }
        self.outcomes.extend(finalized.refs);
        let announced = core.announcement.refs.len();
        Violation::limit("outcomes", announced, self.outcomes.len())?;
        if self.outcomes.len() < announced {
            return Ok(State::ExpectFinalized(self));
        }
        core.outputs.push(SenderEvent::Finalized(self.outcomes));
        Ok(State::ExpectSummary(ExpectSummary))
    }

    fn handle_missing(self, missing: Missing, core: &mut Core) -> Result<State, Error> {
        Violation::limit("missing objects", MAX_MISSING_IDS, missing.ids.len())?;
        if !self.outcomes.is_empty() || core.is_dry_run() {
            return Err(Violation::Rule("Missing after the push was settled").into());
        }
        if self.transfer.rounds == MAX_FINALIZE_ROUNDS || missing.ids.is_empty() {
            return Err(Violation::Rule("Missing without end").into());
        }
        // The source reads an object for one stream at a time.
        let mut named = HashSet::new();
        if !missing.ids.iter().all(|id| named.insert(*id)) {
            return Err(Violation::Rule("an object is missing twice").into());
        }
        Ok(self.transfer.send_again(missing.ids, core))
    }
}

/// Waits for the summary to be brought up to date.
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
    core.outputs.push(SenderEvent::Finalized(outcomes));
    say_goodbye(core)
}

fn say_goodbye(core: &mut Core) -> State {
    core.outputs.close(CloseCode::DONE, "");
    State::Finished
}

impl Core {
    pub(super) fn is_dry_run(&self) -> bool {
        self.announcement.options.contains(PushOptions::DRY_RUN)
    }
}
