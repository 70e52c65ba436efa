//! The work that a receiving session has requested of its store: how much is in progress, when that
//! is too much, and how much was verified.

use super::store::{StoreDone, StoreOp, StoreRequest};
use crate::frame::Staged;
use crate::limits::MAX_OPEN_STREAMS;

/// Requests in progress, and the sum of the completed ones.
#[derive(Debug)]
pub(crate) struct Backlog {
    requests: usize,
    /// Their object bytes.
    bytes: usize,
    /// Whether the session takes no input: set above the limits, cleared at half of them.
    busy: bool,
    staged: Staged,
    /// Stored bytes of each object that comes in pieces: they count once it is verified (REQ-23).
    streams: [u64; MAX_OPEN_STREAMS],
}

impl Backlog {
    /// Object bytes in requests above which the session takes no input.
    const BUSY_BYTES: usize = 4 * 1024 * 1024;
    /// Number of requests above which the session takes no input.
    const BUSY_REQUESTS: usize = 256;

    pub(crate) const fn new() -> Self {
        Self {
            requests: 0,
            bytes: 0,
            busy: false,
            staged: Staged {
                objects: 0,
                bytes: 0,
            },
            streams: [0; MAX_OPEN_STREAMS],
        }
    }

    pub(crate) fn add(&mut self, request: &StoreRequest) {
        self.requests += 1;
        self.bytes += request.weight();
        self.busy |= self.is_above(Self::BUSY_BYTES, Self::BUSY_REQUESTS);
    }

    /// Counts a completion. Hysteresis: if the session resumed at the first free byte, it would
    /// read in tiny pieces.
    pub(crate) fn completed(&mut self, done: &StoreDone) {
        self.requests -= 1;
        self.bytes -= done.request.weight();
        self.busy &= self.is_above(Self::BUSY_BYTES / 2, Self::BUSY_REQUESTS / 2);
        if done.outcome.is_ok() {
            self.count(&done.request.op);
        }
    }

    /// Returns the objects that were verified and staged, and their stored bytes.
    pub(crate) const fn staged(&self) -> Staged {
        self.staged
    }

    fn count(&mut self, op: &StoreOp) {
        match op {
            StoreOp::Stage(objects) => {
                self.staged.objects += objects.len() as u64;
                self.staged.bytes += objects.iter().map(|(_, b)| b.len() as u64).sum::<u64>();
            }
            StoreOp::Append(stream, bytes) => {
                if let Some(len) = self.streams.get_mut(usize::from(*stream)) {
                    *len += bytes.len() as u64;
                }
            }
            StoreOp::End(stream) => {
                self.staged.objects += 1;
                if let Some(len) = self.streams.get_mut(usize::from(*stream)) {
                    self.staged.bytes += std::mem::take(len);
                }
            }
            StoreOp::Refs(_)
            | StoreOp::Open(_)
            | StoreOp::Rely(_)
            | StoreOp::Have(_)
            | StoreOp::Begin(..)
            | StoreOp::Detached(..)
            | StoreOp::Unsent(_)
            | StoreOp::Publish
            | StoreOp::Summarize => {}
        }
    }

    /// Returns whether the session must take no input.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy
    }

    const fn is_above(&self, bytes: usize, requests: usize) -> bool {
        self.bytes >= bytes || self.requests >= requests
    }
}

#[cfg(test)]
mod tests {
    use artifact_formats::{Checksum, ObjectId, ObjectKind};
    use bytes::Bytes;

    use super::super::error::Fault;
    use super::super::store::StoreOutcome;
    use super::*;
    use crate::frame::CloseCode;

    #[test]
    fn once_it_is_busy_a_session_takes_input_again_when_half_of_it_is_done() {
        const MIB: usize = 1024 * 1024;
        let mut backlog = Backlog::new();
        let request = || StoreRequest::new(StoreOp::Append(0, Bytes::from_static(&[0; MIB])));
        for (mebibytes, busy) in [(1, false), (2, false), (3, false), (4, true)] {
            backlog.add(&request());
            assert_eq!(backlog.is_busy(), busy, "with {mebibytes}");
        }
        for (mebibytes, busy) in [(3, true), (2, true), (1, false), (0, false)] {
            backlog.completed(&request().complete(Ok(StoreOutcome::Appended)));
            assert_eq!(backlog.is_busy(), busy, "with {mebibytes}");
        }
    }

    #[test]
    fn what_was_verified_is_counted_whole_or_in_pieces_and_nothing_that_failed() {
        let id = |number| ObjectId::new(ObjectKind::File, Checksum::new([number; 32]));
        let bytes = Bytes::from_static(&[0; 100]);
        let done = |op, outcome| StoreRequest::new(op).complete(outcome);
        let staged = || Ok(StoreOutcome::Staged);
        let appended = || Ok(StoreOutcome::Appended);
        let fault = Fault {
            code: CloseCode::INCOMPLETE,
            text: String::new(),
        };
        let dones = [
            done(StoreOp::Stage(vec![(id(1), bytes.clone()); 3]), staged()),
            done(StoreOp::Stage(vec![(id(2), bytes.clone())]), Err(fault)),
            done(StoreOp::Begin(1, id(3)), appended()),
            done(StoreOp::Append(1, bytes.clone()), appended()),
            done(StoreOp::Append(1, bytes), appended()),
        ];
        let mut backlog = Backlog::new();
        let complete = |backlog: &mut Backlog, done: &StoreDone| {
            backlog.add(&done.request);
            backlog.completed(done);
            (backlog.staged().objects, backlog.staged().bytes)
        };
        for done in &dones {
            assert_eq!(complete(&mut backlog, done), (3, 300), "{done:?}");
        }
        let end = done(StoreOp::End(1), staged());
        assert_eq!(complete(&mut backlog, &end), (4, 500));
    }
}
