//! The states after `Finalize`: publication, the summary, and the end.

use super::super::error::{ApiMisuse, Error};
use super::super::store::{Published, StoreOp, StoreOutcome};
use super::transfer::Transfer;
use super::{Core, ReceiverEvent, State};
use crate::frame::{Finalized, Frame, RefOutcome, SummaryDone};
use crate::limits::REFS_PER_FRAME;

/// Waits for the store to make the push durable.
#[derive(Debug)]
pub(super) struct Publishing {
    transfer: Box<Transfer>,
}

impl Publishing {
    pub(super) const fn new(transfer: Box<Transfer>) -> Self {
        Self { transfer }
    }

    pub(super) fn handle_published(
        self,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        match outcome.published()? {
            Published::Missing(_) if core.left => Err(Error::Truncated),
            Published::Missing(ids) => self.transfer.ask_again(ids, core),
            Published::Done(outcomes) if !self.transfer.is_answered_by(&outcomes) => {
                Err(ApiMisuse::Outcome.into())
            }
            Published::Done(outcomes) => {
                send_outcomes(&outcomes, core);
                let moved = outcomes.contains(&RefOutcome::Updated);
                core.outputs.push(ReceiverEvent::Published(outcomes));
                if !moved {
                    return Ok(say_goodbye(SummaryDone::Current, core));
                }
                core.request(StoreOp::Summarize);
                Ok(State::Summarizing(Summarizing))
            }
        }
    }
}

/// Waits for the store to bring the summary up to date.
#[derive(Debug)]
pub(super) struct Summarizing;

impl Summarizing {
    pub(super) fn handle_summarized(
        self,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let StoreOutcome::Summarized(done) = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        Ok(say_goodbye(done, core))
    }
}

/// Tells the client of a dry run what would become of its refs.
pub(super) fn finish_without_publishing(outcomes: Vec<RefOutcome>, core: &mut Core) -> State {
    send_outcomes(&outcomes, core);
    say_goodbye(SummaryDone::Current, core)
}

fn say_goodbye(summary: SummaryDone, core: &mut Core) -> State {
    // REQ-31.
    core.outputs.send(&Frame::SummaryDone(summary));
    State::Finished
}

fn send_outcomes(outcomes: &[RefOutcome], core: &mut Core) {
    for chunk in outcomes.chunks(REFS_PER_FRAME) {
        core.outputs.send(&Frame::Finalized(Finalized {
            refs: chunk.to_vec(),
        }));
    }
}
