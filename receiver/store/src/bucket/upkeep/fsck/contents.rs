//! The check that every object matches its name, which reads all of them.

use std::thread;

use artifact_formats::{ObjectId, with_causes};
use bytes::Bytes;

use super::Check;
use crate::bucket::records::layout;
use crate::bucket::requests::seam::{Found, Key};
use crate::error::Error;
use crate::verify::{Scratch, Verifier, verify};

impl Check<'_> {
    /// Reads and verifies every object.
    pub(super) fn contents(&self) -> Result<(), Error> {
        let (small, large): (Vec<_>, Vec<_>) =
            self.listed.iter().partition(|(_, len)| *len <= SMALL);
        let mut rest: &[&(ObjectId, u64)] = &small;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take(OBJECTS_AT_ONCE).take_while(|(_, len)| {
                bytes += len;
                bytes <= BYTES_AT_ONCE
            });
            let (some, after) = rest.split_at(fits.count().max(1));
            rest = after;
            let keys: Vec<Key> = some.iter().map(|(id, _)| layout::object(id)).collect();
            let found = self.window.get_all(&keys);
            let found = found.map_err(Error::bucket("reading", &"objects"))?;
            let read: Vec<_> = some.iter().map(|(id, _)| *id).zip(found).collect();
            self.verify(&read);
        }
        for (id, _) in large {
            self.verify_large(*id)?;
        }
        Ok(())
    }

    fn verify(&self, read: &[(ObjectId, Option<Found>)]) {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for part in read.chunks(read.len().div_ceil(threads).max(1)) {
                scope.spawn(move || {
                    let mut scratch = Scratch::default();
                    for (id, found) in part {
                        // A collection has deleted it in the meantime.
                        let Some(Found { content, .. }) = found else {
                            continue;
                        };
                        let verified = verify(*id, content, self.object_len_max, &mut scratch);
                        if let Err(rejection) = verified {
                            self.bad.lock().insert(*id);
                            self.fault(id, &with_causes(&rejection));
                        }
                    }
                });
            }
        });
    }

    fn verify_large(&self, id: ObjectId) -> Result<(), Error> {
        let key = layout::object(&id);
        let mut verifier = Verifier::new(id, self.object_len_max);
        let mut from = 0;
        let verified = loop {
            let piece = self.client.get_range(&key, from, PIECE);
            let piece = piece.map_err(Error::bucket("reading", &key))?;
            let content = piece.map_or_else(Bytes::new, |found| found.content);
            if content.is_empty() {
                break verifier.finish();
            }
            from += content.len() as u64;
            if let Err(rejection) = verifier.append(&content) {
                break Err(rejection);
            }
        };
        if let Err(rejection) = verified {
            self.bad.lock().insert(id);
            self.fault(&id, &with_causes(&rejection));
        }
        Ok(())
    }
}

/// Objects in memory at once, and their bytes.
const OBJECTS_AT_ONCE: usize = 4096;
const BYTES_AT_ONCE: u64 = 32 * 1024 * 1024;
/// The longest object that is read whole, in bytes.
const SMALL: u64 = 8 * 1024 * 1024;
/// The length of a piece in bytes.
const PIECE: u64 = 8 * 1024 * 1024;
