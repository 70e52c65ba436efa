//! The header of one tar member.

use super::BLOCK;
use crate::dialect::error::DialectError;

/// The parts of a member's header that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u8,
    /// As in the header: arbitrary bytes.
    pub(super) name: Vec<u8>,
    pub(super) len: u64,
}

impl Header {
    /// Reads a block; `None` if it is all zeros.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Option<Self>, DialectError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum = checksum(block);
        if octal(field(block, 148, 8)) != Some(u64::from(sum)) {
            return Err(DialectError::Tar("the checksum of a header is wrong"));
        }
        // Old archives have no magic, and in neither GNU format does this field hold a prefix.
        let is_posix = field(block, 257, 6) == b"ustar\0";
        let prefix = text(field(block, 345, 155));
        if is_posix && !prefix.is_empty() {
            return Err(DialectError::Tar("a name has a directory"));
        }
        let len = number(field(block, 124, 12));
        Ok(Some(Self {
            kind: field(block, 156, 1).first().copied().unwrap_or_default(),
            name: text(field(block, 0, 100)).to_vec(),
            len: len.ok_or(DialectError::Tar("a length is not a number"))?,
        }))
    }
}

/// Returns the sum of a header's bytes, with spaces in place of the checksum itself.
pub(super) fn checksum(block: &[u8; BLOCK]) -> u32 {
    let byte = |(at, byte): (usize, &u8)| match at {
        148..156 => u32::from(b' '),
        _ => u32::from(*byte),
    };
    block.iter().enumerate().map(byte).sum()
}

fn field(block: &[u8; BLOCK], at: usize, len: usize) -> &[u8] {
    block.get(at..at + len).unwrap_or_default()
}

/// Returns the bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Reads a number: octal digits, or GNU's base 256 for larger ones.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, rest @ ..] => {
            let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
            let low = low.try_into().ok()?;
            high.iter()
                .all(|byte| *byte == 0)
                .then(|| u64::from_be_bytes(low))
        }
        _ => octal(field),
    }
}

/// Reads octal digits between spaces, up to a NUL.
fn octal(field: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text(field)).ok()?.trim_matches(' ');
    let is_octal = !digits.is_empty() && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    is_octal.then(|| u64::from_str_radix(digits, 8).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_of_base_256_and_nothing_else() {
        assert_eq!(number(b"00000000031\0"), Some(25));
        assert_eq!(number(b"        31 \0"), Some(25));
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
        let base_256 = |bytes: [u8; 11]| number(&[&[0x80], &bytes[..]].concat());
        assert_eq!(
            base_256([0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1]),
            Some((2 << 32) + 1)
        );
        assert_eq!(
            base_256([0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]),
            Some(u64::MAX)
        );
        assert_eq!(base_256([0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(number(&[0xff; 12]), None, "a negative one");
        for field in [
            &b"\0"[..],
            b"",
            b"8",
            b"-1",
            b"+1",
            b"1x",
            b"0o7",
            b" ",
            b"1 1",
        ] {
            assert_eq!(number(field), None, "{field:?}");
        }
    }
}
