//! The seam between a session's driver and a store: the requests that every store answers.
//!
//! ```text
//! Store --begin(announcement)--> (Opened, Push) --stager()--> Stager --begin(id)--> ObjectStream
//! ```
//!
//! A store begins a push; the push answers which objects it has, takes objects, and publishes them.
//! One thread drives the push, while any number of threads stage its objects.

use std::fmt;

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::frame::SummaryDone;
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};
use bytes::Bytes;

use crate::error::Error;

/// The target of pushes.
pub trait Store: fmt::Debug + Send + Sync {
    /// A push that this store has begun.
    type Push: Push;

    /// Returns the values of refs, and whether the list is complete. Refs whose commits are
    /// incomplete, or whose values the client may not know, are silently left out.
    fn refs(&self, query: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error>;

    /// Looks up the announced refs, judges the updates, and returns which commits are complete.
    ///
    /// The refs come all at once, so that a store may look them up together. Nothing visible
    /// begins, except that a summary may be brought up to date that lacks an up-to-date ref. An
    /// update reported as up to date is durable.
    fn begin(&self, announcement: &Announcement) -> Result<(Opened, Self::Push), Error>;
}

/// One push. Nothing is durable before [`publish`](Self::publish) returns, and nothing is visible
/// before it is called.
///
/// Dropping a push discards everything unpublished except complete objects, which a later push of
/// the same identity need not send again.
pub trait Push: fmt::Debug + Send {
    /// Takes the push's objects.
    type Stager: Stager;

    /// Returns the push's stager, to be cloned for each thread.
    fn stager(&self) -> Self::Stager;

    /// From now on only objects below these commits count as present without being looked at;
    /// without commits, no object does.
    ///
    /// Fails, by fault of the peer, when [`Store::begin`] did not call one of them complete.
    fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error>;

    /// Returns, for each id, whether the client need not send it: for a dirtree or commit, that
    /// includes everything below it. An object may be gone again at `publish`, which checks again.
    fn have(&mut self, ids: &[ObjectId]) -> Result<Vec<bool>, Error>;

    /// Checks and stages a commit's detached metadata. Not durable.
    ///
    /// Fails, by fault of the peer, when they are malformed, too long, or not the announced ones.
    fn stage_detached(&mut self, commit: Checksum, metadata: &[u8]) -> Result<(), Error>;

    /// Notes objects that had to be sent, and were not: they are missing, whatever they lie below.
    fn lack(&mut self, ids: &[ObjectId]) -> Result<(), Error>;

    /// Publishes everything the accepted updates reach and sets their refs, or returns the missing
    /// objects and changes nothing. The reported updates are durable: this waits for staged objects
    /// that are still on their way to the store.
    ///
    /// After a failure some refs may be set and others not, each of them complete.
    fn publish(&mut self) -> Result<Published, Error>;

    /// Brings the summary up to date with the refs, durably.
    ///
    /// Its failure does not fail the push, and is therefore an answer, not an error.
    fn summarize(&mut self) -> SummaryDone;
}

/// Takes the objects of one push, from any number of threads at once.
pub trait Stager: Clone + fmt::Debug + Send + 'static {
    /// An object that comes in pieces.
    type Stream: ObjectStream;

    /// Verifies and stages an object from its stored bytes. Not durable.
    ///
    /// Fails, by fault of the peer, when the bytes are not those of the object.
    fn stage(&self, id: ObjectId, stored: Bytes) -> Result<(), Error>;

    /// Begins an object that comes in pieces.
    fn begin(&self, id: ObjectId) -> Result<Self::Stream, Error>;
}

/// An object being received in pieces. Dropping it discards the received bytes.
pub trait ObjectStream: fmt::Debug + Send {
    /// Takes the next stored bytes.
    ///
    /// Fails, by fault of the peer, as soon as they cannot be those of the object.
    fn append(&mut self, stored: Bytes) -> Result<(), Error>;

    /// Ends the object, and stages it if it is good. Not durable.
    ///
    /// Fails, by fault of the peer, when the bytes are not those of the object.
    fn finish(self) -> Result<(), Error>;
}
