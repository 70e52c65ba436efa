//! The record of the last mirror, kept in the repository: the values that it left in the bucket.
//! The next mirror does not have to read the bucket's refs one by one.
//!
//! A value counts only while the bucket's entity tag is the recorded one. A lost or damaged record
//! costs only requests.

use std::collections::BTreeMap;
use std::fmt::Write;

use artifact_formats::{Checksum, RefName};

use crate::bucket::requests::seam::Tag;
use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, make_dir, read_file};

/// Values in the bucket, each with the tag that shows whether it is still current.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) heads: BTreeMap<RefName, (Checksum, Tag)>,
    /// SHA-256 of other files by their names: `config`, `summary` and `summary.sig`.
    pub(crate) files: BTreeMap<String, (Checksum, Tag)>,
    /// SHA-256 of the detached metadata of commits, without tags: it counts as long as the bucket
    /// has the commit and its closure list.
    pub(crate) detached: BTreeMap<Checksum, Checksum>,
}

impl Record {
    /// Reads the record of a bucket; it is empty if it is missing or damaged.
    pub(crate) fn load<F: Fs>(fs: &F, address: &str) -> Self {
        let content = read_file(fs, &path(address), LEN_MAX).ok().flatten();
        let text = content.and_then(|content| String::from_utf8(content).ok());
        text.and_then(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Replaces the record of a bucket.
    pub(crate) fn save<F: Fs>(
        &self,
        fs: &F,
        scratch: &impl PutFile,
        address: &str,
    ) -> Result<(), Error> {
        for dir in [RepoPath::own(), dir()] {
            make_dir(fs, &dir, 0o775).map_err(Error::io("making", &dir))?;
        }
        scratch.put_file(&path(address), self.write().as_bytes())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut record = Self::default();
        let (body, digest) = text.rsplit_once("digest ")?;
        if Checksum::of(body.as_bytes()).to_hex() != digest.trim_ascii_end() {
            return None;
        }
        let mut lines = body.lines();
        if lines.next()? != MAGIC {
            return None;
        }
        for line in lines {
            let words: Vec<_> = line.splitn(4, ' ').collect();
            match words.as_slice() {
                ["ref", name, commit, tag] => {
                    let value = (commit.parse().ok()?, Tag::new(tag));
                    record
                        .heads
                        .insert(RefName::parse_stored(name).ok()?, value);
                }
                ["file", name, digest, tag] => {
                    let value = (digest.parse().ok()?, Tag::new(tag));
                    record.files.insert((*name).to_owned(), value);
                }
                ["detached", commit, digest] => {
                    let (commit, digest) = (commit.parse().ok()?, digest.parse().ok()?);
                    record.detached.insert(commit, digest);
                }
                _ => return None,
            }
        }
        Some(record)
    }

    fn write(&self) -> String {
        let mut text = format!("{MAGIC}\n");
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a string never fails.
            let _ = writeln!(text, "{line}");
        };
        for (name, (commit, tag)) in &self.heads {
            line(format_args!("ref {name} {commit} {}", tag.as_str()));
        }
        for (name, (digest, tag)) in &self.files {
            line(format_args!("file {name} {digest} {}", tag.as_str()));
        }
        for (commit, digest) in &self.detached {
            line(format_args!("detached {commit} {digest}"));
        }
        let digest = Checksum::of(text.as_bytes());
        text + &format!("digest {digest}\n")
    }
}

fn dir() -> RepoPath {
    RepoPath::own().child("mirrors")
}

fn path(address: &str) -> RepoPath {
    dir().child(&Checksum::of(address.as_bytes()).to_hex())
}

const MAGIC: &str = "artifact-cache mirror 1";
/// The longest record in bytes: about a million refs. A longer file counts as damaged.
const LEN_MAX: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_written_and_a_damaged_one_is_none() {
        let sum = |number| Checksum::new([number; 32]);
        let mut record = Record::default();
        let value = (sum(1), Tag::new("a b\"c"));
        record.heads.insert("p/e/1".parse().unwrap(), value);
        let value = (sum(2), Tag::new("x-2"));
        record.files.insert("summary".to_owned(), value);
        record.detached.insert(sum(3), sum(4));
        let text = record.write();
        assert_eq!(Record::parse(&text), Some(record));
        for at in 0..text.len() - 1 {
            let mut damaged = text.clone().into_bytes();
            damaged[at] ^= 1;
            let damaged = String::from_utf8_lossy(&damaged).into_owned();
            assert_eq!(Record::parse(&damaged), None, "{at}");
            assert_eq!(Record::parse(&text[..at]), None, "{at}");
        }
        assert_eq!(
            Record::parse(&Record::default().write()),
            Some(Record::default())
        );
    }
}
