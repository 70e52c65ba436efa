//! The threads that read the local repository for a session: one plans, some read.
//!
//! Several pieces of a large object that needs compressing are in progress at once; they go out in
//! order ([`PieceOrder`]). That takes at most [`Pool::READERS_MAX`] compressors, and twice as many
//! pieces for each open stream of a session.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::session::{SourceDone, SourceOp, SourceOutcome, SourceRequest};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::failure::Failure;
use super::piece_order::PieceOrder;
use super::planner;
use super::readers::{OpenObject, Read, ReadPiece, Readers};
use crate::error::Error;
use crate::source::Repository;

/// The threads, and their work.
#[derive(Debug)]
pub(crate) struct Pool {
    planner: Sender<SourceRequest>,
    readers: Readers,
    done: UnboundedReceiver<Completion>,
    /// Completed requests that were not handed out.
    settled: VecDeque<SourceDone>,
    large: HashMap<ObjectId, Large>,
    /// How many pieces of a compressed object are in progress at once.
    ahead: usize,
    busy: usize,
    failure: Failure,
}

#[derive(Debug)]
enum Completion {
    Planned(SourceDone),
    Read(Read),
}

/// A large object that a reader has opened and that was not handed out in full.
#[derive(Debug)]
struct Large {
    object: Arc<OpenObject>,
    order: PieceOrder<ReadPiece>,
    /// The request that waits for the next piece.
    request: Option<SourceRequest>,
}

impl Pool {
    /// Most reading threads. More would wait for one another: a session fetches with four requests
    /// and from two large objects at once.
    const READERS_MAX: usize = 8;

    /// Starts no thread: for a session that sends nothing.
    pub(crate) fn none() -> Self {
        Self {
            planner: channel().0,
            readers: Readers::none(),
            done: unbounded_channel().1,
            settled: VecDeque::new(),
            large: HashMap::new(),
            ahead: 0,
            busy: 0,
            failure: Failure::default(),
        }
    }

    /// Starts the threads for one push.
    pub(crate) fn start(repository: &Arc<Repository>, depth: u32) -> Self {
        let (report, done) = unbounded_channel();
        let failure = Failure::default();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let count = count.min(Self::READERS_MAX);
        // A report fails when the pool is gone: then nobody waits for it.
        let planned = report.clone();
        let planner = planner::start(
            Arc::clone(repository),
            depth,
            failure.clone(),
            move |done| drop(planned.send(Completion::Planned(done))),
        );
        let readers = Readers::start(count, repository, &failure, move |read| {
            drop(report.send(Completion::Read(read)));
        });
        Self {
            planner,
            readers,
            done,
            settled: VecDeque::new(),
            large: HashMap::new(),
            ahead: 2 * count,
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
            SourceOp::Fetch(_) => self.readers.fetch(request),
            SourceOp::Next(id) => self.ask(*id, request),
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
            Completion::Read(Read::Fetched { done, opened }) => {
                self.settled.push_back(done);
                for object in opened {
                    let ahead = if object.is_divisible { self.ahead } else { 1 };
                    let large = Large {
                        order: PieceOrder::new(ahead),
                        request: None,
                        object,
                    };
                    self.large.insert(large.object.id, large);
                }
            }
            Completion::Read(Read::Piece {
                object,
                number,
                piece,
            }) => {
                // The same object may have been opened again since.
                if let Some(large) = self.large.get_mut(&object.id)
                    && Arc::ptr_eq(&large.object, &object)
                {
                    large.order.put(number, piece);
                }
                self.settle(object.id);
            }
        }
    }

    /// Starts the next piece of a large object, and some after it.
    fn ask(&mut self, id: ObjectId, request: SourceRequest) {
        let Some(large) = self.large.get_mut(&id) else {
            let fault =
                (self.failure).keep(Error::Internal("a piece of an object that is not open"));
            self.settled.push_back(request.complete(Err(fault)));
            return;
        };
        large.request = Some(request);
        self.settle(id);
        if let Some(large) = self.large.get_mut(&id) {
            for _ in 0..large.order.begin() {
                self.readers.read_on(&large.object);
            }
        }
    }

    /// Completes the request for the next piece of a large object, if both are there.
    fn settle(&mut self, id: ObjectId) {
        let Some(large) = self.large.get_mut(&id) else {
            return;
        };
        let Some(request) = large.request.take() else {
            return;
        };
        let Some(ReadPiece { outcome, last }) = large.order.take() else {
            large.request = Some(request);
            return;
        };
        let outcome = outcome.map(|bytes| SourceOutcome::Piece { bytes, last });
        self.settled.push_back(request.complete(outcome));
        if last {
            self.large.remove(&id);
        }
    }
}
