//! Runs a sender session over a byte stream, with the session's timers. Threads of [`Pool`] read
//! the repository.
//!
//! The driver decides nothing about the protocol. It reads while it writes, so that two full pipes
//! never wait for each other (REQ-36). The only back-pressure: it pauses draining the session while
//! bytes wait to be written.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use artifact_protocol::dialect::{AnySender, Dialect};
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{Error as SessionError, SenderConfig, SenderEvent, SenderOutput};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use super::pool::Pool;
use super::throttle::Throttle;
use crate::error::Error;

/// Runs a session to its end.
pub(crate) async fn run<S: AsyncRead + AsyncWrite>(
    config: SenderConfig,
    dialect: Option<Dialect>,
    pool: Pool,
    rate: Option<NonZeroU64>,
    stream: S,
    stop: impl Future<Output = ()>,
    event: impl FnMut(SenderEvent),
) -> Result<(), Error> {
    let (reader, writer) = tokio::io::split(stream);
    let throttle = rate.map(Throttle::new);
    let mut driver = Driver {
        session: AnySender::new(config, dialect),
        pool,
        reader: Box::pin(reader),
        writer: Box::pin(writer),
        event,
        throttle,
        unread: BytesMut::with_capacity(READ_LEN),
        unwritten: VecDeque::new(),
        unwritten_len: 0,
        writable: true,
        last_heard: Instant::now(),
        last_progress: Instant::now(),
        last_said: Instant::now(),
        greeted: false,
    };
    let result = driver.run(stop).await;
    // The pool knows the cause of our own fault better than the words sent to the server.
    match (result, driver.pool.take_failure()) {
        (Err(SessionError::Fault(_)), Some(cause)) => Err(cause),
        // REQ-30.
        (Err(error), _) if driver.session.is_unsettled() => Err(Error::Unsettled(error)),
        (Err(error), _) => Err(Error::Session(error)),
        (Ok(()), _) => Ok(()),
    }
}

/// An output that waits for its turn.
enum Unwritten {
    Bytes(Bytes),
    /// An event to report once the bytes before it are written.
    Event(SenderEvent),
}

struct Driver<S, E> {
    session: AnySender,
    pool: Pool,
    reader: std::pin::Pin<Box<ReadHalf<S>>>,
    writer: std::pin::Pin<Box<WriteHalf<S>>>,
    event: E,
    throttle: Option<Throttle>,
    unread: BytesMut,
    /// Outputs of the session that are not carried out yet; bytes come first.
    unwritten: VecDeque<Unwritten>,
    unwritten_len: usize,
    /// Whether the server still accepts bytes.
    writable: bool,
    last_heard: Instant,
    /// When the server last sent more than a sign of life.
    last_progress: Instant,
    last_said: Instant,
    /// Whether the server has sent anything.
    greeted: bool,
}

impl<S: AsyncRead + AsyncWrite, E: FnMut(SenderEvent)> Driver<S, E> {
    async fn run(&mut self, stop: impl Future<Output = ()>) -> Result<(), SessionError> {
        let mut stop = std::pin::pin!(stop);
        loop {
            self.drain();
            if self.session.is_finished() && self.unwritten.is_empty() {
                // Nothing follows; the server sees the end of our bytes, and ends as well.
                let _ = self.writer.shutdown().await;
                return Ok(());
            }
            let stepped = tokio::select! {
                biased;
                () = &mut stop => {
                    let text = "the client was told to stop";
                    Err(self.session.abort(CloseCode::INTERRUPTED, text))
                }
                stepped = self.step() => stepped,
            };
            if let Err(error) = stepped {
                // Deliver what came before the error in the same bytes, such as the outcomes of the
                // push.
                self.unwritten_len = 0;
                self.drain();
                self.part(&error).await;
                return Err(error);
            }
        }
    }

