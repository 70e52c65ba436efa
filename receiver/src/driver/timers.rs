//! When a session has waited long enough: pure, the time is passed in.

use std::time::{Duration, Instant};

/// How long a receiver waits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the client's announcement, from the start.
    pub greeting: Duration,
    /// For the next byte of a client whose turn it is.
    pub silence: Duration,
    /// For more than signs of life of a client whose turn it is.
    pub idleness: Duration,
    /// For a client to take the bytes that are ready for it.
    pub stall: Duration,
    /// Between signs of life to a client that hears nothing else.
    pub ping: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            greeting: Duration::from_secs(30),
            silence: Duration::from_secs(60),
            idleness: Duration::from_secs(600),
            stall: Duration::from_secs(60),
            ping: Duration::from_secs(15),
        }
    }
}

/// What it is time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing, until then.
    Nothing(Instant),
    /// Put out a sign of life.
    Ping,
    /// Give the client up, for this reason.
    GiveUp(&'static str),
}

/// What the timers look at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    /// The client has announced its push.
    pub(super) announced: bool,
    /// It is the client's turn: nothing it sent is being worked on.
    pub(super) awaits_client: bool,
    /// Bytes are ready that the client has not taken.
    pub(super) unwritten: bool,
}

/// The deadlines of one session.
#[derive(Debug)]
pub(super) struct Timers {
    timeouts: Timeouts,
    started: Instant,
    heard: Instant,
    progressed: Instant,
    written: Instant,
    said: Instant,
}

impl Timers {
    pub(super) const fn new(timeouts: Timeouts, now: Instant) -> Self {
        Self {
            timeouts,
            started: now,
            heard: now,
            progressed: now,
            written: now,
            said: now,
        }
    }

    /// Bytes came from the client, or its turn began.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// More than a sign of life came from the client, or its turn began.
    pub(super) fn progressed(&mut self, now: Instant) {
        self.progressed = now;
    }

    /// The client took bytes, or there were none to take.
    pub(super) fn written(&mut self, now: Instant) {
        self.written = now;
    }

    /// Bytes were made ready for the client.
    pub(super) fn said(&mut self, now: Instant) {
        self.said = now;
    }

    pub(super) fn due(&self, now: Instant, activity: Activity) -> Due {
        let Timeouts {
            greeting,
            silence,
            idleness,
            stall,
            ping,
        } = self.timeouts;
        // REQ-37.
        let mut next = self.said + ping;
        for (applies, deadline, reason) in [
            (
                !activity.announced,
                self.started + greeting,
                "no announcement in time",
            ),
            (
                activity.awaits_client,
                self.heard + silence,
                "the client was silent for too long",
            ),
            (
                activity.awaits_client,
                self.progressed + idleness,
                "the client sent nothing but signs of life for too long",
            ),
            (
                activity.unwritten,
                self.written + stall,
                "the client does not read its answers",
            ),
        ] {
            if applies && now >= deadline {
                return Due::GiveUp(reason);
            }
            if applies {
                next = next.min(deadline);
            }
        }
        if now >= self.said + ping {
            Due::Ping
        } else {
            Due::Nothing(next)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Activity = Activity {
        announced: true,
        awaits_client: true,
        unwritten: false,
    };

    fn after(timers: &Timers, seconds: u64, activity: Activity) -> Due {
        timers.due(timers.started + Duration::from_secs(seconds), activity)
    }

    #[test]
    fn a_client_that_never_announces_is_given_up_though_it_talks() {
        let now = Instant::now();
        let mut timers = Timers::new(Timeouts::default(), now);
        timers.heard(now + Duration::from_secs(29));
        timers.said(now + Duration::from_secs(29));
        let talking = Activity {
            announced: false,
            ..QUIET
        };
        assert!(matches!(after(&timers, 29, talking), Due::Nothing(_)));
        assert!(matches!(after(&timers, 30, talking), Due::GiveUp(_)));
    }

    #[test]
    fn a_silent_client_is_given_up_within_a_minute_unless_the_server_is_at_work() {
        let mut timers = Timers::new(Timeouts::default(), Instant::now());
        timers.said(timers.started + Duration::from_secs(59));
        assert!(matches!(after(&timers, 59, QUIET), Due::Nothing(_)));
        assert!(matches!(after(&timers, 60, QUIET), Due::GiveUp(_)));
        let working = Activity {
            awaits_client: false,
            ..QUIET
        };
        assert!(matches!(after(&timers, 60, working), Due::Nothing(_)));
    }

    #[test]
    fn a_client_that_only_pings_is_given_up_after_ten_minutes() {
        let mut timers = Timers::new(Timeouts::default(), Instant::now());
        let started = timers.started;
        let at = |seconds| started + Duration::from_secs(seconds);
        let (alive, progress) = (at(899), at(300));
        timers.heard(alive);
        timers.said(alive);
        timers.progressed(progress);
        assert!(matches!(after(&timers, 899, QUIET), Due::Nothing(_)));
        assert!(matches!(after(&timers, 900, QUIET), Due::GiveUp(_)));
        let working = Activity {
            awaits_client: false,
            ..QUIET
        };
        assert!(matches!(after(&timers, 900, working), Due::Nothing(_)));
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up_within_a_minute() {
        let timers = Timers::new(Timeouts::default(), Instant::now());
        let stuck = Activity {
            awaits_client: false,
            unwritten: true,
            announced: true,
        };
        assert_eq!(after(&timers, 59, stuck), Due::Ping);
        assert!(matches!(after(&timers, 60, stuck), Due::GiveUp(_)));
    }

    #[test]
    fn a_waiting_client_hears_a_ping_every_fifteen_seconds() {
        let mut timers = Timers::new(Timeouts::default(), Instant::now());
        let working = Activity {
            awaits_client: false,
            ..QUIET
        };
        assert!(matches!(after(&timers, 14, working), Due::Nothing(_)));
        assert_eq!(after(&timers, 15, working), Due::Ping);
        timers.said(timers.started + Duration::from_secs(15));
        assert!(matches!(after(&timers, 29, working), Due::Nothing(_)));
        assert_eq!(after(&timers, 30, working), Due::Ping);
    }
}
