//! The requests of a [`PullServer`](super::PullServer) to its repository, and their outcomes.
//! Linear like the store's requests: each is completed once.

use artifact_formats::{Checksum, ObjectId, RefPattern};
use bytes::Bytes;

use super::super::error::Fault;
use super::super::source::Fetched;
use crate::frame::{Extent, Prefix, PullOptions, RefAnswer, RefRequest};

/// Everything that a client wants and holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullRequest {
    /// Options of the pull.
    pub options: PullOptions,
    /// How many ancestors of each commit the client wants as well.
    pub history: u32,
    /// Refs that the client wants, each once.
    pub refs: Vec<RefRequest>,
    /// The client also wants every ref that one of these matches.
    pub patterns: Vec<RefPattern>,
    /// Commits that the client holds with everything that they reach; at most
    /// [`MAX_BASES`](crate::limits::MAX_BASES).
    pub held: Vec<Checksum>,
    /// Other objects that the client holds; at most [`MAX_HELD`](crate::limits::MAX_HELD).
    pub objects: Vec<Prefix>,
}

impl PullRequest {
    /// Returns whether nothing but the extent of the answer is wanted.
    pub const fn is_dry_run(&self) -> bool {
        self.options.contains(PullOptions::DRY_RUN)
    }
}

/// What becomes of each wanted ref.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PullAnswer {
    /// Each requested ref, and each that a pattern matches, once; at most
    /// [`MAX_REFS`](crate::limits::MAX_REFS). All promises of one commit have the same `detached`.
    pub refs: Vec<RefAnswer>,
    /// The held commits that the objects will be a difference to.
    pub basis: Vec<Checksum>,
}

/// A request to the repository.
#[derive(Debug, PartialEq, Eq)]
pub enum AnswerOp {
    /// Look up what the client wants, judge whether it may have that, and prepare to list the
    /// objects. Answered by [`AnswerOutcome::Judged`].
    Judge(PullRequest),
    /// Count the objects of the answer. Answered by [`AnswerOutcome::Measured`]. Except in a dry
    /// run nothing waits for this: it may be completed at any time, also after the session's end.
    Measure,
    /// Name at most `max` further objects of the answer. Answered by [`AnswerOutcome::Listed`].
    List {
        /// How many.
        max: usize,
    },
    /// Read the detached metadata of a promised commit. Answered by [`AnswerOutcome::Detached`].
    Detached(Checksum),
    /// Read objects. Answered by [`AnswerOutcome::Fetched`].
    Fetch(Vec<ObjectId>),
    /// Read the next piece of a large object. Answered by [`AnswerOutcome::Piece`].
    Next(ObjectId),
}

/// The outcome of an [`AnswerOp`].
#[derive(Debug)]
pub enum AnswerOutcome {
    /// Answers `Judge`.
    Judged(PullAnswer),
    /// Answers `Measure`.
    Measured(Extent),
    /// Answers `List`.
    Listed {
        /// The next objects, at most `max`: none is listed twice, and each but a promised commit
        /// comes after an object that names it, or below one that the client holds. None at all
        /// only if the list is exhausted.
        ids: Vec<ObjectId>,
        /// Nothing is left to list.
        exhausted: bool,
    },
    /// Answers `Detached`.
    Detached(Bytes),
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

/// An [`AnswerOp`] in progress. It must be completed once. At most one of `Judge`, `Measure`,
/// `List` and `Detached` each is in progress at a time, and one `Next` for each object; several
/// `Fetch` may be.
#[derive(Debug)]
#[must_use = "the session waits for the completion"]
pub struct AnswerRequest {
    pub(super) op: AnswerOp,
}

impl AnswerRequest {
    /// Returns the operation.
    pub const fn op(&self) -> &AnswerOp {
        &self.op
    }

    /// Completes the request; a fault ends the session.
    pub fn complete(self, outcome: Result<AnswerOutcome, Fault>) -> AnswerDone {
        AnswerDone {
            request: self,
            outcome,
        }
    }
}

/// A completed [`AnswerRequest`], for
/// [`PullServer::handle_answer`](super::PullServer::handle_answer).
#[derive(Debug)]
pub struct AnswerDone {
    pub(super) request: AnswerRequest,
    pub(super) outcome: Result<AnswerOutcome, Fault>,
}
