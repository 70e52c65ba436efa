//! Content of a bare repository, converted to the form of an archive repository while it is read.
//!
//! Reads a file once, in order, and in bounded memory: hashes it, compresses it block by block
//! ([`super::deflate`]), and hands it out. If a file's length changes after it was opened, or its
//! checksum is not its name, reading ends with an error, so that no server ever takes it as
//! complete.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use artifact_formats::limits::MAX_SYMLINK_LEN;
use artifact_formats::{Attributes, Checksum, FileHeader, RepoMode, Xattrs};
use bytes::Bytes;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::deflate::{BLOCK_LEN, Compressor, Compressors, SHORT_LEN_MAX};
use super::fault::{ObjectFault, verify};
use super::files::{self, Files, fill, fill_slice};

/// Opens an object's file. Returns the header of a long file and its unread rest, or all of a short
/// one, as stored.
pub(super) fn open(
    files: &Files,
    mode: RepoMode,
    compressors: &Arc<Compressors>,
    relative: &str,
    checksum: Checksum,
) -> Result<(Bytes, Option<BareFile>), ObjectFault> {
    let (header, content) = match mode {
        RepoMode::BareUser => open_bare_user(files, relative)?,
        _ => open_bare(files, mode, relative)?,
    };
    let hasher = Sha256::new_with_prefix(header.to_hashed());
    let Some((file, len)) = content else {
        verify(checksum, hasher)?;
        return Ok((header.to_archive(0).into(), None));
    };
    let mut file = BareFile {
        checksum,
        compressors: Arc::clone(compressors),
        file,
        len,
        hashed: 0,
        hasher,
        window: Vec::new(),
    };
    let header = header.to_archive(len);
    if len <= SHORT_LEN_MAX as u64 {
        return Ok((file.next_block()?.deflate(&header)?, None));
    }
    Ok((header.into(), Some(file)))
}

/// A header and, if it is that of a regular file, the file and its length in bytes.
type Opened = (FileHeader, Option<(OwnedFd, u64)>);

/// Opens an object whose attributes are stored in an extended attribute of a regular file.
fn open_bare_user(files: &Files, relative: &str) -> Result<Opened, ObjectFault> {
    let (file, len) = open_regular(files, relative)?;
    let meta = files::xattr(&file, "user.ostreemeta")?.ok_or(ObjectFault::Corrupt(
        "its attribute user.ostreemeta is missing",
    ))?;
    let attributes = Attributes::parse(&meta)?;
    if !attributes.is_symlink() {
        return Ok((FileHeader::new(attributes, None)?, Some((file, len))));
    }
    let mut target = Vec::with_capacity(MAX_SYMLINK_LEN + 1);
    fill(&file, &mut target).map_err(|error| ObjectFault::io("read", error))?;
    // libostree writes the target with its final NUL, and reads up to the first.
    if let Some(nul) = target.iter().position(|byte| *byte == 0) {
        target.truncate(nul);
    }
    Ok((symlink_header(attributes, target)?, None))
}

/// Opens an object that is the file itself; in mode bare-user-only, only its content and
/// permissions count.
fn open_bare(files: &Files, mode: RepoMode, relative: &str) -> Result<Opened, ObjectFault> {
    let stat = files.stat(relative)?.ok_or(ObjectFault::Missing)?;
    let mut attributes = Attributes {
        uid: 0,
        gid: 0,
        mode: stat.st_mode,
        xattrs: Xattrs::default(),
    };
    if mode == RepoMode::Bare {
        attributes.uid = stat.st_uid;
        attributes.gid = stat.st_gid;
        attributes.xattrs = Xattrs::new(files.xattrs(relative)?)?;
    }
    if attributes.is_symlink() {
        let header = symlink_header(attributes, files.link(relative)?)?;
        return Ok((header, None));
    }
    let header = FileHeader::new(attributes, None)?;
    Ok((header, Some(open_regular(files, relative)?)))
}

fn open_regular(files: &Files, relative: &str) -> Result<(OwnedFd, u64), ObjectFault> {
    let opened = files.regular(relative, OFlags::NOFOLLOW)?;
    opened.ok_or(ObjectFault::Missing)
}

fn symlink_header(attributes: Attributes, target: Vec<u8>) -> Result<FileHeader, ObjectFault> {
    let target = String::from_utf8(target)
        .map_err(|_| ObjectFault::Corrupt("the target of the symbolic link is not UTF-8"))?;
    Ok(FileHeader::new(attributes, Some(target))?)
}

/// The rest of a regular file.
#[derive(Debug)]
pub(super) struct BareFile {
    checksum: Checksum,
    compressors: Arc<Compressors>,
    file: OwnedFd,
    len: u64,
    hashed: u64, // <= len
    hasher: Sha256,
    window: Vec<u8>, // the bytes that a block may refer to
}

impl BareFile {
    /// Returns whether the last block was handed out.
    pub(super) const fn is_at_end(&self) -> bool {
        self.hashed == self.len
    }

    /// Reads and hashes the next block; returns the last one only if the checksum is right.
    pub(super) fn next_block(&mut self) -> Result<Block, ObjectFault> {
        let mut compressor = self.compressors.take();
        let unread = self.len - self.hashed;
        let len_max = match self.len <= SHORT_LEN_MAX as u64 {
            true => SHORT_LEN_MAX,
            false => BLOCK_LEN,
        };
        let len = len_max.min(usize::try_from(unread).unwrap_or(len_max));
        let last = len as u64 == unread;
        // Nothing may follow the last block.
        let wanted = len + usize::from(last);
        let input = compressor.input().get_mut(..wanted).unwrap_or_default();
        let read = fill_slice(&self.file, input).map_err(|error| ObjectFault::io("read", error))?;
        if read != len {
            return Err(ObjectFault::Changed { len: self.len });
        }
        self.hasher.update(input.get(..len).unwrap_or_default());
        self.hashed += len as u64;
        if last {
            verify(self.checksum, self.hasher.clone())?;
        }
        compressor.slide(len, &mut self.window);
        Ok(Block {
            compressors: Arc::clone(&self.compressors),
            compressor,
            len,
            last,
        })
    }
}

/// A part of a regular file, read but not compressed yet.
#[derive(Debug)]
pub(crate) struct Block {
    compressors: Arc<Compressors>,
    compressor: Compressor,
    len: usize,
    last: bool,
}

impl Block {
    /// Returns the block's part of the deflate stream, after `header`.
    pub(super) fn deflate(mut self, header: &[u8]) -> Result<Bytes, ObjectFault> {
        let deflated = self.compressor.deflate(self.len, self.last);
        let deflated = deflated.map_err(|error| ObjectFault::io("compress", error))?;
        let bytes = Bytes::from([header, deflated].concat());
        self.compressors.put_back(self.compressor);
        Ok(bytes)
    }
}
