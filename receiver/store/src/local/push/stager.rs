//! Verifying and staging the objects of a push, from any number of threads.

use std::sync::Arc;

use artifact_formats::{FileHeader, ObjectId};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::workspace::Workspace;
use crate::local::repository::form;
use crate::seam::{ObjectStream, Stager};
use crate::verify::{Scratch, Verified, Verifier, unpack, verify};

/// Stages the objects of a push for a repository on this machine.
#[derive(Debug)]
pub struct LocalStager<F: Fs> {
    work: Arc<Workspace<F>>,
    // At most one for each thread that is verifying.
    scratches: Arc<Mutex<Vec<Scratch>>>,
}

impl<F: Fs> LocalStager<F> {
    pub(super) fn new(work: &Arc<Workspace<F>>) -> Self {
        Self {
            work: Arc::clone(work),
            scratches: Arc::default(),
        }
    }
}

impl<F: Fs> Clone for LocalStager<F> {
    fn clone(&self) -> Self {
        Self {
            work: Arc::clone(&self.work),
            scratches: Arc::clone(&self.scratches),
        }
    }
}

impl<F: Fs> Stager for LocalStager<F> {
    type Stream = LocalStream<F>;

    fn stage(&self, id: ObjectId, stored: Bytes) -> Result<(), Error> {
        if !form::is_as_sent(self.work.repo.config.mode, id.kind) {
            return self.unpack(id, stored);
        }
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let verified = verify(id, &stored, self.work.limits.object_len_max, &mut scratch);
        self.scratches.lock().push(scratch);
        let verified = verified.map_err(|source| Error::Refused { id, source })?;
        self.work.receive(stored.len(), 1)?;
        self.work.staging.put(&verified, &stored)
    }

    fn begin(&self, id: ObjectId) -> Result<LocalStream<F>, Error> {
        self.work.receive(0, 1)?;
        let (path, file) = self.work.staging.temporary()?;
        Ok(LocalStream {
            work: Arc::clone(&self.work),
            id,
            verifier: Some(Verifier::new(id, self.work.limits.object_len_max)),
            path,
            file,
        })
    }
}

impl<F: Fs> LocalStager<F> {
    /// Stages a file object for a repository that stores its content unpacked.
    fn unpack(&self, id: ObjectId, stored: Bytes) -> Result<(), Error> {
        // The header may lie about the size: verification does not go beyond it.
        let len = FileHeader::archive_size(&stored).unwrap_or_default();
        let Some(len) = usize::try_from(len)
            .ok()
            .filter(|len| *len <= UNPACKED_LEN_MAX)
        else {
            let mut stream = self.begin(id)?;
            stream.append(stored)?;
            return stream.finish();
        };
        let mut content = Vec::with_capacity(len);
        let mut scratch = self.scratches.lock().pop().unwrap_or_default();
        let len_max = self.work.limits.object_len_max;
        let verified = unpack(id, &stored, len_max, &mut scratch, &mut |part| {
            content.extend_from_slice(part);
        });
        self.scratches.lock().push(scratch);
        let verified = verified.map_err(|source| Error::Refused { id, source })?;
        self.work.receive(content.len(), 1)?;
        self.work.staging.put_unpacked(&verified, &content)
    }
}

/// An object received in pieces, into a file in staging.
#[derive(Debug)]
pub struct LocalStream<F: Fs> {
    work: Arc<Workspace<F>>,
    id: ObjectId,
    // `None` once the object has ended or failed.
    verifier: Option<Verifier>,
    path: RepoPath,
    file: F::File,
}

impl<F: Fs> ObjectStream for LocalStream<F> {
    fn append(&mut self, stored: Bytes) -> Result<(), Error> {
        let id = self.id;
        let mut verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "go on with an object that is over",
        })?;
        let taken = match form::is_as_sent(self.work.repo.config.mode, id.kind) {
            true => self.take(&mut verifier, &stored),
            false => self.take_unpacked(&mut verifier, &stored),
        };
        if taken.is_ok() {
            self.verifier = Some(verifier);
        } else {
            // Its end may be requested already, and all its bytes have passed the verifier: a
            // partly written object must get no name by that (INV-1).
            self.work.staging.forget(&self.path);
        }
        taken
    }

    fn finish(mut self) -> Result<(), Error> {
        let id = self.id;
        let verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "end an object that is over",
        })?;
        match verifier.finish() {
            Ok(verified) => self.accept(&verified),
            Err(source) => {
                self.work.staging.forget(&self.path);
                Err(Error::Refused { id, source })
            }
        }
    }
}

impl<F: Fs> LocalStream<F> {
    fn take(&mut self, verifier: &mut Verifier, stored: &[u8]) -> Result<(), Error> {
        let id = self.id;
        verifier
            .append(stored)
            .map_err(|source| Error::Refused { id, source })?;
        self.work.receive(stored.len(), 0)?;
        let staging = &self.work.staging;
        staging.write(&mut self.file, &self.path, stored)
    }

    fn take_unpacked(&mut self, verifier: &mut Verifier, stored: &[u8]) -> Result<(), Error> {
        let id = self.id;
        let (work, file, path) = (&self.work, &mut self.file, &self.path);
        let mut written = Ok(());
        let unpacked = verifier.unpack(stored, &mut |content| {
            if written.is_ok() {
                written = work
                    .receive(content.len(), 0)
                    .and_then(|()| work.staging.write(file, path, content));
            }
        });
        unpacked.map_err(|source| Error::Refused { id, source })?;
        written
    }

    fn accept(&mut self, verified: &Verified) -> Result<(), Error> {
        let staging = &self.work.staging;
        let accepted = match form::is_as_sent(self.work.repo.config.mode, self.id.kind) {
            true => staging.accept(&self.path, verified),
            false => staging.accept_unpacked(&self.path, &mut self.file, verified),
        };
        if accepted.is_err() {
            staging.forget(&self.path);
        }
        accepted
    }
}

impl<F: Fs> Drop for LocalStream<F> {
    fn drop(&mut self) {
        if self.verifier.is_some() {
            self.work.staging.forget(&self.path);
        }
    }
}

/// The longest content that is unpacked in memory, in bytes.
const UNPACKED_LEN_MAX: usize = 256 * 1024;
