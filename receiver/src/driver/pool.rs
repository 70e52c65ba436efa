//! Threads that do a store's work: one for refs and negotiation, some for objects.
//!
//! The control thread has the store, and from its announcement on the push; then it starts the
//! workers, which stage what the client sends. Keeps the lanes' promise (`session::Lane`): one
//! stream's requests run in order on one thread, and so do all of the control lane.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use artifact_protocol::session::{Lane, StoreDone, StoreOp, StoreOutcome, StoreRequest};
use artifact_store::{Error, ObjectStream, Push, Stager, Store};
use parking_lot::Mutex;

/// The threads, and who is busy with what.
#[derive(Debug)]
pub(super) struct Pool {
    control: Sender<StoreRequest>,
    workers: Vec<Sender<StoreRequest>>,
    placement: Placement,
    /// It ends after the workers.
    thread: JoinHandle<()>,
    failure: Arc<Mutex<Option<Error>>>,
}

/// A completed request, and the worker that completed it; `None` is the control thread.
pub(super) struct Completion {
    pub(super) worker: Option<usize>,
    pub(super) weight: usize,
    pub(super) done: StoreDone,
}

impl Pool {
    /// Starts the threads; completions are handed to `report`.
    pub(super) fn start<S: Store + 'static>(
        store: &Arc<S>,
        threads: usize,
        report: impl Fn(Vec<Completion>) + Clone + Send + 'static,
    ) -> Self {
        let failure = Arc::new(Mutex::new(None));
        let (workers, queues): (Vec<_>, Vec<_>) = (0..threads.max(1)).map(|_| channel()).unzip();
        let (control, requests) = channel();
        let (store, kept) = (Arc::clone(store), Arc::clone(&failure));
        let thread = thread::spawn(move || {
            let report = Report {
                send: report,
                failure: &kept,
            };
            if let Some(push) = begin(store.as_ref(), &requests, &report) {
                run(push, &requests, queues, &report);
            }
        });
        Self {
            control,
            placement: Placement::new(workers.len()),
            workers,
            thread,
            failure,
        }
    }

    /// Returns what went wrong first in the store, in full, if anything did.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().take()
    }

    /// Waits until the threads are done with what they have, and have let go of the store.
    pub(super) fn finish(self) {
        drop((self.control, self.workers));
        // A thread that panicked has said so.
        let _ = self.thread.join();
    }

    /// Hands a request to the thread of its lane.
    pub(super) fn submit(&mut self, request: StoreRequest) {
        let worker = self.placement.place(request.lane(), request.weight());
        if let StoreOp::End(stream) = request.op() {
            self.placement.end(*stream);
        }
        let queue = worker.map_or(&self.control, |number| &self.workers[number]);
        // A thread lives as long as its queue, so this fails only while the process ends.
        let _ = queue.send(request);
    }

    /// Takes note of a completion.
    pub(super) fn completed(&mut self, worker: Option<usize>, weight: usize) {
        self.placement.completed(worker, weight);
    }
}

/// Which worker gets what.
#[derive(Debug)]
struct Placement {
    /// Bytes handed to each worker, in requests that are not completed.
    loads: Vec<usize>,
    /// The worker that has a stream.
    streams: HashMap<u8, usize>,
}

impl Placement {
    fn new(workers: usize) -> Self {
        Self {
            loads: vec![0; workers],
            streams: HashMap::new(),
        }
    }

    /// Returns the worker for a request, which then has it; `None` is the control thread.
    fn place(&mut self, lane: Lane, weight: usize) -> Option<usize> {
        let worker = match lane {
            Lane::Control => return None,
            Lane::Any => self.best(|_| 0),
            Lane::Stream(stream) => match self.streams.get(&stream) {
                Some(worker) => *worker,
                None => {
                    // Two on one worker would leave the other idle for as long as they last,
                    // however little of them is here yet.
                    let worker = self.best(|worker| self.streams_on(worker));
                    self.streams.insert(stream, worker);
                    worker
                }
            },
        };
        self.loads[worker] += weight;
        Some(worker)
    }

