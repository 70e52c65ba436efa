//! Content of an archive repository, read as it is stored.
//!
//! Nothing is inflated or hashed here: the server does both, and finds any damage.

use std::os::fd::OwnedFd;

use bytes::Bytes;
use rustix::fs::OFlags;

use super::fault::ObjectFault;
use super::files::{Files, fill};

/// The rest of a `.filez`.
#[derive(Debug)]
pub(super) struct ArchiveFile {
    file: OwnedFd,
    len: u64,
    remaining: u64, // <= len
}

impl ArchiveFile {
    /// The longest chunk, in bytes.
    pub(super) const CHUNK_LEN_MAX: usize = 256 * 1024;

    /// Opens a `.filez`, and reads its first chunk.
    pub(super) fn open(files: &Files, relative: &str) -> Result<(Bytes, Self), ObjectFault> {
        let (file, len) = files
            .regular(relative, OFlags::NOFOLLOW)?
            .ok_or(ObjectFault::Missing)?;
        let mut file = Self {
            file,
            len,
            remaining: len,
        };
        let first = file.next_chunk()?;
        // A power cut may have emptied the file.
        if first.len() < HEADER_LEN_MIN {
            return Err(ObjectFault::Corrupt("it is too short for its header"));
        }
        Ok((first, file))
    }

    /// Returns whether all of it was read.
    pub(super) const fn is_at_end(&self) -> bool {
        self.remaining == 0
    }

    /// Returns the number of unread bytes.
    pub(super) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Reads the next chunk; an empty one at the end.
    pub(super) fn next_chunk(&mut self) -> Result<Bytes, ObjectFault> {
        let chunk_len =
            Self::CHUNK_LEN_MAX.min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let mut chunk = Vec::with_capacity(chunk_len);
        fill(&self.file, &mut chunk).map_err(|error| ObjectFault::io("read", error))?;
        if chunk.len() != chunk_len {
            return Err(ObjectFault::Changed { len: self.len });
        }
        self.remaining -= chunk_len as u64;
        Ok(chunk.into())
    }
}

/// Header length, padding, unpacked size (`ostree-core.c`, `_ostree_zlib_file_header_new`), in
/// bytes.
const HEADER_LEN_MIN: usize = 16;
