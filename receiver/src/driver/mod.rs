//! Runs a receiver session: the only threads, timers and blocking calls of the receiver.
//!
//! ```text
//! stdin -> reader -> | session | -> writer -> stdout
//!                    |  loop   | <-> pool (verify, stage, publish)
//! ```
//!
//! One thread owns the session; the others hand it what happened. It takes no decision of the
//! protocol's: it carries out what the session puts out, in order.

mod pipes;
mod pool;
mod timers;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{
    Error as SessionError, ReceiverConfig, ReceiverEvent, ReceiverOutput, ReceiverSession,
};
use bytes::{Bytes, BytesMut};

use self::pipes::{Reader, Wire, start_writer};
use self::pool::{Completion, Pool};
pub use self::timers::Patience;
use self::timers::{Activity, Due, Timers};
use crate::store::Store;

/// Why a push was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client did what it may not do, or left, or was too slow.
    #[error("the push was not done")]
    Session(#[source] SessionError),
    /// What the client sent was refused, or the repository cannot be used.
    #[error("the push was not done")]
    Store(#[source] crate::error::Error),
}

/// How a receiver is run.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// What clients are told.
    pub session: ReceiverConfig,
    /// How long to wait for them.
    pub patience: Patience,
    /// Threads that verify and stage objects.
    pub threads: usize,
}

/// Serves one client until the session ends.
///
/// `event` is told what happened. The last bytes for the client are written, or the client is
/// given up, before this returns.
///
/// # Errors
///
/// Why the push was not done.
pub fn serve<S: Store + 'static>(
    store: &Arc<S>,
    config: DriverConfig,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    event: impl FnMut(ReceiverEvent),
) -> Result<(), Error> {
    let (inbox, happenings) = channel();
    let report = |inbox: &Sender<Happening>| {
        let inbox = inbox.clone();
        // Fails only when the loop below is over and nobody cares any more.
        move |wire| drop(inbox.send(Happening::Wire(wire)))
    };
    let mut driver = Driver {
        session: ReceiverSession::new(config.session),
        reader: Reader::start(input, report(&inbox)),
        writer: start_writer(output, report(&inbox)),
        pool: Pool::start(store, config.threads, move |completion| {
            drop(inbox.send(Happening::Stored(completion)));
        }),
        timers: Timers::new(config.patience, Instant::now()),
        event,
        unread: BytesMut::new(),
        reads_held: 0,
        ended: false,
        announced: false,
        at_work: 0,
        unwritten: 0,
    };
    let result = driver.run(&happenings);
    driver.drain();
    driver.linger(&happenings);
    let failure = driver.pool.take_failure();
    if driver.at_work == 0 {
        driver.pool.finish();
    }
    // What the client was told of a fault of the store is only a part of it.
    match (result, failure) {
        (Err(SessionError::Fault(_)), Some(cause)) => Err(Error::Store(cause)),
        (result, _) => result.map_err(Error::Session),
    }
}

/// Something for the loop to act on.
enum Happening {
    Wire(Wire),
    Stored(Completion),
}

struct Driver<E> {
    session: ReceiverSession,
    reader: Reader,
    writer: Sender<Bytes>,
    pool: Pool,
    timers: Timers,
    event: E,
    /// Bytes of the client that the session has not taken.
    unread: BytesMut,
    /// Reads whose bytes are in `unread`: no leave for others was given.
    reads_held: usize,
    /// The client's bytes have ended.
    ended: bool,
    announced: bool,
    /// Store requests that are not completed.
    at_work: usize,
    /// Bytes that the writer has and the client has not.
    unwritten: usize,
}

impl<E: FnMut(ReceiverEvent)> Driver<E> {
    fn run(&mut self, happenings: &Receiver<Happening>) -> Result<(), SessionError> {
        while !self.session.is_finished() {
            match self.wait(happenings)? {
                Happening::Wire(Wire::Read(read)) => self.take_bytes(read)?,
                Happening::Wire(Wire::Written(written)) => self.take_written(written)?,
                Happening::Stored(Completion { worker, done }) => {
                    self.pool.completed(worker);
                    self.at_work -= 1;
                    self.timers.heard(Instant::now());
                    self.session.handle_stored(done)?;
                }
            }
            self.feed()?;
        }
        Ok(())
    }

