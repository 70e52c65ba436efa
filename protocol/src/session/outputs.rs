//! The outputs that a session has ready for its driver.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::frame::{Close, CloseCode, Frame, PREAMBLE, Ping};
use crate::text::Text;

#[derive(Debug)]
pub(crate) struct Outputs<O> {
    queue: VecDeque<O>,
    greeted: bool,
    /// Whether a `Close` was queued: nothing follows it.
    closed: bool,
}

impl<O: From<Bytes>> Outputs<O> {
    pub(crate) const fn new() -> Self {
        Self {
            queue: VecDeque::new(),
            greeted: false,
            closed: false,
        }
    }

    /// Makes the outputs of a session that goes on where another one has greeted the peer.
    pub(crate) const fn greeted() -> Self {
        Self {
            queue: VecDeque::new(),
            greeted: true,
            closed: false,
        }
    }

    pub(crate) fn push(&mut self, output: impl Into<O>) {
        self.queue.push_back(output.into());
    }

    /// Queues a frame, with the preamble before the first one. Nothing follows a `Close`.
    pub(crate) fn send(&mut self, frame: &Frame) {
        // REQ-32.
        if self.closed {
            return;
        }
        if !self.greeted {
            self.greeted = true;
            self.push(Bytes::from_static(&PREAMBLE));
        }
        self.push(frame.encode());
    }

    /// Queues a `Close`.
    pub(crate) fn close(&mut self, code: CloseCode, text: &str) {
        self.send(&Frame::Close(Close {
            code,
            text: Text::new(text),
        }));
        self.closed = true;
    }

    /// Queues a `Ping`, if the greeting is over.
    pub(crate) fn ping(&mut self) {
        if self.greeted {
            self.send(&Frame::Ping(Ping {}));
        }
    }

    /// Queues an output in place of the newest, if `is_older` says that it supersedes that one: a
    /// peer must not fill memory by repeating itself.
    pub(crate) fn push_latest(&mut self, output: impl Into<O>, is_older: impl Fn(&O) -> bool) {
        if self.queue.back().is_some_and(is_older) {
            self.queue.pop_back();
        }
        self.push(output);
    }

    pub(crate) fn pop(&mut self) -> Option<O> {
        self.queue.pop_front()
    }

    /// Drops outputs that nobody will act on any more.
    pub(crate) fn keep(&mut self, keep: impl FnMut(&O) -> bool) {
        self.queue.retain(keep);
    }
}
