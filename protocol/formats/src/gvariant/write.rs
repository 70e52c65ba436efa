//! Joins containers, for the formats that this crate writes itself.

use crate::gvariant::{Layout, align_up, least_offset_width};

/// Serializes an array.
pub(crate) fn array<T: AsRef<[u8]>>(
    element: Layout,
    elements: impl IntoIterator<Item = T>,
) -> Vec<u8> {
    let mut body = Vec::new();
    let mut ends = Vec::new();
    for value in elements {
        pad(&mut body, element.align);
        body.extend_from_slice(value.as_ref());
        ends.push(body.len());
    }
    if element.fixed.is_none() {
        append_offsets(&mut body, &ends);
    }
    body
}

/// Serializes a tuple.
pub(crate) fn tuple(members: &[(Layout, &[u8])]) -> Vec<u8> {
    let mut body = Vec::with_capacity(members.iter().map(|(_, value)| value.len() + 8).sum());
    let mut ends = Vec::new();
    for (layout, value) in members {
        pad(&mut body, layout.align);
        body.extend_from_slice(value);
        if layout.fixed.is_none() {
            ends.push(body.len());
        }
    }
    let layout = Layout::of_tuple(members.iter().map(|(layout, _)| *layout));
    if let Some(len) = layout.fixed {
        body.resize(len, 0);
        return body;
    }
    if members.last().is_some_and(|(last, _)| last.fixed.is_none()) {
        ends.pop();
    }
    ends.reverse();
    append_offsets(&mut body, &ends);
    body
}

/// Serializes a tuple of two members of [`Layout::ALIGNED`], reusing the buffer of the first.
pub(crate) fn append_member(first: Vec<u8>, second: &[u8]) -> Vec<u8> {
    let mut body = first;
    let end = body.len();
    pad(&mut body, Layout::ALIGNED.align);
    body.extend_from_slice(second);
    append_offsets(&mut body, &[end]);
    body
}

/// Serializes one entry of an `a{sv}`; `kind` is the type of the value in the variant.
pub(crate) fn entry(key: &str, kind: &str, value: &[u8]) -> Vec<u8> {
    tuple(&[
        (Layout::BYTES, &string_bytes(key)),
        (Layout::ALIGNED, &variant(kind, value)),
    ])
}

/// Serializes a variant that holds a value of type `kind`.
pub(crate) fn variant(kind: &str, value: &[u8]) -> Vec<u8> {
    [value, b"\0", kind.as_bytes()].concat()
}

/// Serializes a string, which must contain no NUL.
pub(crate) fn string_bytes(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn pad(body: &mut Vec<u8>, align: usize) {
    body.resize(align_up(body.len(), align), 0);
}

fn append_offsets(body: &mut Vec<u8>, ends: &[usize]) {
    let width = least_offset_width(body.len(), ends.len());
    for end in ends {
        body.extend(end.to_le_bytes().iter().take(width));
    }
}
