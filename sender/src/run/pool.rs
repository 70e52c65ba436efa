//! The threads that read the local repository for a session: one plans, some read.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{Fault, SourceDone, SourceOp, SourceOutcome, SourceRequest};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::planner;
use crate::error::Error;
use crate::reading::{Failure, Read, Reading, Settled};
use crate::source::Repository;

/// The threads, and their work.
#[derive(Debug)]
pub(crate) struct Pool {
    planner: Sender<SourceRequest>,
    reading: Reading<SourceRequest>,
    done: UnboundedReceiver<Completion>,
    /// Completed requests that were not handed out.
    settled: VecDeque<SourceDone>,
    busy: usize,
    failure: Failure,
}

#[derive(Debug)]
enum Completion {
    Planned(SourceDone),
    Read(Read<SourceRequest>),
}

impl Pool {
    /// Starts no thread: for a session that sends nothing.
    pub(crate) fn none() -> Self {
        let failure = Failure::new(tell);
        Self {
            planner: channel().0,
            reading: Reading::none(failure.clone()),
            done: unbounded_channel().1,
            settled: VecDeque::new(),
            busy: 0,
            failure,
        }
    }

    /// Starts the threads for one push.
    pub(crate) fn start(repository: &Arc<Repository>, depth: u32) -> Self {
        let (report, done) = unbounded_channel();
        let failure = Failure::new(tell);
        // A report fails when the pool is gone: then nobody waits for it.
        let planned = report.clone();
        let planner = planner::start(
            Arc::clone(repository),
            depth,
            failure.clone(),
            move |done| drop(planned.send(Completion::Planned(done))),
        );
        let reading = Reading::start(repository, &failure, move |read| {
            drop(report.send(Completion::Read(read)));
        });
        Self {
            planner,
            reading,
            done,
            settled: VecDeque::new(),
            busy: 0,
            failure,
        }
    }

    /// Hands a request to a thread.
    pub(crate) fn submit(&mut self, request: SourceRequest) {
        self.busy += 1;
        match request.op() {
            SourceOp::Descends(_)
            | SourceOp::Plan(_)
            | SourceOp::Offer { .. }
            | SourceOp::Vouch(_) => {
                // The thread lives as long as its queue.
                let _ = self.planner.send(request);
            }
            SourceOp::Fetch(ids) => {
                let ids = ids.clone();
                self.reading.fetch(request, ids);
            }
            SourceOp::Next(id) => {
                let id = *id;
                let settled = self.reading.ask(id, request);
                self.settled.extend(settled.map(complete));
            }
        }
    }

    /// Returns whether a completion is due.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// Waits for the next completion.
    pub(crate) async fn next(&mut self) -> SourceDone {
        loop {
            if let Some(done) = self.settled.pop_front() {
                self.busy -= 1;
                return done;
            }
            match self.done.recv().await {
                Some(completion) => self.take_in(completion),
                // The threads hold the other end while a completion is due.
                None => return std::future::pending().await,
            }
        }
    }

    /// Returns the first error, if any.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.take()
    }

    fn take_in(&mut self, completion: Completion) {
        match completion {
            Completion::Planned(done) => self.settled.push_back(done),
            Completion::Read(read) => {
                let settled = self.reading.take_in(read);
                self.settled.extend(settled.map(complete));
            }
        }
    }
}

fn complete(settled: Settled<SourceRequest>) -> SourceDone {
    match settled {
        Settled::Fetched(request, objects) => request.complete(objects.map(SourceOutcome::Fetched)),
        Settled::Piece(request, piece) => {
            let piece = piece.map(|(bytes, last)| SourceOutcome::Piece { bytes, last });
            request.complete(piece)
        }
    }
}

/// Returns what the server is told of an error.
fn tell(_: &Error) -> Fault {
    Fault {
        code: CloseCode::SOURCE_FAILED,
        text: "the client cannot read its own repository".to_owned(),
    }
}
