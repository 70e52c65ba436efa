//! The client's end of a pull (SPEC "Pulling").
//!
//! ```text
//! ExpectWelcome -> ExpectAnswer -> Opening -> Receiving -> Publishing -> Finished
//!                        |            `--- nothing accepted ---------------^
//!                        `-> ExpectSent (nothing promised, or a dry run) --'
//! ```
//!
//! Takes no object that neither a promise nor a verified parent justifies: it hashes commits and
//! dirtrees itself, to learn what they name, before it takes the next object. Only a whole answer
//! leads to `Publish`. Opens no repository: the driver completes its requests.

mod finish;
mod greeting;
mod ledger;
mod read;
mod receiving;

use artifact_formats::{Checksum, RefName, RefPattern};
use bytes::{Bytes, BytesMut};

use self::finish::{ExpectSent, Publishing};
use self::greeting::{ExpectAnswer, ExpectWelcome, Opening};
use self::receiving::Receiving;
use super::super::backlog::Backlog;
use super::super::error::{ApiMisuse, Error, unexpected};
use super::super::machine::{FailsWith, Machine};
use super::super::outputs::Outputs;
use super::super::store::{StoreDone, StoreOp, StoreRequest};
use super::answer::PullAnswer;
use crate::frame::deframer::Deframer;
use crate::frame::{
    Base, CloseCode, Expect, Extent, Frame, Prefix, PullOptions, PushOptions, RefOutcome, Staged,
    Welcome,
};
use crate::limits::{Limits, MAX_FRAME_LEN_MAX};
use crate::text::Text;

pub use self::read::{ReadDone, ReadRequest};

/// The configuration of a pull's client: what it wants, and what it holds.
#[derive(Clone, Debug, Default)]
pub struct PullClientConfig {
    /// Program and version.
    pub agent: Text,
    /// Options of the pull.
    pub options: PullOptions,
    /// How many ancestors of each commit are wanted as well.
    pub history: u32,
    /// Refs that are wanted, each once, and what is held of them. If a pattern matches a name that
    /// is held already, the name belongs here as well.
    pub refs: Vec<WantedRef>,
    /// Every ref that one of these matches is wanted; at most
    /// [`MAX_PATTERNS`](crate::limits::MAX_PATTERNS).
    pub patterns: Vec<RefPattern>,
    /// Refs of the local repository whose commits are complete, and which the wanted ones may
    /// resemble; at most [`MAX_BASES`](crate::limits::MAX_BASES).
    pub held: Vec<Base>,
    /// Other objects that the local repository holds, verified: the server does not send them. At
    /// most [`MAX_HELD`](crate::limits::MAX_HELD).
    pub objects: Vec<Prefix>,
    /// How the local refs may be moved: `FORCE`, or not. Nothing else has a meaning here.
    pub moves: PushOptions,
    /// The most that this client takes: the `push_` ones count for the whole pull. `frame_len_max`
    /// is not used.
    pub limits: Limits,
}

/// A wanted ref, and what the local repository holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedRef {
    /// The ref's name at the server.
    pub name: RefName,
    /// Its local value, if that commit is complete.
    pub current: Option<Checksum>,
    /// SHA-256 of that commit's local detached metadata, if it has some.
    pub detached: Option<Checksum>,
    /// The local value that the ref must hold when it is moved.
    pub expect: Expect,
}

/// The outputs of a pull's client.
#[derive(Debug)]
#[must_use]
pub enum PullClientOutput {
    /// Bytes for the server, in order.
    Transmit(Bytes),
    /// Work for the store, to be completed.
    Store(StoreRequest),
    /// Objects to read from the store, to be completed.
    Read(ReadRequest),
    /// Something to show.
    Event(PullClientEvent),
}

/// An event of a pull's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PullClientEvent {
    /// The server has introduced itself.
    Welcomed(Welcome),
    /// The server has told what becomes of each ref.
    Answered(PullAnswer),
    /// The server has told how much the answer contains.
    Extent(Extent),
    /// The answer has come whole; the store publishes it next.
    Received(Staged),
    /// Promised commits need so many objects that neither came nor are here. Nothing was
    /// published. Ask again, without `objects` and `held`.
    Missing(u64),
    /// The outcome of each ref of the answer; durable. `Unchanged` if it was up to date, and
    /// `WouldUpdate` in a dry run.
    Published(Vec<(RefName, RefOutcome)>),
}

impl From<Bytes> for PullClientOutput {
    fn from(bytes: Bytes) -> Self {
        Self::Transmit(bytes)
    }
}

impl From<PullClientEvent> for PullClientOutput {
    fn from(event: PullClientEvent) -> Self {
        Self::Event(event)
    }
}

/// The client's end of one pull.
///
/// **The drain rule: after `new` and every `handle_*`, call [`poll_output`](Self::poll_output)
/// until it returns `None`**, also after an error. The bytes that are ready after `new` are the
/// whole request.
#[derive(Debug)]
pub struct PullClient {
    deframer: Deframer,
    machine: Machine<State, Core>,
}

/// The data that every state needs.
#[derive(Debug)]
struct Core {
    config: PullClientConfig,
    frame_len_max: u32,
    outputs: Outputs<PullClientOutput>,
    backlog: Backlog,
    /// Frames received, except for signs of life.
    frames: u64,
}

#[derive(Debug)]
enum State {
    ExpectWelcome(ExpectWelcome),
    ExpectAnswer(ExpectAnswer),
    ExpectSent(ExpectSent),
    Opening(Opening),
    Receiving(Box<Receiving>),
    Publishing(Publishing),
    Finished,
}

