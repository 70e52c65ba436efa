//! Writes a tar stream.

use bytes::Bytes;

use super::header::checksum;
use super::{BLOCK, RECORD};

/// Returns the header of a plain file.
pub(in crate::dialect) fn file_header(name: &str, len: u64) -> Bytes {
    let mut block = [0u8; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = block.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    if len < 1 << 33 {
        put(124, format!("{len:011o}\0").as_bytes());
    } else {
        put(124, &[0x80, 0, 0, 0]);
        put(128, &len.to_be_bytes());
    }
    put(136, b"00000000000\0");
    put(156, b"0");
    put(257, b"ustar  \0");
    let sum = format!("{:06o}\0 ", checksum(&block));
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(field) = block.get_mut(at..at + bytes.len()) {
            field.copy_from_slice(bytes);
        }
    };
    put(148, sum.as_bytes());
    Bytes::copy_from_slice(&block)
}

/// Returns the padding after a file's last block.
pub(in crate::dialect) fn padding(len: u64) -> Bytes {
    zeros(len.next_multiple_of(BLOCK as u64) - len)
}

/// Returns the end of a stream of `position` bytes: two blocks of zeros, and padding up to a
/// record's end.
pub(in crate::dialect) fn end(position: u64) -> Bytes {
    let end = position.saturating_add(2 * BLOCK as u64);
    zeros(end.next_multiple_of(RECORD).saturating_sub(position))
}

fn zeros(len: u64) -> Bytes {
    static ZEROS: [u8; ZEROS_LEN] = [0; ZEROS_LEN];
    let len = usize::try_from(len).unwrap_or(0).min(ZEROS_LEN);
    Bytes::from_static(ZEROS.get(..len).unwrap_or_default())
}

#[expect(clippy::cast_possible_truncation, reason = "10,240 and 1,024")]
const ZEROS_LEN: usize = RECORD as usize + 2 * BLOCK;
