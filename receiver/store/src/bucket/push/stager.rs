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

use crate::bucket::layout;
use crate::bucket::push::work::Work;
use crate::bucket::seam::{Answer, BucketError, Class, Condition, Request, Tag, Upload};
use crate::error::Error;
use crate::local::repository::objects::children;
use crate::seam::{ObjectStream, Stager};
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
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let verified = verify(id, &stored, self.work.limits.object_len_max, &mut scratch);
        self.scratches.lock().push(scratch);
        let verified = verified.map_err(|source| Error::Refused { id, source })?;
        put(&self.work, &verified, stored)
    }

    fn begin(&self, id: ObjectId) -> Result<BucketStream, Error> {
        self.work.writer()?;
        let len_max = self.work.limits.object_len_max;
        Ok(BucketStream {
            work: Arc::clone(&self.work),
            id,
            verifier: Some(Verifier::new(id, len_max)),
            buffer: BytesMut::new(),
            upload: None,
        })
    }
}

/// Puts a verified object, unless it was put already.
fn put(work: &Arc<Work>, verified: &Verified, stored: Bytes) -> Result<(), Error> {
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
        work.claim(id, &below)?;
        return Ok(());
    }
    if !work.claim(id, &below)? {
        return Ok(());
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
    started.map_err(Error::bucket("storing", &id))
}

/// An object received in pieces: in memory if it is small, otherwise in an upload.
#[derive(Debug)]
pub struct BucketStream {
    work: Arc<Work>,
    id: ObjectId,
    // `None` once the object has ended or failed.
    verifier: Option<Verifier>,
    // Bytes that do not fill a part yet.
    buffer: BytesMut,
    upload: Option<Parts>,
}

/// An upload in progress, and the tags of its parts.
#[derive(Debug)]
struct Parts {
    upload: Upload,
    sent: u32,
    // By number, from 1; `None` while a part is on its way.
    tags: Arc<Mutex<Vec<Option<Tag>>>>,
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
        match self.upload.take() {
            None => put(&self.work, &verified, rest),
            Some(mut parts) => {
                let completed = self.complete(&mut parts, &verified, rest);
                if completed.is_err() {
                    self.upload = Some(parts);
                }
                completed
            }
        }
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
        let key = layout::object(&self.id);
        let upload = self.work.client.begin_upload(&key, Class::Object);
        Ok(Parts {
            upload: upload.map_err(Error::bucket("beginning", &self.id))?,
            sent: 0,
            tags: Arc::default(),
        })
    }

    /// Sends a part without waiting for its answer.
    fn send(&self, parts: &mut Parts, content: Bytes) -> Result<(), Error> {
        self.work.keep_up()?;
        let tags = Arc::clone(&parts.tags);
        tags.lock().push(None);
        let at = parts.sent as usize;
        parts.sent += 1;
        let request = Request::PutPart {
            upload: parts.upload.clone(),
            number: parts.sent,
            content,
        };
        let started = self.work.window.start(request, move |answer| match answer {
            Answer::Part(tag) => {
                if let Some(place) = tags.lock().get_mut(at) {
                    *place = Some(tag);
                }
                Ok(())
            }
            other => Err(BucketError::misfit("a part", &other)),
        });
        started.map_err(Error::bucket("storing a part of", &self.id))
    }

    /// Completes the upload of a verified object.
    fn complete(&self, parts: &mut Parts, verified: &Verified, rest: Bytes) -> Result<(), Error> {
        let (work, id) = (&self.work, verified.id());
        if !rest.is_empty() {
            self.send(parts, rest)?;
        }
        let tags = &parts.tags;
        let stored = work
            .window
            .wait_until(|| tags.lock().iter().all(Option::is_some));
        stored.map_err(Error::bucket("storing", &id))?;
        let tags: Vec<_> = tags.lock().iter().flatten().cloned().collect();
        if !work.claim(id, &[])? {
            // Another thread has put it in the meantime.
            let _ = work.client.abort_upload(&parts.upload);
            return Ok(());
        }
        let key = layout::object(&id);
        match work.client.complete_upload(&parts.upload, &tags) {
            Ok(_) => {}
            // The object shows whether the upload is complete: nobody completes an upload of other
            // bytes under this name.
            Err(error) => {
                let there = work.client.get_range(&key, 0, 1);
                let there = there.map_err(Error::bucket("reading", &id))?.is_some();
                let may_be = matches!(error, BucketError::Unclear(_));
                if !(may_be && there) {
                    return Err(Error::bucket("storing", &id)(error));
                }
            }
        }
        work.writer()?.journal.note(id);
        Ok(())
    }

    /// Discards the received bytes. If that fails, a lifecycle rule of the bucket does it later.
    fn abort(&mut self) {
        self.buffer = BytesMut::new();
        if let Some(parts) = self.upload.take()
            && let Err(error) = self.work.client.abort_upload(&parts.upload)
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

/// The length of a part in bytes: a 64 GiB object has 9,363 parts, and servers accept 10,000.
const PART_LEN: usize = 7 * 1024 * 1024;
