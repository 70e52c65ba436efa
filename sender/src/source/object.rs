//! An object on its way out.

use std::sync::Arc;

use bytes::Bytes;

use super::archive::ArchiveFile;
use super::bare::{BareFile, Block};
use super::fault::Place;
use crate::error::Error;

/// An object as an archive repository stores it.
#[derive(Debug)]
pub enum Object {
    /// The whole object, at most [`Object::SMALL_LEN_MAX`] bytes.
    Small(Bytes),
    /// An object that is, or may be, longer, to be read in chunks.
    Large(LargeObject),
}

impl Object {
    /// The longest stored object that is handed out at once, in bytes.
    pub const SMALL_LEN_MAX: usize = 32 * 1024;

    pub(super) fn new(read: Bytes, rest: Rest, place: impl FnOnce() -> Place) -> Self {
        if read.len() <= Self::SMALL_LEN_MAX && rest.is_at_end() {
            return Self::Small(read);
        }
        Self::Large(LargeObject {
            place: Arc::new(place()),
            read,
            rest,
        })
    }
}

/// The stored bytes of a large object, as an iterator of chunks.
///
/// The object is complete only when the iterator has ended without an error: a fault may show in
/// the last byte.
#[derive(Debug)]
pub struct LargeObject {
    place: Arc<Place>,
    read: Bytes, // but not handed out yet
    rest: Rest,
}

impl LargeObject {
    /// The longest chunk, in bytes.
    pub const CHUNK_LEN_MAX: usize = ArchiveFile::CHUNK_LEN_MAX;

    /// Returns the stored length in bytes, if it is known before reading.
    pub(crate) fn stored_len(&self) -> Option<u64> {
        let rest = match &self.rest {
            Rest::Nothing => 0,
            Rest::Archive(file) => file.remaining(),
            Rest::Bare(_) => return None,
        };
        Some(rest + self.read.len() as u64)
    }

    /// Returns whether several threads can finish pieces at once, and should.
    pub(crate) const fn is_divisible(&self) -> bool {
        matches!(self.rest, Rest::Bare(_))
    }

    /// Returns whether nothing is left.
    pub(crate) const fn is_at_end(&self) -> bool {
        self.read.is_empty() && self.rest.is_at_end()
    }

    /// Begins the next chunk.
    pub(crate) fn next_piece(&mut self) -> Option<Result<Piece, Error>> {
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
            Rest::Bare(file) => file
                .next_block()
                .map(|block| Piece::Block(Box::new(block), Arc::clone(&self.place))),
        };
        if piece.is_err() {
            self.rest = Rest::Nothing; // nothing comes after an error
        }
        Some(piece.map_err(|fault| Place::clone(&self.place).error(fault)))
    }
}

impl Iterator for LargeObject {
    type Item = Result<Bytes, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = self.next_piece()?.and_then(Piece::finish);
        if chunk.is_err() {
            self.rest = Rest::Nothing;
        }
        Some(chunk)
    }
}

/// The source of the unread chunks.
#[derive(Debug)]
pub(super) enum Rest {
    Nothing,
    Archive(ArchiveFile),
    Bare(Box<BareFile>),
}

impl Rest {
    const fn is_at_end(&self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Archive(file) => file.is_at_end(),
            Self::Bare(file) => file.is_at_end(),
        }
    }
}

/// A chunk in progress. Several threads may work on chunks of one object.
#[derive(Debug)]
pub(crate) enum Piece {
    Ready(Bytes),
    Block(Box<Block>, Arc<Place>),
}

impl Piece {
    /// Finishes the chunk, which is most of the work.
    pub(crate) fn finish(self) -> Result<Bytes, Error> {
        match self {
            Self::Ready(bytes) => Ok(bytes),
            Self::Block(block, place) => block
                .deflate(&[])
                .map_err(|fault| Place::clone(&place).error(fault)),
        }
    }
}
