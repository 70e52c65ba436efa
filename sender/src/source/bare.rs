//! Content of a bare repository, turned into the form of an archive repository as it is read.
//!
//! A file is read once, in order, and in bounded memory: hashed, compressed, handed out. What does
//! not have the length it had when opened, or not the checksum it is named by, ends in an error, so
//! that no server is ever told that it is whole.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use artifact_protocol::ObjectId;
use artifact_protocol::limits::MAX_SYMLINK_LEN;
use artifact_protocol::ostree::{Attributes, FileHeader, RepoMode, Xattrs};
use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::Repository;
use super::file::fill;
use super::object::{LargeObject, Object, Rest};
use crate::Error;

/// Opens an object's file, and reads it if its stored form is short.
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
        header: header.to_archive(len).into(),
        file,
        len,
        hashed: 0,
        input: Vec::with_capacity(INPUT_LEN.min(usize::try_from(len).unwrap_or(INPUT_LEN) + 1)),
        compressed: 0,
        hasher,
        compress: Some(repository.compressors.take()),
    };
    let first = file.next_chunk()?.unwrap_or_default();
    if file.compress.is_none() && first.len() <= Object::WHOLE_LEN_MAX {
        return Ok(Object::Whole(first));
    }
    let rest = Rest::Bare(Box::new(file));
    Ok(Object::Large(LargeObject::new(len, first, rest)))
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
    header: Bytes, // the part of it not handed out yet
    file: OwnedFd,
    len: u64,
    hashed: u64, // <= len
    input: Vec<u8>,
    compressed: usize, // <= input.len()
    hasher: Sha256,
    compress: Option<Compress>, // `None` once everything is handed out
}

impl BareFile<'_> {
    pub(super) fn next_chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut compress) = self.compress.take() else {
            return Ok(None);
        };
        let mut chunk = self.chunk();
        loop {
            if chunk.len() == chunk.capacity() {
                if chunk.len() >= LargeObject::CHUNK_LEN_MAX {
                    self.compress = Some(compress);
                    return Ok(Some(chunk.into()));
                }
                chunk.reserve_exact(LargeObject::CHUNK_LEN_MAX - chunk.len());
            }
            if self.deflate(&mut compress, &mut chunk)? == Status::StreamEnd {
                self.repository.verify(self.id, self.hasher.clone())?;
                self.repository.compressors.put_back(compress);
                chunk.shrink_to_fit();
                // All of the stream may just have fitted into the chunk before.
                return Ok(Some(chunk.into()).filter(|chunk: &Bytes| !chunk.is_empty()));
            }
        }
    }

    /// Makes room for a chunk and puts into it what of the header is left.
    fn chunk(&mut self) -> Vec<u8> {
        let len_max = LargeObject::CHUNK_LEN_MAX;
        let header = self.header.split_to(self.header.len().min(len_max));
        let unread = usize::try_from(self.len - self.hashed).unwrap_or(len_max);
        let mut chunk = Vec::with_capacity(
            header
                .len()
                .saturating_add(unread)
                .saturating_add(DEFLATE_OVERHEAD)
                .min(len_max),
        );
        chunk.extend_from_slice(&header);
        chunk
    }

    /// Compresses as much as there is input or room for, after reading more if there is no input.
    fn deflate(&mut self, compress: &mut Compress, chunk: &mut Vec<u8>) -> Result<Status, Error> {
        if self.compressed == self.input.len() && self.hashed < self.len {
            self.read_more()?;
        }
        let flush = if self.hashed < self.len {
            FlushCompress::None
        } else {
            FlushCompress::Finish
        };
        let input = self.input.get(self.compressed..).unwrap_or_default();
        let before = compress.total_in();
        let status = compress.compress_vec(input, chunk, flush);
        self.compressed += usize::try_from(compress.total_in() - before).unwrap_or(input.len());
        status.map_err(|error| {
            self.repository
                .unreadable(self.id, "compress", error.into())
        })
    }

    /// Reads and hashes what fits into the input.
    fn read_more(&mut self) -> Result<(), Error> {
        self.input.clear();
        self.compressed = 0;
        fill(&self.file, &mut self.input)
            .map_err(|error| self.repository.unreadable(self.id, "read", error))?;
        self.hashed += self.input.len() as u64;
        let ended = self.input.len() < self.input.capacity();
        if self.hashed > self.len || ended && self.hashed < self.len {
            return Err(self.repository.changed(self.id, self.len));
        }
        self.hasher.update(&self.input);
        Ok(())
    }
}

/// Compressors not in use: making one costs a quarter of what compressing a small file costs.
pub(super) struct Compressors {
    level: Compression,
    idle: Mutex<Vec<Compress>>,
}

impl Compressors {
    pub(super) const fn new(level: u32) -> Self {
        Self {
            level: Compression::new(level),
            idle: Mutex::new(Vec::new()),
        }
    }

    fn take(&self) -> Compress {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.unwrap_or_else(|| Compress::new(self.level, false))
    }

    fn put_back(&self, mut compress: Compress) {
        compress.reset();
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(compress);
    }
}

/// The longest value and the longest list of extended attributes Linux has, in bytes.
const XATTR_LEN_MAX: usize = 64 * 1024;

/// Content read and hashed at a time, in bytes.
const INPUT_LEN: usize = 128 * 1024;

/// More than deflate adds to a short file that cannot be compressed, in bytes.
const DEFLATE_OVERHEAD: usize = 64;
