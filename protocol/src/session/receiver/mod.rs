//! The receiving end of a push (SPEC "Receiver session").
//!
//! ```text
//! ExpectHello -> ExpectAnnounce -> Opening -> Transfer <-> Publishing -> Summarizing -> Finished
//!                                    |           `----------- withdrawn ----------------^
//!                                    `--- nothing accepted -----------------------------'
//! ```
//!
//! Keeps INV-3: only a completed `Publish` leads to `Finalized`. Never sees a path, a lock or a
//! clock, and does not verify objects: the store does, and its completions say so.

mod finish;
mod greeting;
mod ledger;
mod transfer;

use bytes::{Bytes, BytesMut};

use self::finish::{Publishing, Summarizing};
use self::greeting::{ExpectAnnounce, ExpectHello, Opening};
use self::transfer::Transfer;
use super::backlog::Backlog;
use super::error::{ApiMisuse, Error, unexpected};
use super::greeting::ReceiverConfig;
use super::machine::{FailsWith, Machine};
use super::outputs::Outputs;
use super::pull::PullServer;
use super::store::{Announcement, Opened, StoreDone, StoreOp, StoreRequest};
use crate::frame::deframer::Deframer;
use crate::frame::{Close, CloseCode, Frame, Hello, RefOutcome, Staged};
use crate::limits::MAX_EARLY_FRAME_LEN;

/// The outputs of a receiver session.
#[derive(Debug)]
#[must_use]
pub enum ReceiverOutput {
    /// Bytes for the client, in order.
    Transmit(Bytes),
    /// Work for the store, to be completed.
    Store(StoreRequest),
    /// Something to log.
    Event(ReceiverEvent),
}

/// An event of a receiver session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverEvent {
    /// The client has introduced itself.
    Greeted(Hello),
    /// The client has announced its push, and the store has answered.
    Opened(Announcement, Opened),
    /// Refs were published, durably.
    Published(Vec<RefOutcome>),
}

impl From<Bytes> for ReceiverOutput {
    fn from(bytes: Bytes) -> Self {
        Self::Transmit(bytes)
    }
}

impl From<ReceiverEvent> for ReceiverOutput {
    fn from(event: ReceiverEvent) -> Self {
        Self::Event(event)
    }
}

/// The receiving end of one push.
///
/// **The drain rule: after every `handle_*`, call [`poll_output`](Self::poll_output) until it
/// returns `None`**, also after an error: the `Close` for the client is among the outputs.
///
/// A driver also stops reading while its client accepts too few bytes. The sender reads at all
/// times (REQ-36), so this cannot deadlock.
///
/// Inputs are `handle_bytes`, `handle_eof` and `handle_stored`; everything else is a getter.
#[derive(Debug)]
pub struct ReceiverSession {
    deframer: Deframer,
    machine: Machine<State, Core>,
}

/// The data that every state needs.
#[derive(Debug)]
struct Core {
    config: ReceiverConfig,
    outputs: Outputs<ReceiverOutput>,
    backlog: Backlog,
    /// Frames received, except for signs of life.
    frames: u64,
    /// Whether the client's bytes have ended where they may.
    left: bool,
}

#[derive(Debug)]
enum State {
    ExpectHello(ExpectHello),
    ExpectAnnounce(ExpectAnnounce),
    /// The client pulls: the driver takes this session.
    Pull(Box<PullServer>),
    Opening(Opening),
    Transfer(Box<Transfer>),
    Publishing(Publishing),
    Summarizing(Summarizing),
    Finished,
}

impl ReceiverSession {
    /// Starts a session; the client speaks first.
    pub const fn new(config: ReceiverConfig) -> Self {
        let core = Core {
            config,
            outputs: Outputs::new(),
            backlog: Backlog::new(),
            frames: 0,
            left: false,
        };
        Self {
            deframer: Deframer::new(MAX_EARLY_FRAME_LEN),
            machine: Machine::new(State::ExpectHello(ExpectHello), core),
        }
    }

