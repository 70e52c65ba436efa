//! Limits that the process was started with, by `ulimit`, a service manager or PAM: a push that meets
//! one ends with a reason.

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, getrlimit};

/// Why a session cannot be had within the limits of the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server may {may} {limit}, and a session takes {needed} ({option})")]
pub struct TooLow {
    may: &'static str,
    limit: u64,
    needed: u64,
    option: &'static str,
}

/// Has a write beyond the limit of file sizes fail, where it would kill the process. To be called
/// while there is one thread.
pub fn survive_long_files() {
    // Blocked, it stays pending, and the call says EFBIG (`generic_write_check_limits`). To ignore it
    // would take unsafe code.
    let blocked = SigSet::from(Signal::SIGXFSZ).thread_block();
    if let Err(error) = blocked {
        tracing::debug!(%error, "a file that is too large will end this process");
    }
}

/// Fails where a session cannot work at all: it would die without a word.
pub fn check() -> Result<(), TooLow> {
    let current = |resource| getrlimit(resource).current.unwrap_or(u64::MAX);
    let too_low = |may, limit, needed, option| {
        let error = TooLow {
            may,
            limit,
            needed,
            option,
        };
        if limit < needed { Err(error) } else { Ok(()) }
    };
    too_low(
        "open so many files at once:",
        current(Resource::Nofile),
        MIN_FILES,
        "ulimit -n, LimitNOFILE",
    )?;
    too_low(
        "take so many bytes of memory:",
        current(Resource::As).min(current(Resource::Data)),
        MIN_MEMORY,
        "ulimit -v, ulimit -d, LimitAS",
    )
}

/// A session has the wire, the repository, locks, and a file for each thread.
const MIN_FILES: u64 = 32;
/// Of addresses: stacks of threads and arenas of the allocator that are mostly not used.
const MIN_MEMORY: u64 = 256 * 1024 * 1024;
