//! Splits containers: all the rules of framing.

use crate::gvariant::{Layout, align_up, least_offset_width, offset_width};

/// Splits an array into its elements, after checking the framing of all of them.
pub(crate) fn split_array(element: Layout, data: &[u8]) -> Result<Array<'_>, &'static str> {
    if let Some(len) = element.fixed {
        return if data.len().is_multiple_of(len) {
            Ok(Array::new(element, data, &[], len, data.len() / len))
        } else {
            Err("an array's length is not a multiple of its elements'")
        };
    }
    let width = offset_width(data.len());
    if width == 0 {
        return Ok(Array::new(element, data, &[], 1, 0));
    }
    let body = data
        .len()
        .checked_sub(width)
        .and_then(|at| read_offset(data, at, width))
        .filter(|body| *body < data.len())
        .ok_or("an array's last framing offset points outside of it")?;
    let (body, table) = data.split_at(body);
    let count = table.len() / width;
    if !table.len().is_multiple_of(width) || least_offset_width(body.len(), count) != width {
        return Err("an array's framing offsets are wider than needed, or cut");
    }
    let array = Array::new(element, body, table, width, count);
    let mut position = 0;
    for index in 0..count {
        let start = skip_padding(body, position, element.align)?;
        position = read_offset(table, index * width, width)
            .filter(|end| (start..=body.len()).contains(end))
            .ok_or("an array's framing offsets do not rise, or point outside of it")?;
    }
    Ok(array)
}

/// Splits a tuple (or dictionary entry) into its members, and passes each to `each` in order.
pub(crate) fn split_tuple<'a>(
    members: impl ExactSizeIterator<Item = Layout> + Clone,
    data: &'a [u8],
    mut each: impl FnMut(&'a [u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let layout = Layout::of_tuple(members.clone());
    if layout.fixed.is_some_and(|len| len != data.len()) {
        return Err(WRONG_LEN);
    }
    let last = members.len().saturating_sub(1);
    let is_framed = |(index, member): &(usize, Layout)| *index < last && member.fixed.is_none();
    let count = members.clone().enumerate().filter(is_framed).count();
    let width = offset_width(data.len());
    let body = data
        .len()
        .checked_sub(count * width)
        .filter(|body| count == 0 || least_offset_width(*body, count) == width)
        .ok_or("a tuple's framing offsets are wider than needed, or cut")?;
    let (body, table) = data.split_at(body);

    let mut position = 0;
    // The table is in reverse order: the last offset is the end of the first member.
    let mut offset_at = table.len();
    for (index, member) in members.enumerate() {
        let start = skip_padding(body, position, member.align)?;
        let end = if let Some(len) = member.fixed {
            start.checked_add(len)
        } else if index == last {
            Some(body.len())
        } else {
            offset_at = offset_at.saturating_sub(width);
            read_offset(table, offset_at, width)
        };
        let value = end
            .and_then(|end| body.get(start..end))
            .ok_or("a tuple's member ends before it begins, or outside of the tuple")?;
        position = start + value.len();
        each(value)?;
    }
    let rest = body.get(position..).unwrap_or_default();
    if layout.fixed.is_none() && !rest.is_empty() {
        return Err("bytes between a tuple's last member and its framing offsets");
    }
    require_zero(rest)
}

/// Splits a tuple or dictionary entry of `N` members.
pub(crate) fn split_members<const N: usize>(
    members: [Layout; N],
    data: &[u8],
) -> Result<[&[u8]; N], &'static str> {
    let mut values = [data; N];
    let mut slots = values.iter_mut();
    split_tuple(members.into_iter(), data, |value| {
        if let Some(slot) = slots.next() {
            *slot = value;
        }
        Ok(())
    })?;
    Ok(values)
}

/// Reads a string: UTF-8 that ends with its only NUL.
pub(crate) fn string(data: &[u8]) -> Result<&str, &'static str> {
    let Some((0, text)) = data.split_last() else {
        return Err("a string does not end with NUL");
    };
    if text.contains(&0) {
        return Err("a string contains a NUL");
    }
    std::str::from_utf8(text).map_err(|_| "a string is not UTF-8")
}

/// Reads a big-endian `u32`.
pub(crate) fn be_u32(data: &[u8]) -> Result<u32, &'static str> {
    let bytes = data.try_into().map_err(|_| WRONG_LEN)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Reads a big-endian `u64`.
pub(crate) fn be_u64(data: &[u8]) -> Result<u64, &'static str> {
    let bytes = data.try_into().map_err(|_| WRONG_LEN)?;
    Ok(u64::from_be_bytes(bytes))
}

/// The elements of an array whose framing has been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Array<'a> {
    element: Layout,
    body: &'a [u8],
    table: &'a [u8],
    // Width of a framing offset, or of an element of fixed size.
    width: usize,
    count: usize,
}

impl<'a> Array<'a> {
    const fn new(
        element: Layout,
        body: &'a [u8],
        table: &'a [u8],
        width: usize,
        count: usize,
    ) -> Self {
        Self {
            element,
            body,
            table,
            width,
            count,
        }
    }

    /// Returns the number of elements.
    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// Returns one element without visiting those before it.
    pub(crate) fn get(self, index: usize) -> Option<&'a [u8]> {
        let end = |index: usize| match self.element.fixed {
            Some(len) => Some((index + 1) * len),
            None => read_offset(self.table, index * self.width, self.width),
        };
        let before = match index.checked_sub(1) {
            Some(before) => end(before)?,
            None => 0,
        };
        self.body
            .get(align_up(before, self.element.align)..end(index)?)
    }

    /// Returns the elements in order.
    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let mut position = 0;
        (0..self.count).map(move |index| {
            let start = align_up(position, self.element.align);
            let at = index * self.width;
            let end = match self.element.fixed {
                Some(len) => at + len,
                None => read_offset(self.table, at, self.width).unwrap_or(start),
            };
            position = end;
            // The range is always inside: `split_array` has checked the same offsets.
            self.body.get(start..end).unwrap_or_default()
        })
    }
}

/// Reads the little-endian framing offset of `width` bytes at `at`.
fn read_offset(table: &[u8], at: usize, width: usize) -> Option<usize> {
    let bytes = table.get(at..at.checked_add(width)?)?;
    let mut wide = [0u8; 8];
    wide.get_mut(..width)?.copy_from_slice(bytes);
    usize::try_from(u64::from_le_bytes(wide)).ok()
}

/// Returns the position of a value aligned to `align` at or after `position`, if the bytes between
/// are zero.
fn skip_padding(body: &[u8], position: usize, align: usize) -> Result<usize, &'static str> {
    let start = align_up(position, align);
    let padding = body.get(position..start).ok_or("padding is cut off")?;
    require_zero(padding)?;
    Ok(start)
}

fn require_zero(padding: &[u8]) -> Result<(), &'static str> {
    if padding.iter().all(|byte| *byte == 0) {
        Ok(())
    } else {
        Err("padding is not zero")
    }
}

pub(crate) const WRONG_LEN: &str = "a value of fixed size has another length";
