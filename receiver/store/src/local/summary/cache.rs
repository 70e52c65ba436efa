//! The record kept between updates of the summary, in a file of the project's own.
//!
//! It saves reading unchanged files again, and is trusted only if it is intact and was written
//! since the last boot: changes not synced before a boot may be lost. Sizes are taken from it in
//! any case, since nothing relies on them. The record itself is not synced.

use std::collections::HashMap;

use artifact_formats::Checksum;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, if_there, read_file};
use crate::local::repository::objects;
use crate::local::summary::facts::Facts;
use crate::local::summary::scan::{Dir, File, Scan, Stamp};

/// The contents of a record.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// The scan at its writing; empty if it cannot be trusted.
    pub(crate) scan: Scan,
    /// Stored bytes of everything that a commit reaches.
    pub(crate) sizes: HashMap<Checksum, u64>,
}

/// Reads the record, if it is intact.
pub(crate) fn load<F: Fs>(fs: &F) -> Option<Record> {
    let path = RepoPath::summary_record();
    // The length is checked first: an earlier version may have left one that takes all memory.
    if fs.stat(&path).ok()?.len > MAX_LEN {
        return None;
    }
    let content = read_file(fs, &path, usize::try_from(MAX_LEN).ok()?).ok()??;
    let (boot, scan) = parse(&content)?;
    if fs.boot_id() == Some(boot) {
        return Some(Record {
            scan,
            ..Record::default()
        });
    }
    Some(distrust(scan))
}

/// Keeps only the sizes of a scan, on which nothing relies.
pub(crate) fn distrust(scan: Scan) -> Record {
    let files = scan.dirs.into_values().flat_map(|dir| dir.files);
    let size = |file: File| Some((file.value?, file.facts?.size?));
    Record {
        scan: Scan::default(),
        sizes: files.filter_map(size).collect(),
    }
}

/// Writes the record. Without it, the next update reads everything again.
pub(crate) fn save<F: Fs>(fs: &F, scratch: &impl PutFile, scan: &Scan) -> Result<(), Error> {
    let Some(boot) = fs.boot_id() else {
        return Ok(());
    };
    let path = RepoPath::summary_record();
    // Some file systems immediately write out a file that replaces another, which is not wanted
    // here.
    if_there(fs.unlink(&path)).map_err(Error::io("removing", &path))?;
    scratch.put_file(&path, &serialize(boot, scan))
}

fn serialize(boot: &str, scan: &Scan) -> Vec<u8> {
    let mut body = Vec::new();
    put_bytes(&mut body, boot.as_bytes());
    put_number(&mut body, scan.objects.len() as u64);
    for (first, stamp) in &scan.objects {
        body.push(*first);
        put_stamp(&mut body, Some(*stamp));
    }
    for (path, dir) in &scan.dirs {
        put_bytes(&mut body, path.as_str().as_bytes());
        put_stamp(&mut body, dir.stamp);
        put_number(&mut body, dir.dirs.len() as u64);
        for name in &dir.dirs {
            put_bytes(&mut body, name.as_bytes());
        }
        put_number(&mut body, dir.files.len() as u64);
        for file in &dir.files {
            put_file(&mut body, file);
        }
    }
    let checksum = objects::checksum(&body);
    [MAGIC, checksum.as_bytes(), &body].concat()
}

fn parse(content: &[u8]) -> Option<(&str, Scan)> {
    let rest = content.strip_prefix(MAGIC)?;
    let (checksum, body) = rest.split_at_checked(Checksum::LEN)?;
    if objects::checksum(body).as_bytes() != checksum {
        return None;
    }
    let mut input = Input(body);
    let boot = input.text()?;
    let mut scan = Scan::default();
    for _ in 0..input.number()? {
        let [first] = *input.take(1)? else {
            return None;
        };
        scan.objects.insert(first, input.stamp()??);
    }
    while !input.0.is_empty() {
        let path = input.text()?.split('/');
        let path = path.fold(RepoPath::root(), |path, name| path.child(name));
        let mut dir = Dir {
            stamp: input.stamp()?,
            ..Dir::default()
        };
        for _ in 0..input.number()? {
            dir.dirs.push(input.text()?.into());
        }
        for _ in 0..input.number()? {
            dir.files.push(input.file()?);
        }
        scan.dirs.insert(path, dir);
    }
    Some((boot, scan))
}

