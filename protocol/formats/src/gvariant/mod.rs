//! The GVariant container format: strict reading, and writing.
//!
//! Two functions hold every rule of framing, `split_array` and `split_tuple`; the rest builds on
//! them. The functions of `write` reproduce accepted bytes exactly, so every value has one
//! serialization, and a hash of that identifies the value (GLib calls it the normal form). Scalars
//! keep their byte order: the OSTree formats say which are big-endian.
//!
//! An error is the broken rule, as text; the caller knows which part it was reading.

mod check;
mod frame;
mod write;

pub(crate) use check::check;
pub(crate) use check::for_each_entry;
pub(crate) use frame::{Array, be_u32, be_u64, split_array, split_members, string};
#[cfg(test)]
pub(crate) use write::variant;
pub(crate) use write::{append_member, array, entry, string_bytes, tuple};

/// The layout of a type in its container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Alignment in bytes: 1, 2, 4 or 8.
    align: usize,
    /// Length in bytes, if all values have the same.
    fixed: Option<usize>,
}

impl Layout {
    /// `y` and `b`.
    pub(crate) const BYTE: Self = Self::scalar(1);
    /// `u`, `i` and `h`.
    pub(crate) const U32: Self = Self::scalar(4);
    /// `t`, `x` and `d`.
    pub(crate) const U64: Self = Self::scalar(8);
    /// Of any length, not aligned: `s`, `ay`, and containers of only these.
    pub(crate) const BYTES: Self = Self::variable(1);
    /// Of any length, aligned to 8 bytes: `v`, and containers with a `v` or `t` in them.
    pub(crate) const ALIGNED: Self = Self::variable(8);

    const fn scalar(len: usize) -> Self {
        Self {
            align: len,
            fixed: Some(len),
        }
    }

    const fn variable(align: usize) -> Self {
        Self { align, fixed: None }
    }

    /// Returns the layout of a tuple of these members.
    fn of_tuple(members: impl IntoIterator<Item = Self>) -> Self {
        let mut align = 1;
        let mut end = Some(0);
        for member in members {
            align = align.max(member.align);
            end = end
                .zip(member.fixed)
                .map(|(end, len)| align_up(end, member.align) + len);
        }
        Self {
            align,
            // The unit type takes one byte, so no element of an array is empty and of fixed size.
            fixed: end.map(|end| align_up(end, align).max(1)),
        }
    }
}

/// Returns the next multiple of `align` at or after `position`.
const fn align_up(position: usize, align: usize) -> usize {
    position.next_multiple_of(align)
}

/// Returns the width of a framing offset in a container of `total` bytes.
const fn offset_width(total: usize) -> usize {
    match total {
        0 => 0,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    }
}

/// Returns the least width of `count` framing offsets after a body of `body` bytes: the width that
/// the container's total length then implies.
fn least_offset_width(body: usize, count: usize) -> usize {
    [1, 2, 4]
        .into_iter()
        .find(|width| offset_width(body.saturating_add(count.saturating_mul(*width))) <= *width)
        .unwrap_or(8)
}
