//! Removes the records that collections and dead sessions have left.

use std::time::Duration;

use super::lists::{condemned_epoch, spared_epoch};
use super::lives::LEASE_LIFE;
use super::record::Lease;
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Key;
use crate::error::Error;

/// Deletes the records that are no longer needed. `epoch` is that of the last list, `now` the
/// server's time, and `grace` the age of objects that may be deleted.
pub(super) fn tidy(client: &Client, epoch: u64, now: u64, grace: Duration) -> Result<(), Error> {
    let is_old = |modified: u64, life: Duration| modified + life.as_secs() < now;
    let mut keys = Vec::new();
    for prefix in [
        layout::CONDEMNED,
        layout::SPARED,
        layout::JOURNALS,
        layout::COLLECTORS,
        layout::SESSIONS,
    ] {
        for entry in client.list_each(prefix) {
            let entry = entry.map_err(Error::bucket("listing", &prefix))?;
            let key = &entry.key;
            let is_over = match prefix {
                // Readers of journals need the last list (R10).
                layout::CONDEMNED => condemned_epoch(key).is_some_and(|of| of < epoch),
                layout::SPARED => spared_epoch(key).is_some_and(|of| of <= epoch),
                layout::SESSIONS => {
                    is_old(entry.modified, 2 * LEASE_LIFE) && is_fenced(client, key)?
                }
                _ => is_old(entry.modified, grace.max(2 * LEASE_LIFE)),
            };
            if is_over {
                keys.push(entry.key);
            }
        }
    }
    let deleted = client.delete(&keys);
    deleted.map_err(Error::bucket("deleting", &"what nothing reaches"))
}

/// Returns whether a lease has been fenced.
fn is_fenced(client: &Client, key: &Key) -> Result<bool, Error> {
    let found = client.get(key).map_err(Error::bucket("reading", key))?;
    let lease = found.and_then(|found| Lease::decode(&found.content));
    Ok(lease.is_some_and(|lease| lease.is_fenced))
}
