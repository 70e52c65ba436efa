//! Threads that read the local repository for a session: one that plans, some that read objects
//! and compress them.
//!
//! All readers take from one queue. Of a large object that has to be compressed several pieces are
//! in work at once; they go out in order ([`Lane`]). What is held for those is at most
//! [`Pool::READERS_MAX`] compressors, and twice as many pieces for each of the streams a session
//! has open.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{
    Fault, Fetched, PlanRequest, SourceDone, SourceOp, SourceOutcome, SourceRequest,
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::Error;
use crate::lane::Lane;
use crate::plan::{self, Plan, Target};
use crate::source::{LargeObject, Object, Piece, Repository};

/// The threads, and what they are at.
#[derive(Debug)]
pub(crate) struct Pool {
    planner: Sender<SourceRequest>,
    readers: Sender<Job>,
    done: UnboundedReceiver<Completion>,
    /// Requests that are completed and were not handed out.
    settled: VecDeque<SourceDone>,
    large: HashMap<ObjectId, Large>,
    /// How many pieces of an object that is compressed are in work at once.
    ahead: usize,
    busy: usize,
    failure: Failure,
}

/// What a reader is given to do.
#[derive(Debug)]
enum Job {
    Fetch(SourceRequest),
    /// The next piece of what is open, if there is one more.
    Piece(ObjectId, Handle),
}

/// Tells a large object that was opened from the same one opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Handle(u64);

#[derive(Debug)]
enum Completion {
    Done(SourceDone),
    Fetched {
        done: SourceDone,
        opened: Vec<Opened>,
    },
    Piece {
        id: ObjectId,
        number: u64,
        piece: Ready,
    },
}

#[derive(Debug)]
struct Opened {
    id: ObjectId,
    handle: Handle,
    is_divisible: bool,
}

#[derive(Debug)]
struct Ready {
    outcome: Result<Bytes, Fault>,
    last: bool,
}

/// A large object that a reader has opened and that was not all handed out.
#[derive(Debug)]
struct Large {
    handle: Handle,
    lane: Lane<Ready>,
    /// Waits for the next piece.
    request: Option<SourceRequest>,
}

/// The first thing that went wrong, in full.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<Mutex<Option<Error>>>);

impl Pool {
    /// The most threads that read. More would wait for one another: a session fetches in four
    /// requests and from two large objects at once.
    const READERS_MAX: usize = 8;

    /// Starts no thread: for a session that sends nothing.
    pub(crate) fn none() -> Self {
        Self {
            planner: channel().0,
            readers: channel().0,
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
        let (planner, plans) = channel();
        let (readers, jobs) = channel();
        let failure = Failure::default();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let count = count.min(Self::READERS_MAX);
        let (repository, slot) = (Arc::clone(repository), failure.clone());
        thread::spawn(move || {
            let reading = Reading {
                repository: &repository,
                jobs: Mutex::new(jobs),
                open: Mutex::default(),
                handles: AtomicU64::new(0),
                report: &report,
                failure: &slot,
            };
            thread::scope(|scope| {
                for _ in 0..count {
                    scope.spawn(|| reading.run());
                }
                plan(&repository, depth, &plans, &report, &slot);
            });
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
        // The threads live as long as their queues.
        match request.op() {
            SourceOp::Descends(_)
            | SourceOp::Plan(_)
            | SourceOp::Offer { .. }
            | SourceOp::Vouch(_) => {
                let _ = self.planner.send(request);
            }
            SourceOp::Fetch(_) => {
                let _ = self.readers.send(Job::Fetch(request));
            }
            SourceOp::Next(id) => self.ask(*id, request),
        }
    }

    /// Returns whether something is to be waited for.
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
                // The threads hold the other end while anything is to be waited for.
                None => return std::future::pending().await,
            }
        }
    }

