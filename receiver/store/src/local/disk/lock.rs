//! Bounded waiting for locks. The driver keeps the client informed meanwhile.
//!
//! The locks are the kernel's (open-file-description locks, as libostree takes them on `.lock`);
//! they die with their holder (INV-7). No lock is ever held while waiting for a peer (REQ-45).

use std::thread;
use std::time::{Duration, Instant};

use artifact_formats::LockTimeout;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode};

/// Waits for a lock.
///
/// Fails with [`Error::Busy`] if somebody else holds it for all of `timeout`.
pub(crate) fn acquire<F: Fs>(
    fs: &F,
    path: &RepoPath,
    mode: LockMode,
    timeout: LockTimeout,
) -> Result<F::Lock, Error> {
    let begun = Instant::now();
    let mut pause = PAUSE;
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
        thread::sleep(pause);
        pause = PAUSE_MAX.min(2 * pause);
    }
}

/// Most locks are held for less than this; longer waits poll less often.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
