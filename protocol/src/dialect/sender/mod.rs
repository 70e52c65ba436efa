//! The sending end of a push in an old protocol (DIALECTS.md "Sessions").
//!
//! ```text
//! ExpectInfo -> Comparing -> ExpectStatus -> Planning -> Sending -> Ending -> Finished
//!      `------------`-- nothing to do ---------------------------------------^
//! ```
//!
//! Sends everything that a commit reaches, whatever the server has: servers of these versions do
//! not check that their objects are complete. They do not compare refs either, so this machine
//! does.

mod compare;
mod files;
mod sending;

use bytes::{Bytes, BytesMut};

use self::compare::{Comparing, Pending};
use self::sending::{Ending, Planning, Sending};
use super::message::{Info, Message};
use super::version::Dialect;
use crate::frame::{CloseCode, PushOptions, RefOutcome, RefUpdate, Refusal, RefusalCode};
use crate::limits::MAX_MESSAGE_LEN;
use crate::session::machine::{FailsWith, Machine};
use crate::session::outputs::Outputs;
use crate::session::{
    Announcement, ApiMisuse, Error, SenderEvent, SenderOutput, SourceDone, SourceOp, SourceRequest,
    Violation,
};
use crate::text::escape;

/// The sending end of one push in an old protocol.
///
/// **The drain rule: after `new` and every `handle_*`, call [`poll_output`](Self::poll_output)
/// until it returns `None`**, also after an error.
#[derive(Debug)]
pub struct DialectSender {
    machine: Machine<State, Core>,
}

/// The data that every state needs.
#[derive(Debug)]
struct Core {
    dialect: Dialect,
    announcement: Announcement,
    outputs: Outputs<SenderOutput>,
    /// Whether the last `done` was sent and its outcome is unknown.
    is_unsettled: bool,
}

#[derive(Debug)]
enum State {
    ExpectInfo,
    Comparing(Comparing),
    ExpectStatus(Pending),
    Planning(Planning),
    Sending(Box<Sending>),
    Ending(Ending),
    Finished,
}

impl DialectSender {
    /// Starts a session for refs that [fit one](fits_one_session). Without refs it only learns
    /// which server this is.
    pub fn new(dialect: Dialect, announcement: Announcement) -> Self {
        let mut core = Core {
            dialect,
            announcement,
            outputs: Outputs::new(),
            is_unsettled: false,
        };
        if dialect == Dialect::V1 {
            let refs = core.announcement.refs.iter();
            let info = Info {
                mode: if core.announcement.refs.is_empty() {
                    0
                } else {
                    Info::ARCHIVE
                },
                refs: refs
                    .map(|update| (update.name.to_string(), update.commit.to_hex()))
                    .collect(),
                pull_url: None,
            };
            core.send(&Message::Info(info));
        }
        Self {
            machine: Machine::new(State::ExpectInfo, core),
        }
    }

