//! The threads that read objects and compress them.
//!
//! All of them take from one queue. Several may work at one large object: each reads its piece
//! while nobody else reads, and compresses it beside the others.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::session::{
    Fault, Fetched, SourceDone, SourceOp, SourceOutcome, SourceRequest,
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::failure::Failure;
use crate::error::Error;
use crate::source::{LargeObject, Object, Piece, Repository};

/// The queue of the threads.
#[derive(Debug)]
pub(super) struct Readers(Sender<Job>);

/// What a reader is given to do.
#[derive(Debug)]
enum Job {
    Fetch(SourceRequest),
    /// The next piece of an object, if it has one more.
    Piece(Arc<OpenObject>),
}

/// What a reader has done.
#[derive(Debug)]
pub(super) enum Read {
    Fetched {
        done: SourceDone,
        opened: Vec<Arc<OpenObject>>,
    },
    Piece {
        object: Arc<OpenObject>,
        number: u64,
        piece: ReadPiece,
    },
}

/// A piece as it goes out, or why it does not.
#[derive(Debug)]
pub(super) struct ReadPiece {
    pub(super) outcome: Result<Bytes, Fault>,
    /// The object has no piece after this one.
    pub(super) last: bool,
}

/// A large object that pieces are read from.
#[derive(Debug)]
pub(super) struct OpenObject {
    pub(super) id: ObjectId,
    /// Whether several pieces at once pay.
    pub(super) is_divisible: bool,
    rest: Mutex<Rest>,
}

#[derive(Debug)]
struct Rest {
    object: LargeObject,
    /// Pieces begun so far.
    begun: u64,
}

impl Readers {
    /// Starts `count` threads. They report what they have done, and end when nobody asks any more.
    pub(super) fn start(
        count: usize,
        repository: &Arc<Repository>,
        failure: &Failure,
        report: impl Fn(Read) + Clone + Send + 'static,
    ) -> Self {
        let (sender, jobs) = channel();
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..count {
            let reader = Reader {
                repository: Arc::clone(repository),
                jobs: Arc::clone(&jobs),
                failure: failure.clone(),
                report: report.clone(),
            };
            thread::spawn(move || reader.run());
        }
        Self(sender)
    }

    /// Starts none, for a session that sends nothing.
    pub(super) fn none() -> Self {
        Self(channel().0)
    }

    /// Hands out a request for objects.
    pub(super) fn fetch(&self, request: SourceRequest) {
        // The threads live as long as the queue.
        let _ = self.0.send(Job::Fetch(request));
    }

    /// Begins one more piece of an object.
    pub(super) fn read_on(&self, object: &Arc<OpenObject>) {
        let _ = self.0.send(Job::Piece(Arc::clone(object)));
    }
}

struct Reader<F> {
    repository: Arc<Repository>,
    jobs: Arc<Mutex<Receiver<Job>>>,
    failure: Failure,
    report: F,
}

impl<F: Fn(Read)> Reader<F> {
    /// Does one job after another until nobody is left to want any.
    fn run(&self) {
        loop {
            let job = self.jobs.lock().recv();
            match job {
                Ok(Job::Fetch(request)) => (self.report)(self.fetch(request)),
                Ok(Job::Piece(object)) => {
                    if let Some(read) = self.piece(object) {
                        (self.report)(read);
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn fetch(&self, request: SourceRequest) -> Read {
        let mut opened = Vec::new();
        let outcome = match request.op() {
            SourceOp::Fetch(ids) => ids
                .iter()
                .map(|id| self.open(*id, &mut opened))
                .collect::<Result<_, _>>()
                .map(SourceOutcome::Fetched),
            SourceOp::Descends(_)
            | SourceOp::Plan(_)
            | SourceOp::Offer { .. }
            | SourceOp::Vouch(_)
            | SourceOp::Next(_) => Err(Error::Internal("not a reader's")),
        };
        let done = request.complete(outcome.map_err(|error| self.failure.keep(error)));
        Read::Fetched { done, opened }
    }

    fn open(&self, id: ObjectId, opened: &mut Vec<Arc<OpenObject>>) -> Result<Fetched, Error> {
        let object = match self.repository.read(id)? {
            Object::Small(stored) => return Ok(Fetched::Whole(stored)),
            Object::Large(object) => object,
        };
        let len = object.stored_len();
        opened.push(Arc::new(OpenObject {
            id,
            is_divisible: object.is_divisible(),
            rest: Mutex::new(Rest { object, begun: 0 }),
        }));
        Ok(Fetched::Large(len))
    }

    /// Reads a piece while nobody else reads from the same object, and then compresses it.
    fn piece(&self, object: Arc<OpenObject>) -> Option<Read> {
        let mut rest = object.rest.lock();
        // The object may have ended with a piece that was begun before.
        let piece = rest.object.next_piece()?;
        let number = rest.begun;
        rest.begun += 1;
        let last = rest.object.is_at_end();
        drop(rest);
        let outcome = piece.and_then(Piece::finish);
        let outcome = outcome.map_err(|error| self.failure.keep(error));
        Some(Read::Piece {
            object,
            number,
            piece: ReadPiece { outcome, last },
        })
    }
}
