//! The server's end of a pull (SPEC "Pulling").
//!
//! ```text
//! ExpectHello -> ExpectRequest -> Judging -> Answering -> Finished
//!                                    |
//!                                    `-> Measuring (of a dry run) -> Finished
//! ```
//!
//! Never opens a repository, and knows no rights: the driver's outcome of `Judge` says what the
//! client gets. Needs nothing of the client after the request, so the client's bytes may end there.

mod answering;
mod greeting;

use bytes::{Bytes, BytesMut};

use self::answering::Answering;
use self::greeting::{ExpectHello, ExpectRequest, Judging, Measuring};
use super::super::error::{ApiMisuse, Error, unexpected};
use super::super::greeting::ReceiverConfig;
use super::super::machine::{FailsWith, Machine};
use super::super::outputs::Outputs;
use super::answer::{AnswerDone, AnswerOp, AnswerRequest, PullAnswer};
use crate::frame::deframer::Deframer;
use crate::frame::{Close, CloseCode, Frame, Hello, Sent};
use crate::limits::MAX_EARLY_FRAME_LEN;

/// The outputs of a pull's server.
#[derive(Debug)]
#[must_use]
pub enum PullServerOutput {
    /// Bytes for the client, in order.
    Transmit(Bytes),
    /// Work for the repository, to be completed.
    Answer(AnswerRequest),
    /// Something to log.
    Event(PullServerEvent),
}

/// An event of a pull's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullServerEvent {
    /// The client has introduced itself.
    Greeted(Hello),
    /// The client was told what becomes of each ref.
    Answered(PullAnswer),
    /// The outputs before this one transmit the rest of the answer.
    Sent(Sent),
}

impl From<Bytes> for PullServerOutput {
    fn from(bytes: Bytes) -> Self {
        Self::Transmit(bytes)
    }
}

impl From<PullServerEvent> for PullServerOutput {
    fn from(event: PullServerEvent) -> Self {
        Self::Event(event)
    }
}

/// The server's end of one pull.
///
/// **The drain rule: after `take_pull` and every `handle_*`, call
/// [`poll_output`](Self::poll_output) until it returns `None`**, also after an error: the `Close`
/// for the client is among the outputs. A driver whose client reads slowly may pause the draining:
/// that is the back-pressure, because requests come after bytes to transmit.
#[derive(Debug)]
pub struct PullServer {
    deframer: Deframer,
    /// The frame that turned a session into this one.
    first: Option<Frame>,
    machine: Machine<State, Core>,
}

/// The data that every state needs.
#[derive(Debug)]
struct Core {
    config: ReceiverConfig,
    outputs: Outputs<PullServerOutput>,
    /// Frames received, except for signs of life.
    frames: u64,
}

#[derive(Debug)]
enum State {
    ExpectHello(ExpectHello),
    ExpectRequest(ExpectRequest),
    Judging(Judging),
    Measuring(Measuring),
    Answering(Box<Answering>),
    Finished,
}

impl PullServer {
    /// Starts a session in which nothing but a pull is served; the client speaks first. Ignores
    /// `serves_pulls`.
    pub const fn new(config: ReceiverConfig) -> Self {
        Self {
            deframer: Deframer::new(MAX_EARLY_FRAME_LEN),
            first: None,
            machine: Machine::new(
                State::ExpectHello(ExpectHello),
                Core {
                    config,
                    outputs: Outputs::new(),
                    frames: 0,
                },
            ),
        }
    }

    /// Goes on where another session has greeted the client.
    pub(crate) const fn greeted(config: ReceiverConfig, deframer: Deframer, first: Frame) -> Self {
        Self {
            deframer,
            first: Some(first),
            machine: Machine::new(
                State::ExpectRequest(ExpectRequest::new()),
                Core {
                    config,
                    outputs: Outputs::greeted(),
                    frames: 0,
                },
            ),
        }
    }

