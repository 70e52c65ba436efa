//! Content of a bare repository, turned into the form of an archive repository as it is read.
//!
//! A file is read once, in order, and in bounded memory: hashed, compressed block by block
//! ([`super::deflate`]), handed out. What does not have the length it had when opened, or not the
//! checksum it is named by, ends in an error, so that no server is ever told that it is whole.

use std::os::fd::OwnedFd;

use artifact_formats::limits::MAX_SYMLINK_LEN;
use artifact_formats::{Attributes, FileHeader, ObjectId, RepoMode, Xattrs};
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::Repository;
use super::deflate::{BLOCK_LEN, Compressor, SHORT_LEN_MAX};
use super::file::{fill, fill_slice};
use super::object::{LargeObject, Object, Rest};
use crate::Error;

/// Opens an object's file, and reads it if it is short.
pub(super) fn read(repository: &Repository, id: ObjectId) -> Result<Object<'_>, Error> {
    let (header, content) = match repository.mode() {
        RepoMode::BareUser => open_bare_user(repository, id)?,
        _ => open_bare(repository, id)?,
    };
    let hasher = Sha256::new_with_prefix(header.to_hashed());
    let Some((file, len)) = content else {
        repository.verify(id, hasher)?;
        return Ok(Object::in_memory(header.to_archive(0).into(), 0));
    };
    let mut file = BareFile {
        repository,
        id,
        file,
        len,
        hashed: 0,
        hasher,
        window: Vec::new(),
    };
    let header = header.to_archive(len);
    if len <= SHORT_LEN_MAX as u64 {
        let stored = file.next_block()?.deflate(&header)?;
        return Ok(Object::in_memory(stored, len));
    }
    let rest = Rest::Bare(Box::new(file));
    Ok(Object::Large(LargeObject::new(len, header.into(), rest)))
}

/// Opens an object whose attributes are in an extended attribute of a regular file.
fn open_bare_user(
    repository: &Repository,
    id: ObjectId,
) -> Result<(FileHeader, Option<(OwnedFd, u64)>), Error> {
    let (file, len) = repository.open_object(id)?;
    let mut meta = Vec::with_capacity(XATTR_LEN_MAX);
    match rustix::fs::fgetxattr(&file, "user.ostreemeta", spare_capacity(&mut meta)) {
        Ok(_) => {}
        Err(Errno::NODATA | Errno::NOTSUP) => {
            return Err(repository.corrupt(id, "its attribute user.ostreemeta is lost"));
        }
        Err(errno) => return Err(repository.unreadable(id, "read attributes of", errno.into())),
    }
    let unparsable = |source| repository.unparsable(id, source);
    let attributes = Attributes::parse(&meta).map_err(unparsable)?;
    if !attributes.is_symlink() {
        let header = FileHeader::new(attributes, None).map_err(unparsable)?;
        return Ok((header, Some((file, len))));
    }
    let mut target = Vec::with_capacity(MAX_SYMLINK_LEN + 1);
    fill(&file, &mut target).map_err(|error| repository.unreadable(id, "read", error))?;
    // libostree writes the target with its final NUL, and reads as far as the first.
    if let Some(nul) = target.iter().position(|byte| *byte == 0) {
        target.truncate(nul);
    }
    let header = symlink_header(repository, id, attributes, target)?;
    Ok((header, None))
}

/// Opens an object that is the file itself; in mode bare-user-only, its content and permissions.
fn open_bare(
    repository: &Repository,
    id: ObjectId,
) -> Result<(FileHeader, Option<(OwnedFd, u64)>), Error> {
    let relative = repository.relative_path(id);
    let stat = repository
        .stat(&relative)?
        .ok_or_else(|| repository.missing(id))?;
    let mut attributes = Attributes {
        uid: 0,
        gid: 0,
        mode: stat.st_mode,
        xattrs: Xattrs::default(),
    };
    if repository.mode() == RepoMode::Bare {
        attributes.uid = stat.st_uid;
        attributes.gid = stat.st_gid;
        attributes.xattrs = xattrs(repository, id)?;
    }
    if attributes.is_symlink() {
        let target = rustix::fs::readlinkat(&repository.root, &relative, Vec::new())
            .map_err(|errno| repository.unreadable(id, "read", errno.into()))?;
        let header = symlink_header(repository, id, attributes, target.into_bytes())?;
        return Ok((header, None));
    }
    let header = FileHeader::new(attributes, None);
    let header = header.map_err(|source| repository.unparsable(id, source))?;
    Ok((header, Some(repository.open_object(id)?)))
}

