//! A thread that runs tasks later.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};
use std::{fmt, thread};

/// Runs each task at its time, and still does so for the remaining tasks after it was dropped.
pub(crate) struct Timer {
    tasks: Sender<Task>,
}

struct Task {
    at: Instant,
    run: Box<dyn FnOnce() + Send>,
}

impl Timer {
    pub(crate) fn new() -> Self {
        let (tasks, receiver) = mpsc::channel::<Task>();
        thread::spawn(move || {
            let mut waiting: BinaryHeap<Task> = BinaryHeap::new();
            loop {
                let now = Instant::now();
                if waiting.peek().is_some_and(|task| task.at <= now) {
                    if let Some(task) = waiting.pop() {
                        (task.run)();
                    }
                    continue;
                }
                let received = match waiting.peek() {
                    Some(task) => receiver.recv_timeout(task.at.saturating_duration_since(now)),
                    None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                };
                match received {
                    Ok(task) => waiting.push(task),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            }
            for task in waiting.into_sorted_vec().into_iter().rev() {
                thread::sleep(task.at.saturating_duration_since(Instant::now()));
                (task.run)();
            }
        });
        Self { tasks }
    }

    /// Runs a task after some time, on the timer's thread.
    pub(crate) fn after(&self, time: Duration, run: impl FnOnce() + Send + 'static) {
        let at = Instant::now() + time;
        let run = Box::new(run);
        // The thread receives tasks as long as this sender exists.
        let _ = self.tasks.send(Task { at, run });
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timer")
    }
}

impl PartialEq for Task {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Task {}

impl PartialOrd for Task {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Task {
    /// The earliest task is the greatest, because the heap returns the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}
