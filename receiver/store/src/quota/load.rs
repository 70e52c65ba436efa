//! What one push brings, counted as it comes, and what its identity may have in all.

use std::ops::Add;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// A number of objects, detached metadata included, and their stored bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub(crate) objects: u64,
    pub(crate) bytes: u64,
}

impl Weight {
    /// Returns whether this is at most as much.
    pub(crate) const fn fits(self, room: Self) -> bool {
        self.objects <= room.objects && self.bytes <= room.bytes
    }

    /// Returns how much more this is than a part of it.
    pub(crate) const fn without(self, part: Self) -> Self {
        Self {
            objects: self.objects.saturating_sub(part.objects),
            bytes: self.bytes.saturating_sub(part.bytes),
        }
    }
}

impl Add for Weight {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// What an identity holds, and what it may.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    pub(crate) identity: String,
    pub(crate) held: Weight,
    pub(crate) max: Weight,
}

impl Quota {
    /// Returns how much more the identity may bring.
    pub(crate) const fn left(&self) -> Weight {
        self.max.without(self.held)
    }

    /// Fails if so much more is too much.
    pub(crate) fn check(&self, brought: Weight) -> Result<(), Error> {
        let (all, max) = (self.held + brought, self.max);
        let parts = [
            ("objects", "objects-max", all.objects, max.objects),
            ("bytes", "bytes-max", all.bytes, max.bytes),
        ];
        match parts.into_iter().find(|(_, _, all, max)| all > max) {
            Some((what, setting, all, max)) => Err(Error::OverAllowance {
                what,
                setting,
                all,
                max,
            }),
            None => Ok(()),
        }
    }
}

/// What one push brings, counted as it comes.
#[derive(Debug, Default)]
pub(crate) struct Load {
    objects: AtomicU64,
    bytes: AtomicU64,
    quota: Option<Quota>,
}

impl Load {
    /// Begins with nothing, within a quota if there is one.
    pub(crate) fn new(quota: Option<Quota>) -> Self {
        Self {
            quota,
            ..Self::default()
        }
    }

    /// Returns the quota, as it was when the push began.
    pub(crate) const fn quota(&self) -> Option<&Quota> {
        self.quota.as_ref()
    }

    /// Takes note of what comes; fails if that is more than the identity may have.
    pub(crate) fn bring(&self, objects: u64, bytes: u64) -> Result<(), Error> {
        self.objects.fetch_add(objects, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.quota
            .as_ref()
            .map_or(Ok(()), |quota| quota.check(self.brought()))
    }

    /// Takes back what came and is not stored.
    pub(crate) fn give_back(&self, objects: u64, bytes: u64) {
        self.objects.fetch_sub(objects, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns what has come so far.
    pub(crate) fn brought(&self) -> Weight {
        Weight {
            objects: self.objects.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }
}
