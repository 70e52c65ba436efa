//! The error of all parsers: some part of the bytes breaks a rule.

/// The bytes of an object or a summary break a rule of their format; whoever made them is at fault.
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

    /// Returns a function that makes such an error for `part`, for `map_err`.
    pub(crate) fn part(part: &'static str) -> impl Fn(&'static str) -> Self {
        move |rule| Self { part, rule }
    }

    /// Returns the broken rule.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}
