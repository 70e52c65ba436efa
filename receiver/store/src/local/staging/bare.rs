//! Staged file objects of bare repositories: content, and around it what `form.rs` reads.
//!
//! The date is set last. So a file that has an object's name and the date of 1970 is whole.

use std::io;

use artifact_formats::{FileHeader, RepoMode};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, Stat};
use crate::local::repository::form::{self, META};
use crate::local::staging::Staging;
use crate::verify::Verified;

impl<F: Fs> Staging<F> {
    /// Writes a whole file object from its unpacked content.
    pub(crate) fn put_unpacked(&self, object: &Verified, content: &[u8]) -> Result<(), Error> {
        let header = self.admit(object)?;
        self.check_not_lost()?;
        if self.is_link(header) {
            return self.put_link(object, header);
        }
        let target = target_file(header);
        let path = self.path(&object.id());
        let Some(mut file) = self.make_new(&path)? else {
            // The object comes twice at once, or was taken over meanwhile.
            let (path, mut file) = self.temporary()?;
            self.write(&mut file, &path, target.as_deref().unwrap_or(content))?;
            self.dress(&path, &file, header)?;
            return self.accept(&path, object);
        };
        self.write(&mut file, &path, target.as_deref().unwrap_or(content))?;
        self.dress(&path, &file, header)?;
        self.objects().insert(object.id());
        Ok(())
    }

    /// Completes a file object whose content was written to a temporary file.
    pub(crate) fn accept_unpacked(
        &self,
        path: &RepoPath,
        file: &mut F::File,
        object: &Verified,
    ) -> Result<(), Error> {
        let header = self.admit(object)?;
        if self.is_link(header) {
            self.forget(path);
            return self.put_link(object, header);
        }
        if let Some(target) = target_file(header) {
            self.write(file, path, &target)?;
        }
        self.dress(path, file, header)?;
        self.accept(path, object)
    }

    /// Returns whether another session has completed a file object.
    pub(super) fn is_dressed(stat: &Stat) -> bool {
        stat.kind == FileKind::Symlink || stat.modified == (DATE, 0)
    }

    fn admit<'a>(&self, object: &'a Verified) -> Result<&'a FileHeader, Error> {
        let header = object.header().ok_or(Error::Misuse {
            what: "unpack what is no file",
        })?;
        form::admit(self.mode, object.id(), header)?;
        Ok(header)
    }

    const fn is_link(&self, header: &FileHeader) -> bool {
        form::has_links(self.mode) && header.attributes().is_symlink()
    }

    fn put_link(&self, object: &Verified, header: &FileHeader) -> Result<(), Error> {
        let path = self.temporary_name()?;
        let target = header.symlink_target().unwrap_or_default();
        self.fs
            .symlink(target, &path)
            .map_err(Error::io("making", &path))?;
        if self.mode == RepoMode::Bare {
            self.own(&path, header)?;
            for (name, value) in header.attributes().xattrs.iter() {
                let set = self.fs.set_link_xattr(&path, name, value);
                set.map_err(needs_rights("setting an attribute of", &path))?;
            }
        }
        self.accept(&path, object)
    }

    /// Gives a file with an object's content everything else, the date last.
    fn dress(&self, path: &RepoPath, file: &F::File, header: &FileHeader) -> Result<(), Error> {
        let attributes = header.attributes();
        let set = |name: &[u8], value: &[u8]| {
            let set = self.fs.set_xattr(file, name, value);
            set.map_err(needs_rights("setting an attribute of", path))
        };
        match self.mode {
            RepoMode::Archive | RepoMode::BareUserOnly => {}
            RepoMode::BareUser => set(META, &attributes.serialize())?,
            // Before the permissions: a change of the owner takes some away.
            RepoMode::Bare => self.own(path, header)?,
        }
        self.fs
            .set_mode(file, form::permissions(self.mode, attributes))
            .map_err(Error::io("finishing", path))?;
        if self.mode == RepoMode::Bare {
            let mut xattrs = attributes.xattrs.iter();
            xattrs.try_for_each(|(name, value)| set(name, value))?;
        }
        self.fs
            .set_modified(path, DATE)
            .map_err(Error::io("dating", path))
    }

    fn own(&self, path: &RepoPath, header: &FileHeader) -> Result<(), Error> {
        let attributes = header.attributes();
        let owned = self.fs.set_owner(path, attributes.uid, attributes.gid);
        owned.map_err(needs_rights("setting the owner of", path))
    }
}

fn needs_rights(doing: &'static str, path: &RepoPath) -> impl FnOnce(io::Error) -> Error {
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::NeedsRoot { doing },
        io::ErrorKind::Unsupported => Error::NoXattrs,
        _ => Error::io(doing, path)(error),
    }
}

/// Returns the content of the file that stands for a symbolic link: the target, and a NUL so that
/// it can be mapped.
fn target_file(header: &FileHeader) -> Option<Vec<u8>> {
    let target = header.symlink_target()?;
    Some([target.as_bytes(), b"\0"].concat())
}

/// The date of every file object, in seconds since 1970: programs that compare dates then find no
/// file newer than another (`ostree-core-private.h`, `OSTREE_TIMESTAMP`).
const DATE: i64 = 0;
