//! Runs a receiver session: the only threads, timers and blocking calls of the receiver.
//!
//! ```text
//! stdin -> reader -> | session | -> writer -> stdout
//!                    |  loop   | <-> pool (verify, stage, publish)
//! ```
//!
//! One thread owns the session; the others hand it what happened. It takes no decision of the
//! protocol's: it carries out what the session puts out, in order. A client may ask to pull
//! instead: then `pull.rs` goes on.

mod flow;
mod pipes;
mod pool;
mod pull;
mod reading;
mod timers;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use artifact_protocol::dialect::{AnyReceiver, Openness};
use artifact_protocol::frame::{CloseCode, Staged};
use artifact_protocol::session::{Error as SessionError, ReceiverConfig, ReceiverEvent};
use artifact_store::Store;
use bytes::{Bytes, BytesMut};

use self::pipes::{Reader, Wire, start_writer};
use self::pool::{Completion, Pool};
use self::timers::{Activity, Due, Timers};

pub use self::reading::{Pulled, Pulls};
pub use self::timers::Timeouts;

/// Why a push was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The client did what it may not do, or left, or was too slow.
    #[error("the push was not done")]
    Session(#[source] SessionError),
    /// What the client sent was refused, or the repository cannot be used.
    #[error("the push was not done")]
    Store(#[source] artifact_store::Error),
    /// The repository cannot be read, or the client asked for too much of it.
    #[error("the pull was not answered")]
    Answer {
        /// The code that the client was told.
        code: CloseCode,
        /// The reason.
        source: artifact_sender::Error,
    },
}

/// How a receiver is run.
#[derive(Clone, Debug)]
pub struct DriverConfig {
    /// What clients are told.
    pub session: ReceiverConfig,
    /// Which versions they may speak.
    pub openness: Openness,
    /// How long to wait for them.
    pub timeouts: Timeouts,
    /// Threads that verify and stage objects.
    pub threads: usize,
    /// What a client that pulls gets; without it none may.
    pub pulls: Option<Pulls>,
}

/// What came of a session.
#[derive(Debug)]
#[must_use]
pub struct Served {
    /// Why the push was not done, if it was not.
    pub done: Result<(), Error>,
    /// The objects that were verified, published or not.
    pub staged: Staged,
    /// What was pulled, if the client has asked for something.
    pub pulled: Option<Pulled>,
}

/// Serves one client until the session ends.
///
/// `event` is told what happened. `stop` returns when this process is told to stop: then the client
/// is told, unless refs may be moving, which is carried through. The last bytes for the client are
/// written, or the client is given up, before this returns.
///
/// Says in the end why the push was not done, if it was not, and what was received.
pub fn serve<S: Store + 'static>(
    store: &Arc<S>,
    config: DriverConfig,
    input: impl Read + Send + 'static,
    output: impl Write + Send + 'static,
    stop: impl FnOnce() + Send + 'static,
    event: impl FnMut(ReceiverEvent),
) -> Served {
    let (inbox, events) = channel();
    let report = |inbox: &Sender<DriverEvent>| {
        let inbox = inbox.clone();
        // Fails only when the loop below is over and nobody cares any more.
        move |wire| drop(inbox.send(DriverEvent::Wire(wire)))
    };
    let stopped = inbox.clone();
    // It may outlive the session, and then nobody listens.
    thread::spawn(move || {
        stop();
        let _ = stopped.send(DriverEvent::Stop);
    });
    let session = ReceiverConfig {
        serves_pulls: config.pulls.is_some(),
        ..config.session
    };
    let mut driver = Driver {
        session: AnyReceiver::new(session, config.openness),
        reader: Reader::start(input, report(&inbox)),
        writer: Some(start_writer(output, report(&inbox))),
        pulls: config.pulls,
        pulled: None,
        inbox: inbox.clone(),
        pool: Pool::start(store, config.threads, move |completions| {
            drop(inbox.send(DriverEvent::Stored(completions)));
        }),
        timers: Timers::new(config.timeouts, Instant::now()),
        event,
        unread: BytesMut::new(),
        reads_held: 0,
        ended: false,
        announced: false,
        at_work: 0,
        unwritten: 0,
    };
    // Of one that speaks first.
    driver.drain();
    let result = driver.run(&events);
    driver.drain();
    driver.linger(&events);
    let (failure, staged) = (driver.pool.take_failure(), driver.session.staged());
    let pulled = driver.pulled.take();
    if driver.at_work == 0 {
        driver.pool.finish();
    }
    // What the client was told of a fault of the store is only a part of it.
    let done = match (result, failure) {
        (Err(Ended::Session(SessionError::Fault(_))), Some(cause)) => Err(Error::Store(cause)),
        (Err(Ended::Session(error)), _) => Err(Error::Session(error)),
        (Err(Ended::Pull(error)), _) => Err(error),
        (Ok(()), _) => Ok(()),
    };
    Served {
        done,
        staged,
        pulled,
    }
}