    /// Takes the complete frames off `input`, and leaves the rest.
    ///
    /// # Errors
    ///
    /// `Decode`, `Violation`, `PeerClosed`: the client's fault.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        self.machine.refuse_if_failed()?;
        if let Some(first) = self.first.take() {
            self.handle_frame(first)?;
        }
        while self.wants_input() {
            match self.deframer.next(input) {
                Ok(Some(frame)) => self.handle_frame(frame)?,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.machine.fail(error.into())),
            }
        }
        Ok(())
    }

    /// Takes the end of the client's bytes.
    ///
    /// # Errors
    ///
    /// `Truncated`, if it comes before the end of the request. After that it means nothing.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.machine.step(|state, _| match state {
            State::ExpectHello(_) | State::ExpectRequest(_) => Err(Error::Truncated),
            // REQ-58.
            State::Judging(_) | State::Measuring(_) | State::Answering(_) | State::Finished => {
                Ok(state)
            }
        })
    }

    /// Takes the completion of a request to the repository.
    ///
    /// # Errors
    ///
    /// `Fault`, if the repository cannot be read.
    pub fn handle_answer(&mut self, done: AnswerDone) -> Result<(), Error> {
        self.machine.step(|state, core| {
            let AnswerDone { request, outcome } = done;
            // The client withdrew, or the answer was sent before it was measured.
            if matches!(state, State::Finished) {
                return Ok(state);
            }
            let outcome = outcome.map_err(Error::Fault)?;
            match (state, request.op) {
                (State::Judging(state), AnswerOp::Judge(request)) => {
                    state.handle_judged(&request, outcome, core)
                }
                (State::Measuring(state), AnswerOp::Measure) => {
                    state.handle_measured(outcome, core)
                }
                (State::Answering(state), op) => state.handle_answer(op, outcome, core),
                _ => Err(ApiMisuse::Outcome.into()),
            }
        })
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<PullServerOutput> {
        self.machine.core.outputs.pop()
    }

    /// Returns whether the driver should read more bytes. A client has little to say after its
    /// request; only a session that is over reads nothing.
    pub const fn wants_input(&self) -> bool {
        !self.is_finished()
    }

    /// Returns whether the driver should wait for the client: the request has not come whole.
    pub const fn awaits_request(&self) -> bool {
        matches!(
            self.machine.state(),
            Some(State::ExpectHello(_) | State::ExpectRequest(_))
        )
    }

    /// Returns how many frames the client has sent, without its `Ping`s.
    pub const fn progress(&self) -> u64 {
        self.machine.core.frames
    }

    /// Returns whether the session will produce nothing more. The driver closes the stream, and
    /// waits for no `Close`.
    pub const fn is_finished(&self) -> bool {
        matches!(self.machine.state(), Some(State::Finished) | None)
    }

    /// Queues a sign of life, if the client may get one now.
    pub fn ping(&mut self) {
        if !self.is_finished() {
            self.machine.core.outputs.ping();
        }
    }

    /// Ends the session for a reason of the driver's, such as a timer, and tells the client.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        self.machine.abort(code, text)
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        let deframer = &mut self.deframer;
        self.machine.step(|state, core| {
            core.frames += u64::from(!matches!(frame, Frame::Ping(_)));
            match (state, frame) {
                (state, Frame::Ping(_)) if state.is_greeted() => Ok(state),
                (state, Frame::Close(close)) => state.handle_close(close),
                (State::ExpectHello(state), frame) => {
                    deframer.payload_len_max = core.config.limits.frame_len_max;
                    state.handle(frame, core)
                }
                (State::ExpectRequest(state), frame) => state.handle(frame, core),
                (
                    State::Judging(_) | State::Measuring(_) | State::Answering(_) | State::Finished,
                    frame,
                ) => unexpected("nothing after a request", &frame),
            }
        })
    }
}

impl State {
    const fn is_greeted(&self) -> bool {
        !matches!(self, Self::ExpectHello(_))
    }

    /// A client may withdraw a request.
    fn handle_close(self, close: Close) -> Result<Self, Error> {
        match self {
            Self::Judging(_) | Self::Measuring(_) | Self::Answering(_) | Self::Finished
                if close.code == CloseCode::DONE =>
            {
                Ok(Self::Finished)
            }
            Self::ExpectHello(_)
            | Self::ExpectRequest(_)
            | Self::Judging(_)
            | Self::Measuring(_)
            | Self::Answering(_)
            | Self::Finished => Err(Error::PeerClosed(close)),
        }
    }
}

impl Core {
    fn request(&mut self, op: AnswerOp) {
        self.outputs
            .push(PullServerOutput::Answer(AnswerRequest { op }));
    }

    /// Ends the answer.
    fn say_sent(&mut self, sent: Sent) -> State {
        self.outputs.send(&Frame::Sent(sent));
        self.outputs.push(PullServerEvent::Sent(sent));
        State::Finished
    }
}

impl FailsWith for Core {
    fn fail_with(&mut self, error: &Error) {
        self.outputs
            .keep(|output| !matches!(output, PullServerOutput::Answer(_)));
        if let Some((code, text)) = error.to_close() {
            self.outputs.close(code, &text);
        }
    }
}
