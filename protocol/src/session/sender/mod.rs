//! The sending end of a push (SPEC "Sender session").
//!
//! ```text
//! ExpectWelcome -> ExpectRefStatus -> Planning -> Transfer <-> ExpectFinalized -> ExpectSummary
//!                         |                                                            |
//!                         `------------------ nothing to do ----------------------> Finished
//! ```
//!
//! Never opens a repository or a connection: the driver completes its source requests.

mod early;
mod finish;
mod greeting;
mod quota;
mod streams;
mod transfer;

use artifact_formats::ObjectId;
use bytes::{Bytes, BytesMut};

use self::early::Early;
pub use self::early::SmallCommit;
use self::finish::{ExpectFinalized, ExpectSummary};
use self::greeting::{ExpectRefStatus, ExpectWelcome, Planning};
use self::transfer::Transfer;
use super::error::{ApiMisuse, Error, unexpected};
use super::machine::{FailsWith, Machine};
use super::outputs::Outputs;
use super::source::{SourceDone, SourceOp, SourceRequest};
use super::store::Announcement;
use crate::frame::deframer::Deframer;
use crate::frame::{Close, CloseCode, Frame, RefOutcome, RefState, Staged, SummaryDone, Welcome};
use crate::limits::{Limits, MAX_FRAME_LEN_MAX};
use crate::text::Text;

/// The configuration of a sender session.
#[derive(Clone, Debug, Default)]
pub struct SenderConfig {
    /// Program and version.
    pub agent: Text,
    /// The refs to set, and how. Without refs the session only learns which server this is.
    pub announcement: Announcement,
    /// The announced commits, if all of them together are small: offering them along with the
    /// announcement saves a round trip. With more than
    /// [`MAX_EARLY_IDS`](crate::limits::MAX_EARLY_IDS) objects the session ignores this.
    pub small: Vec<SmallCommit>,
}

/// The outputs of a sender session.
#[derive(Debug)]
#[must_use]
pub enum SenderOutput {
    /// Bytes for the server, in order.
    Transmit(Bytes),
    /// Work for the source, to be completed.
    Source(SourceRequest),
    /// Something to show.
    Event(SenderEvent),
}

/// An event of a sender session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderEvent {
    /// The server has introduced itself.
    Welcomed(Welcome),
    /// The server has given its verdict on each announced ref.
    RefStatus(Vec<RefState>),
    /// The server answered an offer.
    Answered {
        /// Ids that it wants.
        wanted: Vec<ObjectId>,
        /// Ids that it has; objects beneath them were not even offered.
        had: u64,
    },
    /// The outputs before this one transmit these objects.
    Sent {
        /// Complete objects in this event.
        objects: u64,
        /// Stored bytes in this event.
        bytes: u64,
        /// The large object of which they are a piece.
        large: Option<ObjectId>,
    },
    /// The server verified objects; these are the totals.
    Staged(Staged),
    /// The server has found objects missing, and the session sends them again.
    Missing(u64),
    /// The outcome of each announced ref; durable.
    Finalized(Vec<RefOutcome>),
    /// The outcome of the summary.
    Summary(SummaryDone),
}

impl SenderOutput {
    const fn is_staged(&self) -> bool {
        matches!(self, Self::Event(SenderEvent::Staged(_)))
    }
}

impl From<Bytes> for SenderOutput {
    fn from(bytes: Bytes) -> Self {
        Self::Transmit(bytes)
    }
}

impl From<SenderEvent> for SenderOutput {
    fn from(event: SenderEvent) -> Self {
        Self::Event(event)
    }
}

/// The sending end of one push.
///
/// **The drain rule: after `new` and every `handle_*`, call [`poll_output`](Self::poll_output)
/// until it returns `None`**, also after an error. The session reads at all times. A driver whose
/// peer reads slowly may pause the draining: that is the back-pressure, because requests come after
/// bytes to transmit.
#[derive(Debug)]
pub struct SenderSession {
    deframer: Deframer,
    machine: Machine<State, Core>,
}

/// The data that every state needs.
#[derive(Debug)]
struct Core {
    announcement: Announcement,
    limits: Limits,
    outputs: Outputs<SenderOutput>,
    /// Frames received, except for signs of life.
    frames: u64,
    /// Whether `Finalize` was sent and has no answer yet.
    is_unsettled: bool,
}

#[derive(Debug)]
enum State {
    ExpectWelcome(ExpectWelcome),
    ExpectRefStatus(ExpectRefStatus),
    Planning(Planning),
    Transfer(Box<Transfer>),
    ExpectFinalized(ExpectFinalized),
    ExpectSummary(ExpectSummary),
    Finished,
}

