//! The threads that read objects and compress them.
//!
//! All of them take from one queue. Several may work on one large object: each reads its piece
//! alone, and compresses it while others read.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::session::{Fault, Fetched};
use bytes::Bytes;
use parking_lot::Mutex;

use super::failure::Failure;
use crate::error::Error;
use crate::source::{LargeObject, Object, Piece, Repository};

/// The queue of the threads.
#[derive(Debug)]
pub(super) struct Readers<R>(Sender<Job<R>>);

/// A job for a reader.
#[derive(Debug)]
enum Job<R> {
    Fetch(R, Vec<ObjectId>),
    /// The next piece of an object, if it has another.
    Piece(Arc<OpenObject>),
}

/// The result of a job.
#[derive(Debug)]
pub(crate) enum Read<R> {
    Fetched {
        request: R,
        outcome: Result<Vec<Fetched>, Fault>,
        opened: Vec<Arc<OpenObject>>,
    },
    Piece {
        object: Arc<OpenObject>,
        number: u64,
        piece: ReadPiece,
    },
}

/// A piece to send, or the fault.
#[derive(Debug)]
pub(crate) struct ReadPiece {
    pub(super) outcome: Result<Bytes, Fault>,
    /// Whether the object has no further piece.
    pub(super) last: bool,
}

/// A large object whose pieces are being read.
#[derive(Debug)]
pub(crate) struct OpenObject {
    pub(super) id: ObjectId,
    /// Whether reading several pieces at once is worthwhile.
    pub(super) is_divisible: bool,
    rest: Mutex<Rest>,
}

#[derive(Debug)]
struct Rest {
    object: LargeObject,
    /// Pieces begun so far.
    begun: u64,
}

impl<R: Send + 'static> Readers<R> {
    /// Starts `count` threads. They report their results, and end when the pool is gone.
    pub(super) fn start(
        count: usize,
        repository: &Arc<Repository>,
        failure: &Failure,
        report: impl Fn(Read<R>) + Clone + Send + 'static,
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

    /// Queues a request for objects.
    pub(super) fn fetch(&self, request: R, ids: Vec<ObjectId>) {
        // The threads live as long as the queue.
        let _ = self.0.send(Job::Fetch(request, ids));
    }

    /// Begins another piece of an object.
    pub(super) fn read_on(&self, object: &Arc<OpenObject>) {
        let _ = self.0.send(Job::Piece(Arc::clone(object)));
    }
}

struct Reader<R, F> {
    repository: Arc<Repository>,
    jobs: Arc<Mutex<Receiver<Job<R>>>>,
    failure: Failure,
    report: F,
}

impl<R, F: Fn(Read<R>)> Reader<R, F> {
    /// Runs jobs until nobody can send any more.
    fn run(&self) {
        loop {
            let job = self.jobs.lock().recv();
            match job {
                Ok(Job::Fetch(request, ids)) => (self.report)(self.fetch(request, &ids)),
                Ok(Job::Piece(object)) => {
                    if let Some(read) = self.piece(object) {
                        (self.report)(read);
                    }
                }
                Err(_) => return,
            }
        }
    }

    fn fetch(&self, request: R, ids: &[ObjectId]) -> Read<R> {
        let mut opened = Vec::new();
        let objects = ids.iter().map(|id| self.open(*id, &mut opened));
        let outcome = objects.collect::<Result<_, _>>();
        let outcome = outcome.map_err(|error| self.failure.keep(error));
        Read::Fetched {
            request,
            outcome,
            opened,
        }
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
    fn piece(&self, object: Arc<OpenObject>) -> Option<Read<R>> {
        let mut rest = object.rest.lock();
        // The object may have ended with an earlier piece.
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
