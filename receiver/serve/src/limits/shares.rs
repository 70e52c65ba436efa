//! Limits the resources held for one address.
//!
//! An IPv6 address counts as its /64, because the owner of one has all of those. Nothing here
//! waits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

/// The client to which a resource is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// An address of version 4.
    V4([u8; 4]),
    /// The first 64 bits of an address of version 6.
    V6([u8; 8]),
}

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Counts the resources of each address, up to a limit that is the same for all.
#[derive(Debug)]
pub(crate) struct Shares {
    max: usize,
    held: Mutex<HashMap<Source, usize>>,
}

/// A share that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Arc<Shares>,
    source: Source,
}

impl Shares {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            held: Mutex::default(),
        })
    }

    /// Takes one more share for an address, unless it has reached the limit.
    pub(crate) fn take(self: &Arc<Self>, source: Source) -> Option<Share> {
        let mut held = self.held.lock();
        let count = held.entry(source).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Share {
            shares: Arc::clone(self),
            source,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.shares.held.lock();
        if let Entry::Occupied(mut count) = held.entry(self.source) {
            *count.get_mut() -= 1;
            // An address without shares takes no memory.
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::of(text.parse().unwrap())
    }

    #[test]
    fn an_address_has_its_limit_and_not_one_more_until_it_lets_go() {
        let shares = Shares::new(2);
        let first = shares.take(source("192.0.2.1")).unwrap();
        let _second = shares.take(source("192.0.2.1")).unwrap();
        assert!(shares.take(source("192.0.2.1")).is_none());
        assert!(shares.take(source("192.0.2.2")).is_some());
        drop(first);
        assert!(shares.take(source("192.0.2.1")).is_some());
        drop(_second);
        assert!(shares.held.lock().is_empty(), "nothing is kept for nobody");
    }

    #[test]
    fn an_address_of_version_6_counts_as_its_64_and_a_mapped_one_as_version_4() {
        assert_eq!(source("2001:db8:1:2::1"), source("2001:db8:1:2:ffff::9"));
        assert_ne!(source("2001:db8:1:2::1"), source("2001:db8:1:3::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
    }
}
