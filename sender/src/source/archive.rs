//! Content as an archive repository stores it, read as it lies.
//!
//! Nothing is inflated or hashed here: the server does both, and finds what is wrong.

use std::os::fd::OwnedFd;

use artifact_formats::ObjectId;
use bytes::Bytes;

use super::Repository;
use super::file::fill;
use super::object::{LargeObject, Object, Rest};
use crate::Error;

/// Opens a `.filez`, and reads it if it is short.
pub(super) fn read(repository: &Repository, id: ObjectId) -> Result<Object<'_>, Error> {
    let (file, len) = repository.open_object(id)?;
    let mut file = ArchiveFile {
        repository,
        id,
        file,
        len,
        remaining: len,
    };
    let first = file.next_chunk()?;
    // Header length, padding, then the unpacked size (`ostree-core.c`,
    // `_ostree_zlib_file_header_new`). A file emptied by a power cut ends before.
    let unpacked_len = first.get(8..16).and_then(|bytes| bytes.try_into().ok());
    let Some(unpacked_len) = unpacked_len.map(u64::from_be_bytes) else {
        return Err(repository.corrupt(id, "it is too short for its header"));
    };
    if file.is_at_end() && first.len() <= Object::WHOLE_LEN_MAX {
        return Ok(Object::Whole(first));
    }
    let rest = Rest::Archive(file);
    Ok(Object::Large(LargeObject::new(unpacked_len, first, rest)))
}

/// The part of a `.filez` not read yet.
pub(super) struct ArchiveFile<'r> {
    repository: &'r Repository,
    id: ObjectId,
    file: OwnedFd,
    len: u64,
    remaining: u64, // <= len
}

impl ArchiveFile<'_> {
    /// Returns whether all of it was read.
    pub(super) const fn is_at_end(&self) -> bool {
        self.remaining == 0
    }

    /// Returns how many bytes were not read yet.
    pub(super) const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Reads the next chunk; an empty one at the end.
    pub(super) fn next_chunk(&mut self) -> Result<Bytes, Error> {
        let chunk_len =
            LargeObject::CHUNK_LEN_MAX.min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        let mut chunk = Vec::with_capacity(chunk_len);
        fill(&self.file, &mut chunk)
            .map_err(|error| self.repository.unreadable(self.id, "read", error))?;
        if chunk.len() != chunk_len {
            return Err(self.repository.changed(self.id, self.len));
        }
        self.remaining -= chunk_len as u64;
        Ok(chunk.into())
    }
}