    /// Takes the complete messages off `input`, and leaves the rest.
    ///
    /// # Errors
    ///
    /// `Dialect`, `Violation`: the server's fault.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        self.machine.refuse_if_failed()?;
        while !matches!(self.machine.state(), Some(State::Finished)) {
            match Message::decode(self.machine.core.dialect, input) {
                Ok(Some(message)) => {
                    self.machine
                        .step(|state, core| state.handle(message, core))?;
                }
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.machine.fail(error.into())),
            }
        }
        Ok(())
    }

    /// Takes the end of the server's bytes: in version 0, a successful push ends like this. Only
    /// the exit code of the server's program tells whether it succeeded.
    ///
    /// # Errors
    ///
    /// `Truncated`, if it comes before the push is done.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.machine.step(|state, core| match state {
            State::Finished => Ok(State::Finished),
            State::Ending(state) => state.handle_eof(core),
            State::ExpectInfo
            | State::Comparing(_)
            | State::ExpectStatus(_)
            | State::Planning(_)
            | State::Sending(_) => Err(Error::Truncated),
        })
    }

    /// Takes the completion of a source request.
    ///
    /// # Errors
    ///
    /// `Fault`, if the source cannot be read.
    pub fn handle_source(&mut self, done: SourceDone) -> Result<(), Error> {
        self.machine.step(|state, core| {
            let SourceDone { request, outcome } = done;
            let outcome = outcome.map_err(Error::Fault)?;
            match (state, request.op) {
                (State::Comparing(state), SourceOp::Descends(_)) => {
                    state.handle_compared(outcome, core)
                }
                (State::Planning(state), SourceOp::Plan(_)) => state.handle_planned(outcome, core),
                (State::Sending(state), op) => state.handle_source(op, outcome, core),
                _ => Err(ApiMisuse::Outcome.into()),
            }
        })
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<SenderOutput> {
        self.machine.core.outputs.pop()
    }

    /// Returns whether the push is over and nothing remains to be sent.
    pub const fn is_finished(&self) -> bool {
        matches!(self.machine.state(), Some(State::Finished) | None)
    }

    /// Returns whether the server may have set refs without having said so.
    pub const fn is_unsettled(&self) -> bool {
        self.machine.core.is_unsettled
    }

    /// Ends the session for a reason of the driver's, such as a timer. Does not tell the server:
    /// the dialects have no message for that.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        self.machine.abort(code, text)
    }
}

impl State {
    fn handle(self, message: Message, core: &mut Core) -> Result<Self, Error> {
        match (self, message) {
            (Self::ExpectInfo, Message::Info(info)) => compare::handle_info(info, core),
            (Self::ExpectStatus(pending), Message::Status { result: true, .. }) => {
                Ok(Planning::begin(pending, core))
            }
            (Self::ExpectStatus(mut pending), Message::Status { text, .. }) => {
                let text = format!("the server refused: {}", escape(&text));
                pending.settle(|_| {
                    RefOutcome::Refused(Refusal::new(RefusalCode::NOT_PERMITTED, &text))
                });
                core.send(&Message::Done);
                Ok(pending.finish(core))
            }
            (Self::Sending(state), Message::Status { result, text }) => {
                state.handle_status(result, &text).map(Self::Sending)
            }
            (Self::Ending(state), message) => state.handle(message, core),
            (
                Self::ExpectInfo
                | Self::Comparing(_)
                | Self::ExpectStatus(_)
                | Self::Planning(_)
                | Self::Sending(_)
                | Self::Finished,
                _,
            ) => Err(unexpected()),
        }
    }
}

impl Core {
    fn options(&self) -> PushOptions {
        self.announcement.options
    }

    fn request(&mut self, op: SourceOp) {
        self.outputs
            .push(SenderOutput::Source(SourceRequest { op }));
    }

    /// Sends a message that fits: refs were counted before, and nothing else is long.
    fn send(&mut self, message: &Message) {
        if let Ok(bytes) = message.encode(self.dialect) {
            self.send_bytes(bytes);
        }
    }

    fn send_bytes(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.outputs.push(bytes);
        }
    }

    fn tell(&mut self, event: SenderEvent) {
        self.outputs.push(event);
    }
}

impl FailsWith for Core {
    fn fail_with(&mut self, _: &Error) {
        self.outputs
            .keep(|output| !matches!(output, SenderOutput::Source(_)));
    }
}

const fn unexpected() -> Error {
    Error::Violation(Violation::Rule("a message came out of place"))
}

/// Returns how many of these refs fit one session of an old protocol, that is, one `update`.
pub fn fits_one_session(refs: &[RefUpdate]) -> usize {
    let mut len = 0;
    let fits = |update: &&RefUpdate| {
        len += entry_len(update.name.as_str());
        len <= MAX_MESSAGE_LEN
    };
    refs.iter().take_while(fits).count()
}

/// Most bytes of an entry of an `update`: the padded name; a pair of checksums and its type; the
/// framing offset and padding; the offset in the array.
const fn entry_len(name: &str) -> usize {
    (name.len() + 1).next_multiple_of(8) + 136 + 8 + 2
}
