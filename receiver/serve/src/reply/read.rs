//! Reads of open files, without waiting where possible.
//!
//! The requesting thread reads what the kernel has in memory: handing that to another thread costs
//! more than doing it. Reads from the disk are left to threads that may wait.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use rustix::io::{Errno, ReadWriteFlags};

/// Reads the bytes in memory at a position in a file; `WouldBlock` if there are none. Like any
/// read, it may return less than the buffer holds, and nothing at the end.
pub(crate) fn read_now(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut slices = [IoSliceMut::new(buffer)];
    match rustix::io::preadv2(file.as_fd(), &mut slices, at, ReadWriteFlags::NOWAIT) {
        // A file system that cannot tell, as tmpfs long could not: most of them are in memory.
        Err(Errno::OPNOTSUPP) => read(file, buffer, at),
        other => Ok(other?),
    }
}

/// Reads at a position in a file, and waits for the disk.
pub(crate) fn read(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
