//! The files of a staging directory: written under temporary names, or named for an object and
//! marked as unfinished by their mode.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use artifact_formats::{ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile};
use crate::local::repository::form;
use crate::local::staging::Staging;
use crate::local::staging::names::TMP;
use crate::verify::Verified;

impl<F: Fs> Staging<F> {
    /// Gives a file a temporary name here as well; `None` if that is impossible.
    pub(crate) fn link(&self, path: &RepoPath) -> Result<Option<RepoPath>, Error> {
        let linked = self.temporary_name()?;
        match self.fs.link(path, &linked) {
            Ok(()) => Ok(Some(linked)),
            Err(error) => match error.kind() {
                // The file is gone, is not ours to link, or has too many links: it must be sent
                // again.
                io::ErrorKind::NotFound
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::TooManyLinks => Ok(None),
                _ => Err(Error::io("linking", path)(error)),
            },
        }
    }

    /// Makes a file with a temporary name.
    pub(crate) fn temporary(&self) -> Result<(RepoPath, F::File), Error> {
        let path = self.temporary_name()?;
        let file = self.make(&path, WHOLE);
        let file = file.map_err(Error::io("making", &path))?;
        Ok((path, file))
    }

    fn make(&self, path: &RepoPath, mode: u32) -> io::Result<F::File> {
        match self.fs.create(path, mode) {
            Err(error) if self.reclaims_for(&error) => self.fs.create(path, mode),
            made => made,
        }
    }

    /// Returns an unused name.
    pub(crate) fn temporary_name(&self) -> Result<RepoPath, Error> {
        self.check_not_lost()?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Ok(self.dir.child(TMP).child(&number.to_string()))
    }

    /// Writes a file with a temporary name.
    pub(crate) fn put_temporary(&self, content: &[u8]) -> Result<RepoPath, Error> {
        let (path, mut file) = self.temporary()?;
        self.write(&mut file, &path, content)?;
        Ok(path)
    }

    /// Writes a whole object. It has its name from the beginning: setting a mode takes a fraction
    /// of the time of a rename.
    pub(crate) fn put(&self, object: &Verified, stored: &[u8]) -> Result<(), Error> {
        self.check_not_lost()?;
        let path = self.path(&object.id());
        let Some(mut file) = self.make_new(&path)? else {
            // The object comes twice at once, or was taken over meanwhile.
            let path = self.put_temporary(stored)?;
            return self.accept(&path, object);
        };
        self.write(&mut file, &path, stored)?;
        self.fs
            .set_mode(&file, WHOLE)
            .map_err(Error::io("finishing", &path))?;
        self.objects().insert(object.id());
        Ok(())
    }

    /// Makes a file for an object; `None` if there is one of its name.
    pub(super) fn make_new(&self, path: &RepoPath) -> Result<Option<F::File>, Error> {
        match self.make(path, HALF) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(error) => Err(Error::io("making", path)(error)),
        }
    }

    /// Renames a temporary file to the object that it was verified to be.
    pub(crate) fn accept(&self, path: &RepoPath, object: &Verified) -> Result<(), Error> {
        self.accept_as(path, object.id())
    }

    /// Returns whether a file to which another session gave an object's name is complete.
    pub(crate) fn is_whole(&self, path: &RepoPath, kind: ObjectKind) -> Result<bool, Error> {
        let stat = self.fs.stat(path).map_err(Error::io("looking at", path))?;
        Ok(match form::is_as_sent(self.mode, kind) {
            true => stat.mode == WHOLE,
            false => Self::is_dressed(&stat),
        })
    }

    /// The same as [`accept`](Self::accept), for a file that another session has verified.
    pub(crate) fn accept_as(&self, path: &RepoPath, id: ObjectId) -> Result<(), Error> {
        self.name(path, &self.path(&id))?;
        self.objects().insert(id);
        Ok(())
    }

    /// Renames a temporary file.
    pub(crate) fn name(&self, path: &RepoPath, name: &RepoPath) -> Result<(), Error> {
        self.fs
            .rename(path, name)
            .map_err(Error::io("naming", name))
    }

    /// Removes a temporary file. If that fails, it goes with the directory.
    pub(crate) fn forget(&self, path: &RepoPath) {
        let _ = self.fs.unlink(path);
    }

    /// Writes to a file here. When the disk is full, it removes the files of dead sessions, once.
    pub(crate) fn write(
        &self,
        file: &mut F::File,
        path: &RepoPath,
        content: &[u8],
    ) -> Result<(), Error> {
        let mut rest = content;
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(0) => return Err(Error::io("writing", path)(io::ErrorKind::WriteZero.into())),
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if self.reclaims_for(&error) => {}
                Err(error) => return Err(Error::io("writing", path)(error)),
            }
        }
        Ok(())
    }
}

impl<F: Fs> PutFile for Staging<F> {
    fn put_file(&self, path: &RepoPath, content: &[u8]) -> Result<(), Error> {
        self.name(&self.put_temporary(content)?, path)
    }
}

/// The mode of an object while it is written.
const HALF: u32 = 0o600;
/// The mode of an object, in staging and once published: everybody may read it.
const WHOLE: u32 = 0o644;
