//! The errors of object storage.

use serde::{Deserialize, Serialize};

/// The reason why a request has no answer. Each variant names the party at fault, which is never
/// the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BucketError {
    /// The connection or the server failed: nobody knows whether the request was executed, or still
    /// will be.
    #[error("object storage gave no answer: {0}")]
    Unclear(String),
    /// The server is overloaded, and certainly did not execute the request.
    #[error("object storage takes no requests now: {0}")]
    Busy(String),
    /// The operator is at fault: the credentials do not allow the request.
    #[error("object storage refused: {0}")]
    Refused(String),
    /// The operator, the server, or this program is at fault: the answer makes no sense, or says
    /// that the request does not.
    #[error("object storage failed: {0}")]
    Broken(String),
}
