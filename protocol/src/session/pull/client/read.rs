//! The requests of a [`PullClient`](super::PullClient) for objects that its repository holds: the
//! session must know what these name, because the server sends that, but not them.

use artifact_formats::ObjectId;
use bytes::Bytes;

use super::super::super::error::Fault;

/// Objects to read: commits and dirtrees whose names begin like those of objects that the client
/// says it holds. It must be completed once; at most one is in progress at a time.
#[derive(Debug)]
#[must_use = "the session waits for the completion"]
pub struct ReadRequest {
    ids: Vec<ObjectId>,
}

impl ReadRequest {
    /// The most objects in a request: each may take
    /// [`MAX_METADATA_LEN`](artifact_formats::limits::MAX_METADATA_LEN) bytes.
    pub(super) const MAX: usize = 16;

    pub(super) const fn new(ids: Vec<ObjectId>) -> Self {
        Self { ids }
    }

    /// Returns the objects.
    pub fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    /// Completes the request with the bytes of each object, in order; `None` for one that is not
    /// there. A fault ends the session.
    pub fn complete(self, outcome: Result<Vec<Option<Bytes>>, Fault>) -> ReadDone {
        ReadDone {
            request: self,
            outcome,
        }
    }
}

/// A completed [`ReadRequest`], for [`PullClient::handle_read`](super::PullClient::handle_read).
#[derive(Debug)]
pub struct ReadDone {
    request: ReadRequest,
    outcome: Result<Vec<Option<Bytes>>, Fault>,
}

impl ReadDone {
    pub(super) fn into_parts(self) -> (Vec<ObjectId>, Result<Vec<Option<Bytes>>, Fault>) {
        (self.request.ids, self.outcome)
    }
}
