//! Verification of one object's stored bytes, in bounded memory: no object reaches the repository
//! without it (INV-1).
//!
//! Checks the checksum, the structure, and the container of a file object, which no checksum covers
//! and `ostree fsck` does not check. Does not look at other objects: the closure walk checks that a
//! dirtree's children exist. Accepts any deflate stream that inflates to the right content: clients
//! compress differently.

#![warn(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::wildcard_enum_match_arm
)]

pub(crate) mod bare;
mod content;
mod rejection;

use std::mem;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, Commit, Dirmeta, Dirtree, FileHeader, ObjectId, ObjectKind};

use crate::verify::content::{Content, Inflation, Sink};

pub use crate::verify::rejection::Rejection;

/// The proof that the stored bytes of an object are valid. Only this module can make one.
#[derive(Debug, PartialEq, Eq)]
pub struct Verified {
    id: ObjectId,
    stored_len: u64,
    // Unpacked.
    len: u64,
    // Of a file.
    header: Option<FileHeader>,
}

impl Verified {
    /// Returns the object.
    pub const fn id(&self) -> ObjectId {
        self.id
    }

    /// Returns the length of the stored bytes.
    pub const fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Returns the header of a file object.
    pub(crate) const fn header(&self) -> Option<&FileHeader> {
        self.header.as_ref()
    }

    /// Returns how many bytes were read or inflated to verify it, whichever is more.
    pub(crate) fn effort(&self) -> u64 {
        self.stored_len.max(self.len)
    }
}

/// Verifies an object, given all its stored bytes (REQ-42).
pub fn verify(
    id: ObjectId,
    stored: &[u8],
    object_len_max: u64,
    scratch: &mut Scratch,
) -> Result<Verified, Rejection> {
    unpack(id, stored, object_len_max, scratch, &mut |_| ())
}

/// Verifies an object, given all its stored bytes, and hands the content of a file to `sink` before
/// it is known to be right.
pub(crate) fn unpack(
    id: ObjectId,
    stored: &[u8],
    object_len_max: u64,
    scratch: &mut Scratch,
    sink: Sink<'_>,
) -> Result<Verified, Rejection> {
    let mut verifier = Verifier::with_scratch(id, object_len_max, mem::take(scratch));
    let outcome = if id.kind.is_metadata() {
        verifier
            .count(stored)
            .and_then(|()| verifier.conclude_metadata(stored))
    } else {
        let inflation = &mut verifier.scratch.inflation;
        inflation.get_or_insert_with(Inflation::of_small_files);
        let appended = verifier.unpack(stored, sink);
        appended.and_then(|()| verifier.conclude())
    };
    *scratch = verifier.scratch;
    outcome
}

/// Resources that consecutive verifications share: an inflater and buffers, about 110 KiB once a
/// file was verified.
#[derive(Debug, Default)]
pub struct Scratch {
    // A metadata object that comes in pieces, or the header of a file.
    collected: Vec<u8>,
    // Created for the first file.
    inflation: Option<Inflation>,
}

/// Verifies an object whose stored bytes come in pieces.
#[derive(Debug)]
pub struct Verifier {
    id: ObjectId,
    object_len_max: u64,
    stored_len: u64,
    // Set once a file's header has been parsed.
    content: Option<Content>,
    rejected: Option<Rejection>,
    scratch: Scratch,
}

impl Verifier {
    /// Begins an object of at most `object_len_max` bytes, both as stored and as unpacked.
    pub fn new(id: ObjectId, object_len_max: u64) -> Self {
        Self::with_scratch(id, object_len_max, Scratch::default())
    }

    fn with_scratch(id: ObjectId, object_len_max: u64, mut scratch: Scratch) -> Self {
        scratch.collected.clear();
        Self {
            id,
            object_len_max,
            stored_len: 0,
            content: None,
            rejected: None,
            scratch,
        }
    }

    /// Takes the next stored bytes. After the first rejection, rejects everything.
    pub fn append(&mut self, stored: &[u8]) -> Result<(), Rejection> {
        self.unpack(stored, &mut |_| ())
    }

    /// Does the same, and hands the content of a file to `sink` before it is known to be right.
    pub(crate) fn unpack(&mut self, stored: &[u8], sink: Sink<'_>) -> Result<(), Rejection> {
        if let Some(rejection) = &self.rejected {
            return Err(rejection.clone());
        }
        let outcome = self.count(stored).and_then(|()| self.take(stored, sink));
        self.rejected = outcome.as_ref().err().cloned();
        outcome
    }

    /// Ends the object.
    pub fn finish(mut self) -> Result<Verified, Rejection> {
        self.conclude()
    }

    fn count(&mut self, stored: &[u8]) -> Result<(), Rejection> {
        let limit = if self.id.kind.is_metadata() {
            // LIM-9.
            self.object_len_max.min(MAX_METADATA_LEN as u64)
        } else {
            self.object_len_max
        };
        self.stored_len = self.stored_len.saturating_add(stored.len() as u64);
        if self.stored_len > limit {
            return Err(Rejection::TooLarge { limit });
        }
        Ok(())
    }

    fn take(&mut self, stored: &[u8], sink: Sink<'_>) -> Result<(), Rejection> {
        if self.id.kind.is_metadata() {
            self.scratch.collected.extend_from_slice(stored);
            return Ok(());
        }
        let Scratch {
            collected,
            inflation,
        } = &mut self.scratch;
        if let Some(content) = &mut self.content {
            let inflation = inflation.get_or_insert_with(|| Inflation::of_one_file(content.size()));
            return content.append(stored, inflation, sink);
        }
        let rest = content::collect_header(collected, stored)?;
        if content::header_needs(collected)? > 0 {
            return Ok(());
        }
        let content = Content::begin(collected, self.object_len_max)?;
        let inflation = inflation.get_or_insert_with(|| Inflation::of_one_file(content.size()));
        inflation.reset();
        self.content.insert(content).append(rest, inflation, sink)
    }

    fn conclude(&mut self) -> Result<Verified, Rejection> {
        if let Some(rejection) = &self.rejected {
            return Err(rejection.clone());
        }
        if self.id.kind.is_metadata() {
            let collected = mem::take(&mut self.scratch.collected);
            return self.conclude_metadata(&collected);
        }
        let content = self.content.take().ok_or(Rejection::Container {
            rule: "it ends within its header",
        })?;
        let len = content.size();
        let (computed, header) = content.finish()?;
        self.witness(computed, len, Some(header))
    }

    fn conclude_metadata(&self, object: &[u8]) -> Result<Verified, Rejection> {
        let verified = self.witness(Checksum::of(object), object.len() as u64, None)?;
        match self.id.kind {
            ObjectKind::Commit => Commit::parse(object).map(drop),
            ObjectKind::Dirtree => Dirtree::parse(object).map(drop),
            ObjectKind::Dirmeta => Dirmeta::parse(object).map(drop),
            ObjectKind::File => Ok(()),
        }
        .map_err(Rejection::Structure)?;
        Ok(verified)
    }

    fn witness(
        &self,
        computed: Checksum,
        len: u64,
        header: Option<FileHeader>,
    ) -> Result<Verified, Rejection> {
        let expected = self.id.checksum;
        if computed != expected {
            return Err(Rejection::ChecksumMismatch { expected, computed });
        }
        Ok(Verified {
            id: self.id,
            stored_len: self.stored_len,
            len,
            header,
        })
    }
}
