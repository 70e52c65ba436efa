//! The clocks of a store: the machine's, or one that a test moves.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

/// Tells and waits for time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the time since some moment in the past. It never goes back, and it counts the time
    /// while the machine is suspended, because the ages of leases depend on it.
    fn now(&self) -> Duration;

    /// Returns the seconds since 1970. This clock may jump, and may differ from the server's.
    fn wall(&self) -> u64;

    /// Waits.
    fn sleep(&self, time: Duration);
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        // Linux always has this clock; without it, leases end early and pushes are refused.
        clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::MAX, Duration::from)
    }

    fn wall(&self) -> u64 {
        SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A clock for tests. Only [`advance`](Self::advance) and [`sleep`](Clock::sleep) move it, and
/// sleep returns at once.
///
/// Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Arc<Mutex<Duration>>,
}

impl ManualClock {
    /// The wall-clock time of a new clock, in seconds since 1970.
    pub const START: u64 = 1_700_000_000;

    /// Moves the clock forward.
    pub fn advance(&self, time: Duration) {
        *self.now.lock() += time;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.lock()
    }

    fn wall(&self) -> u64 {
        Self::START + self.now().as_secs()
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }
}
