//! The reason why no session begins.

use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::Fault;

/// Why no session is possible, for the client and for the log.
pub(crate) struct Unready {
    pub(crate) fault: Fault,
    pub(crate) cause: anyhow::Error,
}

impl Unready {
    /// A mistake of the operator's: `text` is all that the client is told.
    pub(crate) fn new(text: &str, cause: impl Into<anyhow::Error>) -> Self {
        Self {
            fault: Fault {
                code: CloseCode::STORAGE_FAILED,
                text: text.to_owned(),
            },
            cause: cause.into(),
        }
    }
}
