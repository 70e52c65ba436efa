//! The number of requests of each kind.

use crate::bucket::requests::seam::{Condition, Request};

/// The number of requests by kind, whatever their fates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads of objects, or of pieces.
    pub gets: u64,
    /// Puts without a condition.
    pub puts: u64,
    /// Puts with a condition.
    pub swaps: u64,
    /// Begins, parts and ends of uploads.
    pub uploads: u64,
    /// Pages of lists.
    pub lists: u64,
    /// Requests to delete objects.
    pub deletes: u64,
    /// Bytes of content sent.
    pub sent: u64,
}

impl Counts {
    /// Returns the number of requests.
    pub const fn all(&self) -> u64 {
        self.gets + self.puts + self.swaps + self.uploads + self.lists + self.deletes
    }

    pub(crate) fn add(&mut self, request: &Request) {
        let count = match request {
            Request::Get { .. } | Request::GetRange { .. } => &mut self.gets,
            Request::Put {
                condition: Condition::Always,
                ..
            } => &mut self.puts,
            Request::Put {
                condition: Condition::New | Condition::Is(_),
                ..
            } => &mut self.swaps,
            Request::BeginUpload { .. }
            | Request::PutPart { .. }
            | Request::CompleteUpload { .. }
            | Request::AbortUpload { .. } => &mut self.uploads,
            Request::List { .. } => &mut self.lists,
            Request::Delete { .. } => &mut self.deletes,
        };
        *count += 1;
        self.sent += request.content_len() as u64;
    }
}
