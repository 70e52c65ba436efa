//! The receiving end of a push (SPEC "Receiver session").
//!
//! ```text
//! ExpectHello -> ExpectAnnounce -> Opening -> Transfer <-> Publishing -> Summarizing -> Finished
//!                                    |           `----------- withdrawn ----------------^
//!                                    `--- nothing accepted -----------------------------'
//! ```
//!
//! Keeps INV-3: only a completed `Publish` leads to `Finalized`. It never sees a path, a lock or a
//! clock, and does not verify: the store does, and says so in its completions.

mod finish;
mod greeting;
mod ledger;
mod transfer;

use bytes::{Bytes, BytesMut};

use self::finish::{Publishing, Summarizing};
use self::greeting::{ExpectAnnounce, ExpectHello, Opening};
use self::transfer::Transfer;
use super::backlog::Backlog;
use super::error::{ApiMisuse, Error, Fault, Violation};
use super::outputs::Outputs;
use super::store::{Announcement, Opened, StoreDone, StoreOp, StoreRequest};
use crate::frame::deframer::Deframer;
use crate::frame::{Close, CloseCode, Frame, Hello, RefOutcome};
use crate::limits::{Limits, MAX_EARLY_FRAME_LEN};
use crate::text::Text;

/// What a receiver tells its clients.
#[derive(Clone, Debug, Default)]
pub struct ReceiverConfig {
    /// Program and version.
    pub agent: Text,
    /// Where everybody may pull from.
    pub pull_url: Option<Text>,
    /// Who the client is taken for.
    pub identity: Option<Text>,
    /// What it may do, a line for each right; `None` if that is not said.
    pub rights: Option<String>,
    /// Why the client is sent away once it has been told what it may do: it may do nothing.
    pub turns_away: Option<Text>,
    /// What the client must keep within.
    pub limits: Limits,
}

/// What a receiver session has for its driver.
#[derive(Debug)]
#[must_use]
pub enum ReceiverOutput {
    /// Bytes for the client, in order.
    Transmit(Bytes),
    /// Work for the store, to be completed.
    Store(StoreRequest),
    /// Something worth a log line.
    Event(ReceiverEvent),
}

/// What happened in a receiver session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverEvent {
    /// The client said who it is.
    Greeted(Hello),
    /// The client said what it wants, and the store what it thinks of that.
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
/// A driver also stops reading while its client takes too little of what is to be transmitted.
/// The sender reads at all times, so this cannot become a deadlock.
///
/// Inputs are `handle_bytes`, `handle_eof` and `handle_stored`; everything else is a getter.
#[derive(Debug)]
pub struct ReceiverSession {
    deframer: Deframer,
    state: State,
    core: Core,
}

/// What every state needs.
#[derive(Debug)]
struct Core {
    config: ReceiverConfig,
    outputs: Outputs<ReceiverOutput>,
    backlog: Backlog,
    /// Frames that were more than a sign of life.
    frames: u64,
    /// The client's bytes ended where they may.
    left: bool,
}

#[derive(Debug)]
enum State {
    ExpectHello(ExpectHello),
    ExpectAnnounce(ExpectAnnounce),
    Opening(Opening),
    Transfer(Box<Transfer>),
    Publishing(Publishing),
    Summarizing(Summarizing),
    Finished,
    Closed,
}

impl ReceiverSession {
    /// Starts a session; the client speaks first.
    pub const fn new(config: ReceiverConfig) -> Self {
        Self {
            deframer: Deframer::new(MAX_EARLY_FRAME_LEN),
            state: State::ExpectHello(ExpectHello),
            core: Core {
                config,
                outputs: Outputs::new(),
                backlog: Backlog::new(),
                frames: 0,
                left: false,
            },
        }
    }

