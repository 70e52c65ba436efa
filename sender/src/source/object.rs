//! An object on its way out.

use std::fmt;

use bytes::Bytes;

use super::archive::ArchiveFile;
use super::bare::{BareFile, Block};
use crate::Error;

/// An object as an archive repository stores it.
#[derive(Debug)]
pub enum Object<'r> {
    /// All of it, at most [`Object::WHOLE_LEN_MAX`] bytes.
    Whole(Bytes),
    /// One that is longer, or may be, to be read bit by bit.
    Large(LargeObject<'r>),
}

impl Object<'_> {
    /// The longest stored object handed out whole, in bytes.
    pub const WHOLE_LEN_MAX: usize = 32 * 1024;

    pub(super) fn in_memory(bytes: Bytes, unpacked_len: u64) -> Self {
        if bytes.len() <= Self::WHOLE_LEN_MAX {
            return Self::Whole(bytes);
        }
        Self::Large(LargeObject::new(unpacked_len, bytes, Rest::Nothing))
    }
}

/// The stored bytes of a large object, as an iterator of chunks.
///
/// The object is whole only when the iterator has ended without an error: what is wrong with it may
/// show in its last byte.
pub struct LargeObject<'r> {
    unpacked_len: u64,
    read: Bytes, // and not handed out yet
    rest: Rest<'r>,
}

impl<'r> LargeObject<'r> {
    /// The longest chunk, in bytes.
    pub const CHUNK_LEN_MAX: usize = 256 * 1024;

    pub(super) const fn new(unpacked_len: u64, read: Bytes, rest: Rest<'r>) -> Self {
        Self {
            unpacked_len,
            read,
            rest,
        }
    }

    /// Returns the length of the content before compression, in bytes: of metadata, its own length.
    pub const fn unpacked_len(&self) -> u64 {
        self.unpacked_len
    }

    /// Returns the length as stored, in bytes, where it is known before it is read.
    pub(crate) fn stored_len(&self) -> Option<u64> {
        let rest = match &self.rest {
            Rest::Nothing => 0,
            Rest::Archive(file) => file.remaining(),
            Rest::Bare(_) => return None,
        };
        Some(rest + self.read.len() as u64)
    }

    /// Returns whether pieces can be finished by several threads at once, and that pays.
    pub(crate) const fn is_divisible(&self) -> bool {
        matches!(self.rest, Rest::Bare(_))
    }

    /// Returns whether there is nothing more.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.read.is_empty()
            && match &self.rest {
                Rest::Nothing => true,
                Rest::Archive(file) => file.is_at_end(),
                Rest::Bare(file) => file.is_at_end(),
            }
    }

    /// Begins the next chunk.
    pub(crate) fn next_piece(&mut self) -> Option<Result<Piece<'r>, Error>> {
        if self.is_at_end() {
            return None;
        }
        if !self.read.is_empty() {
            let len = self.read.len().min(Self::CHUNK_LEN_MAX);
            return Some(Ok(Piece::Ready(self.read.split_to(len))));
        }
        let piece = match &mut self.rest {
            Rest::Nothing => return None,
            Rest::Archive(file) => file.next_chunk().map(Piece::Ready),
            Rest::Bare(file) => file.next_block().map(|block| Piece::Block(Box::new(block))),
        };
        if piece.is_err() {
            self.rest = Rest::Nothing; // nothing comes after an error
        }
        Some(piece)
    }
}

impl Iterator for LargeObject<'_> {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.next_piece()?.and_then(Piece::finish);
        if chunk.is_err() {
            self.rest = Rest::Nothing;
        }
        Some(chunk)
    }
}

impl fmt::Debug for LargeObject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LargeObject")
            .field("unpacked_len", &self.unpacked_len)
            .finish_non_exhaustive()
    }
}

/// Where the chunks not yet read come from.
pub(super) enum Rest<'r> {
    Nothing,
    Archive(ArchiveFile<'r>),
    Bare(Box<BareFile<'r>>),
}

/// A chunk in the making. Several of one object may be, by different threads.
pub(crate) enum Piece<'r> {
    Ready(Bytes),
    Block(Box<Block<'r>>),
}

impl Piece<'_> {
    /// Does what remains to be done for the chunk, which is most of the work.
    pub(crate) fn finish(self) -> Result<Bytes, Error> {
        match self {
            Self::Ready(bytes) => Ok(bytes),
            Self::Block(block) => block.deflate(&[]),
        }
    }
}
