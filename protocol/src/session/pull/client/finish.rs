//! The end of a pull: publication, or an answer that promises nothing to publish.

use artifact_formats::RefName;

use super::super::super::error::{ApiMisuse, Error, Fault, Violation, unexpected};
use super::super::super::store::{Published, StoreOutcome};
use super::super::answer::PullAnswer;
use super::{Core, PullClientEvent, State};
use crate::frame::{CloseCode, Extent, Frame, PullState, RefOutcome, Sent, Verdict};

/// Waits for the end of an answer that contains no objects.
#[derive(Debug)]
pub(super) struct ExpectSent {
    answer: PullAnswer,
    measured: bool,
}

impl ExpectSent {
    pub(super) const fn new(answer: PullAnswer) -> Self {
        let measured = false;
        Self { answer, measured }
    }

    pub(super) fn handle(mut self, frame: Frame, core: &mut Core) -> Result<State, Error> {
        match frame {
            Frame::Extent(extent) => {
                take_extent(&mut self.measured, extent, core)?;
                Ok(State::ExpectSent(self))
            }
            Frame::Sent(sent) => {
                if sent != Sent::default() {
                    return Err(Violation::Rule(COUNTED).into());
                }
                // REQ-56.
                if core.is_dry_run() && !self.measured {
                    return Err(Violation::Rule("a dry run ended without an Extent").into());
                }
                let outcomes = outcomes(&self.answer, [].into_iter());
                core.outputs.push(PullClientEvent::Published(outcomes));
                Ok(say_goodbye(core))
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Announce(_)
            | Frame::RefStatus(_)
            | Frame::Basis(_)
            | Frame::Offer(_)
            | Frame::Want(_)
            | Frame::Detached(_)
            | Frame::Pack(_)
            | Frame::ObjectBegin(_)
            | Frame::ObjectChunk(_)
            | Frame::ObjectEnd(_)
            | Frame::Staged(_)
            | Frame::Finalize(_)
            | Frame::Missing(_)
            | Frame::Finalized(_)
            | Frame::SummaryDone(_)
            | Frame::Ping(_)
            | Frame::Close(_)
            | Frame::Request(_)
            | Frame::Held(_)
            | Frame::Answer(_) => unexpected("Sent", &frame),
        }
    }
}

/// Passes on how much the answer contains, once.
pub(super) fn take_extent(
    measured: &mut bool,
    extent: Extent,
    core: &mut Core,
) -> Result<(), Violation> {
    if std::mem::replace(measured, true) {
        return Err(Violation::Rule("an Extent came twice"));
    }
    core.outputs.push(PullClientEvent::Extent(extent));
    Ok(())
}

/// Waits for the store to make the pull durable.
#[derive(Debug)]
pub(super) struct Publishing {
    answer: PullAnswer,
}

impl Publishing {
    pub(super) const fn new(answer: PullAnswer) -> Self {
        Self { answer }
    }

    pub(super) fn handle_published(
        self,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let promised = |(_, state): &(_, &PullState)| matches!(state, PullState::Promised { .. });
        let states = self.answer.refs.iter().map(|r| (&r.name, &r.state));
        match outcome.published()? {
            Published::Missing(ids) => {
                core.outputs
                    .push(PullClientEvent::Missing(ids.len() as u64));
                let first = ids.first().map(ToString::to_string).unwrap_or_default();
                Err(Error::Fault(Fault {
                    code: CloseCode::INCOMPLETE,
                    text: format!(
                        "the answer lacks objects that are not here either, {} of them, such as \
                         {first}",
                        ids.len()
                    ),
                }))
            }
            Published::Done(done) if done.len() != states.filter(promised).count() => {
                Err(ApiMisuse::Outcome.into())
            }
            Published::Done(done) => {
                let outcomes = outcomes(&self.answer, done.into_iter());
                core.outputs.push(PullClientEvent::Published(outcomes));
                Ok(State::Finished)
            }
        }
    }
}

/// Ends a pull of which the local store accepts nothing; the answer need not come.
pub(super) fn nothing_accepted(
    answer: &PullAnswer,
    verdicts: Vec<Verdict>,
    core: &mut Core,
) -> State {
    let done = verdicts.into_iter().map(|verdict| match verdict {
        Verdict::UpToDate | Verdict::Accepted => RefOutcome::Unchanged,
        Verdict::Refused(refusal) => RefOutcome::Refused(refusal),
    });
    let outcomes = outcomes(answer, done);
    core.outputs.push(PullClientEvent::Published(outcomes));
    say_goodbye(core)
}

/// Returns an outcome for each ref of the answer. `done` has those of the promised refs; without
/// one, a promised ref would be updated.
fn outcomes(
    answer: &PullAnswer,
    mut done: impl Iterator<Item = RefOutcome>,
) -> Vec<(RefName, RefOutcome)> {
    let outcome = |state: &PullState| match state {
        PullState::Promised { .. } => done.next().unwrap_or(RefOutcome::WouldUpdate),
        PullState::UpToDate => RefOutcome::Unchanged,
        PullState::Refused(refusal) => RefOutcome::Refused(refusal.clone()),
    };
    let states = answer.refs.iter().map(|answer| &answer.state);
    let names = answer.refs.iter().map(|answer| answer.name.clone());
    names.zip(states.map(outcome)).collect()
}

fn say_goodbye(core: &mut Core) -> State {
    core.outputs.close(CloseCode::DONE, "");
    State::Finished
}

/// The rule of a wrong count in `Sent`.
pub(super) const COUNTED: &str = "Sent counts other objects than came";
