//! The files of a summary: it and its signature are read, written, and put in place.

use std::io::{self, Write};

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::serialize_signature;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, dates, if_there, read_file};
use crate::local::summary::maker::Maker;

/// Files ready to be renamed.
pub(super) struct Files {
    summary: RepoPath,
    signature: Option<RepoPath>,
}

impl Files {
    pub(super) fn forget<F: Fs>(&self, maker: Maker<'_, F>) {
        for path in self.signature.iter().chain([&self.summary]) {
            maker.scratch.forget(path);
        }
    }
}

/// Writes a summary, and a signature if configured, to durable files.
pub(super) fn write<F: Fs>(maker: Maker<'_, F>, content: &[u8]) -> Result<Files, Error> {
    let bytes = content.len();
    if bytes > WARN_LEN {
        tracing::warn!(
            bytes,
            "the summary nears 10 MiB, the most that clients of Debian 12 read: choose another \
             `mode` of it in the configuration"
        );
    }
    let signature = match &maker.config.sign_key {
        Some(key) => Some(write_durable(
            maker,
            &serialize_signature(&key.sign(content)),
        )?),
        None => None,
    };
    Ok(Files {
        summary: write_durable(maker, content)?,
        signature,
    })
}

fn write_durable<F: Fs>(maker: Maker<'_, F>, content: &[u8]) -> Result<RepoPath, Error> {
    let (path, mut file) = maker.scratch.temporary()?;
    file.write_all(content)
        .map_err(Error::io("writing", &path))?;
    maker
        .fs()
        .sync_data(&file)
        .map_err(Error::io("syncing", &path))?;
    Ok(path)
}

/// Puts durable files in place of the summary and its signature.
///
/// The signature comes first, because libostree reads it first: so a client that reads the two
/// meanwhile is least likely to get a pair that does not match. And if the process dies in between,
/// the summary is the old one, so that the next push of the same refs repairs both. A signature
/// that cannot be made again is removed: with the new summary, clients would refuse it.
///
/// Both get the same date, which is later than those of the files they replace.
pub(super) fn replace<F: Fs>(fs: &F, files: &Files) -> Result<(), Error> {
    let path = RepoPath::summary_signature();
    let before = [dates::of(fs, &RepoPath::summary())?, dates::of(fs, &path)?];
    let date = dates::later_than(fs, &files.summary, &before)?;
    if let Some(file) = &files.signature {
        dates::set(fs, &files.summary, date)?;
        dates::set(fs, file, date)?;
    }
    match &files.signature {
        Some(file) => fs
            .rename(file, &path)
            .map_err(Error::io("replacing", &path))?,
        None => _ = if_there(fs.unlink(&path)).map_err(Error::io("removing", &path))?,
    }
    let path = RepoPath::summary();
    fs.rename(&files.summary, &path)
        .map_err(Error::io("replacing", &path))
}

/// Reads the summary; a missing or far too long one is empty.
pub(super) fn read<F: Fs>(fs: &F) -> Result<Vec<u8>, Error> {
    read_or_empty(fs, &RepoPath::summary(), MAX_READ_LEN)
}

pub(super) fn read_or_empty<F: Fs>(fs: &F, path: &RepoPath, max: usize) -> Result<Vec<u8>, Error> {
    match read_file(fs, path, max) {
        Ok(content) => Ok(content.unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Vec::new()),
        Err(error) => Err(Error::io("reading", path)(error)),
    }
}

/// The length from which the administrator is warned, in bytes.
const WARN_LEN: usize = 7 * 1024 * 1024;
/// A longer summary, in bytes, is made again without checking whether that is needed.
const MAX_READ_LEN: usize = 4 * MAX_METADATA_LEN;
