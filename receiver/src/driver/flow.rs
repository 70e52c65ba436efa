//! The flow through a session that pushes: the client's bytes into it, and its outputs to the
//! client, the store and the log.

use std::io;
use std::time::Instant;

use artifact_protocol::session::{Error as SessionError, ReceiverEvent, ReceiverOutput, StoreOp};
use bytes::{Bytes, BytesMut};

use super::{Driver, UNWRITTEN_MAX};

impl<E: FnMut(ReceiverEvent)> Driver<E> {
    pub(super) fn take_bytes(&mut self, read: io::Result<BytesMut>) -> Result<(), SessionError> {
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

    pub(super) fn take_written(&mut self, written: io::Result<usize>) -> Result<(), SessionError> {
        match written {
            Ok(len) => {
                // Less is left of what was given up.
                self.unwritten = self.unwritten.saturating_sub(len);
                self.timers.written(Instant::now());
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the client does not take its answers");
                self.hang_up()
            }
        }
    }

    /// Gives the session what bytes it will take, and carries out what it puts out.
    pub(super) fn feed(&mut self) -> Result<(), SessionError> {
        self.drain();
        if !self.session.wants_input() || self.unwritten > UNWRITTEN_MAX {
            return Ok(());
        }
        let progress = self.session.progress();
        let taken = self.session.handle_bytes(&mut self.unread);
        self.drain();
        taken?;
        if self.session.progress() != progress {
            self.timers.progressed(Instant::now());
        }
        if !self.session.wants_input() {
            return Ok(());
        }
        // What is left is part of a frame: more bytes are needed to go on.
        while self.reads_held > 0 && !self.ended {
            self.reads_held -= 1;
            self.reader.allow_another();
        }
        // What is wrong with an object before the end shows only when the store has looked at it,
        // and the client may still read why.
        if self.ended && self.reads_held > 0 && self.at_work == 0 {
            self.reads_held = 0;
            return self.end();
        }
        Ok(())
    }

    /// A client that takes nothing is one whose bytes have ended: a publication goes on.
    pub(super) fn hang_up(&mut self) -> Result<(), SessionError> {
        self.writer = None;
        self.unwritten = 0;
        self.unread.clear();
        self.end()
    }

    fn end(&mut self) -> Result<(), SessionError> {
        self.ended = true;
        if self.session.is_finished() {
            return Ok(());
        }
        self.session.handle_eof()
    }

    pub(super) fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                ReceiverOutput::Transmit(bytes) => self.transmit(bytes),
                ReceiverOutput::Store(request) => {
                    self.announced |= matches!(request.op(), StoreOp::Open(_));
                    self.at_work += 1;
                    self.pool.submit(request);
                }
                ReceiverOutput::Event(event) => (self.event)(event),
            }
        }
    }

    pub(super) fn transmit(&mut self, bytes: Bytes) {
        let now = Instant::now();
        self.timers.said(now);
        let Some(writer) = &self.writer else {
            return;
        };
        if self.unwritten == 0 {
            self.timers.written(now);
        }
        self.unwritten += bytes.len();
        // A dead writer has reported why.
        let _ = writer.send(bytes);
    }
}
