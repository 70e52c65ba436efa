//! What a [`ReceiverSession`](super::ReceiverSession) asks of its store, and what it is answered.
//!
//! A request leaves the session as an output and comes back completed as an input. Requests cannot
//! be invented or completed twice: they are not `Clone`, and completing consumes them.

use artifact_formats::{Checksum, ObjectId, RefName};
use bytes::Bytes;

use super::error::Fault;
use crate::frame::{Base, PushOptions, RefOutcome, RefState, RefUpdate, SummaryDone};

/// All that a client announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// How the push is to be done.
    pub options: PushOptions,
    /// Refs to set, each once.
    pub refs: Vec<RefUpdate>,
    /// Commits that the client holds and believes to be current values of these refs.
    pub bases: Vec<Base>,
    /// How many ancestors of each commit the client may offer: a ref that holds its commit is not
    /// up to date while one of them is missing.
    pub history: u32,
}

/// What a store says to an announcement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// A state for each announced ref, in order.
    pub refs: Vec<RefState>,
    /// Commits that are complete here: of those proposed, and others that may help. At most
    /// [`MAX_COMPLETE`](crate::limits::MAX_COMPLETE).
    pub complete: Vec<Checksum>,
}

/// Which refs a store is asked about before a push is open; the old protocols tell their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefQuery {
    /// These.
    Named(Vec<RefName>),
    /// As many as there are, until they and their commits are so many bytes of text.
    All {
        /// How many.
        len_max: usize,
    },
}

/// One thing for the store to do.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Look up what refs hold, of which the commits are complete. Answered by
    /// [`StoreOutcome::Refs`]. Only from clients of the old protocols, and before `Open`.
    Refs(RefQuery),
    /// Look up the announced refs and judge the updates. Answered by [`StoreOutcome::Opened`].
    Open(Announcement),
    /// The client's offers are a difference to these commits. Answered by
    /// [`StoreOutcome::Relied`], or by a fault when one of them is not complete.
    Rely(Vec<Checksum>),
    /// Which of these are had, everything below included. Answered by [`StoreOutcome::Have`].
    Have(Vec<ObjectId>),
    /// Verify and stage whole objects. Answered by [`StoreOutcome::Staged`].
    Stage(Vec<(ObjectId, Bytes)>),
    /// Begin a stream. Answered by [`StoreOutcome::Appended`].
    Begin(u8, ObjectId),
    /// Take stored bytes of a stream. Answered by [`StoreOutcome::Appended`].
    Append(u8, Bytes),
    /// Verify and stage the stream's object. Answered by [`StoreOutcome::Staged`].
    End(u8),
    /// Stage detached metadata. Answered by [`StoreOutcome::Staged`].
    Detached(Checksum, Bytes),
    /// These were wanted and have not come: they are not here, whatever they lie beneath. Answered
    /// by [`StoreOutcome::Relied`].
    Unsent(Vec<ObjectId>),
    /// Check the closure of the accepted refs, make everything durable, and move them. Answered by
    /// [`StoreOutcome::Published`].
    Publish,
    /// Bring the summary up to date. Answered by [`StoreOutcome::Summarized`].
    Summarize,
}

/// Where a request may run. Requests of one lane run in the order they were put out; those of
/// different lanes in any order, or at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Refs, negotiation, publication.
    Control,
    /// One object stream.
    Stream(u8),
    /// Anywhere, in any order.
    Any,
}

/// What came of a [`StoreOp`].
#[derive(Debug)]
pub enum StoreOutcome {
    /// Of `Refs`: those that are there.
    Refs {
        /// Names and commits.
        refs: Vec<(RefName, Checksum)>,
        /// None was left out for want of room.
        all: bool,
    },
    /// Of `Open`.
    Opened(Opened),
    /// Of `Rely` and `Unsent`.
    Relied,
    /// Of `Have`: for each id whether it is had.
    Have(Vec<bool>),
    /// Of `Begin` and `Append`.
    Appended,
    /// Of `Stage`, `End` and `Detached`: verified, not durable.
    Staged,
    /// Of `Publish`.
    Published(Published),
    /// Of `Summarize`.
    Summarized(SummaryDone),
}

/// What came of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// For each announced ref what became of it, durably.
    Done(Vec<RefOutcome>),
    /// Nothing was changed: these are reached by an accepted commit and not here. Each once.
    Missing(Vec<ObjectId>),
}

/// A [`StoreOp`] on its way. It must be completed, once.
#[derive(Debug)]
#[must_use = "the session waits for the completion"]
pub struct StoreRequest {
    pub(crate) op: StoreOp,
}

impl StoreRequest {
    pub(crate) const fn new(op: StoreOp) -> Self {
        Self { op }
    }

    /// Returns the bytes of objects that the request holds in memory. Tiny ones take up less than
    /// what is noted of each.
    pub fn weight(&self) -> usize {
        match &self.op {
            StoreOp::Stage(objects) => {
                let noted = size_of_val(objects.as_slice());
                noted + objects.iter().map(|(_, b)| b.len()).sum::<usize>()
            }
            StoreOp::Append(_, bytes) | StoreOp::Detached(_, bytes) => bytes.len(),
            StoreOp::Refs(_)
            | StoreOp::Open(_)
            | StoreOp::Rely(_)
            | StoreOp::Have(_)
            | StoreOp::Begin(..)
            | StoreOp::End(_)
            | StoreOp::Unsent(_)
            | StoreOp::Publish
            | StoreOp::Summarize => 0,
        }
    }

    /// Returns what is to be done.
    pub const fn op(&self) -> &StoreOp {
        &self.op
    }

    /// Returns where it may run.
    pub const fn lane(&self) -> Lane {
        match self.op {
            StoreOp::Begin(stream, _) | StoreOp::Append(stream, _) | StoreOp::End(stream) => {
                Lane::Stream(stream)
            }
            StoreOp::Stage(_) => Lane::Any,
            StoreOp::Refs(_)
            | StoreOp::Open(_)
            | StoreOp::Rely(_)
            | StoreOp::Have(_)
            | StoreOp::Detached(..)
            | StoreOp::Unsent(_)
            | StoreOp::Publish
            | StoreOp::Summarize => Lane::Control,
        }
    }

    /// Says what came of it; a fault ends the session.
    pub fn complete(self, outcome: Result<StoreOutcome, Fault>) -> StoreDone {
        StoreDone {
            request: self,
            outcome,
        }
    }
}

/// A completed [`StoreRequest`], for
/// [`ReceiverSession::handle_stored`](super::ReceiverSession::handle_stored).
#[derive(Debug)]
pub struct StoreDone {
    pub(crate) request: StoreRequest,
    pub(crate) outcome: Result<StoreOutcome, Fault>,
}
