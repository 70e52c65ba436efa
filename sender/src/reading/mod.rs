//! The threads that read objects for a session, whichever end of it they serve.
//!
//! Several pieces of a large object that needs compressing are in progress at once; they go out in
//! order ([`PieceOrder`]). That takes at most [`Reading::READERS_MAX`] compressors, and twice as
//! many pieces for each open stream of a session.

mod failure;
mod piece_order;
mod readers;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::session::{Fault, Fetched};
use bytes::Bytes;

use self::piece_order::PieceOrder;
use self::readers::{OpenObject, ReadPiece, Readers};
use crate::error::Error;
use crate::source::Repository;

pub(crate) use self::failure::Failure;
pub(crate) use self::readers::Read;

/// The reading threads, and the requests `R` that wait for them.
#[derive(Debug)]
pub(crate) struct Reading<R> {
    readers: Readers<R>,
    large: HashMap<ObjectId, Large<R>>,
    /// How many pieces of a compressed object are in progress at once.
    ahead: usize,
    failure: Failure,
}

/// A request that was carried out.
#[derive(Debug)]
pub(crate) enum Settled<R> {
    /// The objects that were asked for, in order.
    Fetched(R, Result<Vec<Fetched>, Fault>),
    /// The next piece of an object, and whether it is the last.
    Piece(R, Result<(Bytes, bool), Fault>),
}

/// A large object that a reader has opened and that was not handed out in full.
#[derive(Debug)]
struct Large<R> {
    object: Arc<OpenObject>,
    order: PieceOrder<ReadPiece>,
    /// The request that waits for the next piece.
    request: Option<R>,
}

impl<R: Send + 'static> Reading<R> {
    /// Most reading threads. More would wait for one another: a session fetches with a few requests
    /// and from two large objects at once.
    const READERS_MAX: usize = 8;

    /// Starts no thread, for a session that sends nothing.
    pub(crate) fn none(failure: Failure) -> Self {
        Self {
            readers: Readers::none(),
            large: HashMap::new(),
            ahead: 0,
            failure,
        }
    }

    /// Starts a thread for each processor. Each result is reported, to be
    /// [taken in](Self::take_in).
    pub(crate) fn start(
        repository: &Arc<Repository>,
        failure: &Failure,
        report: impl Fn(Read<R>) + Clone + Send + 'static,
    ) -> Self {
        let count = thread::available_parallelism().map_or(1, usize::from);
        let count = count.min(Self::READERS_MAX);
        Self {
            readers: Readers::start(count, repository, failure, report),
            large: HashMap::new(),
            ahead: 2 * count,
            failure: failure.clone(),
        }
    }

    /// Queues a request for objects.
    pub(crate) fn fetch(&self, request: R, ids: Vec<ObjectId>) {
        self.readers.fetch(request, ids);
    }

    /// Starts the next piece of a large object, and some after it. Returns the request if it is
    /// carried out already.
    pub(crate) fn ask(&mut self, id: ObjectId, request: R) -> Option<Settled<R>> {
        let Some(large) = self.large.get_mut(&id) else {
            let error = Error::Internal("a piece of an object that is not open");
            return Some(Settled::Piece(request, Err(self.failure.keep(error))));
        };
        large.request = Some(request);
        let settled = self.settle(id);
        if let Some(large) = self.large.get_mut(&id) {
            for _ in 0..large.order.begin() {
                self.readers.read_on(&large.object);
            }
        }
        settled
    }

    /// Takes in what a thread has reported. Returns the request that it carries out, if any.
    pub(crate) fn take_in(&mut self, read: Read<R>) -> Option<Settled<R>> {
        match read {
            Read::Fetched {
                request,
                outcome,
                opened,
            } => {
                for object in opened {
                    let ahead = if object.is_divisible { self.ahead } else { 1 };
                    let large = Large {
                        order: PieceOrder::new(ahead),
                        request: None,
                        object,
                    };
                    self.large.insert(large.object.id, large);
                }
                Some(Settled::Fetched(request, outcome))
            }
            Read::Piece {
                object,
                number,
                piece,
            } => {
                // The same object may have been opened again since.
                if let Some(large) = self.large.get_mut(&object.id)
                    && Arc::ptr_eq(&large.object, &object)
                {
                    large.order.put(number, piece);
                }
                self.settle(object.id)
            }
        }
    }

    /// Carries out the request for the next piece of a large object, if both are there.
    fn settle(&mut self, id: ObjectId) -> Option<Settled<R>> {
        let large = self.large.get_mut(&id)?;
        let request = large.request.take()?;
        let Some(ReadPiece { outcome, last }) = large.order.take() else {
            large.request = Some(request);
            return None;
        };
        if last {
            self.large.remove(&id);
        }
        let piece = outcome.map(|bytes| (bytes, last));
        Some(Settled::Piece(request, piece))
    }
}
