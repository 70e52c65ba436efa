//! Waiting for locks: bounded, and heard by whoever waits at the other end.
//!
//! The locks themselves are the kernel's (open file description locks, as libostree takes them on
//! `.lock`); they die with their holder. None is ever held while waiting for a peer.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use artifact_protocol::ostree::LockTimeout;

use super::fs::{Fs, LockMode};
use super::path::RepoPath;
use crate::error::Error;

/// Waits for a lock, with signs of life meanwhile.
///
/// Fails with [`Error::Busy`] when somebody else holds it for all of `timeout`.
pub(super) fn acquire<F: Fs>(
    fs: &F,
    path: &RepoPath,
    mode: LockMode,
    timeout: LockTimeout,
    pulse: &Pulse<'_>,
) -> Result<F::Lock, Error> {
    let begun = Instant::now();
    loop {
        let lock = fs
            .try_lock(path, mode)
            .map_err(Error::io("locking", path))?;
        if let Some(lock) = lock {
            return Ok(lock);
        }
        let over = match timeout {
            LockTimeout::Seconds(limit) => begun.elapsed() >= Duration::from_secs(limit.into()),
            LockTimeout::Never => false,
        };
        if over {
            return Err(Error::Busy {
                lock: path.to_string(),
            });
        }
        pulse.beat();
        thread::sleep(PAUSE);
    }
}

/// Signs of life during work that takes as long as it takes.
pub(super) struct Pulse<'a> {
    alive: &'a dyn Fn(),
    last: Cell<Instant>,
}

impl<'a> Pulse<'a> {
    /// Begins to count; `alive` gives one sign.
    pub(super) fn new(alive: &'a dyn Fn()) -> Self {
        Self {
            alive,
            last: Cell::new(Instant::now()),
        }
    }

    /// Gives a sign if the last one is long enough ago. To be called often.
    pub(super) fn beat(&self) {
        if self.last.get().elapsed() >= BETWEEN_SIGNS {
            self.last.set(Instant::now());
            (self.alive)();
        }
    }
}

const PAUSE: Duration = Duration::from_millis(50);
const BETWEEN_SIGNS: Duration = Duration::from_millis(500);
