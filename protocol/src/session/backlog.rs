//! The amount of work that a receiving session has requested of its store, and when that is too
//! much.

use super::store::StoreRequest;

/// Requests in progress.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    requests: usize,
    /// Their object bytes.
    bytes: usize,
    /// Whether the session takes no input: set above the limits, cleared at half of them.
    busy: bool,
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
        }
    }

    pub(crate) fn add(&mut self, request: &StoreRequest) {
        self.requests += 1;
        self.bytes += request.weight();
        self.busy |= self.is_above(Self::BUSY_BYTES, Self::BUSY_REQUESTS);
    }

    /// Hysteresis: resuming at the first free byte would make us read in tiny pieces.
    pub(crate) fn completed(&mut self, request: &StoreRequest) {
        self.requests -= 1;
        self.bytes -= request.weight();
        self.busy &= self.is_above(Self::BUSY_BYTES / 2, Self::BUSY_REQUESTS / 2);
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
    use bytes::Bytes;

    use super::super::store::StoreOp;
    use super::*;

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
            backlog.completed(&request());
            assert_eq!(backlog.is_busy(), busy, "with {mebibytes}");
        }
    }
}
