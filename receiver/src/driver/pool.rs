//! Threads that do a store's work: one for refs and negotiation, some for objects.
//!
//! Keeps the lanes' promise (`session::Lane`): one stream's requests run in order on one thread,
//! and so do all of the control lane.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use artifact_protocol::session::{Lane, StoreDone, StoreOp, StoreOutcome, StoreRequest};
use artifact_store::{Error, ObjectStream, Store};
use parking_lot::Mutex;

/// The threads, and who is busy with what.
#[derive(Debug)]
pub(super) struct Pool {
    control: Sender<StoreRequest>,
    workers: Vec<Sender<StoreRequest>>,
    placement: Placement,
    threads: Vec<JoinHandle<()>>,
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
        let mut handles = Vec::new();
        let failure = Arc::new(Mutex::new(None));
        let mut spawn = |worker: Option<usize>| {
            let (sender, requests) = channel();
            let (store, report) = (Arc::clone(store), report.clone());
            let failure = Arc::clone(&failure);
            let handle =
                thread::spawn(move || work(store.as_ref(), &requests, worker, report, &failure));
            handles.push(handle);
            sender
        };
        let workers = threads.max(1);
        Self {
            control: spawn(None),
            workers: (0..workers).map(|number| spawn(Some(number))).collect(),
            placement: Placement::new(workers),
            threads: handles,
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
        for thread in self.threads {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
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

fn work<S: Store>(
    store: &S,
    requests: &Receiver<StoreRequest>,
    worker: Option<usize>,
    report: impl Fn(Vec<Completion>),
    failure: &Mutex<Option<Error>>,
) {
    let mut streams = HashMap::new();
    let mut completions = Vec::new();
    let mut next = requests.recv().ok();
    while let Some(request) = next {
        let weight = request.weight();
        let outcome = perform(store, request.op(), &mut streams).map_err(|error| {
            let fault = error.to_fault();
            failure.lock().get_or_insert(error);
            fault
        });
        completions.push(Completion {
            worker,
            weight,
            done: request.complete(outcome),
        });
        let waiting = requests.try_recv().ok();
        // The control thread's are what a client waits for.
        if waiting.is_none() || worker.is_none() || completions.len() == REPORTED_AT_ONCE {
            report(mem::take(&mut completions));
        }
        next = waiting.or_else(|| requests.recv().ok());
    }
}

fn perform<S: Store>(
    store: &S,
    op: &StoreOp,
    streams: &mut HashMap<u8, S::Stream>,
) -> Result<StoreOutcome, Error> {
    match op {
        StoreOp::Refs(query) => {
            let (refs, all) = store.refs(query)?;
            Ok(StoreOutcome::Refs { refs, all })
        }
        StoreOp::Open(announcement) => store.open(announcement).map(StoreOutcome::Opened),
        StoreOp::Rely(commits) => store.rely(commits).map(|()| StoreOutcome::Relied),
        StoreOp::Have(ids) => store.have(ids).map(StoreOutcome::Have),
        StoreOp::Stage(objects) => {
            for (id, stored) in objects {
                store.stage(*id, stored)?;
            }
            Ok(StoreOutcome::Staged)
        }
        StoreOp::Begin(stream, id) => {
            streams.insert(*stream, store.begin(*id)?);
            Ok(StoreOutcome::Appended)
        }
        StoreOp::Append(stream, bytes) => {
            if let Some(open) = streams.get_mut(stream) {
                open.append(bytes)?;
            }
            Ok(StoreOutcome::Appended)
        }
        StoreOp::End(stream) => {
            if let Some(open) = streams.remove(stream) {
                open.finish()?;
            }
            Ok(StoreOutcome::Staged)
        }
        StoreOp::Detached(commit, metadata) => store
            .stage_detached(*commit, metadata)
            .map(|()| StoreOutcome::Staged),
        StoreOp::Unsent(ids) => store.lack(ids).map(|()| StoreOutcome::Relied),
        StoreOp::Publish => store.publish().map(StoreOutcome::Published),
        StoreOp::Summarize => Ok(StoreOutcome::Summarized(store.summarize())),
    }
}

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
