//! Bytes that are passed on from the buffer they were read into.
//!
//! Such bytes keep their whole buffer in memory while they wait. A client could make one byte wait
//! in each of many buffers, so small pieces are copied.

use bytes::{Bytes, BytesMut};

/// The size of the buffer whose remainder the input is.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    len: usize,
}

impl Shared {
    /// Bytes that are passed on keep at most this many times their own length in memory.
    const TIMES: usize = 4;

    pub(crate) const fn new() -> Self {
        Self { len: 0 }
    }

    /// Records the input's buffer. Call it before anything else takes bytes off the input. If the
    /// input has moved to another buffer, the larger one counts until it is used up.
    pub(crate) fn look(&mut self, input: &mut BytesMut) {
        if input.is_empty() {
            // If new bytes were read into this buffer behind those taken, nobody could tell its
            // size, so use a new buffer.
            *input = BytesMut::new();
            self.len = 0;
        }
        self.len = self.len.max(input.capacity());
    }

    /// Takes the first `len` bytes off the input.
    pub(crate) fn take(&mut self, input: &mut BytesMut, len: usize) -> Bytes {
        self.look(input);
        let bytes = input.split_to(len);
        let bytes = if len < self.len / Self::TIMES {
            Bytes::copy_from_slice(&bytes)
        } else {
            bytes.freeze()
        };
        self.look(input);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const READ: usize = 4096;

    proptest! {
        #[test]
        fn what_is_handed_on_keeps_at_most_four_times_its_length_in_memory(
            reads in vec((1..3 * READ, vec(1..READ, 1..20)), 1..20),
        ) {
            let (mut shared, mut input, mut largest) = (Shared::new(), BytesMut::new(), 0);
            for (read, takes) in reads {
                input.extend_from_slice(&vec![7; read]);
                for len in takes {
                    let whole = input.capacity();
                    // Until it is used up, the input is a part of the largest buffer so far.
                    largest = whole.max(largest);
                    let place = input.as_ptr();
                    let len = len.min(input.len());
                    if len == 0 {
                        continue;
                    }
                    let bytes = shared.take(&mut input, len);
                    prop_assert_eq!(bytes.len(), len);
                    prop_assert!(bytes.iter().all(|byte| *byte == 7));
                    let is_copied = bytes.as_ptr() != place;
                    prop_assert_eq!(is_copied, len < largest / 4);
                    if input.is_empty() {
                        largest = 0;
                    }
                }
            }
        }
    }
}
