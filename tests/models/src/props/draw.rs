//! Decisions drawn from bytes, so that mutating the bytes mutates the decisions.

use arbitrary::Unstructured;

/// Bytes that are read as decisions. Once they are used up, every number drawn is 0, and no
/// unlikely event happens.
#[derive(Debug)]
pub struct Draw<'a>(Unstructured<'a>);

impl<'a> Draw<'a> {
    /// Reads decisions from these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// Returns whether no bytes are left.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    /// Draws a number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        let drawn = self.0.int_in_range(0..=end - 1);
        drawn.expect("a range that is not empty has a number")
    }

    /// Draws an event of probability one in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }

    /// Draws one of several.
    pub fn pick<'s, T>(&mut self, from: &'s [T]) -> &'s T {
        &from[self.below(from.len())]
    }

    /// Draws up to `max` bytes.
    pub fn bytes(&mut self, max: usize) -> &'a [u8] {
        let len = self.below(max + 1).min(self.0.len());
        self.0.bytes(len).expect("no more than there are")
    }

    /// Takes all that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0.take_rest()
    }
}
