//! The error behind the text that the peer is told.

use std::sync::Arc;

use artifact_protocol::session::Fault;
use parking_lot::Mutex;

use crate::error::Error;

/// The first error, in full.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    first: Arc<Mutex<Option<Error>>>,
    tell: fn(&Error) -> Fault,
}

impl Failure {
    /// Starts without an error; `tell` returns what the peer is told of one.
    pub(crate) fn new(tell: fn(&Error) -> Fault) -> Self {
        Self {
            first: Arc::default(),
            tell,
        }
    }

    /// Keeps the error, and returns the fault to tell the peer.
    pub(crate) fn keep(&self, error: Error) -> Fault {
        let fault = (self.tell)(&error);
        self.first.lock().get_or_insert(error);
        fault
    }

    /// Returns the first error, if any.
    pub(crate) fn take(&self) -> Option<Error> {
        self.first.lock().take()
    }
}
