//! Puts the pieces of one large object in order, whichever is ready first.

use std::collections::BTreeMap;

/// Pieces of a large object that are in progress or ready, and the number of the next one.
#[derive(Debug)]
pub(crate) struct PieceOrder<P> {
    ready: BTreeMap<u64, P>,
    next: u64,    // the next piece to hand out
    begun: u64,   // pieces begun; next <= begun <= next + ahead
    ahead: usize, // most pieces begun and not handed out
}

impl<P> PieceOrder<P> {
    /// Creates an empty order that never has more than `ahead` pieces at once.
    pub(crate) const fn new(ahead: usize) -> Self {
        Self {
            ready: BTreeMap::new(),
            next: 0,
            begun: 0,
            ahead,
        }
    }

    /// Returns how many more pieces to begin, and counts them as begun.
    pub(crate) fn begin(&mut self) -> u64 {
        let begun = self.begun;
        self.begun = self.next.saturating_add(self.ahead as u64);
        self.begun - begun
    }

    /// Adds a finished piece.
    pub(crate) fn put(&mut self, number: u64, piece: P) {
        self.ready.insert(number, piece);
    }

    /// Removes the next piece, if it is ready.
    pub(crate) fn take(&mut self) -> Option<P> {
        let piece = self.ready.remove(&self.next)?;
        self.next += 1;
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_pieces_are_in_work_at_once_as_there_may_be_and_never_more() {
        let mut order = PieceOrder::new(4);
        assert_eq!(order.begin(), 4);
        assert_eq!(order.begin(), 0);
        order.put(1, ());
        order.put(2, ());
        assert_eq!((order.take(), order.begin()), (None, 0), "0 is not ready");
        order.put(0, ());
        for _ in 0..3 {
            assert_eq!((order.take(), order.begin()), (Some(()), 1));
        }
        assert_eq!((order.take(), order.begin()), (None, 0));
    }

    #[test]
    fn pieces_go_out_in_order_whichever_is_ready_first() {
        let mut order = PieceOrder::new(3);
        let mut out = Vec::new();
        for number in [2, 0, 1, 5, 4, 3] {
            order.begin();
            order.put(number, number);
            out.extend(std::iter::from_fn(|| order.take()));
        }
        assert_eq!(out, [0, 1, 2, 3, 4, 5]);
    }
}
