//! The error behind the text that the server is told.

use std::sync::Arc;

use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::Fault;
use parking_lot::Mutex;

use crate::error::Error;

/// The first error, in full.
#[derive(Clone, Debug, Default)]
pub(super) struct Failure(Arc<Mutex<Option<Error>>>);

impl Failure {
    /// Keeps the error, and returns the fault to tell the server.
    pub(super) fn keep(&self, error: Error) -> Fault {
        self.0.lock().get_or_insert(error);
        Fault {
            code: CloseCode::SOURCE_FAILED,
            text: "the client cannot read its own repository".to_owned(),
        }
    }

    /// Returns the first error, if any.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().take()
    }
}
