//! Renews the lease of a push while its client sends nothing, or while the bucket is slow.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::bucket::push::work::Work;

/// A thread that renews a lease until it is dropped.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(work: &Arc<Work>) -> Self {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (work, stopped) = (Arc::clone(work), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let (is_over, changed) = &*stopped;
            let mut over = is_over.lock();
            while !*over {
                changed.wait_for(&mut over, LOOKED_EVERY);
                if *over {
                    break;
                }
                drop(over);
                // The push itself fails at its next step if it was given up for dead.
                if let Err(error) = work.keep_up() {
                    tracing::debug!(%error, "the lease could not be renewed");
                }
                over = is_over.lock();
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let (is_over, changed) = &*self.stop;
        *is_over.lock() = true;
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has printed its message already.
            let _ = thread.join();
        }
    }
}

/// The pause between two checks whether the lease is due for renewal.
const LOOKED_EVERY: Duration = Duration::from_secs(10);
