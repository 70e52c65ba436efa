//! The part of the tar format in which version 1 sends objects: plain files with names of objects,
//! in records of 10,240 bytes. It is read from and written for Python's `tarfile`.

mod header;
mod pax;
mod read;
mod write;

pub(super) use read::{Item, Reader};
pub(super) use write::{end, file_header, padding};

/// Length of a block: headers are one, and content fills whole ones.
const BLOCK: usize = 512;

/// Length of a record. Python pads to it and reads in it, and so waits for ever where a stream ends
/// in the middle of one.
const RECORD: u64 = 10_240;
