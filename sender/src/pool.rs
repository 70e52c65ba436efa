//! Threads that read the local repository for a session: one that plans, some that read objects
//! and compress them.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use artifact_protocol::ObjectId;
use artifact_protocol::frame::CloseCode;
use artifact_protocol::session::{
    Fault, Fetched, PlanRequest, SourceDone, SourceOp, SourceOutcome, SourceRequest,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::error::Error;
use crate::plan::{Plan, Target};
use crate::source::{LargeObject, Object, Repository};

/// The threads, and what they are at.
#[derive(Debug)]
pub(crate) struct Pool {
    planner: Sender<SourceRequest>,
    readers: Vec<Sender<SourceRequest>>,
    /// Requests handed to each reader and not completed.
    loads: Vec<usize>,
    /// The reader that has a large object open.
    large: HashMap<ObjectId, usize>,
    done: UnboundedReceiver<Completion>,
    busy: usize,
    failure: Failure,
}

#[derive(Debug)]
struct Completion {
    /// `None` is the planner.
    reader: Option<usize>,
    /// Objects that the reader has open from now on.
    opened: Vec<ObjectId>,
    /// An object that it has open no more.
    closed: Option<ObjectId>,
    done: SourceDone,
}

/// The first thing that went wrong, in full.
#[derive(Clone, Debug, Default)]
struct Failure(Arc<Mutex<Option<Error>>>);

impl Pool {
    /// Starts no thread: for a session that sends nothing.
    pub(crate) fn none() -> Self {
        Self {
            planner: channel().0,
            readers: Vec::new(),
            loads: Vec::new(),
            large: HashMap::new(),
            done: unbounded_channel().1,
            busy: 0,
            failure: Failure::default(),
        }
    }

    /// Starts the threads for one push.
    pub(crate) fn start(repository: &Arc<Repository>, depth: u32) -> Self {
        let (report, done) = unbounded_channel();
        let failure = Failure::default();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let readers = (0..count)
            .map(|number| {
                let (sender, requests) = channel();
                let (repository, report) = (Arc::clone(repository), report.clone());
                let failure = failure.clone();
                thread::spawn(move || read(&repository, number, &requests, &report, &failure));
                sender
            })
            .collect();
        let (planner, requests) = channel();
        let (repository, slot) = (Arc::clone(repository), failure.clone());
        thread::spawn(move || plan(&repository, depth, &requests, &report, &slot));
        Self {
            planner,
            readers,
            loads: vec![0; count],
            large: HashMap::new(),
            done,
            busy: 0,
            failure,
        }
    }

    /// Hands a request to a thread.
    pub(crate) fn submit(&mut self, request: SourceRequest) {
        self.busy += 1;
        let reader = match request.op() {
            SourceOp::Plan(_) | SourceOp::Offer { .. } => None,
            SourceOp::Fetch(_) => self.idlest(),
            SourceOp::Next(id) => self.large.get(id).copied(),
        };
        let queue = match reader.and_then(|number| self.readers.get(number)) {
            Some(queue) => queue,
            None => &self.planner,
        };
        if let Some(load) = reader.and_then(|number| self.loads.get_mut(number)) {
            *load += 1;
        }
        // A thread lives as long as its queue.
        let _ = queue.send(request);
    }

    /// Returns whether something is to be waited for.
    pub(crate) const fn is_busy(&self) -> bool {
        self.busy > 0
    }

    /// Waits for the next completion.
    pub(crate) async fn next(&mut self) -> SourceDone {
        let Some(Completion {
            reader,
            opened,
            closed,
            done,
        }) = self.done.recv().await
        else {
            // The threads hold the other end while anything is to be waited for.
            return std::future::pending().await;
        };
        self.busy -= 1;
        if let Some(number) = reader {
            if let Some(load) = self.loads.get_mut(number) {
                *load -= 1;
            }
            self.large.extend(opened.into_iter().map(|id| (id, number)));
            if let Some(id) = closed {
                self.large.remove(&id);
            }
        }
        done
    }

    /// Returns what went wrong first, if anything did.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn idlest(&self) -> Option<usize> {
        (0..self.loads.len()).min_by_key(|number| self.loads.get(*number))
    }
}

impl Failure {
    /// Keeps the error, and returns what the server is told.
    fn keep(&self, error: Error) -> Fault {
        let text = "the client cannot read its own repository".to_owned();
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(error);
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
            SourceOp::Plan(wanted) => begin(repository, depth, wanted, &mut plan),
            SourceOp::Offer {
                answers,
                missing,
                max,
            } => offer(plan.as_mut(), answers, missing, *max),
            SourceOp::Fetch(_) | SourceOp::Next(_) => Err(Error::Internal("not the planner's")),
        };
        let done = request.complete(outcome.map_err(|error| failure.keep(error)));
        if report
            .send(Completion {
                reader: None,
                opened: Vec::new(),
                closed: None,
                done,
            })
            .is_err()
        {
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

fn read(
    repository: &Repository,
    number: usize,
    requests: &Receiver<SourceRequest>,
    report: &UnboundedSender<Completion>,
    failure: &Failure,
) {
    let mut open = HashMap::new();
    for request in requests {
        let (mut opened, mut closed) = (Vec::new(), None);
        let outcome = match request.op() {
            SourceOp::Fetch(ids) => fetch(repository, ids, &mut open, &mut opened),
            SourceOp::Next(id) => {
                let piece = next_piece(*id, &mut open);
                closed = (!open.contains_key(id)).then_some(*id);
                piece
            }
            SourceOp::Plan(_) | SourceOp::Offer { .. } => Err(Error::Internal("not a reader's")),
        };
        let done = request.complete(outcome.map_err(|error| failure.keep(error)));
        if report
            .send(Completion {
                reader: Some(number),
                opened,
                closed,
                done,
            })
            .is_err()
        {
            return;
        }
    }
}

fn fetch<'r>(
    repository: &'r Repository,
    ids: &[ObjectId],
    open: &mut HashMap<ObjectId, LargeObject<'r>>,
    opened: &mut Vec<ObjectId>,
) -> Result<SourceOutcome, Error> {
    let mut objects = Vec::with_capacity(ids.len());
    for id in ids {
        objects.push(match repository.read(*id)? {
            Object::Whole(stored) => Fetched::Whole(stored),
            Object::Large(large) => {
                open.insert(*id, large);
                opened.push(*id);
                Fetched::Large
            }
        });
    }
    Ok(SourceOutcome::Fetched(objects))
}

fn next_piece(
    id: ObjectId,
    open: &mut HashMap<ObjectId, LargeObject<'_>>,
) -> Result<SourceOutcome, Error> {
    let large = open
        .get_mut(&id)
        .ok_or(Error::Internal("a piece of what is not open"))?;
    match large.next() {
        Some(bytes) => Ok(SourceOutcome::Piece {
            bytes: bytes?,
            last: false,
        }),
        None => {
            open.remove(&id);
            Ok(SourceOutcome::Piece {
                bytes: bytes::Bytes::new(),
                last: true,
            })
        }
    }
}
