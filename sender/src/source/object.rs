//! An object on its way out.

use std::fmt;

use bytes::Bytes;

use super::archive::ArchiveFile;
use super::bare::BareFile;
use crate::Error;

/// An object as an archive repository stores it.
#[derive(Debug)]
pub enum Object<'r> {
    /// All of it, at most [`Object::WHOLE_LEN_MAX`] bytes.
    Whole(Bytes),
    /// A longer one, to be read bit by bit.
    Large(LargeObject<'r>),
}

impl Object<'_> {
    /// The longest stored object handed out whole, in bytes.
    pub const WHOLE_LEN_MAX: usize = 32 * 1024;

    pub(super) fn in_memory(bytes: Bytes, unpacked_len: u64) -> Self {
        if bytes.len() <= Self::WHOLE_LEN_MAX {
            return Self::Whole(bytes);
        }
        Self::Large(LargeObject {
            unpacked_len,
            first: None,
            rest: Rest::Memory(bytes),
        })
    }
}

/// The stored bytes of a large object, as an iterator of chunks.
///
/// The object is whole only when the iterator has ended without an error: what is wrong with it may
/// show in its last byte.
pub struct LargeObject<'r> {
    unpacked_len: u64,
    first: Option<Bytes>, // read ahead to learn that the object is large
    rest: Rest<'r>,
}

impl<'r> LargeObject<'r> {
    /// The longest chunk, in bytes.
    pub const CHUNK_LEN_MAX: usize = 256 * 1024;

    pub(super) const fn new(unpacked_len: u64, first: Bytes, rest: Rest<'r>) -> Self {
        Self {
            unpacked_len,
            first: Some(first),
            rest,
        }
    }

    /// Returns the length of the content before compression, in bytes: of metadata, its own length.
    pub const fn unpacked_len(&self) -> u64 {
        self.unpacked_len
    }
}

impl Iterator for LargeObject<'_> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let chunk = match &mut self.rest {
            Rest::Memory(bytes) if bytes.is_empty() => Ok(None),
            Rest::Memory(bytes) => Ok(Some(bytes.split_to(bytes.len().min(Self::CHUNK_LEN_MAX)))),
            Rest::Archive(file) => file.next_chunk(),
            Rest::Bare(file) => file.next_chunk(),
        };
        if chunk.is_err() {
            self.rest = Rest::Memory(Bytes::new()); // nothing comes after an error
        }
        chunk.transpose()
    }
}

impl fmt::Debug for LargeObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeObject")
            .field("unpacked_len", &self.unpacked_len)
            .finish_non_exhaustive()
    }
}

/// Where the chunks not yet handed out come from.
pub(super) enum Rest<'r> {
    Memory(Bytes),
    Archive(ArchiveFile<'r>),
    Bare(Box<BareFile<'r>>),
}