    /// Takes complete frames, and available parts of an `ObjectChunk`, off `input` while
    /// [`wants_input`](Self::wants_input), and leaves the rest: hand it in again, with or without
    /// more bytes, after a completion.
    ///
    /// # Errors
    ///
    /// `Decode`, `Violation`, `PeerClosed`: the client's fault.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        self.machine.refuse_if_failed()?;
        while self.wants_input() {
            let frame = match self.deframer.next_part(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.machine.fail(error.into())),
            };
            self.handle_frame(frame)?;
        }
        Ok(())
    }

    /// Takes the end of the client's bytes.
    ///
    /// # Errors
    ///
    /// `Truncated`, if it comes before `Finalize`. The session completes a finalized push all the
    /// same. Do not call this while `handle_bytes` leaves complete frames.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.machine.refuse_if_failed()?;
        self.machine.step(|state, core| {
            core.left = match &state {
                State::Transfer(transfer) => transfer.is_finalizing(),
                State::Publishing(_) | State::Summarizing(_) | State::Finished => true,
                State::ExpectHello(_)
                | State::ExpectAnnounce(_)
                | State::Opening(_)
                | State::Pull(_) => false,
            };
            // REQ-35.
            if core.left {
                Ok(state)
            } else {
                Err(Error::Truncated)
            }
        })
    }

    /// Takes the completion of a store request.
    ///
    /// # Errors
    ///
    /// `Fault`, if the store cannot continue or refuses an object.
    pub fn handle_stored(&mut self, done: StoreDone) -> Result<(), Error> {
        self.machine.step(|state, core| {
            core.backlog.completed(&done);
            let StoreDone { request, outcome } = done;
            let outcome = outcome.map_err(Error::Fault)?;
            match (state, request.op) {
                (State::Opening(state), StoreOp::Open(announcement)) => {
                    state.handle_opened(announcement, outcome, core)
                }
                (State::Transfer(state), op) => state.handle_stored(op, outcome, core),
                (State::Publishing(state), StoreOp::Publish) => {
                    state.handle_published(outcome, core)
                }
                (State::Summarizing(state), StoreOp::Summarize) => {
                    state.handle_summarized(outcome, core)
                }
                // The client withdrew while its objects were being staged.
                (State::Finished, _) => Ok(State::Finished),
                _ => Err(ApiMisuse::Outcome.into()),
            }
        })
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        self.machine.core.outputs.pop()
    }

    /// Returns the session that goes on, once the client has asked to pull rather than announced a
    /// push. Call this after `handle_bytes`, when no output is left. This session is finished then:
    /// hand the bytes that it has left to the other one at once, even if there are none.
    pub fn take_pull(&mut self) -> Option<PullServer> {
        let is_pull = matches!(self.machine.state(), Some(State::Pull(_)));
        let taken = is_pull.then(|| {
            self.machine.step_with(|state, _| {
                if let State::Pull(pull) = state {
                    Ok((State::Finished, Some(*pull)))
                } else {
                    Ok((state, None))
                }
            })
        });
        taken?.ok()?
    }

    /// Returns whether the driver should read more bytes; `false` is back-pressure.
    ///
    /// REQ-26: from `Finalize` until its answer the session reads nothing: neither a goodbye nor a
    /// mistake of the client's may interfere with a requested publication.
    pub const fn wants_input(&self) -> bool {
        let awaits_client = match self.machine.state() {
            Some(State::ExpectHello(_) | State::ExpectAnnounce(_)) => true,
            Some(State::Transfer(transfer)) => !transfer.is_finalizing(),
            Some(
                State::Pull(_)
                | State::Opening(_)
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

    /// Returns how many frames and parts of objects the client has sent, without its `Ping`s: a
    /// client that sends only these makes no progress.
    pub const fn progress(&self) -> u64 {
        self.machine.core.frames
    }

    /// Returns whether the session will produce nothing more.
    pub const fn is_finished(&self) -> bool {
        matches!(self.machine.state(), Some(State::Finished) | None)
    }

    /// Returns whether refs may be moving, or their summary is being written: a driver that is told
    /// to stop, or loses its client, waits until then.
    pub const fn is_publishing(&self) -> bool {
        matches!(
            self.machine.state(),
            Some(State::Publishing(_) | State::Summarizing(_))
        )
    }

    /// Queues a sign of life, if the client may get one now.
    pub fn ping(&mut self) {
        if self.machine.state().is_some() {
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
                (State::ExpectAnnounce(state), frame) if state.is_pull(&frame) => {
                    let taken = std::mem::replace(deframer, Deframer::new(0));
                    let config = core.config.clone();
                    Ok(State::Pull(Box::new(PullServer::greeted(
                        config, taken, frame,
                    ))))
                }
                (State::ExpectAnnounce(state), frame) => state.handle(frame, core),
                (State::Transfer(state), frame) => state.handle(frame, core),
                (
                    State::Pull(_)
                    | State::Opening(_)
                    | State::Publishing(_)
                    | State::Summarizing(_)
                    | State::Finished,
                    frame,
                ) => unexpected("the store", &frame),
            }
        })
    }
}

impl State {
    const fn is_greeted(&self) -> bool {
        !matches!(self, Self::ExpectHello(_))
    }

    /// Before it finalizes, a client may withdraw.
    fn handle_close(self, close: Close) -> Result<Self, Error> {
        match self {
            Self::Transfer(_) if close.code == CloseCode::DONE => Ok(Self::Finished),
            Self::ExpectHello(_)
            | Self::ExpectAnnounce(_)
            | Self::Pull(_)
            | Self::Opening(_)
            | Self::Transfer(_)
            | Self::Publishing(_)
            | Self::Summarizing(_)
            | Self::Finished => Err(Error::PeerClosed(close)),
        }
    }
}

impl Core {
    fn request(&mut self, op: StoreOp) {
        let request = StoreRequest::new(op);
        self.backlog.add(&request);
        self.outputs.push(ReceiverOutput::Store(request));
    }
}

impl FailsWith for Core {
    fn fail_with(&mut self, error: &Error) {
        self.outputs
            .keep(|output| !matches!(output, ReceiverOutput::Store(_)));
        if let Some((code, text)) = error.to_close() {
            self.outputs.close(code, &text);
        }
    }
}
