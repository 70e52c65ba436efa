//! How many requests to have under way at once.
//!
//! Grows by one for each answer, so that it doubles in each round trip, as long as the answers come
//! as fast as they did; a server that takes longer has a queue, and more requests would only make
//! it longer. Halves when the server says or shows that it is too much. Pure: times come from
//! outside.

use std::time::Duration;

/// The number of requests to have under way.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    most: usize,
    // Shortest time to an answer's first byte, and an average of the last ones.
    shortest: Duration,
    usual: Duration,
    // Answers to ignore overload of: they were asked for before the last cut.
    forgiven: usize,
}

impl Window {
    /// Begins with a few requests, and allows at most `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            size: FIRST.min(most),
            most,
            shortest: Duration::MAX,
            usual: Duration::ZERO,
            forgiven: 0,
        }
    }

    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Changes the limit, once more is known about the server.
    pub(crate) fn allow(&mut self, most: usize) {
        self.most = most;
        self.size = self.size.min(most);
    }

    /// Notes an answer, and the time to its first byte.
    pub(crate) fn answered(&mut self, latency: Duration) {
        self.forgiven = self.forgiven.saturating_sub(1);
        self.shortest = self.shortest.min(latency);
        self.usual = match self.usual.is_zero() {
            true => latency,
            false => (self.usual * 7 + latency) / 8,
        };
        if self.usual > self.shortest * 8 + MUCH {
            self.size = self.size.saturating_sub(1).max(FIRST.min(self.most));
        } else if self.usual <= self.shortest * 3 + LITTLE {
            self.size = (self.size + 1).min(self.most);
        }
    }

    /// Notes that a request failed because of too many others.
    pub(crate) fn overloaded(&mut self) {
        if self.forgiven > 0 {
            self.forgiven -= 1;
            return;
        }
        self.forgiven = self.size;
        self.size = (self.size / 2).max(1);
        // A server that has failed is asked for more only slowly.
        self.most = self.most.min(self.size * 4).max(1);
    }
}

const FIRST: usize = 8;
const LITTLE: Duration = Duration::from_millis(10);
const MUCH: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn after(window: &mut Window, answers: usize, latency: Duration) -> usize {
        (0..answers).for_each(|_| window.answered(latency));
        window.size()
    }

    #[test]
    fn it_doubles_in_each_round_trip_up_to_the_limit() {
        let mut window = Window::new(100);
        assert_eq!(window.size(), 8);
        assert_eq!(after(&mut window, 8, SHORT), 16);
        assert_eq!(after(&mut window, 16, SHORT), 32);
        assert_eq!(after(&mut window, 1000, SHORT), 100);
        window.allow(20);
        assert_eq!(window.size(), 20);
        assert_eq!(Window::new(3).size(), 3);
    }

    #[test]
    fn it_stops_growing_when_answers_take_longer_and_shrinks_when_they_take_very_long() {
        let mut window = Window::new(1000);
        let grown = after(&mut window, 50, SHORT);
        after(&mut window, 40, SHORT * 5);
        let stopped = window.size();
        assert!(stopped < grown + 20, "{stopped}");
        assert_eq!(after(&mut window, 100, SHORT * 5), stopped);
        assert!(after(&mut window, 100, SHORT * 20) < stopped);
        assert_eq!(after(&mut window, 1000, SHORT * 20), 8, "a few always go");
    }

    #[test]
    fn many_failures_at_once_count_as_one_and_it_never_closes() {
        let mut window = Window::new(1000);
        let grown = after(&mut window, 100, SHORT);
        (0..grown).for_each(|_| window.overloaded());
        assert_eq!(window.size(), grown / 2);
        (0..10_000).for_each(|_| window.overloaded());
        assert_eq!(window.size(), 1);
        assert!(
            after(&mut window, 1000, SHORT) <= 4,
            "it does not rush back"
        );
    }
}
