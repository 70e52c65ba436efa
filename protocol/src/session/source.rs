//! The requests of a [`SenderSession`](super::SenderSession) to its source, the local repository,
//! and their outcomes. Linear like the store's requests: each is completed once.

use artifact_formats::{Checksum, ObjectId};
use bytes::Bytes;

use super::error::Fault;

/// A request to the source.
#[derive(Debug, PartialEq, Eq)]
pub enum SourceOp {
    /// Tell for each pair whether the first commit descends from the second, as far as the local
    /// history goes. Answered by [`SourceOutcome::Descends`]. For servers of the old protocols,
    /// which do not check this themselves.
    Descends(Vec<(Checksum, Checksum)>),
    /// Prepare to offer everything that `targets` reach. Answered by [`SourceOutcome::Planned`].
    Plan(PlanRequest),
    /// Take the answers to earlier offers, and name at most `max` further ids. Answered by
    /// [`SourceOutcome::Offered`].
    Offer {
        /// Ids offered earlier, and whether the server has them.
        answers: Vec<(ObjectId, bool)>,
        /// Objects that the server found missing. The session sends them; objects beneath them may
        /// be gone from the server as well, so the source must offer them again.
        missing: Vec<ObjectId>,
        /// How many ids it may offer now.
        max: usize,
    },
    /// Tell whether the plan reaches all of these objects. The server asks for them by their names,
    /// and must get nothing else. Answered by [`SourceOutcome::Vouched`].
    Vouch(Vec<ObjectId>),
    /// Read objects. Answered by [`SourceOutcome::Fetched`].
    Fetch(Vec<ObjectId>),
    /// Read the next piece of a large object. Answered by [`SourceOutcome::Piece`].
    Next(ObjectId),
}

/// The content of a push, once the server's verdicts are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// Commits to push, and the values of their refs on the server.
    pub targets: Vec<(Checksum, Option<Checksum>)>,
    /// Commits that are complete on the server.
    pub complete: Vec<Checksum>,
    /// Announced commits whose detached metadata the server wants.
    pub detached: Vec<Checksum>,
    /// Objects of the early offer: the source must not offer them again.
    pub offered: Vec<ObjectId>,
}

/// The outcome of a [`SourceOp`].
#[derive(Debug)]
pub enum SourceOutcome {
    /// Answers `Descends`: yes or no for each pair, in order.
    Descends(Vec<bool>),
    /// Answers `Plan`.
    Planned {
        /// The complete commits that the offers will be a difference to.
        basis: Vec<Checksum>,
        /// The requested detached metadata.
        detached: Vec<(Checksum, Bytes)>,
    },
    /// Answers `Offer`.
    Offered {
        /// The next ids, at most `max`; none is offered twice.
        ids: Vec<ObjectId>,
        /// Nothing is left to offer, whatever the answers will be.
        exhausted: bool,
    },
    /// Answers `Vouch`: whether all objects lie in the closure of a planned commit.
    Vouched(bool),
    /// Answers `Fetch`: one entry for each id, in order.
    Fetched(Vec<Fetched>),
    /// Answers `Next`.
    Piece {
        /// The next stored bytes, at most [`MAX_PIECE_LEN`](crate::limits::MAX_PIECE_LEN).
        bytes: Bytes,
        /// Whether they are the object's last.
        last: bool,
    },
}

/// An object, as [`SourceOp::Fetch`] returns it.
#[derive(Debug)]
pub enum Fetched {
    /// All its stored bytes, at most [`MAX_PIECE_LEN`](crate::limits::MAX_PIECE_LEN). Larger
    /// objects are better read in pieces, because the session holds several such answers at once.
    Whole(Bytes),
    /// An object to read in pieces, with [`SourceOp::Next`]; its length in bytes, if known.
    Large(Option<u64>),
}

/// A [`SourceOp`] in progress. It must be completed once. At most one of `Plan`, `Offer` and
/// `Vouch` is in progress at a time, and one `Next` for each object; several `Fetch` may be.
#[derive(Debug)]
#[must_use = "the session waits for the completion"]
pub struct SourceRequest {
    pub(crate) op: SourceOp,
}

impl SourceRequest {
    /// Returns the operation.
    pub const fn op(&self) -> &SourceOp {
        &self.op
    }

    /// Completes the request; a fault ends the session.
    pub fn complete(self, outcome: Result<SourceOutcome, Fault>) -> SourceDone {
        SourceDone {
            request: self,
            outcome,
        }
    }
}

/// A completed [`SourceRequest`], for
/// [`SenderSession::handle_source`](super::SenderSession::handle_source).
#[derive(Debug)]
pub struct SourceDone {
    pub(crate) request: SourceRequest,
    pub(crate) outcome: Result<SourceOutcome, Fault>,
}
