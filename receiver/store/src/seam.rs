//! The seam between a session's driver and a store: what any store can be asked for.

use std::fmt;

use artifact_formats::{Checksum, ObjectId, RefName};
use artifact_protocol::frame::SummaryDone;
use artifact_protocol::session::{Announcement, Opened, Published, RefQuery};

use crate::error::Error;

/// A place for one push. Nothing is durable before [`publish`](Self::publish) returns, and nothing
/// is visible before it begins.
///
/// Methods may be called from several threads. `open` comes first, before `rely`, `have`,
/// `stage_detached` and `publish`; dropping the store takes back all that was not published,
/// but for whole objects, which a later push of the same identity need not send again.
pub trait Store: fmt::Debug + Send + Sync {
    /// An object that comes in pieces.
    type Stream: ObjectStream;

    /// Returns what refs hold, and whether none was left out, before a push is open. Those whose
    /// commits are not complete are not among them: a client need not know more.
    fn refs(&self, query: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error>;

    /// Looks up the announced refs and judges the updates, and says which commits are complete.
    ///
    /// Changes nothing but a summary that lacks what is up to date. An update it calls up to date
    /// is durable.
    fn open(&self, announcement: &Announcement) -> Result<Opened, Error>;

    /// From now on only objects beneath these commits count as here without being looked at; where
    /// there are none, no object does.
    ///
    /// Fails, by fault of the peer, when `open` did not call one of them complete.
    fn rely(&self, commits: &[Checksum]) -> Result<(), Error>;

    /// Returns for each id whether it need not be sent: for a dirtree or commit that includes all
    /// below it. What is had may be gone again at `publish`, which looks again.
    fn have(&self, ids: &[ObjectId]) -> Result<Vec<bool>, Error>;

    /// Verifies and stages an object, given its stored bytes. Not durable.
    ///
    /// Fails, by fault of the peer, when the bytes are not those of the object.
    fn stage(&self, id: ObjectId, stored: &[u8]) -> Result<(), Error>;

    /// Begins an object that comes in pieces.
    fn begin(&self, id: ObjectId) -> Result<Self::Stream, Error>;

    /// Checks and stages a commit's detached metadata. Not durable.
    ///
    /// Fails, by fault of the peer, when it is malformed, too long, or not what was announced.
    fn stage_detached(&self, commit: Checksum, metadata: &[u8]) -> Result<(), Error>;

    /// Takes note of objects that had to be sent, and were not: they are not here, whatever they lie
    /// beneath.
    fn lack(&self, ids: &[ObjectId]) -> Result<(), Error>;

    /// Publishes what the accepted updates reach and sets their refs, or says what is missing and
    /// changes nothing. What it says was updated is durable.
    ///
    /// After a failure some refs may be set and others not, each of them whole.
    fn publish(&self) -> Result<Published, Error>;

    /// Brings the summary up to date with the refs, durably.
    ///
    /// Its failure is no failure of the push, and therefore an answer like others.
    fn summarize(&self) -> SummaryDone;
}

/// An object that is being received in pieces. Dropping it takes back what was received.
pub trait ObjectStream: fmt::Debug + Send {
    /// Takes the next stored bytes.
    ///
    /// Fails, by fault of the peer, as soon as they cannot be those of the object.
    fn append(&mut self, stored: &[u8]) -> Result<(), Error>;

    /// Ends the object, and stages it if it is good. Not durable.
    ///
    /// Fails, by fault of the peer, when the bytes are not those of the object.
    fn finish(self) -> Result<(), Error>;
}
