//! The speed of verification, compared with only inflating and hashing, on one core.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use artifact_formats::{FileHeader, ObjectId, ObjectKind};
use artifact_store::verify::{Scratch, verify};
use artifact_tests::exec::Failure;
use artifact_tests::repo::Repo;
use flate2::{Decompress, FlushDecompress};
use sha2::{Digest, Sha256};

/// Objects with their stored bytes.
#[derive(Debug)]
pub struct Objects(Vec<(ObjectId, Vec<u8>)>);

/// The times of both, by turns.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Bytes of the objects as stored.
    pub bytes: u64,
    /// Inflating and hashing; then the verifier.
    pub turns: Vec<(Duration, Duration)>,
}

impl Objects {
    /// Reads all objects of an archive repository into memory.
    pub fn read(repo: &Path) -> Result<Self, Failure> {
        let found = Repo::at(repo);
        let mut objects = Vec::new();
        for kind in ObjectKind::ALL {
            for id in found.objects(kind)? {
                let path = repo.join("objects").join(id.archive_path());
                let stored = fs::read(&path).map_err(Failure::doing(format!("read {path:?}")))?;
                objects.push((id, stored));
            }
        }
        Ok(Self(objects))
    }

    /// Takes objects made by hand.
    pub fn new(objects: Vec<(ObjectId, Vec<u8>)>) -> Self {
        Self(objects)
    }

    /// Returns their stored length.
    pub fn stored_len(&self) -> u64 {
        self.0.iter().map(|(_, stored)| stored.len() as u64).sum()
    }

    /// Verifies all of them, as the receiver does.
    pub fn verify(&self) -> Result<(), Failure> {
        let mut scratch = Scratch::default();
        for (id, stored) in &self.0 {
            verify(*id, stored, u64::MAX, &mut scratch)
                .map_err(|rejection| Failure::new(format!("{id}: {rejection}")))?;
        }
        Ok(())
    }

    /// Inflates and hashes all of them with the same libraries and nothing else, and compares the
    /// checksums to be sure of the work.
    pub fn inflate_and_hash(&self) -> Result<(), Failure> {
        let mut bare = Bare::default();
        for (id, stored) in &self.0 {
            if bare.checksum(id.kind, stored)? != *id.checksum.as_bytes() {
                return Err(Failure::new(format!("{id} is damaged")));
            }
        }
        Ok(())
    }

    /// Does both by turns.
    pub fn compare(&self, turns: usize) -> Result<Verified, Failure> {
        let mut times = Vec::new();
        for _ in 0..turns {
            let begun = Instant::now();
            self.inflate_and_hash()?;
            let bare = begun.elapsed();
            self.verify()?;
            times.push((bare, begun.elapsed() - bare));
        }
        Ok(Verified {
            bytes: self.stored_len(),
            turns: times,
        })
    }
}

/// An inflater and its output, reused.
struct Bare {
    inflater: Decompress,
    content: Vec<u8>,
}

impl Default for Bare {
    fn default() -> Self {
        Self {
            inflater: Decompress::new(false),
            content: vec![0; 64 * 1024],
        }
    }
}

impl Bare {
    fn checksum(&mut self, kind: ObjectKind, stored: &[u8]) -> Result<[u8; 32], Failure> {
        if kind.is_metadata() {
            return Ok(Sha256::digest(stored).into());
        }
        let wrong = |error: &dyn std::fmt::Display| Failure::new(error.to_string());
        let mut header_len = 0;
        for _ in 0..2 {
            header_len += FileHeader::archive_bytes_needed(&stored[..header_len])
                .map_err(|error| wrong(&error))?;
        }
        let (header, deflated) = stored.split_at(header_len);
        let (header, size) = FileHeader::parse_archive(header).map_err(|error| wrong(&error))?;
        let mut hash = Sha256::new_with_prefix(header.to_hashed());
        self.inflater.reset(false);
        while self.inflater.total_out() < size {
            let (taken, given) = (self.inflater.total_in(), self.inflater.total_out());
            let rest = &deflated[taken as usize..];
            self.inflater
                .decompress(rest, &mut self.content, FlushDecompress::None)
                .map_err(|error| wrong(&error))?;
            let len = (self.inflater.total_out() - given) as usize;
            if len == 0 {
                return Err(wrong(&"it is cut off"));
            }
            hash.update(&self.content[..len]);
        }
        Ok(hash.finalize().into())
    }
}
