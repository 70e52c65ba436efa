//! The state of a session, and its transitions.

use super::error::{ApiMisuse, Error, Fault};
use crate::frame::CloseCode;

/// The state, which each input consumes, and the core, which every state needs.
///
/// A failed session has no state, so no input can reach one.
#[derive(Debug)]
pub(crate) struct Machine<S, C> {
    /// `None` once the session has failed.
    state: Option<S>,
    pub(crate) core: C,
}

/// How a session fails.
pub(crate) trait FailsWith {
    /// Drops requests that nobody has taken, and tells the peer the reason, if the protocol has a
    /// message for it.
    fn fail_with(&mut self, error: &Error);
}

impl<S, C: FailsWith> Machine<S, C> {
    pub(crate) const fn new(state: S, core: C) -> Self {
        Self {
            state: Some(state),
            core,
        }
    }

    pub(crate) const fn state(&self) -> Option<&S> {
        self.state.as_ref()
    }

    pub(crate) fn refuse_if_failed(&self) -> Result<(), Error> {
        match self.state {
            Some(_) => Ok(()),
            None => Err(ApiMisuse::Closed.into()),
        }
    }

    /// Moves to the state that `next` makes of the current one, or fails with its error.
    pub(crate) fn step(
        &mut self,
        next: impl FnOnce(S, &mut C) -> Result<S, Error>,
    ) -> Result<(), Error> {
        self.step_with(|state, core| Ok((next(state, core)?, ())))
    }

    /// Like `step`, for a step that returns a value besides its state.
    pub(crate) fn step_with<T>(
        &mut self,
        next: impl FnOnce(S, &mut C) -> Result<(S, T), Error>,
    ) -> Result<T, Error> {
        let state = self.state.take().ok_or(ApiMisuse::Closed)?;
        match next(state, &mut self.core) {
            Ok((state, value)) => {
                self.state = Some(state);
                Ok(value)
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Ends the session for good.
    pub(crate) fn fail(&mut self, error: Error) -> Error {
        self.state = None;
        self.core.fail_with(&error);
        error
    }

    /// Ends the session for a reason of the driver's.
    pub(crate) fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        if let Err(closed) = self.refuse_if_failed() {
            return closed;
        }
        self.fail(Error::Fault(Fault {
            code,
            text: text.to_owned(),
        }))
    }
}