impl SenderSession {
    /// Starts a session: the greeting and the announcement are ready to transmit.
    pub fn new(config: SenderConfig) -> Self {
        let SenderConfig {
            agent,
            announcement,
            small,
        } = config;
        let early = Early::new(small);
        let mut outputs = Outputs::new();
        greeting::send(agent, &announcement, early.as_ref(), &mut outputs);
        let core = Core {
            announcement,
            limits: Limits::default(),
            outputs,
            frames: 0,
            is_unsettled: false,
        };
        Self {
            deframer: Deframer::new(MAX_FRAME_LEN_MAX),
            machine: Machine::new(State::ExpectWelcome(ExpectWelcome::new(early)), core),
        }
    }

    /// Takes the complete frames off `input`, and leaves the rest.
    ///
    /// # Errors
    ///
    /// `Decode`, `Violation`, `PeerClosed`: the server's fault.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        self.machine.refuse_if_failed()?;
        loop {
            match self.deframer.next(input) {
                Ok(Some(frame)) => self.handle_frame(frame)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.machine.fail(error.into())),
            }
        }
    }

    /// Takes the end of the server's bytes.
    ///
    /// # Errors
    ///
    /// `Truncated`, if it comes before the push is done.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.machine.step(|state, _| match state {
            State::Finished => Ok(State::Finished),
            State::ExpectWelcome(_)
            | State::ExpectRefStatus(_)
            | State::Planning(_)
            | State::Transfer(_)
            | State::ExpectFinalized(_)
            | State::ExpectSummary(_) => Err(Error::Truncated),
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
                (State::Planning(state), SourceOp::Plan(_)) => state.handle_planned(outcome, core),
                (State::Transfer(state), op) => state.handle_source(op, outcome, core),
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

    /// Returns how many frames the server has sent, without its `Ping`s: a server that sends only
    /// these makes no progress.
    pub const fn progress(&self) -> u64 {
        self.machine.core.frames
    }

    /// Returns whether the server may have set refs without having said so: `Finalize` was sent,
    /// and its answer has not come. Announcing the same push again tells.
    pub const fn is_unsettled(&self) -> bool {
        self.machine.core.is_unsettled
    }

    /// Queues a sign of life.
    pub fn ping(&mut self) {
        if !self.is_finished() {
            self.machine.core.outputs.ping();
        }
    }

    /// Ends the session for a reason of the driver's, such as a timer, and tells the server.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        self.machine.abort(code, text)
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        let deframer = &mut self.deframer;
        self.machine.step(|state, core| {
            core.frames += u64::from(!matches!(frame, Frame::Ping(_)));
            match (state, frame) {
                (state, Frame::Ping(_)) if state.is_greeted() => Ok(state),
                (
                    State::Finished,
                    Frame::Close(Close {
                        code: CloseCode::DONE,
                        ..
                    }),
                ) => Ok(State::Finished),
                (
                    state @ (State::Transfer(_) | State::ExpectFinalized(_)),
                    Frame::Staged(staged),
                ) => {
                    core.outputs
                        .push_latest(SenderEvent::Staged(staged), SenderOutput::is_staged);
                    Ok(state)
                }
                (_, Frame::Close(close)) => {
                    core.is_unsettled &= !close.code.comes_before_publication();
                    Err(Error::PeerClosed(close))
                }
                (State::ExpectWelcome(state), frame) => {
                    let next = state.handle(frame, core);
                    deframer.payload_len_max = core.limits.frame_len_max;
                    next
                }
                (State::ExpectRefStatus(state), frame) => state.handle(frame, core),
                (State::Planning(state), frame) => state.handle(frame),
                (State::Transfer(state), frame) => state.handle(frame, core),
                (State::ExpectFinalized(state), frame) => state.handle(frame, core),
                (State::ExpectSummary(state), frame) => state.handle(frame, core),
                (State::Finished, frame) => unexpected("the end", &frame),
            }
        })
    }
}

impl State {
    const fn is_greeted(&self) -> bool {
        !matches!(self, Self::ExpectWelcome(_))
    }
}

impl Core {
    fn request(&mut self, op: SourceOp) {
        self.outputs
            .push(SenderOutput::Source(SourceRequest { op }));
    }
}

impl FailsWith for Core {
    fn fail_with(&mut self, error: &Error) {
        self.outputs
            .keep(|output| !matches!(output, SenderOutput::Source(_)));
        if let Some((code, text)) = error.to_close() {
            self.outputs.close(code, &text);
        }
    }
}
