//! Bytes of a known length between messages.

use bytes::{Bytes, BytesMut};

use crate::limits::PACK_LEN;
use crate::shared::Shared;

/// The rest of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    left: u64,
    /// Whether its bytes are handed out together.
    whole: bool,
}

impl Content {
    /// Content that is handed out in pieces, or together if it is short.
    pub(super) const fn new(len: u64) -> Self {
        Self {
            left: len,
            whole: len <= PACK_LEN as u64,
        }
    }

    /// Content that is handed out together. The caller has compared its length with a limit.
    pub(super) const fn whole(len: u64) -> Self {
        Self {
            left: len,
            whole: true,
        }
    }

    /// Returns whether all of it is handed out together.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Takes the available bytes, and returns whether they are the last; `None` if more are needed.
    pub(super) fn take(
        &mut self,
        input: &mut BytesMut,
        shared: &mut Shared,
    ) -> Option<(Bytes, bool)> {
        let here = input.len() as u64;
        if here < self.left && (self.whole || here == 0) {
            return None;
        }
        let len = here.min(self.left);
        self.left -= len;
        let bytes = shared.take(input, usize::try_from(len).unwrap_or(input.len()));
        Some((bytes, self.left == 0))
    }
}
