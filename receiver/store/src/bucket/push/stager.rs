//! Verifies the objects of a push and puts them under their keys, from any number of threads.
//!
//! An object gets its key only after it is verified: a small one by a put, a large one by the end
//! of an upload in parts, which nobody sees before. No key thus holds bytes that differ from its
//! name (INV-1). Files and directories do not wait for the commit that needs them, because nothing
//! refers to them before that commit. Commits are held back.

use std::mem;
use std::sync::Arc;

use artifact_formats::{ObjectId, ObjectKind};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::bucket::push::work::Work;
use crate::bucket::records::layout;
use crate::bucket::requests::seam::{Answer, Class, Condition, Request};
use crate::bucket::requests::upload::{PART_LEN, Parts};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::seam::{ObjectStream, Stager};
use crate::tree::children;
use crate::verify::{Rejection, Scratch, Verified, Verifier, verify};

/// Stages the objects of a push into a bucket.
#[derive(Clone, Debug)]
pub struct BucketStager {
    work: Arc<Work>,
    // At most one for each verifying thread.
    scratches: Arc<Mutex<Vec<Scratch>>>,
}

impl BucketStager {
    pub(super) fn new(work: &Arc<Work>) -> Self {
        Self {
            work: Arc::clone(work),
            scratches: Arc::default(),
        }
    }
}

impl Stager for BucketStager {
    type Stream = BucketStream;

    fn stage(&self, id: ObjectId, stored: Bytes) -> Result<(), Error> {
        let (load, len) = (&self.work.load, stored.len() as u64);
        load.bring(1, len)?;
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let verified = verify(id, &stored, self.work.limits.object_len_max, &mut scratch);
        self.scratches.lock().push(scratch);
        let verified = verified.map_err(|source| Error::Refused { id, source })?;
        if !put(&self.work, &verified, stored)? {
            load.give_back(1, len);
        }
        Ok(())
    }

    fn begin(&self, id: ObjectId) -> Result<BucketStream, Error> {
        self.work.writer()?;
        self.work.load.bring(1, 0)?;
        let len_max = self.work.limits.object_len_max;
        Ok(BucketStream {
            work: Arc::clone(&self.work),
            id,
            verifier: Some(Verifier::new(id, len_max)),
            brought: Some(0),
            buffer: BytesMut::new(),
            upload: None,
        })
    }
}

/// Puts a verified object, unless it was put already; returns whether it is new.
fn put(work: &Arc<Work>, verified: &Verified, stored: Bytes) -> Result<bool, Error> {
    let id = verified.id();
    let refused = |rule| Error::Refused {
        id,
        source: Rejection::Structure(rule),
    };
    work.keep_up()?;
    let below = children(id, &stored).map_err(refused)?;
    if id.kind == ObjectKind::Commit {
        // Held back before it counts as present.
        work.held_back.lock().take_commit(id.checksum, stored)?;
        return work.claim(id, &below);
    }
    if !work.claim(id, &below)? {
        return Ok(false);
    }
    let request = Request::Put {
        key: layout::object(&id),
        content: stored,
        condition: Condition::Always,
        class: Class::Object,
    };
    let journal = work.writer()?.journal.clone();
    let started = work.window.start(request, move |answer| match answer {
        Answer::Stored(_) => {
            journal.note(id);
            Ok(())
        }
        other => Err(BucketError::misfit("a put", &other)),
    });
    started.map_err(Error::bucket("storing", &id))?;
    Ok(true)
}

/// An object received in pieces: in memory if it is small, otherwise in an upload.
#[derive(Debug)]
pub struct BucketStream {
    work: Arc<Work>,
    id: ObjectId,
    // `None` once the object has ended or failed.
    verifier: Option<Verifier>,
    // The bytes that came, and that the bucket will not get if the object ends here.
    brought: Option<u64>,
    // Bytes that do not fill a part yet.
    buffer: BytesMut,
    upload: Option<Parts>,
}

