//! The server's clock, which decides how old leases, claims and objects are.

use std::time::Duration;

use super::record::Nonce;
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Class, Condition, Key};
use crate::error::Error;
use crate::error::bucket::BucketError;

/// Tells the server's time from the time of an object that this collector puts.
pub(super) struct ServerClock<'a> {
    client: &'a Client,
    key: Key,
    /// A time that the server's clock has shown, and our time after it.
    read: Option<(u64, Duration)>,
}

impl<'a> ServerClock<'a> {
    pub(super) fn new(client: &'a Client, me: Nonce) -> Self {
        Self {
            client,
            key: layout::collector(me.0),
            read: None,
        }
    }

    /// Returns the server's time in seconds, or a time shortly before. A later time would make
    /// claims and leases look older than they are, and end some that live (R15, R22).
    pub(super) fn now(&mut self) -> Result<u64, Error> {
        let now = self.client.clock().now();
        if let Some((server, read)) = self.read
            && now.saturating_sub(read) < READ_EVERY
        {
            return Ok(server + now.saturating_sub(read).as_secs());
        }
        let failed = || Error::bucket("telling the time of", &"the server");
        let content = format!("{} {}\n", std::process::id(), now.as_millis());
        let put = self
            .client
            .put(&self.key, content.into(), Condition::Always, Class::Private);
        put.map_err(failed())?;
        let found = self.client.get(&self.key).map_err(failed())?;
        let Some(found) = found else {
            let why = format!("{} is gone right after it was stored", self.key);
            return Err(failed()(BucketError::Broken(why)));
        };
        // The requests may have taken minutes, and the server noted this time during them.
        self.read = Some((found.modified, self.client.clock().now()));
        Ok(found.modified)
    }

    /// Deletes the object.
    pub(super) fn remove(&self) {
        // After a failure, a later collection deletes it.
        let _ = self.client.delete(std::slice::from_ref(&self.key));
    }
}

const READ_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::bucket::requests::clock::ManualClock;
    use crate::bucket::requests::faulty::{Fate, Faulty};
    use crate::bucket::requests::memory::Memory;
    use crate::bucket::requests::seam::Request;

    /// Once, our time before the requests stood for the time that the server had noted later.
    #[test]
    fn the_told_time_is_never_ahead_of_the_server_however_often_requests_are_repeated() {
        let (memory, clock) = (Memory::new(), ManualClock::default());
        let way = Faulty::new(Arc::new(memory.clone()));
        let (server, own) = (memory.clone(), clock.clone());
        let mut attempts = 0;
        way.choose(move |_, request| {
            let is_put = matches!(request, Request::Put { .. });
            attempts += u32::from(is_put);
            own.advance(Duration::from_secs(10));
            server.advance(10);
            (is_put && attempts < 3).then_some(Fate::Busy)
        });
        let client = Client::new(Arc::new(way.clone()), Arc::new(clock.clone()));
        let mut told = ServerClock::new(&client, Nonce(1));
        assert_eq!(told.now().unwrap(), memory.now() - 10);
        let sent = way.counts().all();
        for _ in 0..5 {
            clock.advance(Duration::from_secs(10));
            memory.advance(10);
            assert_eq!(told.now().unwrap(), memory.now() - 10);
        }
        assert_eq!(way.counts().all(), sent);
    }
}
