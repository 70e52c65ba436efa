//! Measures an answer beside everything else, for progress and dry runs: it asks the file system
//! for the lengths of the objects as they are found.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use artifact_formats::ObjectId;
use artifact_protocol::frame::Extent;
use artifact_protocol::session::Fault;
use artifact_protocol::session::pull::{AnswerDone, AnswerOutcome, AnswerRequest};

use crate::source::Repository;

/// The measure of one answer.
#[derive(Debug)]
pub(super) struct Sizer {
    thread: Thread,
    batch: Vec<ObjectId>,
    /// Whether the client waits for the measure.
    is_awaited: bool,
    request: Option<AnswerRequest>,
}

#[derive(Debug)]
enum Thread {
    /// None: there is nothing to measure.
    Needless,
    Running(SyncSender<Job>),
    /// Measuring is slower than sending, and no use.
    GivenUp,
}

#[derive(Debug)]
enum Job {
    Add(Vec<ObjectId>),
    Tell(AnswerRequest),
}

impl Sizer {
    /// Measures an answer without objects.
    pub(super) const fn none() -> Self {
        Self {
            thread: Thread::Needless,
            batch: Vec::new(),
            is_awaited: false,
            request: None,
        }
    }

    /// Starts the thread. If the client `is_awaited`, measuring is never given up.
    pub(super) fn start(
        repository: &Arc<Repository>,
        is_awaited: bool,
        report: impl Fn(AnswerDone) + Send + 'static,
    ) -> Self {
        let (sender, jobs) = sync_channel(BATCHES_MAX);
        let repository = Arc::clone(repository);
        thread::spawn(move || run(&repository, &jobs, report));
        Self {
            thread: Thread::Running(sender),
            is_awaited,
            ..Self::none()
        }
    }

    /// Adds objects to what is measured.
    pub(super) fn add(&mut self, ids: Vec<ObjectId>) {
        self.batch.extend(ids);
        if self.batch.len() >= BATCH_LEN {
            self.flush();
        }
    }

    /// Keeps the request until everything is found.
    pub(super) fn ask(&mut self, request: AnswerRequest) {
        self.request = Some(request);
    }

    /// Completes the request, if there is one, as soon as everything added is measured.
    pub(super) fn finish(&mut self, report: &impl Fn(AnswerDone)) {
        self.flush();
        let Some(request) = self.request.take() else {
            return;
        };
        match &self.thread {
            Thread::Running(jobs) => drop(jobs.send(Job::Tell(request))),
            // The session needs no measure then.
            Thread::GivenUp => {}
            Thread::Needless => {
                report(request.complete(Ok(AnswerOutcome::Measured(Extent::default()))));
            }
        }
    }

    /// Fails the request, if there is one.
    pub(super) fn fail(&mut self, fault: &Fault, report: &impl Fn(AnswerDone)) {
        self.thread = Thread::GivenUp;
        if let Some(request) = self.request.take() {
            report(request.complete(Err(fault.clone())));
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        let Thread::Running(jobs) = &self.thread else {
            return;
        };
        if batch.is_empty() {
            return;
        }
        if self.is_awaited {
            // The thread lives as long as its queue.
            let _ = jobs.send(Job::Add(batch));
        } else if let Err(TrySendError::Full(_)) = jobs.try_send(Job::Add(batch)) {
            self.thread = Thread::GivenUp;
        }
    }
}

fn run(repository: &Repository, jobs: &Receiver<Job>, report: impl Fn(AnswerDone)) {
    let mut extent = Extent::default();
    for job in jobs {
        match job {
            Job::Add(ids) => {
                for id in ids {
                    // Whoever reads the object finds out what is wrong with it.
                    let len = repository.file_len(id).ok().flatten();
                    extent.objects += 1;
                    extent.bytes += len.unwrap_or_default();
                }
            }
            Job::Tell(request) => {
                report(request.complete(Ok(AnswerOutcome::Measured(extent))));
            }
        }
    }
}

/// Ids to hand over at once.
const BATCH_LEN: usize = 512;
/// Batches that may wait: 4 MiB.
const BATCHES_MAX: usize = 256;
