//! The one error of the parsers: a part of some bytes breaks a rule.

/// The bytes of an object or of a summary break a rule of their format; whoever made them is at
/// fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bad {part}: {rule}")]
pub struct FormatError {
    part: &'static str,
    rule: &'static str,
}

impl FormatError {
    /// Says that `part` breaks `rule`.
    pub(crate) const fn new(part: &'static str, rule: &'static str) -> Self {
        Self { part, rule }
    }

    /// Returns a function that says so of `part`, for `map_err`.
    pub(crate) fn part(part: &'static str) -> impl Fn(&'static str) -> Self {
        move |rule| Self { part, rule }
    }

    /// Returns the rule that is broken.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