    /// Returns what went wrong first, if anything did.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.0.lock().take()
    }

    fn take_in(&mut self, completion: Completion) {
        match completion {
            Completion::Done(done) => self.settled.push_back(done),
            Completion::Fetched { done, opened } => {
                self.settled.push_back(done);
                for object in opened {
                    let ahead = if object.is_divisible { self.ahead } else { 1 };
                    let large = Large {
                        handle: object.handle,
                        lane: Lane::new(ahead),
                        request: None,
                    };
                    self.large.insert(object.id, large);
                }
            }
            Completion::Piece { id, number, piece } => {
                if let Some(large) = self.large.get_mut(&id) {
                    large.lane.put(number, piece);
                }
                self.settle(id);
            }
        }
    }

    /// Sees to it that the next piece of a large object, and some behind it, get into work.
    fn ask(&mut self, id: ObjectId, request: SourceRequest) {
        let Some(large) = self.large.get_mut(&id) else {
            let fault = (self.failure).keep(Error::Internal("a piece of what is not open"));
            self.settled.push_back(request.complete(Err(fault)));
            return;
        };
        large.request = Some(request);
        self.settle(id);
        if let Some(large) = self.large.get_mut(&id) {
            for _ in 0..large.lane.begin() {
                let _ = self.readers.send(Job::Piece(id, large.handle));
            }
        }
    }

    /// Completes the request for the next piece of a large object if both are there.
    fn settle(&mut self, id: ObjectId) {
        let Some(large) = self.large.get_mut(&id) else {
            return;
        };
        let Some(request) = large.request.take() else {
            return;
        };
        let Some(Ready { outcome, last }) = large.lane.take() else {
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

impl Failure {
    /// Keeps the error, and returns what the server is told.
    fn keep(&self, error: Error) -> Fault {
        let text = "the client cannot read its own repository".to_owned();
        self.0.lock().get_or_insert(error);
        Fault {
            code: CloseCode::SOURCE_FAILED,
            text,
        }
    }
}

fn plan(
    repository: &Arc<Repository>,
    depth: u32,
    requests: &Receiver<SourceRequest>,
    report: &UnboundedSender<Completion>,
    failure: &Failure,
) {
    let mut plan = None;
    for request in requests {
        let outcome = match request.op() {
            SourceOp::Descends(pairs) => {
                plan::descends(repository, pairs).map(SourceOutcome::Descends)
            }
            SourceOp::Plan(wanted) => begin(repository, depth, wanted, &mut plan),
            SourceOp::Offer {
                answers,
                missing,
                max,
            } => offer(plan.as_mut(), answers, missing, *max),
            SourceOp::Vouch(ids) => vouch(plan.as_ref(), ids),
            SourceOp::Fetch(_) | SourceOp::Next(_) => Err(Error::Internal("not the planner's")),
        };
        let done = request.complete(outcome.map_err(|error| failure.keep(error)));
        if report.send(Completion::Done(done)).is_err() {
            return;
        }
    }
}

fn begin(
    repository: &Arc<Repository>,
    depth: u32,
    wanted: &PlanRequest,
    slot: &mut Option<Plan>,
) -> Result<SourceOutcome, Error> {
    let targets: Vec<_> = wanted
        .targets
        .iter()
        .map(|(commit, current)| Target {
            commit: *commit,
            current: *current,
        })
        .collect();
    let plan = slot.insert(Plan::after_offer(
        Arc::clone(repository),
        &targets,
        &wanted.complete,
        depth,
        &wanted.offered,
    )?);
    let mut detached = Vec::new();
    for commit in &wanted.detached {
        let metadata = repository.detached(*commit)?;
        detached.push((
            *commit,
            metadata.ok_or(Error::Internal("detached metadata vanished"))?,
        ));
    }
    Ok(SourceOutcome::Planned {
        basis: plan.basis().to_vec(),
        detached,
    })
}

fn offer(
    plan: Option<&mut Plan>,
    answers: &[(ObjectId, bool)],
    missing: &[ObjectId],
    max: usize,
) -> Result<SourceOutcome, Error> {
    let plan = plan.ok_or(Error::Internal("an offer before the plan"))?;
    for (id, have) in answers {
        plan.answer(*id, *have);
    }
    if !missing.is_empty() {
        plan.offer_again(missing);
    }
    let ids = plan.next(max)?;
    Ok(SourceOutcome::Offered {
        ids,
        exhausted: plan.is_exhausted(),
    })
}

fn vouch(plan: Option<&Plan>, ids: &[ObjectId]) -> Result<SourceOutcome, Error> {
    let plan = plan.ok_or(Error::Internal("objects missing before the plan"))?;
    plan.reaches(ids).map(SourceOutcome::Vouched)
}

/// What all readers share.
struct Reading<'r> {
    repository: &'r Repository,
    jobs: Mutex<Receiver<Job>>,
    open: Mutex<HashMap<Handle, Arc<Mutex<Open<'r>>>>>,
    handles: AtomicU64,
    report: &'r UnboundedSender<Completion>,
    failure: &'r Failure,
}

/// A large object, and how many pieces of it were begun.
struct Open<'r> {
    object: LargeObject<'r>,
    begun: u64,
}

impl<'r> Reading<'r> {
    /// Does one job after another until nobody is left to want any.
    fn run(&self) {
        loop {
            let job = self.jobs.lock().recv();
            let completion = match job {
                Ok(Job::Fetch(request)) => Some(self.fetch(request)),
                Ok(Job::Piece(id, handle)) => self.piece(id, handle),
                Err(_) => return,
            };
            if let Some(completion) = completion
                && self.report.send(completion).is_err()
            {
                return;
            }
        }
    }

    fn fetch(&self, request: SourceRequest) -> Completion {
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
        Completion::Fetched { done, opened }
    }

    fn open(&self, id: ObjectId, opened: &mut Vec<Opened>) -> Result<Fetched, Error> {
        let object = match self.repository.read(id)? {
            Object::Whole(stored) => return Ok(Fetched::Whole(stored)),
            Object::Large(object) => object,
        };
        let handle = Handle(self.handles.fetch_add(1, Ordering::Relaxed));
        opened.push(Opened {
            id,
            handle,
            is_divisible: object.is_divisible(),
        });
        let len = object.stored_len();
        let open = Arc::new(Mutex::new(Open { object, begun: 0 }));
        self.open.lock().insert(handle, open);
        Ok(Fetched::Large(len))
    }

    /// Reads a piece while nobody else reads from the same object, and then compresses it.
    fn piece(&self, id: ObjectId, handle: Handle) -> Option<Completion> {
        // It may have ended with a piece begun before.
        let shared = self.open.lock().get(&handle).cloned()?;
        let mut open = shared.lock();
        let piece = open.object.next_piece()?;
        let number = open.begun;
        open.begun += 1;
        let last = open.object.is_at_end();
        drop(open);
        if last {
            self.open.lock().remove(&handle);
        }
        let outcome = piece.and_then(Piece::finish);
        let piece = Ready {
            outcome: outcome.map_err(|error| self.failure.keep(error)),
            last,
        };
        Some(Completion::Piece { id, number, piece })
    }
}
