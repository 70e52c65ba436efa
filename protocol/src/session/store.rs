//! The requests of a [`ReceiverSession`](super::ReceiverSession) to its store, and their outcomes.
//!
//! A request leaves the session as an output and comes back, completed, as an input. Nobody can
//! invent a request or complete one twice: they are not `Clone`, and completing consumes them.

use artifact_formats::{Checksum, ObjectId, RefName};
use bytes::Bytes;

use super::error::{ApiMisuse, Fault};
use crate::frame::{Base, PushOptions, RefOutcome, RefState, RefUpdate, SummaryDone};

/// Everything that a client announced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announcement {
    /// Options of the push.
    pub options: PushOptions,
    /// Refs to set, each once.
    pub refs: Vec<RefUpdate>,
    /// Commits that the client holds, and believes to be the current values of these refs.
    pub bases: Vec<Base>,
    /// How many ancestors of each commit the client may offer: a ref that holds its commit is not
    /// up to date while one of them is missing.
    pub history: u32,
}

/// A store's answer to an announcement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// A state for each announced ref, in order.
    pub refs: Vec<RefState>,
    /// Commits that are complete here: proposed ones, and others that may help. At most
    /// [`MAX_COMPLETE`](crate::limits::MAX_COMPLETE).
    pub complete: Vec<Checksum>,
}

/// The refs that a session asks for before a push is open, to tell a client of an old protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefQuery {
    /// These refs.
    Named(Vec<RefName>),
    /// All refs, up to `len_max` bytes of names and commits as text.
    All {
        /// The limit in bytes.
        len_max: usize,
    },
}

/// A request to the store.
#[derive(Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// Look up the commits of refs, if they are complete. Answered by [`StoreOutcome::Refs`]. Only
    /// for clients of the old protocols, and before `Open`.
    Refs(RefQuery),
    /// Look up the announced refs and judge the updates. Answered by [`StoreOutcome::Opened`].
    Open(Announcement),
    /// The client's offers are a difference to these commits. Answered by [`StoreOutcome::Relied`],
    /// or by a fault if one of them is not complete.
    Rely(Vec<Checksum>),
    /// Tell which of these objects are here, with everything below them. Answered by
    /// [`StoreOutcome::Have`].
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
    /// These objects were wanted and have not come: they count as missing, whatever they lie
    /// beneath. Answered by [`StoreOutcome::Relied`].
    Unsent(Vec<ObjectId>),
    /// Check the closure of the accepted refs, make everything durable, and move them. Answered by
    /// [`StoreOutcome::Published`].
    Publish,
    /// Bring the summary up to date. Answered by [`StoreOutcome::Summarized`].
    Summarize,
}

/// The order in which requests may run. Requests of one lane run in the order they were put out;
/// those of different lanes run in any order, or at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Refs, negotiation, publication.
    Control,
    /// One object stream.
    Stream(u8),
    /// Any order.
    Any,
}

/// The outcome of a [`StoreOp`].
#[derive(Debug)]
pub enum StoreOutcome {
    /// Answers `Refs`: the existing ones.
    Refs {
        /// Names and commits.
        refs: Vec<(RefName, Checksum)>,
        /// Whether none was left out for lack of space.
        all: bool,
    },
    /// Answers `Open`.
    Opened(Opened),
    /// Answers `Rely` and `Unsent`.
    Relied,
    /// Answers `Have`: for each id, whether the store has it.
    Have(Vec<bool>),
    /// Answers `Begin` and `Append`.
    Appended,
    /// Answers `Stage`, `End` and `Detached`: verified, not durable.
    Staged,
    /// Answers `Publish`.
    Published(Published),
    /// Answers `Summarize`.
    Summarized(SummaryDone),
}

impl StoreOutcome {
    /// Returns the answer to an announcement of so many refs.
    pub(crate) fn opened(self, refs: usize) -> Result<Opened, ApiMisuse> {
        let Self::Opened(opened) = self else {
            return Err(ApiMisuse::Outcome);
        };
        match opened.refs.len() == refs {
            true => Ok(opened),
            false => Err(ApiMisuse::Outcome),
        }
    }

    /// Returns the answer to a request to publish.
    pub(crate) fn published(self) -> Result<Published, ApiMisuse> {
        let Self::Published(published) = self else {
            return Err(ApiMisuse::Outcome);
        };
        Ok(published)
    }
}

/// The outcome of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// The outcome of each announced ref, durably.
    Done(Vec<RefOutcome>),
    /// Nothing was changed: an accepted commit reaches these objects, and they are not here. Each
    /// once.
    Missing(Vec<ObjectId>),
}

/// A [`StoreOp`] in progress. It must be completed once.
#[derive(Debug)]
#[must_use = "the session waits for the completion"]
pub struct StoreRequest {
    pub(crate) op: StoreOp,
}

impl StoreRequest {
    pub(crate) const fn new(op: StoreOp) -> Self {
        Self { op }
    }

    /// Returns the memory in bytes that the request's objects take, with the bookkeeping of each:
    /// for tiny objects it exceeds their bytes.
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

    /// Returns the operation.
    pub const fn op(&self) -> &StoreOp {
        &self.op
    }

    /// Returns the lane it runs in.
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

    /// Completes the request; a fault ends the session.
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