/// An event for the loop to act on.
enum DriverEvent {
    Wire(Wire),
    Stored(Vec<Completion>),
    /// Something that a pull waits for may be there.
    Answered,
    /// This process is told to stop.
    Stop,
}

/// The end of a wait.
enum Next {
    Event(DriverEvent),
    /// The client is due a sign of life.
    Ping,
    /// The client had its time.
    GiveUp(&'static str),
    /// No thread is left that could report anything.
    Dead,
}

/// How a session ended before its time.
enum Ended {
    Session(SessionError),
    Pull(Error),
}

impl From<SessionError> for Ended {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

struct Driver<E> {
    session: AnyReceiver,
    pulls: Option<Pulls>,
    pulled: Option<Pulled>,
    inbox: Sender<DriverEvent>,
    reader: Reader,
    /// `None` once the client takes no more bytes.
    writer: Option<Sender<Bytes>>,
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
    fn run(&mut self, events: &Receiver<DriverEvent>) -> Result<(), Ended> {
        while !self.session.is_finished() {
            match self.wait(events)? {
                DriverEvent::Wire(Wire::Read(read)) => self.take_bytes(read)?,
                DriverEvent::Wire(Wire::Written(written)) => self.take_written(written)?,
                DriverEvent::Stop if self.session.is_publishing() => {
                    tracing::warn!("told to stop: the publication is carried through");
                }
                DriverEvent::Stop => {
                    let text = "the server was told to stop";
                    return Err(self.session.abort(CloseCode::INTERRUPTED, text).into());
                }
                DriverEvent::Answered => {}
                DriverEvent::Stored(completions) => {
                    self.timers.heard(Instant::now());
                    self.timers.progressed(Instant::now());
                    self.at_work -= completions.len();
                    for Completion {
                        worker,
                        weight,
                        done,
                    } in completions
                    {
                        self.pool.completed(worker, weight);
                        self.session.handle_stored(done)?;
                    }
                }
            }
            self.feed()?;
            if let Some(session) = self.session.take_pull() {
                return self.pull(session, events).map_err(Ended::Pull);
            }
        }
        Ok(())
    }

    /// Waits for the next event, and does meanwhile what the timers demand.
    fn wait(&mut self, events: &Receiver<DriverEvent>) -> Result<DriverEvent, SessionError> {
        loop {
            let activity = Activity {
                announced: self.announced,
                awaits_client: self.at_work == 0 && !self.ended && self.unwritten <= UNWRITTEN_MAX,
                unwritten: self.unwritten > 0,
            };
            match self.next(events, activity) {
                Next::Event(event) => return Ok(event),
                Next::Ping => {
                    self.session.ping();
                    self.drain();
                }
                Next::GiveUp(reason) if self.session.is_publishing() => {
                    tracing::warn!("{reason}: the publication goes on without it");
                    self.hang_up()?;
                }
                Next::GiveUp(reason) => {
                    return Err(self.session.abort(CloseCode::TIMEOUT, reason));
                }
                Next::Dead => {
                    return Err(self.session.abort(CloseCode::INTERNAL, "a thread has died"));
                }
            }
        }
    }

    /// Waits for an event or a timer, whichever comes first.
    fn next(&mut self, events: &Receiver<DriverEvent>, activity: Activity) -> Next {
        loop {
            let now = Instant::now();
            let until = match self.timers.due(now, activity) {
                Due::Nothing(until) => until,
                Due::Ping => {
                    self.timers.said(now);
                    return Next::Ping;
                }
                Due::GiveUp(reason) => return Next::GiveUp(reason),
            };
            match events.recv_timeout(until.saturating_duration_since(now)) {
                Ok(event) => return Next::Event(event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Next::Dead,
            }
        }
    }

    /// Lets the client take the last bytes, for a while, and the store finish what it is at: a
    /// process that ends in the middle of it would leave staging behind.
    fn linger(&mut self, events: &Receiver<DriverEvent>) {
        let deadline = Instant::now() + LINGER;
        while self.unwritten > 0 || self.at_work > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match events.recv_timeout(left) {
                Ok(DriverEvent::Wire(Wire::Written(Ok(len)))) => {
                    self.unwritten = self.unwritten.saturating_sub(len);
                }
                Ok(DriverEvent::Wire(Wire::Written(Err(_)))) => self.unwritten = 0,
                Ok(DriverEvent::Stored(completions)) => self.at_work -= completions.len(),
                Ok(
                    DriverEvent::Wire(Wire::Read(_)) | DriverEvent::Answered | DriverEvent::Stop,
                ) => {}
                Err(_) => return,
            }
        }
    }
}

/// Bytes that a client may leave unread before it is no longer listened to.
const UNWRITTEN_MAX: usize = 1024 * 1024;
/// How long a client has to take the last bytes of a session.
const LINGER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
