//! How many requests a window has in flight: as many as the server answers promptly.

use std::time::Duration;

/// The limit on requests in flight, and how it adapts.
#[derive(Debug)]
pub(crate) struct Pace {
    pub(crate) limit: usize,
    /// The answer time of an idle server. It rises slowly, so that a server that has become slower
    /// is not judged by its past forever.
    quick: Duration,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self {
            limit: REQUESTS_FIRST,
            quick: Duration::MAX,
        }
    }

    /// Adapts the limit to an answer.
    pub(crate) fn answered(&mut self, took: Duration, is_full: bool) {
        self.quick = took.min(self.quick.saturating_add(self.quick / 256));
        if took <= self.quick * 2 {
            if is_full && self.limit < REQUESTS_MAX {
                self.limit += 1;
            }
        } else if took > self.quick * 8 && self.limit > REQUESTS_FIRST {
            self.limit -= 1;
        }
    }

    /// Adapts the limit to a server that has too much to do.
    pub(crate) const fn refused(&mut self) {
        self.limit = if self.limit > 1 { self.limit / 2 } else { 1 };
    }
}

/// The most requests in flight.
const REQUESTS_MAX: usize = 256;
/// The limit at first.
const REQUESTS_FIRST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_grows_while_answers_are_quick_and_halves_when_the_server_is_busy() {
        let ms = Duration::from_millis;
        let mut pace = Pace::new();
        for _ in 0..1000 {
            pace.answered(ms(10), true);
        }
        assert_eq!(pace.limit, REQUESTS_MAX);
        pace.refused();
        assert_eq!(pace.limit, 128);
        for _ in 0..50 {
            pace.answered(ms(200), true);
        }
        assert_eq!(pace.limit, 78);
        let mut slow = Pace::new();
        slow.answered(ms(10), true);
        for _ in 0..100 {
            slow.answered(ms(40), true);
        }
        assert_eq!(slow.limit, REQUESTS_FIRST + 1);
        for _ in 0..10 {
            slow.refused();
        }
        assert_eq!(slow.limit, 1);
        slow.answered(ms(10), true);
        assert_eq!(slow.limit, 2);
    }
}