    /// Waits for the next happening, and for the timers meanwhile.
    fn wait(&mut self, happenings: &Receiver<Happening>) -> Result<Happening, SessionError> {
        loop {
            let now = Instant::now();
            let activity = Activity {
                announced: self.announced,
                awaits_client: self.at_work == 0 && !self.ended,
                unwritten: self.unwritten > 0,
            };
            let until = match self.timers.due(now, activity) {
                Due::Nothing(until) => until,
                Due::Ping => {
                    self.session.ping();
                    self.timers.said(now);
                    self.drain();
                    continue;
                }
                Due::GiveUp(reason) => {
                    return Err(self.session.abort(CloseCode::TIMEOUT, reason));
                }
            };
            match happenings.recv_timeout(until.saturating_duration_since(now)) {
                Ok(happening) => return Ok(happening),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.session.abort(CloseCode::INTERNAL, "a thread has died"));
                }
            }
        }
    }

    fn take_bytes(&mut self, read: std::io::Result<BytesMut>) -> Result<(), SessionError> {
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(%error, "the client's bytes cannot be read");
                BytesMut::new()
            }
        };
        self.timers.heard(Instant::now());
        if bytes.is_empty() {
            self.ended = true;
        } else if self.unread.is_empty() {
            self.unread = bytes;
        } else {
            self.unread.extend_from_slice(&bytes);
        }
        self.reads_held += 1;
        Ok(())
    }

    fn take_written(&mut self, written: std::io::Result<usize>) -> Result<(), SessionError> {
        match written {
            Ok(len) => {
                self.unwritten -= len;
                self.timers.written(Instant::now());
                Ok(())
            }
            // A client that hung up is one whose bytes have ended: a publication goes on.
            Err(error) => {
                tracing::warn!(%error, "the client does not take its answers");
                self.unwritten = 0;
                self.unread.clear();
                self.end()
            }
        }
    }

    /// Gives the session what bytes it will take, and carries out what it puts out.
    fn feed(&mut self) -> Result<(), SessionError> {
        self.drain();
        if !self.session.wants_input() || self.unwritten > UNWRITTEN_MAX {
            return Ok(());
        }
        let taken = self.session.handle_bytes(&mut self.unread);
        self.drain();
        taken?;
        if !self.session.wants_input() {
            return Ok(());
        }
        // What is left is part of a frame: more bytes are needed to go on.
        while self.reads_held > 0 && !self.ended {
            self.reads_held -= 1;
            self.reader.allow_another();
        }
        if self.ended && self.reads_held > 0 {
            self.reads_held = 0;
            return self.end();
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), SessionError> {
        self.ended = true;
        if self.session.is_finished() {
            return Ok(());
        }
        self.session.handle_eof()
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => {
                    let now = Instant::now();
                    if self.unwritten == 0 {
                        self.timers.written(now);
                    }
                    self.timers.said(now);
                    self.unwritten += bytes.len();
                    // A dead writer has reported why.
                    let _ = self.writer.send(bytes);
                }
                ReceiverOutput::Store(request) => {
                    self.at_work += 1;
                    self.pool.submit(request);
                }
                ReceiverOutput::Event(event) => {
                    self.announced |= matches!(event, ReceiverEvent::Opened(..));
                    (self.event)(event);
                }
            }
        }
    }

    /// Lets the client take the last bytes, for a while, and the store finish what it is at: a
    /// process that ends in the middle of it would leave staging behind.
    fn linger(&mut self, happenings: &Receiver<Happening>) {
        let deadline = Instant::now() + LINGER;
        while self.unwritten > 0 || self.at_work > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match happenings.recv_timeout(left) {
                Ok(Happening::Wire(Wire::Written(Ok(len)))) => self.unwritten -= len,
                Ok(Happening::Wire(Wire::Written(Err(_)))) => self.unwritten = 0,
                Ok(Happening::Stored(_)) => self.at_work -= 1,
                Ok(Happening::Wire(Wire::Read(_))) => {}
                Err(_) => return,
            }
        }
    }
}

/// Bytes that a client may leave unread before it is no longer listened to.
const UNWRITTEN_MAX: usize = 1024 * 1024;
/// How long a client has to take the last bytes of a session.
const LINGER: Duration = Duration::from_secs(5);
