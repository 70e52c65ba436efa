//! What a push did, put together from what was heard of it.

use artifact_formats::RefName;
use artifact_protocol::frame::{RefOutcome, Refusal, SummaryDone, Welcome};
use artifact_protocol::session::{Error as SessionError, SenderEvent};

use crate::error::Error;

/// The result of a push.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The server's introduction.
    pub server: Welcome,
    /// The outcome of each ref, in the order they were named. `Updated` is durable.
    pub refs: Vec<(RefName, RefOutcome)>,
    /// Objects sent.
    pub objects_sent: u64,
    /// Stored bytes sent, without the protocol's overhead.
    pub bytes_sent: u64,
    /// Objects that the server wanted; in a dry run, those that would be sent.
    pub objects_wanted: u64,
    /// Whether the server's summary lists the refs. `None` if no ref was accepted, or if the server
    /// did not get to say.
    pub summary: Option<SummaryDone>,
    /// The reason why the session ended early, if it did. The outcomes of the refs are known all
    /// the same.
    pub lost: Option<SessionError>,
}

impl Report {
    /// Adds the result of a later session of the same push.
    pub fn join(&mut self, later: Self) {
        self.refs.extend(later.refs);
        self.objects_sent += later.objects_sent;
        self.bytes_sent += later.bytes_sent;
        self.objects_wanted += later.objects_wanted;
        self.summary = later.summary.or(self.summary.take());
    }

    /// Returns the refs that the server refused, and the reasons.
    pub fn refused(&self) -> impl Iterator<Item = (&RefName, &Refusal)> {
        self.refs
            .iter()
            .filter_map(|(name, outcome)| match outcome {
                RefOutcome::Refused(refusal) => Some((name, refusal)),
                RefOutcome::Updated | RefOutcome::Unchanged | RefOutcome::WouldUpdate => None,
            })
    }
}

/// The events so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    server: Option<Welcome>,
    outcomes: Vec<RefOutcome>,
    pub(crate) is_settled: bool,
    pub(crate) lost: Option<SessionError>,
    objects_sent: u64,
    bytes_sent: u64,
    objects_wanted: u64,
    summary: Option<SummaryDone>,
}

impl Tally {
    pub(crate) fn count(&mut self, event: SenderEvent) {
        match event {
            SenderEvent::Welcomed(welcome) => self.server = Some(welcome),
            SenderEvent::Answered { wanted, .. } => self.objects_wanted += wanted.len() as u64,
            SenderEvent::Missing(wanted) => self.objects_wanted += wanted,
            SenderEvent::Sent { objects, bytes, .. } => {
                self.objects_sent += objects;
                self.bytes_sent += bytes;
            }
            SenderEvent::Finalized(outcomes) => {
                self.outcomes = outcomes;
                self.is_settled = true;
            }
            SenderEvent::Summary(done) => self.summary = Some(done),
            SenderEvent::RefStatus(_) | SenderEvent::Staged(_) => {}
        }
    }

    pub(crate) fn into_report(self, names: Vec<RefName>) -> Result<Report, Error> {
        Ok(Report {
            server: self
                .server
                .ok_or(Error::Internal("a session without a Welcome"))?,
            refs: names.into_iter().zip(self.outcomes).collect(),
            objects_sent: self.objects_sent,
            bytes_sent: self.bytes_sent,
            objects_wanted: self.objects_wanted,
            summary: self.summary,
            lost: self.lost,
        })
    }
}
