//! The receiving end of a push in an old protocol (DIALECTS.md "Sessions").
//!
//! ```text
//! version 1:  ExpectInfo -> Looking -.
//! version 0:                Looking -+-> ExpectUpdate -> Opening -> Objects -> Finalizing
//!                                             |             |          |            |
//!                                             |          Refused    withdrawn   Publishing
//!                                             v             v          v            v
//!                                          Finished <-------+----------+----- Summarizing
//! ```
//!
//! Keeps INV-3 like the machine of version 2: only a completed `Publish` leads to version 1's last
//! `done`, or to the successful end of a session of version 0. If a dialect has no message for an
//! event, the driver must log it, where the user sees it.

mod finish;
mod greeting;
mod objects;
mod push;

use bytes::BytesMut;

use self::finish::{Finalizing, Publishing, Refused, Summarizing};
use self::greeting::{ExpectUpdate, Opening};
use self::objects::{ExpectObjects, Objects};
use super::message::Message;
use super::version::Dialect;
use crate::frame::{CloseCode, Hello, Staged};
use crate::session::machine::{FailsWith, Machine};
use crate::session::outputs::Outputs;
use crate::session::{
    ApiMisuse, Backlog, Error, Fault, ReceiverConfig, ReceiverEvent, ReceiverOutput, RefQuery,
    StoreDone, StoreOp, StoreRequest, Violation,
};

/// The receiving end of one push in an old protocol.
///
/// **The drain rule: after `new` and every `handle_*`, call [`poll_output`](Self::poll_output)
/// until it returns `None`**, also after an error.
#[derive(Debug)]
pub struct DialectReceiver {
    machine: Machine<State, Core>,
}

/// The data that every state needs.
#[derive(Debug)]
struct Core {
    dialect: Dialect,
    config: ReceiverConfig,
    /// The reason to refuse every request of the client.
    refusal: Option<Fault>,
    outputs: Outputs<ReceiverOutput>,
    backlog: Backlog,
}

#[derive(Debug)]
enum State {
    ExpectInfo,
    Looking,
    ExpectUpdate(ExpectUpdate),
    Opening(Opening),
    ExpectObjects(Box<ExpectObjects>),
    Objects(Box<Objects>),
    Finalizing(Box<Finalizing>),
    Publishing(Publishing),
    Summarizing(Summarizing),
    Refused(Refused),
    Finished,
}

impl DialectReceiver {
    /// Starts a session. With a `refusal`, it makes no store requests, and refuses the client as
    /// soon as the dialect has a message for that.
    pub fn new(dialect: Dialect, config: ReceiverConfig, refusal: Option<Fault>) -> Self {
        let mut core = Core {
            dialect,
            config,
            refusal,
            outputs: Outputs::new(),
            backlog: Backlog::new(),
        };
        let state = match dialect {
            Dialect::V1 => State::ExpectInfo,
            Dialect::V0 => {
                core.greet();
                core.look(RefQuery::All {
                    len_max: greeting::REFS_LEN_MAX,
                })
            }
        };
        Self {
            machine: Machine::new(state, core),
        }
    }

