//! How a repository stores file objects. The mode decides, as in libostree
//! (`ostree-repo-commit.c`, `write_content_object`).
//!
//! An archive stores header and deflated content in one file, as they travel. A bare repository
//! stores the content in a file as it is, dated 1970, and the header beside it:
//!
//! | mode | owner, extended attributes | permissions | symbolic link |
//! |---|---|---|---|
//! | `bare` | the file's own | the file's own | a link |
//! | `bare-user` | in the attribute `user.ostreemeta` | there; the file's are close | a file |
//! | `bare-user-only` | root's and none | the file's own | a link |
//!
//! Metadata objects are the same in all modes. `staging/bare.rs` writes what this reads.

use std::io::{self, Read};

use artifact_formats::limits::MAX_SYMLINK_LEN;
use artifact_formats::{
    Attributes, FileHeader, FormatError, ObjectId, ObjectKind, RepoMode, Xattrs,
};
use nix::libc;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, Stat, if_there};
use crate::local::repository::objects;
use crate::verify::bare::verify_bare;
use crate::verify::{Rejection, Verified};

/// Returns whether an object is stored as it travels.
pub(crate) fn is_as_sent(mode: RepoMode, kind: ObjectKind) -> bool {
    mode == RepoMode::Archive || kind.is_metadata()
}

/// Returns whether symbolic links are stored as such.
pub(crate) const fn has_links(mode: RepoMode) -> bool {
    matches!(mode, RepoMode::Bare | RepoMode::BareUserOnly)
}

/// Returns the permissions of the file with the content of a regular file or, in mode bare-user, of
/// a symbolic link.
pub(crate) const fn permissions(mode: RepoMode, attributes: &Attributes) -> u32 {
    match mode {
        RepoMode::BareUser if attributes.is_symlink() => 0o644,
        // Its user can read it, and nobody gains rights by running or changing it.
        RepoMode::BareUser => (attributes.mode & 0o775) | 0o400,
        RepoMode::Archive | RepoMode::Bare | RepoMode::BareUserOnly => attributes.mode & 0o7777,
    }
}

/// Fails if the mode has no place for a part of a header.
///
/// libostree refuses the permissions as well (`ostree-core.c`,
/// `_ostree_validate_bareuseronly_mode`). It drops owners and attributes, and then takes the object
/// for a damaged one.
pub(crate) fn admit(mode: RepoMode, id: ObjectId, header: &FileHeader) -> Result<(), Error> {
    let attributes = header.attributes();
    let why = match mode {
        RepoMode::Archive | RepoMode::Bare | RepoMode::BareUser => return Ok(()),
        RepoMode::BareUserOnly if (attributes.uid, attributes.gid) != (0, 0) => {
            "it belongs to another user or group than root"
        }
        RepoMode::BareUserOnly if attributes.xattrs.iter().len() > 0 => {
            "it has extended attributes"
        }
        RepoMode::BareUserOnly if attributes.is_symlink() => return Ok(()),
        RepoMode::BareUserOnly if attributes.mode & 0o7777 & !0o775 != 0 => {
            "it has permissions beyond 0775"
        }
        RepoMode::BareUserOnly => return Ok(()),
    };
    Err(Error::NoPlace { id, mode, why })
}

/// Returns whether an object exists.
pub(crate) fn has<F: Fs>(fs: &F, mode: RepoMode, id: &ObjectId) -> Result<bool, Error> {
    Ok(stat(fs, mode, id)?.is_some())
}

/// Returns the status of an object's file or link; `None` if there is none of its name.
pub(crate) fn stat<F: Fs>(fs: &F, mode: RepoMode, id: &ObjectId) -> Result<Option<Stat>, Error> {
    let path = RepoPath::object_of(id, mode);
    let stat = if_there(fs.stat(&path)).map_err(Error::io("looking at", &path))?;
    let may_be_link = id.kind == ObjectKind::File && has_links(mode);
    Ok(stat.filter(|stat| match stat.kind {
        FileKind::File => true,
        FileKind::Symlink => may_be_link,
        FileKind::Dir | FileKind::Other => false,
    }))
}

/// Verifies the file at a path as an object of a repository of this mode, in bounded memory.
pub(crate) fn verify_file<F: Fs>(
    fs: &F,
    mode: RepoMode,
    path: &RepoPath,
    id: ObjectId,
    object_len_max: u64,
) -> io::Result<Result<Verified, Rejection>> {
    if is_as_sent(mode, id.kind) {
        return objects::verify_file(fs, path, id, object_len_max);
    }
    let opened = match mode {
        RepoMode::BareUser => open_bare_user(fs, path)?,
        RepoMode::Archive | RepoMode::Bare | RepoMode::BareUserOnly => open_bare(fs, mode, path)?,
    };
    match opened {
        Ok((header, Some(mut file))) => verify_bare(id, header, &mut file, object_len_max),
        Ok((header, None)) => verify_bare(id, header, &mut io::empty(), object_len_max),
        Err(rejection) => Ok(Err(rejection)),
    }
}

/// A header and, if it is that of a regular file, the file.
type Opened<F> = Result<(FileHeader, Option<F>), Rejection>;

fn open_bare_user<F: Fs>(fs: &F, path: &RepoPath) -> io::Result<Opened<F::File>> {
    let file = fs.open(path)?;
    let Some(meta) = fs.xattr(&file, META)? else {
        return Ok(Err(Rejection::Container {
            rule: "its attribute user.ostreemeta is missing",
        }));
    };
    let attributes = match Attributes::parse(&meta) {
        Ok(attributes) => attributes,
        Err(error) => return Ok(Err(Rejection::Structure(error))),
    };
    if !attributes.is_symlink() {
        return Ok(with_header(FileHeader::new(attributes, None), Some(file)));
    }
    let mut target = Vec::new();
    file.take(MAX_SYMLINK_LEN as u64 + 2)
        .read_to_end(&mut target)?;
    Ok(with_header(
        FileHeader::bare_user_link(attributes, &target),
        None,
    ))
}

fn open_bare<F: Fs>(fs: &F, mode: RepoMode, path: &RepoPath) -> io::Result<Opened<F::File>> {
    let stat = fs.stat(path)?;
    let is_link = stat.kind == FileKind::Symlink;
    let kind = if is_link {
        libc::S_IFLNK
    } else {
        libc::S_IFREG
    };
    let mut attributes = Attributes {
        uid: 0,
        gid: 0,
        mode: kind | stat.mode,
        xattrs: Xattrs::default(),
    };
    if mode == RepoMode::Bare {
        (attributes.uid, attributes.gid) = stat.owner;
        match Xattrs::new(fs.xattrs(path)?) {
            Ok(xattrs) => attributes.xattrs = xattrs,
            Err(error) => return Ok(Err(Rejection::Structure(error))),
        }
    }
    if is_link {
        let target = Some(fs.read_link(path)?);
        return Ok(with_header(FileHeader::new(attributes, target), None));
    }
    let file = fs.open(path)?;
    Ok(with_header(FileHeader::new(attributes, None), Some(file)))
}

fn with_header<T>(header: Result<FileHeader, FormatError>, file: Option<T>) -> Opened<T> {
    Ok((header.map_err(Rejection::Structure)?, file))
}

/// The extended attribute of a bare-user repository.
pub(crate) const META: &[u8] = b"user.ostreemeta";