    /// Waits for one event, and handles it.
    async fn step(&mut self) -> Result<(), SessionError> {
        let now = Instant::now();
        let patience = match self.greeted {
            false => GREETING,
            true if self.session.expects_pings() => SILENCE,
            // A server of an old version sends no sign of life while it works.
            true => IDLENESS,
        };
        let (give_up, ping) = (self.last_heard + patience, self.last_said + PING);
        if now >= give_up {
            let text = "the server was silent for too long";
            return Err(self.session.abort(CloseCode::TIMEOUT, text));
        }
        let give_up_idle = self.last_progress + IDLENESS;
        if now >= give_up_idle {
            let text = "the server sent only signs of life for too long";
            return Err(self.session.abort(CloseCode::TIMEOUT, text));
        }
        if now >= ping {
            self.session.ping();
            self.last_said = now;
        }
        let mut front = match self.unwritten.front() {
            Some(Unwritten::Bytes(bytes)) => bytes.clone(),
            Some(Unwritten::Event(_)) | None => Bytes::new(),
        };
        let mut wake = give_up.min(give_up_idle).min(ping);
        if let Some(throttle) = &mut self.throttle
            && !front.is_empty()
        {
            let allowance = usize::try_from(throttle.allowance(now)).unwrap_or(usize::MAX);
            front.truncate(allowance);
            wake = wake.min(throttle.ready_at());
        }
        tokio::select! {
            // REQ-36.
            read = self.reader.read_buf(&mut self.unread) => {
                self.last_heard = Instant::now();
                self.greeted = true;
                match read {
                    Ok(0) => {
                        self.stop_writing();
                        self.session.handle_eof()
                    }
                    Ok(_) => {
                        let progress = self.session.progress();
                        let taken = self.session.handle_bytes(&mut self.unread);
                        if self.session.progress() != progress {
                            self.last_progress = self.last_heard;
                        }
                        self.unread.reserve(READ_LEN);
                        taken
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the server's bytes cannot be read");
                        self.session.handle_eof()
                    }
                }
            }
            written = self.writer.write(&front), if self.writable && !front.is_empty() => {
                self.last_said = Instant::now();
                match written {
                    Ok(len) => self.take_written(len),
                    Err(error) => {
                        // The reason why the server hung up is among its earlier bytes: read them
                        // to the end.
                        tracing::debug!(%error, "the server takes no more bytes");
                        self.stop_writing();
                    }
                }
                Ok(())
            }
            done = self.pool.next(), if self.pool.is_busy() => self.session.handle_source(done),
            () = tokio::time::sleep_until(wake) => Ok(()),
        }
    }

    /// Drops everything that waits: nobody will take it, and nothing may wait for that.
    fn stop_writing(&mut self) {
        self.writable = false;
        self.unwritten.clear();
        self.unwritten_len = 0;
    }

    fn take_written(&mut self, len: usize) {
        self.unwritten_len -= len;
        if let Some(throttle) = &mut self.throttle {
            throttle.take(len as u64);
        }
        let Some(Unwritten::Bytes(mut front)) = self.unwritten.pop_front() else {
            return;
        };
        if front.len() > PING_LEN {
            // Sending a large object takes long, and needs no answer meanwhile.
            self.last_progress = Instant::now();
        }
        if len < front.len() {
            let rest = front.split_off(len);
            self.unwritten.push_front(Unwritten::Bytes(rest));
            return;
        }
        while let Some(next) = self.unwritten.pop_front() {
            match next {
                Unwritten::Event(event) => (self.event)(event),
                bytes @ Unwritten::Bytes(_) => {
                    self.unwritten.push_front(bytes);
                    return;
                }
            }
        }
    }

    /// Carries out the session's outputs, until enough bytes wait to be written.
    fn drain(&mut self) {
        while self.unwritten_len < UNWRITTEN_LEN_MAX {
            match self.session.poll_output() {
                Some(SenderOutput::Transmit(bytes)) if self.writable => {
                    self.unwritten_len += bytes.len();
                    self.unwritten.push_back(Unwritten::Bytes(bytes));
                }
                Some(SenderOutput::Transmit(_)) => {}
                Some(SenderOutput::Source(request)) => self.pool.submit(request),
                // Report objects as sent only once they are written.
                Some(SenderOutput::Event(event @ SenderEvent::Sent { .. }))
                    if !self.unwritten.is_empty() =>
                {
                    self.unwritten.push_back(Unwritten::Event(event));
                }
                Some(SenderOutput::Event(event)) => (self.event)(event),
                None => return,
            }
        }
    }

    /// Tells the server why the session ends, if it still listens.
    async fn part(&mut self, error: &SessionError) {
        if !self.writable || matches!(error, SessionError::PeerClosed(_) | SessionError::Truncated)
        {
            return;
        }
        self.unwritten_len = 0;
        self.drain();
        let farewell = async {
            for unwritten in &mut self.unwritten {
                if let Unwritten::Bytes(bytes) = unwritten {
                    self.writer.write_all(bytes).await?;
                }
            }
            self.writer.shutdown().await
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

const READ_LEN: usize = 64 * 1024;
/// Bytes that may wait to be written before draining pauses.
const UNWRITTEN_LEN_MAX: usize = 1024 * 1024;
/// How long to wait for the server's first byte: a person may be typing a password to `ssh`.
const GREETING: Duration = Duration::from_secs(180);
/// How long to wait for a server's next sign of life; it sends one every 15 seconds.
const SILENCE: Duration = Duration::from_secs(60);
/// How long to wait for more than signs of life, while we send nothing either. A server that waits
/// for a lock, or syncs much data, needs minutes.
const IDLENESS: Duration = Duration::from_secs(3600);
/// Length of our own `Ping`, in bytes.
const PING_LEN: usize = 8;
const PING: Duration = Duration::from_secs(15);
const FAREWELL: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
