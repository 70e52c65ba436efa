//! What a [`SenderSession`](super::SenderSession) asks of its source, the local repository, and
//! what it is answered. Linear like the store's requests: each is completed once.

use artifact_formats::{Checksum, ObjectId};
use bytes::Bytes;

use super::error::Fault;

/// One thing for the source to do.
#[derive(Debug, PartialEq, Eq)]
pub enum SourceOp {
    /// Say of each pair whether the first commit descends from the second, as far as history is
    /// here. Answered by [`SourceOutcome::Descends`]. For servers of the old protocols, which do
    /// not look themselves.
    Descends(Vec<(Checksum, Checksum)>),
    /// Prepare to offer what `targets` reach. Answered by [`SourceOutcome::Planned`].
    Plan(PlanRequest),
    /// Learn the answers to earlier offers, and name at most `max` further ids. Answered by
    /// [`SourceOutcome::Offered`].
    Offer {
        /// Ids offered earlier, and whether the server has them.
        answers: Vec<(ObjectId, bool)>,
        /// Objects that the server found missing. They are being sent; what is beneath them may be
        /// gone from the server as well, and is to be offered again.
        missing: Vec<ObjectId>,
        /// How many ids may be offered now.
        max: usize,
    },
    /// Say whether what is planned reaches all of these. The server asks for them by their names,
    /// and is given nothing else. Answered by [`SourceOutcome::Vouched`].
    Vouch(Vec<ObjectId>),
    /// Read objects. Answered by [`SourceOutcome::Fetched`].
    Fetch(Vec<ObjectId>),
    /// Read the next piece of a large object. Answered by [`SourceOutcome::Piece`].
    Next(ObjectId),
}

/// What a push is about, once the server has spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanRequest {
    /// Commits to be pushed, and what their refs hold on the server.
    pub targets: Vec<(Checksum, Option<Checksum>)>,
    /// Commits that are complete on the server.
    pub complete: Vec<Checksum>,
    /// Announced commits whose detached metadata the server wants.
    pub detached: Vec<Checksum>,
    /// Objects that were offered along with the announcement: not to be offered again.
    pub offered: Vec<ObjectId>,
}

/// What came of a [`SourceOp`].
#[derive(Debug)]
pub enum SourceOutcome {
    /// Of `Descends`: an answer for each pair, in order.
    Descends(Vec<bool>),
    /// Of `Plan`.
    Planned {
        /// Those of the complete commits that the offers will be a difference to.
        basis: Vec<Checksum>,
        /// The detached metadata asked for.
        detached: Vec<(Checksum, Bytes)>,
    },
    /// Of `Offer`.
    Offered {
        /// The next ids, at most `max`; none is offered twice.
        ids: Vec<ObjectId>,
        /// There is nothing left to offer, whatever the answers will be.
        exhausted: bool,
    },
    /// Of `Vouch`: whether each lies in the closure of a planned commit.
    Vouched(bool),
    /// Of `Fetch`: an answer for each id, in order.
    Fetched(Vec<Fetched>),
    /// Of `Next`.
    Piece {
        /// The next stored bytes, at most [`MAX_PIECE_LEN`](crate::limits::MAX_PIECE_LEN).
        bytes: Bytes,
        /// They are the object's last.
        last: bool,
    },
}

/// One object of a [`SourceOp::Fetch`].
#[derive(Debug)]
pub enum Fetched {
    /// All its stored bytes, at most [`MAX_PIECE_LEN`](crate::limits::MAX_PIECE_LEN); what is not
    /// small is better read in pieces, since several such answers are held at once.
    Whole(Bytes),
    /// To be read in pieces, with [`SourceOp::Next`]; its length in bytes, where that is known.
    Large(Option<u64>),
}

/// A [`SourceOp`] on its way. It must be completed, once. Of `Plan`, `Offer` and `Vouch` never two
/// are out at a time, nor is `Next` for one object; `Fetch` may be.
#[derive(Debug)]
#[must_use = "the session waits for the completion"]
pub struct SourceRequest {
    pub(crate) op: SourceOp,
}

impl SourceRequest {
    /// Returns what is to be done.
    pub const fn op(&self) -> &SourceOp {
        &self.op
    }

    /// Says what came of it; a fault ends the session.
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