fn put_number(body: &mut Vec<u8>, number: u64) {
    // Seven bits a byte, the lowest first: most numbers are small.
    let mut rest = number;
    while rest >= 0x80 {
        body.push(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    body.push(rest.to_le_bytes()[0]);
}

fn put_bytes(body: &mut Vec<u8>, bytes: &[u8]) {
    put_number(body, bytes.len() as u64);
    body.extend_from_slice(bytes);
}

fn put_stamp(body: &mut Vec<u8>, stamp: Option<Stamp>) {
    body.push(u8::from(stamp.is_some()));
    if let Some(stamp) = stamp {
        put_number(body, stamp.inode);
        body.extend_from_slice(&stamp.changed.0.to_le_bytes());
        put_number(body, stamp.changed.1);
        put_number(body, stamp.len);
    }
}

fn put_file(body: &mut Vec<u8>, file: &File) {
    put_bytes(body, file.name.as_bytes());
    put_stamp(body, file.stamp);
    body.push(u8::from(file.value.is_some()));
    if let Some(value) = &file.value {
        body.extend_from_slice(value.as_bytes());
    }
    body.push(u8::from(file.facts.is_some()));
    if let Some(facts) = &file.facts {
        put_number(body, facts.len);
        put_number(body, facts.timestamp);
        // Plus one, so that zero means none.
        put_number(body, facts.size.map_or(0, |size| size.saturating_add(1)));
        body.push(u8::from(facts.version.is_some()));
        if let Some(version) = &facts.version {
            put_bytes(body, version.as_bytes());
        }
    }
}

/// The remaining input. The checksum was right, so that no field is ever missing; the methods
/// return `None` all the same, for a record of another version.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.take(1)? {
            [flag] => Some(*flag != 0),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        std::str::from_utf8(self.take(len)?).ok()
    }

    fn checksum(&mut self) -> Option<Checksum> {
        Checksum::from_slice(self.take(Checksum::LEN)?)
    }

    fn stamp(&mut self) -> Option<Option<Stamp>> {
        if !self.flag()? {
            return Some(None);
        }
        Some(Some(Stamp {
            inode: self.number()?,
            changed: (
                i64::from_le_bytes(self.take(8)?.try_into().ok()?),
                self.number()?,
            ),
            len: self.number()?,
        }))
    }

    fn file(&mut self) -> Option<File> {
        Some(File {
            name: self.text()?.into(),
            stamp: self.stamp()?,
            value: match self.flag()? {
                true => Some(self.checksum()?),
                false => None,
            },
            facts: match self.flag()? {
                true => Some(self.facts()?),
                false => None,
            },
            modified: None,
        })
    }

    fn facts(&mut self) -> Option<Facts> {
        Some(Facts {
            len: self.number()?,
            timestamp: self.number()?,
            size: self.number()?.checked_sub(1),
            version: match self.flag()? {
                true => Some(self.text()?.into()),
                false => None,
            },
        })
    }
}

const MAGIC: &[u8] = b"artifact-cache summary record 2\n";
/// The longest record, in bytes, that is read: half a million refs take as much.
const MAX_LEN: u64 = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const STAMP: Stamp = Stamp {
        inode: 1,
        changed: (2, 3),
        len: 4,
    };

    fn any_stamp() -> impl Strategy<Value = Option<Stamp>> {
        let stamp = (any::<u64>(), any::<(i64, u64)>(), any::<u64>());
        proptest::option::of(stamp.prop_map(|(inode, changed, len)| Stamp {
            inode,
            changed,
            len,
        }))
    }

    fn any_file() -> impl Strategy<Value = File> {
        let facts = (
            any::<u64>(),
            any::<u64>(),
            proptest::option::of("\\PC{0,9}"),
            proptest::option::of(0..u64::MAX),
        );
        let facts = facts.prop_map(|(len, timestamp, version, size)| Facts {
            len,
            timestamp,
            version: version.map(String::into_boxed_str),
            size,
        });
        let value = proptest::option::of(any::<[u8; 32]>().prop_map(Checksum::new));
        (
            "[a-z]{1,9}",
            any_stamp(),
            value,
            proptest::option::of(facts),
        )
            .prop_map(|(name, stamp, value, facts)| File {
                name: name.into(),
                stamp,
                value,
                facts,
                modified: None,
            })
    }

    fn any_scan() -> impl Strategy<Value = Scan> {
        let dir = (
            "[a-z]{1,9}",
            any_stamp(),
            proptest::collection::vec("[a-z]{1,9}", 0..3),
            proptest::collection::vec(any_file(), 0..4),
        );
        let dir = dir.prop_map(|(name, stamp, dirs, files)| {
            let dirs = dirs.into_iter().map(String::into_boxed_str).collect();
            (RepoPath::heads().child(&name), Dir { stamp, dirs, files })
        });
        proptest::collection::vec(dir, 0..4).prop_map(|dirs| Scan {
            dirs: dirs.into_iter().collect(),
            objects: BTreeMap::from([(7, STAMP)]),
        })
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(
            scan in any_scan(),
            at in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let content = serialize("boot", &scan);
            prop_assert_eq!(parse(&content), Some(("boot", scan)));
            let mut damaged = content.clone();
            damaged[at.index(content.len())] ^= 1u8 << bit;
            prop_assert_eq!(parse(&damaged), None);
            prop_assert_eq!(parse(&content[..at.index(content.len())]), None);
        }
    }
}
