//! Verifying and staging the objects of a push, from any number of threads.

use std::sync::Arc;

use artifact_formats::ObjectId;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::push::workspace::Workspace;
use crate::seam::{ObjectStream, Stager};
use crate::verify::{Scratch, Verifier, verify};

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
        let staging = &self.work.staging;
        let taken = verifier
            .append(&stored)
            .map_err(|source| Error::Refused { id, source })
            .and_then(|()| self.work.receive(stored.len(), 0))
            .and_then(|()| staging.write(&mut self.file, &self.path, &stored));
        if taken.is_ok() {
            self.verifier = Some(verifier);
        } else {
            // Its end may be requested already, and all its bytes have passed the verifier: a
            // partly written object must get no name by that (INV-1).
            staging.forget(&self.path);
        }
        taken
    }

    fn finish(mut self) -> Result<(), Error> {
        let id = self.id;
        let verifier = self.verifier.take().ok_or(Error::Misuse {
            what: "end an object that is over",
        })?;
        match verifier.finish() {
            Ok(verified) => self.work.staging.accept(&self.path, &verified),
            Err(source) => {
                self.work.staging.forget(&self.path);
                Err(Error::Refused { id, source })
            }
        }
    }
}

impl<F: Fs> Drop for LocalStream<F> {
    fn drop(&mut self) {
        if self.verifier.is_some() {
            self.work.staging.forget(&self.path);
        }
    }
}
