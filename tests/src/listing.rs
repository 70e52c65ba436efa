//! The contents of a directory tree, as a map that can be compared.
//!
//! It shows that a checkout equals its source, and that a repository has not changed. Times, owners
//! and link counts are not part of it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};

use crate::exec::Failure;

/// The entry at one path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: Kind,
    /// Permission bits with setuid, setgid and sticky; 0 for a symbolic link, which has none.
    mode: u32,
    xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    File { len: u64, sha256: String },
    Symlink { target: PathBuf },
    Other,
}

/// Every path below a directory, including the directory itself, with all that a test compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    entries: BTreeMap<PathBuf, Entry>,
}

impl Listing {
    /// Reads a tree, bytes and all.
    pub fn of(root: &Path) -> Result<Self, Failure> {
        Self::without(root, &[])
    }

    /// Reads a tree except for everything at or below the given paths, which are relative to
    /// `root`.
    pub fn without(root: &Path, left_out: &[&str]) -> Result<Self, Failure> {
        let mut entries = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(relative) = pending.pop() {
            if left_out.iter().any(|name| Path::new(name) == relative) {
                continue;
            }
            let path = root.join(&relative);
            let reading = || Failure::doing(format!("read {path:?}"));
            let metadata = fs::symlink_metadata(&path).map_err(reading())?;
            if metadata.is_dir() {
                for child in fs::read_dir(&path).map_err(reading())? {
                    let child = child.map_err(reading())?;
                    pending.push(relative.join(child.file_name()));
                }
            }
            entries.insert(relative, entry(&path, &metadata)?);
        }
        Ok(Self { entries })
    }

    /// Returns the number of paths, including the root.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether nothing exists, not even a root.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns every path, relative to the root.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entries.keys().map(PathBuf::as_path)
    }

    /// Fails with a readable list of the differences, if there are any.
    pub fn must_equal(&self, other: &Self) -> Result<(), Failure> {
        let paths = self.entries.keys().chain(other.entries.keys());
        let mut differences: Vec<String> = paths
            .filter_map(|path| difference(path, self.entries.get(path), other.entries.get(path)))
            .collect();
        differences.sort();
        differences.dedup();
        if differences.is_empty() {
            return Ok(());
        }
        let count = differences.len();
        differences.truncate(SHOWN_DIFFERENCES);
        Err(Failure::new(format!(
            "{count} paths differ (left, right):\n{}",
            differences.join("\n")
        )))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Directory => write!(f, "directory")?,
            Kind::File { len, sha256 } => write!(f, "file of {len} bytes, {sha256:.12}")?,
            Kind::Symlink { target } => write!(f, "symbolic link to {target:?}")?,
            Kind::Other => write!(f, "neither file, directory nor symbolic link")?,
        }
        write!(f, ", mode {:04o}", self.mode)?;
        for (name, value) in &self.xattrs {
            write!(f, ", {name}={}", value.escape_ascii())?;
        }
        Ok(())
    }
}

/// Compares two trees: byte for byte, mode for mode, symlink for symlink, xattr for xattr.
pub fn compare(left: &Path, right: &Path) -> Result<(), Failure> {
    Listing::of(left)?.must_equal(&Listing::of(right)?)
}

fn difference(path: &Path, left: Option<&Entry>, right: Option<&Entry>) -> Option<String> {
    let shown = |entry: Option<&Entry>| entry.map_or("nothing".into(), Entry::to_string);
    (left != right).then(|| format!("{path:?}\n   {}\n   {}", shown(left), shown(right)))
}

fn entry(path: &Path, metadata: &Metadata) -> Result<Entry, Failure> {
    let reading = || Failure::doing(format!("read {path:?}"));
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_symlink() {
        Kind::Symlink {
            target: fs::read_link(path).map_err(reading())?,
        }
    } else if file_type.is_file() {
        Kind::File {
            len: metadata.len(),
            sha256: sha256(path)?,
        }
    } else {
        Kind::Other
    };
    Ok(Entry {
        kind,
        mode: if file_type.is_symlink() {
            0
        } else {
            metadata.permissions().mode() & 0o7777
        },
        xattrs: xattrs(path).map_err(|errno| reading()(errno.into()))?,
    })
}

fn sha256(path: &Path) -> Result<String, Failure> {
    let reading = || Failure::doing(format!("read {path:?}"));
    let mut file = File::open(path).map_err(reading())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; READ_LEN];
    loop {
        match file.read(&mut buffer).map_err(reading())? {
            0 => return Ok(hex::encode(hash.finalize())),
            len => hash.update(&buffer[..len]),
        }
    }
}

fn xattrs(path: &Path) -> rustix::io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; MAX_XATTR_LEN];
    let len = llistxattr(path, &mut names[..])?;
    let mut xattrs = BTreeMap::new();
    for name in names[..len].split(|byte| *byte == 0) {
        if name.is_empty() {
            continue;
        }
        let mut value = vec![0; MAX_XATTR_LEN];
        let len = lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value[..])?;
        value.truncate(len);
        xattrs.insert(name.escape_ascii().to_string(), value);
    }
    Ok(xattrs)
}

const SHOWN_DIFFERENCES: usize = 20;
const READ_LEN: usize = 1024 * 1024;
/// What Linux allows for a list of names, and for a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAX_XATTR_LEN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    fn changed(change: impl FnOnce(&Path)) -> String {
        let dir = tempfile::tempdir().unwrap();
        let (left, right) = (dir.path().join("left"), dir.path().join("right"));
        Tree::create(&left).unwrap().all_kinds().unwrap();
        Tree::create(&right).unwrap().all_kinds().unwrap();
        compare(&left, &right).unwrap();
        change(&right);
        format!("{:?}", compare(&left, &right).unwrap_err())
    }

    #[test]
    fn compare_sees_a_byte_a_mode_a_target_an_xattr_and_a_path() {
        let one = |text: &str| assert!(text.starts_with("1 paths differ"), "{text}");
        one(&changed(|root| {
            fs::write(root.join("same-1"), b"identical contenT").unwrap();
        }));
        one(&changed(|root| {
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(root.join("bin/setuid"), mode).unwrap();
        }));
        one(&changed(|root| {
            fs::remove_file(root.join("dangling")).unwrap();
            std::os::unix::fs::symlink("elsewhere", root.join("dangling")).unwrap();
        }));
        one(&changed(|root| {
            rustix::fs::removexattr(root.join("xattrs"), "user.comment").unwrap();
        }));
        one(&changed(|root| {
            fs::remove_dir(root.join("empty")).unwrap();
        }));
    }

    #[test]
    fn what_is_left_out_does_not_count_and_what_lies_below_neither() {
        let dir = tempfile::tempdir().unwrap();
        Tree::create(dir.path()).unwrap().all_kinds().unwrap();
        let before = Listing::without(dir.path(), &["bin", ".lock"]).unwrap();
        fs::write(dir.path().join("bin/new"), "new").unwrap();
        fs::write(dir.path().join(".lock"), "").unwrap();
        let after = Listing::without(dir.path(), &["bin", ".lock"]).unwrap();
        before.must_equal(&after).unwrap();
        assert!(
            before
                .must_equal(&Listing::of(dir.path()).unwrap())
                .is_err()
        );
    }
}
