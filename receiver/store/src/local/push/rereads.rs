//! Limits how many existing objects a push makes the server read and verify.
//!
//! An offer takes 33 bytes, and may name an existing object of gigabytes below no commit that the
//! client relies on. So reading these is bounded; the client has to send the objects beyond the
//! budget, and earns budget by sending.

use std::sync::atomic::{AtomicU64, Ordering};

/// The remaining budget of one push, in bytes.
#[derive(Debug)]
pub(crate) struct Rereads {
    left: AtomicU64,
}

impl Rereads {
    /// Begins with `most` bytes, or with 1 GiB.
    pub(crate) fn new(most: Option<u64>) -> Self {
        Self {
            left: most.unwrap_or(REREAD_MAX).into(),
        }
    }

    /// Returns how long an object may be, stored and inflated; `None` if no other may be read.
    pub(crate) fn allowed(&self) -> Option<u64> {
        let left = self.left.load(Ordering::Relaxed);
        left.checked_sub(EACH)
    }

    /// Counts an object that was read.
    pub(crate) fn count(&self, len: u64) {
        let less = |left: u64| Some(left.saturating_sub(EACH.saturating_add(len)));
        // Never fails: `less` always returns a value.
        let _ = (self.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Counts bytes that the client has sent.
    pub(crate) fn earn(&self, len: u64) {
        let more = |left: u64| Some(left.saturating_add(len));
        let _ = (self.left).fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
    }
}

/// Bytes verified again in a push, in addition to those it has sent (SPEC "Want"). They take two or
/// three seconds of one core.
const REREAD_MAX: u64 = 1 << 30;
/// The cost of an object, however short: a link, and a read.
const EACH: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_earned_and_what_is_read_is_spent() {
        let rereads = Rereads::new(Some(3 * EACH));
        assert_eq!(rereads.allowed(), Some(2 * EACH));
        rereads.count(EACH);
        assert_eq!(rereads.allowed(), Some(0));
        rereads.count(0);
        assert_eq!(rereads.allowed(), None);
        rereads.earn(EACH + 5);
        assert_eq!(rereads.allowed(), Some(5));
        rereads.count(u64::MAX);
        assert_eq!(rereads.allowed(), None);
        assert_eq!(Rereads::new(None).allowed(), Some((1 << 30) - EACH));
    }
}