impl PullClient {
    /// Starts a session: the whole request is ready to transmit.
    pub fn new(mut config: PullClientConfig) -> Self {
        config.objects.sort_unstable();
        let mut outputs = Outputs::new();
        greeting::send(&config, &mut outputs);
        let core = Core {
            config,
            frame_len_max: MAX_FRAME_LEN_MAX,
            outputs,
            backlog: Backlog::new(),
            frames: 0,
        };
        Self {
            deframer: Deframer::new(MAX_FRAME_LEN_MAX),
            machine: Machine::new(State::ExpectWelcome(ExpectWelcome), core),
        }
    }

    /// Takes complete frames, and available parts of an `ObjectChunk`, off `input` while
    /// [`wants_input`](Self::wants_input), and leaves the rest: hand it in again, with or without
    /// more bytes, after a completion.
    ///
    /// # Errors
    ///
    /// `NotServed`, if the server serves no pulls; `Decode`, `Violation`, `PeerClosed`: the
    /// server's fault.
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

    /// Takes the end of the server's bytes. Do not call this while `handle_bytes` leaves complete
    /// frames.
    ///
    /// # Errors
    ///
    /// `Truncated`, if it comes before the end of the answer.
    pub fn handle_eof(&mut self) -> Result<(), Error> {
        self.machine.step(|state, _| match &state {
            State::Receiving(receiving) if receiving.is_whole() => Ok(state),
            State::Publishing(_) | State::Finished => Ok(state),
            // REQ-57.
            State::ExpectWelcome(_)
            | State::ExpectAnswer(_)
            | State::ExpectSent(_)
            | State::Opening(_)
            | State::Receiving(_) => Err(Error::Truncated),
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
                (State::Receiving(state), op) => state.handle_stored(&op, &outcome, core),
                (State::Publishing(state), StoreOp::Publish) => {
                    state.handle_published(outcome, core)
                }
                _ => Err(ApiMisuse::Outcome.into()),
            }
        })
    }

    /// Takes the completion of a read.
    ///
    /// # Errors
    ///
    /// `Fault`, if the store cannot be read.
    pub fn handle_read(&mut self, done: ReadDone) -> Result<(), Error> {
        self.machine.step(|state, core| {
            let (ids, outcome) = done.into_parts();
            match (state, outcome.map_err(Error::Fault)?) {
                (State::Receiving(state), read) if ids.len() == read.len() => {
                    state.handle_read(&ids, read, core)
                }
                _ => Err(ApiMisuse::Outcome.into()),
            }
        })
    }

    /// Returns the next output, if any.
    pub fn poll_output(&mut self) -> Option<PullClientOutput> {
        self.machine.core.outputs.pop()
    }

    /// Returns whether the driver should read more bytes; `false` is back-pressure.
    pub fn wants_input(&self) -> bool {
        let awaits_server = match self.machine.state() {
            Some(State::ExpectWelcome(_) | State::ExpectAnswer(_) | State::ExpectSent(_)) => true,
            Some(State::Receiving(receiving)) => receiving.wants_input(),
            Some(State::Opening(_) | State::Publishing(_) | State::Finished) | None => false,
        };
        awaits_server && !self.machine.core.backlog.is_busy()
    }

    /// Returns the objects that were verified and staged, and their stored bytes.
    pub const fn staged(&self) -> Staged {
        self.machine.core.backlog.staged()
    }

    /// Returns how many frames and parts of objects the server has sent, without its `Ping`s: a
    /// server that sends only these makes no progress.
    pub const fn progress(&self) -> u64 {
        self.machine.core.frames
    }

    /// Returns whether the session will produce nothing more.
    pub const fn is_finished(&self) -> bool {
        matches!(self.machine.state(), Some(State::Finished) | None)
    }

    /// Returns whether local refs may be moving: a driver that is told to stop waits until then.
    pub const fn is_publishing(&self) -> bool {
        matches!(self.machine.state(), Some(State::Publishing(_)))
    }

    /// Queues a sign of life. Not over HTTP, where the request is over.
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
                (_, Frame::Close(close)) => Err(Error::PeerClosed(close)),
                (State::ExpectWelcome(state), frame) => {
                    let next = state.handle(frame, core);
                    deframer.payload_len_max = core.frame_len_max;
                    next
                }
                (State::ExpectAnswer(state), frame) => state.handle(frame, core),
                (State::ExpectSent(state), frame) => state.handle(frame, core),
                (State::Receiving(state), frame) => state.handle(frame, core),
                (State::Opening(_) | State::Publishing(_) | State::Finished, frame) => {
                    unexpected("the store", &frame)
                }
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
    fn request(&mut self, op: StoreOp) {
        let request = StoreRequest::new(op);
        self.backlog.add(&request);
        self.outputs.push(PullClientOutput::Store(request));
    }

    fn read(&mut self, request: ReadRequest) {
        self.outputs.push(PullClientOutput::Read(request));
    }

    const fn is_dry_run(&self) -> bool {
        self.config.options.contains(PullOptions::DRY_RUN)
    }
}

impl FailsWith for Core {
    fn fail_with(&mut self, error: &Error) {
        self.outputs.keep(|output| {
            !matches!(
                output,
                PullClientOutput::Store(_) | PullClientOutput::Read(_)
            )
        });
        if let Some((code, text)) = error.to_close() {
            self.outputs.close(code, &text);
        }
    }
}