impl ObjectStream for BucketStream {
    fn append(&mut self, stored: Bytes) -> Result<(), Error> {
        let id = self.id;
        let mut verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "go on with an object that is over",
        })?;
        let appended = verifier
            .append(&stored)
            .map_err(|source| Error::Refused { id, source })
            .and_then(|()| {
                let len = stored.len() as u64;
                self.brought = self.brought.map(|brought| brought + len);
                self.work.load.bring(0, len)
            })
            .and_then(|()| self.take(&stored));
        match appended {
            // An object that lacks some of its bytes must not get its name (INV-1).
            Err(_) => self.abort(),
            Ok(()) => self.verifier = Some(verifier),
        }
        appended
    }

    fn finish(mut self) -> Result<(), Error> {
        let id = self.id;
        let verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "end an object that is over",
        })?;
        let verified = verifier
            .finish()
            .map_err(|source| Error::Refused { id, source })?;
        let rest = mem::take(&mut self.buffer).freeze();
        let stored = match self.upload.take() {
            None => put(&self.work, &verified, rest),
            Some(mut parts) => {
                let completed = self.complete(&mut parts, &verified, rest);
                if completed.is_err() {
                    self.upload = Some(parts);
                }
                completed
            }
        };
        if !matches!(stored, Ok(false)) {
            // After a failure, the bucket may hold the object.
            self.brought = None;
        }
        stored.map(|_| ())
    }
}

impl BucketStream {
    fn take(&mut self, stored: &[u8]) -> Result<(), Error> {
        self.buffer.extend_from_slice(stored);
        // Metadata stays in memory, because it is parsed as a whole and is never that large.
        while self.id.kind == ObjectKind::File && self.buffer.len() >= PART_LEN {
            let part = self.buffer.split_to(PART_LEN).freeze();
            let mut parts = match self.upload.take() {
                Some(parts) => parts,
                None => self.begin_upload()?,
            };
            let sent = self.send(&mut parts, part);
            self.upload = Some(parts);
            sent?;
        }
        Ok(())
    }

    fn begin_upload(&self) -> Result<Parts, Error> {
        self.work.keep_up()?;
        let begun = Parts::begin(&self.work.client, &layout::object(&self.id));
        begun.map_err(Error::bucket("beginning", &self.id))
    }

    /// Sends a part without waiting for its answer.
    fn send(&self, parts: &mut Parts, content: Bytes) -> Result<(), Error> {
        self.work.keep_up()?;
        let started = parts.send(&self.work.window, content);
        started.map_err(Error::bucket("storing a part of", &self.id))
    }

    /// Completes the upload of a verified object; returns whether it is new.
    fn complete(&self, parts: &mut Parts, verified: &Verified, rest: Bytes) -> Result<bool, Error> {
        let (work, id) = (&self.work, verified.id());
        if !rest.is_empty() {
            self.send(parts, rest)?;
        }
        let stored = work.window.wait_until(|| parts.are_stored());
        stored.map_err(Error::bucket("storing", &id))?;
        if !work.claim(id, &[])? {
            // Another thread has put it in the meantime.
            let _ = parts.abort(&work.client);
            return Ok(false);
        }
        let completed = parts.complete(&work.client);
        completed.map_err(Error::bucket("storing", &id))?;
        work.writer()?.journal.note(id);
        Ok(true)
    }

    /// Discards the received bytes. If that fails, a lifecycle rule of the bucket does it later.
    fn abort(&mut self) {
        self.buffer = BytesMut::new();
        if let Some(brought) = self.brought.take() {
            self.work.load.give_back(1, brought);
        }
        if let Some(parts) = self.upload.take()
            && let Err(error) = parts.abort(&self.work.client)
        {
            let id = self.id;
            tracing::debug!(%id, %error, "an upload stays until the bucket's rule ends it");
        }
    }
}

impl Drop for BucketStream {
    fn drop(&mut self) {
        self.abort();
    }
}
