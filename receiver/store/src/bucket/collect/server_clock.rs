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
    /// The server's time, and our time when it was read.
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

    /// Returns the server's time in seconds.
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
        self.read = Some((found.modified, now));
        Ok(found.modified)
    }

    /// Deletes the object.
    pub(super) fn remove(&self) {
        // After a failure, a later collection deletes it.
        let _ = self.client.delete(std::slice::from_ref(&self.key));
    }
}

const READ_EVERY: Duration = Duration::from_secs(60);