    /// The number of a stream is free for another.
    fn end(&mut self, stream: u8) {
        self.streams.remove(&stream);
    }

    fn completed(&mut self, worker: Option<usize>, weight: usize) {
        if let Some(number) = worker {
            self.loads[number] -= weight;
        }
    }

    /// Returns the worker with the least to do among those of which `first` is least.
    fn best(&self, first: impl Fn(usize) -> usize) -> usize {
        (0..self.loads.len())
            .min_by_key(|number| (first(*number), self.loads[*number]))
            .unwrap_or_default()
    }

    fn streams_on(&self, worker: usize) -> usize {
        self.streams.values().filter(|on| **on == worker).count()
    }
}

/// How completions get to the session.
struct Report<'a, F> {
    send: F,
    failure: &'a Mutex<Option<Error>>,
}

impl<F: Fn(Vec<Completion>)> Report<'_, F> {
    /// Completes a request, and keeps what went wrong in full.
    fn complete(
        &self,
        worker: Option<usize>,
        request: StoreRequest,
        outcome: Result<StoreOutcome, Error>,
    ) -> Completion {
        let weight = request.weight();
        let outcome = outcome.map_err(|error| {
            let fault = error.to_fault();
            self.failure.lock().get_or_insert(error);
            fault
        });
        Completion {
            worker,
            weight,
            done: request.complete(outcome),
        }
    }

    /// Reports at once what a client waits for.
    fn control(&self, request: StoreRequest, outcome: Result<StoreOutcome, Error>) {
        (self.send)(vec![self.complete(None, request, outcome)]);
    }
}

/// Answers what is asked before a push, and begins it. Returns none where none is begun.
fn begin<S: Store>(
    store: &S,
    requests: &Receiver<StoreRequest>,
    report: &Report<'_, impl Fn(Vec<Completion>)>,
) -> Option<S::Push> {
    for request in requests {
        let outcome = match request.op() {
            StoreOp::Refs(query) => {
                let refs = store.refs(query);
                refs.map(|(refs, all)| StoreOutcome::Refs { refs, all })
            }
            StoreOp::Open(announcement) => match store.begin(announcement) {
                Ok((opened, push)) => {
                    report.control(request, Ok(StoreOutcome::Opened(opened)));
                    return Some(push);
                }
                Err(error) => Err(error),
            },
            StoreOp::Rely(_)
            | StoreOp::Have(_)
            | StoreOp::Stage(_)
            | StoreOp::Begin(..)
            | StoreOp::Append(..)
            | StoreOp::End(_)
            | StoreOp::Detached(..)
            | StoreOp::Unsent(_)
            | StoreOp::Publish
            | StoreOp::Summarize => Err(OUT_OF_PLACE),
        };
        report.control(request, outcome);
    }
    None
}

/// Drives a push, with a worker for each queue, until nobody asks any more.
fn run<P: Push>(
    mut push: P,
    requests: &Receiver<StoreRequest>,
    queues: Vec<Receiver<StoreRequest>>,
    report: &Report<'_, impl Fn(Vec<Completion>) + Clone + Send>,
) {
    thread::scope(|scope| {
        for (worker, queue) in queues.into_iter().enumerate() {
            let stager = push.stager();
            let report = Report {
                send: report.send.clone(),
                failure: report.failure,
            };
            scope.spawn(move || work(&stager, &queue, worker, &report));
        }
        for request in requests {
            let outcome = control(&mut push, request.op());
            report.control(request, outcome);
        }
    });
}

