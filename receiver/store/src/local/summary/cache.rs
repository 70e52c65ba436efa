//! The record kept between updates of the summary, in a file of the project's own.
//!
//! It saves reading unchanged files again, and is trusted only if it is intact and was written
//! since the last boot: changes not synced before a boot may be lost. Sizes are taken from it in
//! any case, since nothing relies on them. The record itself is not synced.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;

use artifact_formats::Checksum;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, if_there, read_file};
use crate::local::summary::scan::{File, Scan};

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
    let content = serialize(boot, scan).map_err(io::Error::other);
    scratch.put_file(&path, &content.map_err(Error::io("writing", &path))?)
}

/// The bytes behind the checksum, which `postcard` reads and writes.
#[derive(Serialize, Deserialize)]
struct Body<'a> {
    boot: &'a str,
    scan: Cow<'a, Scan>,
}

fn serialize(boot: &str, scan: &Scan) -> Result<Vec<u8>, postcard::Error> {
    let scan = Cow::Borrowed(scan);
    let body = postcard::to_allocvec(&Body { boot, scan })?;
    let checksum = Checksum::of(&body);
    Ok([MAGIC, checksum.as_bytes(), &body].concat())
}

fn parse(content: &[u8]) -> Option<(&str, Scan)> {
    let rest = content.strip_prefix(MAGIC)?;
    let (checksum, body) = rest.split_at_checked(Checksum::LEN)?;
    if Checksum::of(body).as_bytes() != checksum {
        return None;
    }
    let Body { boot, scan } = postcard::from_bytes(body).ok()?;
    Some((boot, scan.into_owned()))
}

const MAGIC: &[u8] = b"artifact-cache summary record 3\n";
/// The longest record, in bytes, that is read: half a million refs take as much.
const MAX_LEN: u64 = 128 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::local::summary::scan::{Dir, Stamp};
    use crate::summary::facts::Facts;

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
            let content = serialize("boot", &scan).unwrap();
            prop_assert_eq!(parse(&content), Some(("boot", scan)));
            let mut damaged = content.clone();
            damaged[at.index(content.len())] ^= 1u8 << bit;
            prop_assert_eq!(parse(&damaged), None);
            prop_assert_eq!(parse(&content[..at.index(content.len())]), None);
        }
    }
}
