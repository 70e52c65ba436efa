//! The subset of the tar format in which version 1 sends objects: plain files with names of
//! objects, in records of 10,240 bytes. Compatible with Python's `tarfile`.

mod header;
mod pax;
mod read;
mod write;

pub(super) use read::{Item, Reader};
pub(super) use write::{end, file_header, padding};

/// Length of a block: a header is one block, and content fills whole blocks.
const BLOCK: usize = 512;

/// Length of a record. Python pads to it and reads in it, so it would wait for ever if a stream
/// ended in the middle of one.
const RECORD: u64 = 10_240;
