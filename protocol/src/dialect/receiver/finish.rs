//! The states after the client's last message.

use super::super::message::Message;
use super::super::version::Dialect;
use super::push::Push;
use super::{Core, State};
use crate::frame::{CloseCode, RefOutcome};
use crate::limits::MAX_TEXT_LEN;
use crate::session::{ApiMisuse, Error, Fault, Published, ReceiverEvent, StoreOp, StoreOutcome};

/// Waits until all objects are stored.
#[derive(Debug)]
pub(super) struct Finalizing {
    push: Push,
}

impl Finalizing {
    pub(super) fn begin(push: Push, core: &mut Core) -> State {
        Box::new(Self { push }).go_on(core)
    }

    pub(super) fn handle_stored(
        mut self: Box<Self>,
        op: &StoreOp,
        outcome: Result<StoreOutcome, Fault>,
        core: &mut Core,
    ) -> Result<State, Error> {
        self.push.handle_stored(op, outcome)?;
        Ok(self.go_on(core))
    }

    fn go_on(self: Box<Self>, core: &mut Core) -> State {
        if !self.push.is_stored() {
            return State::Finalizing(self);
        }
        if self.push.is_needless() {
            say_done(core);
            return State::Finished;
        }
        core.request(StoreOp::Publish);
        State::Publishing(Publishing { push: self.push })
    }
}

/// Waits for the store to make the push durable.
#[derive(Debug)]
pub(super) struct Publishing {
    push: Push,
}

impl Publishing {
    pub(super) fn handle_published(
        self,
        outcome: StoreOutcome,
        core: &mut Core,
    ) -> Result<State, Error> {
        let outcomes = match outcome.published()? {
            Published::Done(outcomes) => outcomes,
            Published::Missing(ids) => {
                let first = ids.first().map(ToString::to_string).unwrap_or_default();
                return Err(Error::Fault(Fault {
                    code: CloseCode::INCOMPLETE,
                    text: format!(
                        "the push is incomplete: {} objects such as {first}",
                        ids.len()
                    ),
                }));
            }
        };
        if self.push.is_done(&outcomes) {
            say_done(core);
        }
        let moved = outcomes.contains(&RefOutcome::Updated);
        core.outputs.push(ReceiverEvent::Published(outcomes));
        if !moved {
            return Ok(State::Finished);
        }
        core.request(StoreOp::Summarize);
        Ok(State::Summarizing(Summarizing))
    }
}

/// Tells a client of version 1 that everything is in place. A client of version 0 waits for the
/// end.
fn say_done(core: &mut Core) {
    if core.dialect == Dialect::V1 {
        core.send(&Message::Done);
    }
}

/// Waits for the store to update the summary.
#[derive(Debug)]
pub(super) struct Summarizing;

impl Summarizing {
    pub(super) fn handle_summarized(self, outcome: StoreOutcome) -> Result<State, Error> {
        let StoreOutcome::Summarized(_) = outcome else {
            return Err(ApiMisuse::Outcome.into());
        };
        Ok(State::Finished)
    }
}

/// The client was told that nothing will be done, and will answer. If the session ended before
/// that, the client would see a broken pipe instead of the reason.
#[derive(Debug)]
pub(super) struct Refused {
    /// The fault that the session ends with; `None` after a refusal by the rules.
    fault: Option<Fault>,
}

impl Refused {
    /// Tells the client why nothing will be done.
    pub(super) fn tell(text: &str, fault: Option<Fault>, core: &mut Core) -> State {
        let shown: String = text.chars().take(MAX_TEXT_LEN).collect();
        core.send_status(false, &shown.replace('\0', ""));
        State::Refused(Self { fault })
    }

    pub(super) fn end(self) -> Result<State, Error> {
        match self.fault {
            Some(fault) => Err(Error::Fault(fault)),
            None => Ok(State::Finished),
        }
    }
}