    /// Takes messages and objects off `input` while [`wants_input`](Self::wants_input), and leaves
    /// the rest: hand it in again, with or without more bytes, after a completion.
    ///
    /// # Errors
    ///
    /// `Dialect`, `Violation`: the client's fault.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        self.machine.refuse_if_failed()?;
        while self.wants_input() {
            let more = self.machine.step_with(|state, core| {
                if let State::Objects(state) = state {
                    return state.handle_bytes(input, core);
                }
                match Message::decode(core.dialect, input)? {
                    None => Ok((state, false)),
                    Some(message) => Ok((state.handle(message, core)?, true)),
                }
            })?;
            if !more {
                break;
            }
        }
        Ok(())
    }

    /// Takes the end of the client's bytes.
    ///
    /// # Errors
    ///
    /// `Truncated`, if it comes before the client's `done`. The session completes anything that was
    /// asked for before that all the same.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.machine.step(|state, core| match state {
            // A client that has asked for nothing, or sent nothing, may leave: some do without a
            // word.
            State::ExpectUpdate(_) | State::ExpectObjects(_) if core.refusal.is_none() => {
                Ok(State::Finished)
            }
            State::Objects(state) if state.is_before_the_first() => Ok(State::Finished),
            State::Refused(state) => state.end(),
            state @ (State::Finalizing(_)
            | State::Publishing(_)
            | State::Summarizing(_)
            | State::Finished) => Ok(state),
            State::ExpectInfo
            | State::Looking
            | State::ExpectUpdate(_)
            | State::Opening(_)
            | State::ExpectObjects(_)
            | State::Objects(_) => Err(Error::Truncated),
        })
    }

    /// Takes the completion of a store request.
    ///
    /// # Errors
    ///
    /// `Fault`, if the store cannot continue or refuses an object, and the client cannot be told.
    pub fn handle_stored(&mut self, done: StoreDone) -> Result<(), Error> {
        self.machine.step(|state, core| {
            core.backlog.completed(&done);
            let StoreDone { request, outcome } = done;
            match (state, request.op) {
                (State::Looking, StoreOp::Refs(_)) => outcome
                    .map_err(Error::Fault)
                    .and_then(|outcome| greeting::tell_refs(outcome, core)),
                (State::Opening(state), StoreOp::Open(announcement)) => match outcome {
                    Ok(outcome) => state.handle_opened(announcement, outcome, core),
                    Err(fault) => Ok(Refused::tell(&fault.text.clone(), Some(fault), core)),
                },
                (State::Objects(state), op) => state.handle_stored(&op, outcome, core),
                (State::Finalizing(state), op) => state.handle_stored(&op, outcome, core),
                (State::Publishing(state), StoreOp::Publish) => outcome
                    .map_err(Error::Fault)
                    .and_then(|outcome| state.handle_published(outcome, core)),
                (State::Summarizing(state), StoreOp::Summarize) => outcome
                    .map_err(Error::Fault)
                    .and_then(|outcome| state.handle_summarized(outcome)),
                // These requests were in progress when the push was refused.
                (state @ State::Refused(_), _) => Ok(state),
                _ => Err(ApiMisuse::Outcome.into()),
            }
        })
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        self.machine.core.outputs.pop()
    }

    /// Returns whether the driver should read more bytes; `false` is back-pressure.
    pub const fn wants_input(&self) -> bool {
        let awaits_client = match self.machine.state() {
            Some(
                State::ExpectInfo
                | State::ExpectUpdate(_)
                | State::ExpectObjects(_)
                | State::Refused(_),
            ) => true,
            Some(State::Objects(state)) => state.wants_input(),
            Some(
                State::Looking
                | State::Opening(_)
                | State::Finalizing(_)
                | State::Publishing(_)
                | State::Summarizing(_)
                | State::Finished,
            )
            | None => false,
        };
        awaits_client && !self.machine.core.backlog.is_busy()
    }

    /// Returns the objects that were verified and staged, and their stored bytes.
    pub const fn staged(&self) -> Staged {
        self.machine.core.backlog.staged()
    }

    /// Returns whether the session will produce nothing more.
    pub const fn is_finished(&self) -> bool {
        matches!(self.machine.state(), Some(State::Finished) | None)
    }

    /// Returns whether refs may be moving, or their summary is being written.
    pub const fn is_publishing(&self) -> bool {
        matches!(
            self.machine.state(),
            Some(State::Publishing(_) | State::Summarizing(_))
        )
    }

    /// Ends the session for a reason of the driver's, such as a timer. The dialects have no message
    /// for that.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        self.machine.abort(code, text)
    }
}

impl State {
    fn handle(self, message: Message, core: &mut Core) -> Result<Self, Error> {
        match (self, message) {
            (Self::ExpectInfo, Message::Info(info)) => greeting::handle_info(info, core),
            (Self::ExpectUpdate(state), Message::Update(changes)) => {
                state.handle_update(changes, core)
            }
            (Self::ExpectUpdate(_), Message::Done) => match core.refusal.take() {
                Some(fault) => Err(Error::Fault(fault)),
                None => Ok(Self::Finished),
            },
            (Self::ExpectObjects(state), message) => state.handle(message, core),
            (Self::Refused(state), Message::Done) => state.end(),
            (Self::ExpectInfo, _) => Err(unexpected("a message came before the client's info")),
            (Self::ExpectUpdate(_), _) => Err(unexpected("neither update nor done followed info")),
            (Self::Refused(_), _) => Err(unexpected("a message came after a refusal")),
            (
                Self::Looking
                | Self::Opening(_)
                | Self::Objects(_)
                | Self::Finalizing(_)
                | Self::Publishing(_)
                | Self::Summarizing(_)
                | Self::Finished,
                _,
            ) => Err(ApiMisuse::Closed.into()),
        }
    }
}

impl Core {
    /// Reports the client's introduction, as far as the dialect has one.
    fn greet(&mut self) {
        let version = self.dialect.version();
        self.outputs.push(ReceiverEvent::Greeted(Hello {
            version_min: version,
            version_max: version,
            features: Default::default(),
            agent: Default::default(),
            extensions: Default::default(),
        }));
    }

    /// Looks up refs, to answer a client's greeting or for the server's own.
    fn look(&mut self, query: RefQuery) -> State {
        if self.refusal.is_some() {
            return greeting::tell_nothing(self);
        }
        self.request(StoreOp::Refs(query));
        State::Looking
    }

    fn request(&mut self, op: StoreOp) {
        let request = StoreRequest::new(op);
        self.backlog.add(&request);
        self.outputs.push(ReceiverOutput::Store(request));
    }

    fn send(&mut self, message: &Message) {
        // Every message of the server was shortened to fit before.
        if let Ok(bytes) = message.encode(self.dialect) {
            self.outputs.push(bytes);
        }
    }

    fn send_status(&mut self, result: bool, text: &str) {
        let text = text.to_owned();
        self.send(&Message::Status { result, text });
    }
}

impl FailsWith for Core {
    fn fail_with(&mut self, _: &Error) {
        self.outputs
            .keep(|output| !matches!(output, ReceiverOutput::Store(_)));
    }
}

const fn unexpected(rule: &'static str) -> Error {
    Error::Violation(Violation::Rule(rule))
}
