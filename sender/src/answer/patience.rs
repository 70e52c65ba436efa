//! How long the planning of one answer may go on.

use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::error::Error;

/// The time that planning has taken, and whether anybody still waits for it.
#[derive(Debug)]
pub(super) struct Patience {
    max: Duration,
    spent: Duration,
    /// Set while it works.
    since: Option<Instant>,
    client: Weak<()>,
}

impl Patience {
    /// Allows so much time, as long as the owner of `client` exists.
    pub(super) const fn new(max: Duration, client: Weak<()>) -> Self {
        Self {
            max,
            spent: Duration::ZERO,
            since: None,
            client,
        }
    }

    /// Begins to count.
    pub(super) fn resume(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Stops counting.
    pub(super) fn pause(&mut self) {
        self.spent = self.spent();
        self.since = None;
    }

    /// Fails if it has taken too long, or if nobody waits any more.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.client.strong_count() == 0 {
            return Err(Error::TooMuchAsked("the client has left".to_owned()));
        }
        if self.spent() > self.max {
            return Err(Error::TooMuchAsked(format!(
                "listing this pull takes the server longer than {} seconds: ask for fewer refs at \
                 once",
                self.max.as_secs()
            )));
        }
        Ok(())
    }

    fn spent(&self) -> Duration {
        let running = self.since.map(|since| since.elapsed());
        self.spent + running.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn planning_ends_with_its_time_or_with_its_client() {
        let client = Arc::new(());
        let mut patience = Patience::new(Duration::from_secs(60), Arc::downgrade(&client));
        patience.resume();
        assert!(patience.check().is_ok());
        patience.since = patience
            .since
            .and_then(|since| since.checked_sub(patience.max));
        assert!(patience.check().is_err());
        // What counted once counts for good, and time without work does not.
        patience.pause();
        assert!(patience.check().is_err());
        let mut patience = Patience::new(Duration::from_secs(60), Arc::downgrade(&client));
        patience.resume();
        patience.pause();
        assert!(patience.check().is_ok());
        drop(client);
        assert!(patience.check().is_err());
    }
}
