//! Limits that the process was started with, by `ulimit`, a service manager or PAM: a push that
//! meets one ends with a reason.

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Resource, getrlimit};

/// The reason why a session cannot run within the limits of the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server may {may} {limit}, but a session needs {needed} ({option})")]
pub struct TooLow {
    may: &'static str,
    limit: u64,
    needed: u64,
    option: &'static str,
}

/// Makes a write beyond the file size limit fail instead of killing the process. Call it while the
/// process has one thread.
pub fn survive_long_files() {
    // A blocked signal stays pending, and the call returns EFBIG (`generic_write_check_limits`).
    // Ignoring the signal would take unsafe code.
    let blocked = SigSet::from(Signal::SIGXFSZ).thread_block();
    if let Err(error) = blocked {
        tracing::debug!(%error, "cannot block SIGXFSZ: a file beyond the size limit will kill \
            this process");
    }
}

/// Fails if a session cannot work at all: it would die without a message.
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
        "open only so many files at once:",
        current(Resource::Nofile),
        MIN_FILES,
        "ulimit -n, LimitNOFILE",
    )?;
    too_low(
        "take only so many bytes of memory:",
        current(Resource::As).min(current(Resource::Data)),
        MIN_MEMORY,
        "ulimit -v, ulimit -d, LimitAS",
    )
}

/// A session uses the wire, the repository, locks, and a file for each thread.
const MIN_FILES: u64 = 32;
/// Address space: stacks of threads and arenas of the allocator, most of it unused.
const MIN_MEMORY: u64 = 256 * 1024 * 1024;
