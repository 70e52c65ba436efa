//! A mistake in a configuration file, and the text of a value, or none.

use saphyr::{MarkedYaml, Scalar, YamlData};

/// A mistake, and its line, counted from 1.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) text: String,
}

/// Returns a mistake at this node.
pub(super) fn fault<T>(node: &MarkedYaml<'_>, text: impl Into<String>) -> Result<T, Fault> {
    Err(Fault {
        line: node.span.start.line(),
        text: text.into(),
    })
}

/// Returns the value of a node that is text.
pub(super) fn string<'a>(node: &'a MarkedYaml<'_>) -> Option<&'a str> {
    match &node.data {
        YamlData::Value(Scalar::String(text)) => Some(text),
        _ => None,
    }
}
