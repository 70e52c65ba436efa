//! The seam between a session's driver and a store: what any store can be asked for.
//!
//! ```text
//! Store --begin(announcement)--> (Opened, Push) --stager()--> Stager --begin(id)--> ObjectStream
//! ```
//!
//! A store begins a push; only the push can be asked what it has, take objects, and be published.
//! One thread drives the push, any number of threads stage its objects meanwhile.

use std::fmt;

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::frame::SummaryDone;
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};
use bytes::Bytes;

use crate::error::Error;

/// Where pushes go.
pub trait Store: fmt::Debug + Send + Sync {
    /// A push that this store has begun.
    type Push: Push;

    /// Returns what refs hold, and whether none was left out. Refs whose commits are not complete
    /// are left out in silence: a client need not know more.
    fn refs(&self, query: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error>;

    /// Looks up the announced refs, judges the updates, and says which commits are complete.
    ///
    /// The refs come all at once, so that a store may look them up together. Begins nothing visible:
    /// a summary may be brought up to date that lacks a ref which is. An update that is called up to
    /// date is durable.
    fn begin(&self, announcement: &Announcement) -> Result<(Opened, Self::Push), Error>;
}

/// One push. Nothing is durable before [`publish`](Self::publish) returns, and nothing is visible
/// before it begins.
///
/// Dropping it takes back what was not published, but for complete objects, which a later push of
/// the same identity need not send again.
pub trait Push: fmt::Debug + Send {
    /// What takes the objects.
    type Stager: Stager;

    /// Returns what takes the objects: a clone for each thread.
    fn stager(&self) -> Self::Stager;

    /// From now on only objects beneath these commits count as here without being looked at; where
    /// there are none, no object does.
    ///
    /// Fails, by fault of the peer, when [`Store::begin`] did not call one of them complete.
    fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error>;

    /// Returns for each id whether it need not be sent: for a dirtree or commit that includes all
    /// below it. What is had may be gone again at `publish`, which looks again.
    fn have(&mut self, ids: &[ObjectId]) -> Result<Vec<bool>, Error>;

    /// Checks and stages a commit's detached metadata. Not durable.
    ///
    /// Fails, by fault of the peer, when it is malformed, too long, or not what was announced.
    fn stage_detached(&mut self, commit: Checksum, metadata: &[u8]) -> Result<(), Error>;

    /// Takes note of objects that had to be sent, and were not: they are not here, whatever they lie
    /// beneath.
    fn lack(&mut self, ids: &[ObjectId]) -> Result<(), Error>;

    /// Publishes what the accepted updates reach and sets their refs, or says what is missing and
    /// changes nothing. What it says was updated is durable: it waits for objects that were staged
    /// and are still on their way to the store.
    ///
    /// After a failure some refs may be set and others not, each of them complete.
    fn publish(&mut self) -> Result<Published, Error>;

    /// Brings the summary up to date with the refs, durably.
    ///
    /// Its failure is no failure of the push, and therefore an answer like others.
    fn summarize(&mut self) -> SummaryDone;
}

/// What takes the objects of one push, from any number of threads at once.
pub trait Stager: Clone + fmt::Debug + Send + 'static {
    /// An object that comes in pieces.
    type Stream: ObjectStream;

    /// Verifies and stages an object, given its stored bytes. Not durable.
    ///
    /// Fails, by fault of the peer, when the bytes are not those of the object.
    fn stage(&self, id: ObjectId, stored: Bytes) -> Result<(), Error>;

    /// Begins an object that comes in pieces.
    fn begin(&self, id: ObjectId) -> Result<Self::Stream, Error>;
}

/// An object that is being received in pieces. Dropping it takes back what was received.
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