    /// Takes the whole frames that `input` holds, and what it holds of an `ObjectChunk`, while
    /// [`wants_input`](Self::wants_input), and leaves the rest: to be handed in again, with or
    /// without more, when a completion lets it.
    ///
    /// # Errors
    ///
    /// `Decode`, `Violation`, `PeerClosed`: the client's doing.
    pub fn handle_bytes(&mut self, input: &mut BytesMut) -> Result<(), Error> {
        self.refuse_if_closed()?;
        while self.wants_input() {
            let frame = match self.deframer.next_part(input) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(error) => return Err(self.fail(error.into())),
            };
            self.handle_frame(frame)?;
        }
        Ok(())
    }

    /// Takes the end of the client's bytes.
    ///
    /// # Errors
    ///
    /// `Truncated`, when it comes before `Finalize`. What the client finalized is carried through
    /// all the same. The end comes after the bytes: not while `handle_bytes` leaves whole frames.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.refuse_if_closed()?;
        self.core.left = match &self.state {
            State::Transfer(transfer) => transfer.is_finalizing(),
            State::Publishing(_) | State::Summarizing(_) | State::Finished => true,
            State::ExpectHello(_)
            | State::ExpectAnnounce(_)
            | State::Opening(_)
            | State::Closed => false,
        };
        if self.core.left {
            return Ok(());
        }
        // REQ-35.
        Err(self.fail(Error::Truncated))
    }

    /// Takes the completion of a store request.
    ///
    /// # Errors
    ///
    /// `Fault`, when the store cannot go on or refuses an object.
    pub fn handle_stored(&mut self, done: StoreDone) -> Result<(), Error> {
        self.refuse_if_closed()?;
        let StoreDone { request, outcome } = done;
        self.core.backlog.completed(&request);
        let outcome = outcome.map_err(|fault| self.fail(Error::Fault(fault)))?;
        let core = &mut self.core;
        let next = match (
            std::mem::replace(&mut self.state, State::Closed),
            request.op,
        ) {
            (State::Opening(state), StoreOp::Open(announcement)) => {
                state.handle_opened(announcement, outcome, core)
            }
            (State::Transfer(state), op) => state.handle_stored(op, outcome, core),
            (State::Publishing(state), StoreOp::Publish) => state.handle_published(outcome, core),
            (State::Summarizing(state), StoreOp::Summarize) => {
                state.handle_summarized(outcome, core)
            }
            // The client withdrew while its objects were being staged.
            (State::Finished, _) => Ok(State::Finished),
            _ => Err(ApiMisuse::Outcome.into()),
        };
        self.enter(next)
    }

    /// Returns the next output, if there is one.
    pub fn poll_output(&mut self) -> Option<ReceiverOutput> {
        self.core.outputs.pop()
    }

    /// Returns whether more bytes should be read; `false` is back-pressure.
    ///
    /// REQ-26: from `Finalize` until it is answered nothing is read: neither a goodbye nor a mistake of the
    /// client's may come between the store and a publication that was asked for.
    pub const fn wants_input(&self) -> bool {
        let awaits_client = match &self.state {
            State::ExpectHello(_) | State::ExpectAnnounce(_) => true,
            State::Transfer(transfer) => !transfer.is_finalizing(),
            State::Opening(_)
            | State::Publishing(_)
            | State::Summarizing(_)
            | State::Finished
            | State::Closed => false,
        };
        awaits_client && !self.core.backlog.is_busy()
    }

    /// Returns how many frames of the client were taken, and parts of objects, without its `Ping`s:
    /// what keeps sending these alone gets nowhere.
    pub const fn progress(&self) -> u64 {
        self.core.frames
    }

    /// Returns whether nothing more will come of this session.
    pub const fn is_finished(&self) -> bool {
        matches!(self.state, State::Finished | State::Closed)
    }

    /// Returns whether refs may be moving, or the summary is written for them: a driver that is told
    /// to stop, or loses its client, then waits.
    pub const fn is_publishing(&self) -> bool {
        matches!(self.state, State::Publishing(_) | State::Summarizing(_))
    }

    /// Puts out a sign of life, if the client may have one now.
    pub fn ping(&mut self) {
        if !matches!(self.state, State::Closed) {
            self.core.outputs.ping();
        }
    }

    /// Ends the session for a reason of the driver's, such as a timer, and tells the client.
    pub fn abort(&mut self, code: CloseCode, text: &str) -> Error {
        if let Err(closed) = self.refuse_if_closed() {
            return closed;
        }
        self.fail(Error::Fault(Fault {
            code,
            text: text.to_owned(),
        }))
    }

    fn refuse_if_closed(&self) -> Result<(), Error> {
        if matches!(self.state, State::Closed) {
            return Err(ApiMisuse::Closed.into());
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        let core = &mut self.core;
        core.frames += u64::from(!matches!(frame, Frame::Ping(_)));
        let next = match (std::mem::replace(&mut self.state, State::Closed), frame) {
            (state, Frame::Ping(_)) if state.is_greeted() => Ok(state),
            (state, Frame::Close(close)) => state.handle_close(close),
            (State::ExpectHello(state), frame) => {
                self.deframer.payload_len_max = core.config.limits.frame_len_max;
                state.handle(frame, core)
            }
            (State::ExpectAnnounce(state), frame) => state.handle(frame, core),
            (State::Transfer(state), frame) => state.handle(frame, core),
            (
                State::Opening(_)
                | State::Publishing(_)
                | State::Summarizing(_)
                | State::Finished
                | State::Closed,
                frame,
            ) => unexpected("the store", &frame),
        };
        self.enter(next)
    }

    fn enter(&mut self, next: Result<State, Error>) -> Result<(), Error> {
        match next {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(error) => Err(self.fail(error)),
        }
    }

    /// Closes the session and tells the client why.
    fn fail(&mut self, error: Error) -> Error {
        self.state = State::Closed;
        self.core
            .outputs
            .keep(|output| !matches!(output, ReceiverOutput::Store(_)));
        if let Some((code, text)) = error.to_close() {
            self.core.outputs.close(code, &text);
        }
        error
    }
}

impl State {
    const fn is_greeted(&self) -> bool {
        !matches!(self, Self::ExpectHello(_))
    }

    /// A client may withdraw before it finalizes.
    fn handle_close(self, close: Close) -> Result<Self, Error> {
        match self {
            Self::Transfer(_) if close.code == CloseCode::DONE => Ok(Self::Finished),
            Self::ExpectHello(_)
            | Self::ExpectAnnounce(_)
            | Self::Opening(_)
            | Self::Transfer(_)
            | Self::Publishing(_)
            | Self::Summarizing(_)
            | Self::Finished
            | Self::Closed => Err(Error::PeerClosed(close)),
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

/// REQ-34: what a state does not take ends the session.
fn unexpected<T>(awaited: &'static str, frame: &Frame) -> Result<T, Error> {
    Err(Violation::Unexpected {
        awaited,
        got: frame.kind(),
    }
    .into())
}
