//! Many requests in flight at once: as many as the server answers promptly, and bounded in bytes.
//!
//! A caller starts requests and then waits for all of them, never for a single one. The window
//! begins small, grows while answers come as quickly as at first, and halves when the server is
//! busy or gives no answer. It repeats requests where that is safe, like [`Client`]. It has no
//! thread of its own, so a repetition starts when the window is used next.

mod pace;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use crate::bucket::requests::client::{Client, Waits, dropped};
use crate::bucket::requests::seam::{Answer, Class, Condition, Found, Key, Request};
use crate::bucket::requests::window::pace::Pace;
use crate::error::bucket::BucketError;

/// The requests of one push or one task. Clones share the window.
#[derive(Clone)]
pub struct Window {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    state: Mutex<State>,
    changed: Condvar,
}

/// Takes an answer. The window keeps an error that this returns.
type Take = Box<dyn FnOnce(Answer) -> Result<(), BucketError> + Send>;

struct Job {
    request: Request,
    is_repeatable: bool,
    take: Take,
    waits: Waits,
    started: Duration,
}

struct State {
    pace: Pace,
    in_flight: usize,
    /// The bytes of all requests that have begun and not ended, including those that wait.
    bytes: usize,
    /// Requests that wait to be repeated, by their next start.
    waiting: BinaryHeap<Reverse<Due>>,
    numbers: u64,
    done: u64,
    failed: Option<BucketError>,
}

struct Due {
    at: Duration,
    number: u64,
    job: Job,
}

impl Window {
    /// The most bytes of content in memory, unless a single request is larger.
    pub const BYTES_MAX: usize = 64 * 1024 * 1024;