fn symlink_header(
    repository: &Repository,
    id: ObjectId,
    attributes: Attributes,
    target: Vec<u8>,
) -> Result<FileHeader, Error> {
    let target = String::from_utf8(target)
        .map_err(|_| repository.corrupt(id, "the target of the symbolic link is not UTF-8"))?;
    FileHeader::new(attributes, Some(target)).map_err(|source| repository.unparsable(id, source))
}

/// Reads the extended attributes of a file or symbolic link.
fn xattrs(repository: &Repository, id: ObjectId) -> Result<Xattrs, Error> {
    let path = repository.object_path(id);
    let unreadable = |errno: Errno| repository.unreadable(id, "read attributes of", errno.into());
    let mut names = Vec::with_capacity(XATTR_LEN_MAX);
    match rustix::fs::llistxattr(&path, spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::NOTSUP) => return Ok(Xattrs::default()),
        Err(errno) => return Err(unreadable(errno)),
    }
    let mut pairs = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = Vec::with_capacity(XATTR_LEN_MAX);
        rustix::fs::lgetxattr(&path, name, spare_capacity(&mut value)).map_err(unreadable)?;
        value.shrink_to_fit();
        pairs.push((name.to_vec(), value));
    }
    Xattrs::new(pairs).map_err(|source| repository.unparsable(id, source))
}

/// The part of a regular file not handed out yet.
pub(super) struct BareFile<'r> {
    repository: &'r Repository,
    id: ObjectId,
    file: OwnedFd,
    len: u64,
    hashed: u64, // <= len
    hasher: Sha256,
    window: Vec<u8>, // what a block may refer to
}

impl<'r> BareFile<'r> {
    /// Returns whether the last block was handed out.
    pub(super) const fn is_at_end(&self) -> bool {
        self.hashed == self.len
    }

    /// Reads and hashes the next block; the last one only if the checksum is right.
    pub(super) fn next_block(&mut self) -> Result<Block<'r>, Error> {
        let repository = self.repository;
        let mut compressor = repository.compressors.take();
        let unread = self.len - self.hashed;
        let len_max = match self.len <= SHORT_LEN_MAX as u64 {
            true => SHORT_LEN_MAX,
            false => BLOCK_LEN,
        };
        let len = len_max.min(usize::try_from(unread).unwrap_or(len_max));
        let last = len as u64 == unread;
        // Behind the last block there is to be nothing.
        let wanted = len + usize::from(last);
        let input = compressor.input().get_mut(..wanted).unwrap_or_default();
        let read = fill_slice(&self.file, input)
            .map_err(|error| repository.unreadable(self.id, "read", error))?;
        if read != len {
            return Err(repository.changed(self.id, self.len));
        }
        self.hasher.update(input.get(..len).unwrap_or_default());
        self.hashed += len as u64;
        if last {
            repository.verify(self.id, self.hasher.clone())?;
        }
        compressor.slide(len, &mut self.window);
        Ok(Block {
            repository,
            id: self.id,
            compressor,
            len,
            last,
        })
    }
}

/// A part of a regular file that is read and not compressed yet.
pub(crate) struct Block<'r> {
    repository: &'r Repository,
    id: ObjectId,
    compressor: Compressor,
    len: usize,
    last: bool,
}

impl Block<'_> {
    /// Returns the block's part of the deflate stream, behind `header`.
    pub(super) fn deflate(mut self, header: &[u8]) -> Result<Bytes, Error> {
        let deflated = self.compressor.deflate(self.len, self.last);
        let deflated =
            deflated.map_err(|error| self.repository.unreadable(self.id, "compress", error))?;
        let bytes = Bytes::from([header, deflated].concat());
        self.repository.compressors.put_back(self.compressor);
        Ok(bytes)
    }
}

/// The longest value and the longest list of extended attributes Linux has, in bytes.
const XATTR_LEN_MAX: usize = 64 * 1024;
