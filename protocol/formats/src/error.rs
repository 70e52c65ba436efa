//! The error of all parsers: some part of the bytes breaks a rule. And the text of any error.

use std::error::Error;

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

/// Joins the texts of an error and its causes, the outermost first.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
