//! Limits the number of bytes sent in a second: a bucket that fills steadily and holds little, so
//! that the rate is even at any scale that a person or a link would notice.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::time::Instant;

/// The bytes that may be sent now.
#[derive(Debug)]
pub(crate) struct Throttle {
    rate: NonZeroU64,
    /// Bytes that may be sent now, at most the `burst`.
    allowance: u64,
    /// The time up to which the allowance includes what came in.
    filled: Instant,
}

impl Throttle {
    /// Starts with an empty bucket, so that a push keeps its rate from the first byte on.
    pub(crate) fn new(rate: NonZeroU64) -> Self {
        Self {
            rate,
            allowance: 0,
            filled: Instant::now(),
        }
    }

    /// Returns how many bytes may be sent now.
    pub(crate) fn allowance(&mut self, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.filled);
        let gained = passed.as_nanos() * u128::from(self.rate.get()) / NANOS;
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        if gained > 0 {
            self.allowance = self.burst().min(self.allowance.saturating_add(gained));
            // A fraction of a byte counts next time.
            self.filled = if self.allowance == self.burst() {
                now
            } else {
                self.filled + self.time_for(gained)
            };
        }
        self.allowance
    }

    /// Subtracts bytes that were sent.
    pub(crate) fn take(&mut self, len: u64) {
        self.allowance = self.allowance.saturating_sub(len);
    }

    /// Returns when the bucket will be half full, which makes a write worthwhile.
    pub(crate) fn ready_at(&self) -> Instant {
        let half = self.burst().div_ceil(2);
        self.filled + self.time_for(half.saturating_sub(self.allowance))
    }

    /// The bytes of a twentieth of a second, at least one.
    const fn burst(&self) -> u64 {
        self.rate.get().div_ceil(20)
    }

    fn time_for(&self, len: u64) -> Duration {
        let nanos = (u128::from(len) * NANOS).div_ceil(u128::from(self.rate.get()));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as much as the throttle allows; returns the bytes of each tenth of a second.
    fn send(rate: u64, tenths: usize) -> Vec<u64> {
        let start = Instant::now();
        let mut throttle = Throttle {
            filled: start,
            ..Throttle::new(NonZeroU64::new(rate).unwrap())
        };
        let mut sent = vec![0; tenths];
        let mut now = start;
        loop {
            let tenth = usize::try_from((now - start).as_millis() / 100).unwrap();
            let Some(slot) = sent.get_mut(tenth) else {
                return sent;
            };
            let len = throttle.allowance(now);
            throttle.take(len);
            *slot += len;
            now = now.max(throttle.ready_at());
        }
    }

    #[test]
    fn what_is_sent_in_any_tenth_of_a_second_is_what_the_rate_lets() {
        for rate in [100, 1_000, 12_345, 1_000_000, 10_000_000_000] {
            let burst = rate / 20 + 1;
            for (tenth, sent) in send(rate, 50).into_iter().enumerate() {
                let expected = rate / 10;
                assert!(sent.abs_diff(expected) <= burst, "{rate} {tenth}: {sent}");
            }
            let total: u64 = send(rate, 50).into_iter().sum();
            assert!(total.abs_diff(rate * 5) <= burst, "{rate}: {total}");
        }
    }

    #[test]
    fn even_a_byte_a_second_gets_through() {
        let sent = send(1, 45);
        assert_eq!(sent.iter().sum::<u64>(), 4);
    }

    #[test]
    fn a_pause_is_not_made_up_for_by_a_burst() {
        let start = Instant::now();
        let mut throttle = Throttle::new(NonZeroU64::new(1_000).unwrap());
        assert_eq!(throttle.allowance(start + Duration::from_secs(60)), 50);
    }
}
