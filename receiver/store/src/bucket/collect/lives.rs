//! The lengths of time that collectors and sessions agree on.

use std::time::Duration;

/// How long a session counts as alive after it stored its lease, by the server's clock.
pub const LEASE_LIFE: Duration = Duration::from_secs(30 * 60);
/// How often a session renews its lease.
pub const LEASE_RENEWAL: Duration = Duration::from_secs(5 * 60);
/// How long a collector's claim counts after `gc` was stored, by the server's clock.
pub const CLAIM_LIFE: Duration = Duration::from_secs(10 * 60);
/// How long a request may still take effect after it was sent.
pub const REQUEST_LIFE: Duration = Duration::from_secs(4 * 60);

const _: () = assert!(LEASE_LIFE.as_secs() / 2 > REQUEST_LIFE.as_secs());
const _: () = assert!(CLAIM_LIFE.as_secs() / 2 > REQUEST_LIFE.as_secs());