    /// A window of requests to this client's bucket.
    pub fn new(client: Client) -> Self {
        let state = State {
            pace: Pace::new(),
            in_flight: 0,
            bytes: 0,
            waiting: BinaryHeap::new(),
            numbers: 0,
            done: 0,
            failed: None,
        };
        let shared = Shared {
            client,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Stores an object, whatever its key holds. Waits only until the window has room.
    ///
    /// Returns the first error of any earlier request, and starts nothing after one.
    pub fn put(&self, key: Key, content: Bytes, class: Class) -> Result<(), BucketError> {
        let request = Request::Put {
            key,
            content,
            condition: Condition::Always,
            class,
        };
        self.start(request, |answer| match answer {
            Answer::Stored(_) => Ok(()),
            other => Err(BucketError::misfit("a put", &other)),
        })
    }

    /// Stores an object unless its key already holds one, no matter who has stored it. Waits only
    /// until the window has room.
    ///
    /// Returns the first error of any earlier request, and starts nothing after one.
    pub fn put_new(&self, key: Key, content: Bytes, class: Class) -> Result<(), BucketError> {
        let request = Request::Put {
            key,
            content,
            condition: Condition::New,
            class,
        };
        self.start_as(request, true, |answer| match answer {
            Answer::Stored(_) | Answer::NotMet => Ok(()),
            other => Err(BucketError::misfit("a put", &other)),
        })
    }

    /// Starts a request, and hands its answer to `take`. Waits only until the window has room.
    ///
    /// `take` runs on a thread of the bucket, without any lock of the window; it must neither block
    /// nor use the window. Its error becomes the window's. If the request fails, `take` is dropped.
    ///
    /// Returns the first error of any earlier request, and starts nothing after one.
    pub fn start(
        &self,
        request: Request,
        take: impl FnOnce(Answer) -> Result<(), BucketError> + Send + 'static,
    ) -> Result<(), BucketError> {
        let is_repeatable = request.is_repeatable();
        self.start_as(request, is_repeatable, take)
    }

    fn start_as(
        &self,
        request: Request,
        is_repeatable: bool,
        take: impl FnOnce(Answer) -> Result<(), BucketError> + Send + 'static,
    ) -> Result<(), BucketError> {
        let len = request.content_len();
        let shared = &self.shared;
        shared.wait(|state| state.reserve(len))?;
        let job = Job {
            request,
            is_repeatable,
            take: Box::new(take),
            waits: shared.client.waits(),
            started: Duration::ZERO,
        };
        Shared::send(shared, job);
        Ok(())
    }

    /// Reads objects, many at once, and returns them in the order of `keys`.
    ///
    /// Memory holds them all, so ask only for as many as fit. Also waits for every earlier request.
    pub fn get_all(&self, keys: &[Key]) -> Result<Vec<Option<Found>>, BucketError> {
        let found = Arc::new(Mutex::new(vec![None; keys.len()]));
        for (at, key) in keys.iter().enumerate() {
            let slots = Arc::clone(&found);
            let request = Request::Get {
                key: key.clone(),
                unless: None,
            };
            self.start(request, move |answer| {
                let answer = match answer {
                    Answer::Found(found) => Some(found),
                    Answer::Absent => None,
                    other => return Err(BucketError::misfit("a read", &other)),
                };
                if let Some(slot) = slots.lock().get_mut(at) {
                    *slot = answer;
                }
                Ok(())
            })?;
        }
        self.settle()?;
        let found = std::mem::take(&mut *found.lock());
        Ok(found)
    }

    /// Waits until every request has ended. Returns the first error of any request.
    pub fn settle(&self) -> Result<(), BucketError> {
        self.shared.wait(|state| state.is_idle())
    }

    /// Waits until `is_done` returns true; calls it whenever a request has ended. Returns the first
    /// error of any request.
    pub fn wait_until(&self, is_done: impl Fn() -> bool) -> Result<(), BucketError> {
        self.shared.wait(|_| is_done())
    }

    /// Returns the number of requests that have succeeded.
    pub fn done(&self) -> u64 {
        self.shared.state.lock().done
    }
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Window")
            .field("in_flight", &state.in_flight)
            .field("waiting", &state.waiting.len())
            .field("bytes", &state.bytes)
            .field("done", &state.done)
            .field("failed", &state.failed)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Waits until the state is as wanted, and meanwhile repeats the requests that are due.
    fn wait(self: &Arc<Self>, wanted: impl Fn(&mut State) -> bool) -> Result<(), BucketError> {
        loop {
            let mut state = self.state.lock();
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            let now = self.client.clock().now();
            let next = state.waiting.peek().map(|Reverse(due)| due.at);
            let is_due = next.is_some_and(|at| at <= now);
            if is_due && state.in_flight < state.pace.limit {
                if let Some(Reverse(due)) = state.waiting.pop() {
                    state.in_flight += 1;
                    drop(state);
                    Self::send(self, due.job);
                }
                continue;
            }
            if wanted(&mut state) {
                return Ok(());
            }
            match next {
                // With nothing in flight, only the clock changes the state.
                Some(at) if state.in_flight == 0 => {
                    drop(state);
                    self.client.clock().sleep(at.saturating_sub(now));
                }
                Some(at) if !is_due => {
                    self.changed.wait_for(&mut state, at.saturating_sub(now));
                }
                _ => self.changed.wait(&mut state),
            }
        }
    }

    /// Sends a request that `in_flight` counts already.
    fn send(this: &Arc<Self>, mut job: Job) {
        job.started = this.client.clock().now();
        let request = job.request.clone();
        let mut end = End {
            shared: Arc::clone(this),
            job: Some(job),
        };
        this.client
            .bucket()
            .start(request, Box::new(move |answer| end.with(answer)));
    }

    fn end(&self, mut job: Job, answer: Result<Answer, BucketError>) {
        let now = self.client.clock().now();
        let took = now.saturating_sub(job.started);
        let len = job.request.content_len();
        let result = match answer {
            Ok(answer) => {
                let is_first = job.waits.is_fresh();
                if is_first && len <= SMALL {
                    let mut state = self.state.lock();
                    let is_full = state.in_flight >= state.pace.limit;
                    state.pace.answered(took, is_full);
                }
                // Frees the content of the request before `take` runs.
                drop(job.request);
                (job.take)(answer)
            }
            Err(error) => {
                let mut state = self.state.lock();
                // On a slow link, requests time out because too many are in flight.
                if matches!(error, BucketError::Busy(_) | BucketError::Unclear(_)) {
                    state.pace.refused();
                }
                match job.waits.before_repeating(job.is_repeatable, &error, took) {
                    Some(wait) if state.failed.is_none() => {
                        state.in_flight -= 1;
                        state.numbers += 1;
                        let (at, number) = (now + wait, state.numbers);
                        state.waiting.push(Reverse(Due { at, number, job }));
                        self.changed.notify_all();
                        return;
                    }
                    _ => Err(error),
                }
            }
        };
        let mut given_up = BinaryHeap::new();
        let mut state = self.state.lock();
        state.in_flight -= 1;
        state.bytes -= len;
        match result {
            Ok(()) => state.done += 1,
            Err(error) => {
                if state.failed.is_none() {
                    state.failed = Some(error);
                }
                given_up = std::mem::take(&mut state.waiting);
            }
        }
        let lens = given_up
            .iter()
            .map(|Reverse(due)| due.job.request.content_len());
        state.bytes -= lens.sum::<usize>();
        drop(state);
        self.changed.notify_all();
        // The callers' closures in them may take locks when they are dropped.
        drop(given_up);
    }
}

impl State {
    /// Counts one more request in flight, if it has room.
    fn reserve(&mut self, len: usize) -> bool {
        let fits = self.bytes.saturating_add(len) <= Window::BYTES_MAX;
        let has_room = fits && self.in_flight + self.waiting.len() < self.pace.limit;
        let reserved = has_room || self.is_idle();
        if reserved {
            self.in_flight += 1;
            self.bytes += len;
        }
        reserved
    }

    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }
}

/// Ends a request, even if its engine drops it without an answer.
struct End {
    shared: Arc<Shared>,
    job: Option<Job>,
}

impl End {
    fn with(&mut self, answer: Result<Answer, BucketError>) {
        if let Some(job) = self.job.take() {
            self.shared.end(job, answer);
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.with(Err(dropped()));
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// The most content in bytes of a request that the pace judges: with more, the answer time depends
/// on the link.
const SMALL: usize = 64 * 1024;

#[cfg(test)]
mod tests;