fn control(push: &mut impl Push, op: &StoreOp) -> Result<StoreOutcome, Error> {
    match op {
        StoreOp::Rely(commits) => push.rely(commits).map(|()| StoreOutcome::Relied),
        StoreOp::Have(ids) => push.have(ids).map(StoreOutcome::Have),
        StoreOp::Detached(commit, metadata) => {
            let staged = push.stage_detached(*commit, metadata);
            staged.map(|()| StoreOutcome::Staged)
        }
        StoreOp::Unsent(ids) => push.lack(ids).map(|()| StoreOutcome::Relied),
        StoreOp::Publish => push.publish().map(StoreOutcome::Published),
        StoreOp::Summarize => Ok(StoreOutcome::Summarized(push.summarize())),
        StoreOp::Refs(_)
        | StoreOp::Open(_)
        | StoreOp::Stage(_)
        | StoreOp::Begin(..)
        | StoreOp::Append(..)
        | StoreOp::End(_) => Err(OUT_OF_PLACE),
    }
}

fn work<S: Stager>(
    stager: &S,
    requests: &Receiver<StoreRequest>,
    worker: usize,
    report: &Report<'_, impl Fn(Vec<Completion>)>,
) {
    let mut streams = HashMap::new();
    let mut completions = Vec::new();
    let mut next = requests.recv().ok();
    while let Some(request) = next {
        let outcome = stage(stager, request.op(), &mut streams);
        completions.push(report.complete(Some(worker), request, outcome));
        let waiting = requests.try_recv().ok();
        if waiting.is_none() || completions.len() == REPORTED_AT_ONCE {
            (report.send)(mem::take(&mut completions));
        }
        next = waiting.or_else(|| requests.recv().ok());
    }
}

fn stage<S: Stager>(
    stager: &S,
    op: &StoreOp,
    streams: &mut HashMap<u8, S::Stream>,
) -> Result<StoreOutcome, Error> {
    match op {
        StoreOp::Stage(objects) => {
            for (id, stored) in objects {
                stager.stage(*id, stored.clone())?;
            }
            Ok(StoreOutcome::Staged)
        }
        StoreOp::Begin(stream, id) => {
            streams.insert(*stream, stager.begin(*id)?);
            Ok(StoreOutcome::Appended)
        }
        StoreOp::Append(stream, bytes) => {
            if let Some(open) = streams.get_mut(stream) {
                open.append(bytes.clone())?;
            }
            Ok(StoreOutcome::Appended)
        }
        StoreOp::End(stream) => {
            if let Some(open) = streams.remove(stream) {
                open.finish()?;
            }
            Ok(StoreOutcome::Staged)
        }
        StoreOp::Refs(_)
        | StoreOp::Open(_)
        | StoreOp::Rely(_)
        | StoreOp::Have(_)
        | StoreOp::Detached(..)
        | StoreOp::Unsent(_)
        | StoreOp::Publish
        | StoreOp::Summarize => Err(OUT_OF_PLACE),
    }
}

/// A session asks for nothing out of its place; this is what it would be told.
const OUT_OF_PLACE: Error = Error::Misuse {
    what: "act out of its place",
};
/// Completions of a worker that has more to do which are reported together: each report wakes the
/// session.
const REPORTED_AT_ONCE: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_streams_are_spread_over_the_workers_though_none_has_anything_to_do() {
        let mut placement = Placement::new(2);
        let mut begin = |stream| placement.place(Lane::Stream(stream), 0);
        assert_ne!(begin(0), begin(1));
        placement.end(0);
        let free = placement.place(Lane::Stream(2), 0);
        assert_ne!(
            free,
            placement.place(Lane::Stream(1), 0),
            "the one of stream 0"
        );
    }

    #[test]
    fn a_stream_stays_with_its_worker_and_whole_objects_go_where_fewest_bytes_wait() {
        let mut placement = Placement::new(2);
        let worker = placement.place(Lane::Stream(0), 500);
        for _ in 0..3 {
            assert_eq!(placement.place(Lane::Stream(0), 500), worker);
        }
        for _ in 0..20 {
            assert_ne!(placement.place(Lane::Any, 100), worker);
        }
        assert_eq!(placement.place(Lane::Any, 100), worker);
        (0..4).for_each(|_| placement.completed(worker, 500));
        assert_eq!(placement.place(Lane::Any, 100), worker);
        assert_eq!(placement.place(Lane::Control, 100), None);
    }
}
