//! The clocks of a store: tests own theirs.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};
use parking_lot::Mutex;

/// Tells and waits for time.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the time since some moment in the past. It never goes back, and goes on while the
    /// machine is suspended: leases are judged by it.
    fn now(&self) -> Duration;

    /// Returns the seconds since 1970. It may jump, and differs from the server's.
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

/// A clock that stands still unless told to move on: to sleep by it does not wait, but moves it.
///
/// Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now: Arc<Mutex<Duration>>,
}

impl ManualClock {
    /// The wall clock's seconds when the clock is new.
    pub const START: u64 = 1_700_000_000;

    /// Moves the clock on.
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
