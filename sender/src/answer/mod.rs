//! Answers a pull from a repository on this machine: judges what the client wants, lists the
//! objects, and reads them ahead of the wire.
//!
//! ```text
//! PullServer --request--> Answers --> planner: judge (what it may have), walk (what it lacks)
//!      ^                     |           `---> sizer: how much that is
//!      `-----completion------'--> reading: the objects
//! ```
//!
//! Takes no lock and trusts no request. It promises only commits of refs that the [`Terms`] let the
//! client read, and lists only objects that a promised commit reaches. If another program deletes
//! objects meanwhile, the answer ends, and the client may ask again.
//!
//! It keeps 18 bytes for each object in memory, and a bounded number of ids ahead of the wire.

mod judge;
mod patience;
mod planner;
mod sizer;
mod walk;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use artifact_formats::{RefName, RefPattern};
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::Fault;
use artifact_protocol::session::pull::{AnswerDone, AnswerOp, AnswerOutcome, AnswerRequest};

use self::patience::Patience;
use crate::error::Error;
use crate::reading::{Failure, Read, Reading, Settled};
use crate::source::Repository;

/// What one client may have, and how much work its answer may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The refs that the client may read; `None` is all of them.
    pub readable: Option<Vec<RefPattern>>,
    /// Most objects to look at: those of the answer, and those that the client holds below complete
    /// commits. Each takes 18 bytes of memory.
    pub objects_max: u64,
    /// How long judging and listing may take, without the time spent waiting for the client.
    pub planning_max: Duration,
}

impl Terms {
    /// The default limit on objects: five root file systems at once.
    pub const OBJECTS_MAX: u64 = 4_000_000;
    /// The default limit on the time for judging and listing.
    pub const PLANNING_MAX: Duration = Duration::from_secs(300);

    /// Returns whether the client may read a ref of this name.
    pub fn lets_read(&self, name: &RefName) -> bool {
        match &self.readable {
            Some(patterns) => patterns
                .iter()
                .any(|pattern| pattern.matches(name.as_str())),
            None => true,
        }
    }
}

impl Default for Terms {
    /// Everything may be read.
    fn default() -> Self {
        Self {
            readable: None,
            objects_max: Self::OBJECTS_MAX,
            planning_max: Self::PLANNING_MAX,
        }
    }
}

/// The threads that answer one pull. They end soon after this is dropped.
#[derive(Debug)]
pub struct Answers {
    planner: Sender<AnswerRequest>,
    reading: Reading<AnswerRequest>,
    reports: Receiver<Report>,
    /// Completed requests that were not handed out.
    settled: VecDeque<AnswerDone>,
    failure: Failure,
    /// The planner ends its work when this is gone.
    _client: Arc<()>,
}

#[derive(Debug)]
enum Report {
    Done(AnswerDone),
    Read(Read<AnswerRequest>),
}

impl Answers {
    /// Starts the threads. Each time something is completed, they call `wake`.
    pub fn start(
        repository: &Arc<Repository>,
        terms: Terms,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> Self {
        let (sender, reports) = channel();
        // A report fails when this is gone: then nobody waits for it.
        let report = move |report| {
            drop(sender.send(report));
            wake();
        };
        let failure = Failure::new(tell);
        let planned = report.clone();
        let client = Arc::new(());
        let patience = Patience::new(terms.planning_max, Arc::downgrade(&client));
        let planner = planner::start(repository, terms, patience, &failure, move |done| {
            planned(Report::Done(done));
        });
        let reading = Reading::start(repository, &failure, move |read| {
            report(Report::Read(read));
        });
        Self {
            planner,
            reading,
            reports,
            settled: VecDeque::new(),
            failure,
            _client: client,
        }
    }

    /// Hands a request to a thread. It may be completed at once: [`next_done`](Self::next_done)
    /// tells.
    pub fn submit(&mut self, request: AnswerRequest) {
        match request.op() {
            AnswerOp::Judge(_)
            | AnswerOp::Measure
            | AnswerOp::List { .. }
            | AnswerOp::Detached(_) => {
                // The thread lives as long as its queue.
                let _ = self.planner.send(request);
            }
            AnswerOp::Fetch(ids) => {
                let ids = ids.clone();
                self.reading.fetch(request, ids);
            }
            AnswerOp::Next(id) => {
                let id = *id;
                let settled = self.reading.ask(id, request);
                self.settled.extend(settled.map(complete));
            }
        }
    }

    /// Returns the next completion, if there is one now. Never waits.
    pub fn next_done(&mut self) -> Option<AnswerDone> {
        loop {
            if let Some(done) = self.settled.pop_front() {
                return Some(done);
            }
            match self.reports.try_recv().ok()? {
                Report::Done(done) => self.settled.push_back(done),
                Report::Read(read) => {
                    let settled = self.reading.take_in(read);
                    self.settled.extend(settled.map(complete));
                }
            }
        }
    }

    /// Returns the first error in full, if any: the client is told only a part of it.
    pub fn take_failure(&self) -> Option<Error> {
        self.failure.take()
    }
}

fn complete(settled: Settled<AnswerRequest>) -> AnswerDone {
    match settled {
        Settled::Fetched(request, objects) => request.complete(objects.map(AnswerOutcome::Fetched)),
        Settled::Piece(request, piece) => {
            let piece = piece.map(|(bytes, last)| AnswerOutcome::Piece { bytes, last });
            request.complete(piece)
        }
    }
}

/// Returns what the client is told of an error.
fn tell(error: &Error) -> Fault {
    let (code, text) = match error {
        // A prune deletes objects, and a later attempt sees the refs as they are then.
        Error::MissingObject { .. } | Error::ChangedObject { .. } => (
            CloseCode::BUSY,
            "an object was deleted from the server while it was being read: pull again".to_owned(),
        ),
        Error::TooMuchAsked(what) => (CloseCode::LIMIT, what.clone()),
        _ => (
            CloseCode::STORAGE_FAILED,
            "the server cannot read its repository; its log says why".to_owned(),
        ),
    };
    Fault { code, text }
}
