//! Source trees to commit: every kind of file that a root file system contains, and plenty of them.
//!
//! The same calls make the same tree, byte for byte, on every machine.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{XattrFlags, setxattr};

use artifact_models::random::Random;

use crate::exec::Failure;

/// A tree under construction. Paths are relative to its root; missing directories are created.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Creates the root with mode 0755; it may exist.
    pub fn create(root: &Path) -> Result<Self, Failure> {
        let tree = Self { root: root.into() };
        tree.dir("", 0o755)?;
        Ok(tree)
    }

    /// Returns the root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a directory, or changes the mode of one.
    pub fn dir(&self, name: &str, mode: u32) -> Result<&Self, Failure> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(Failure::doing(format!("make {path:?}")))?;
        self.mode(name, mode)
    }

    /// Writes a file.
    pub fn file(&self, name: &str, content: &[u8], mode: u32) -> Result<&Self, Failure> {
        let path = self.path_for(name)?;
        fs::write(&path, content).map_err(Failure::doing(format!("write {path:?}")))?;
        self.mode(name, mode)
    }

    /// Makes a symbolic link; the target need not exist.
    pub fn symlink(&self, name: &str, target: &str) -> Result<&Self, Failure> {
        let path = self.path_for(name)?;
        symlink(target, &path).map_err(Failure::doing(format!("make {path:?}")))?;
        Ok(self)
    }

    /// Sets an extended attribute of a file or directory.
    pub fn xattr(&self, name: &str, key: &str, value: &[u8]) -> Result<&Self, Failure> {
        let path = self.root.join(name);
        setxattr(&path, key, value, XattrFlags::empty()).map_err(|errno| {
            Failure::doing(format!("set {key} on {path:?} (set TMPDIR elsewhere?)"))(errno.into())
        })?;
        Ok(self)
    }

    /// Writes `count` files of 0 to 4,095 bytes, 100 to a directory, with contents from `seed`. One
    /// in ten has the content of the one before it.
    pub fn generated(&self, count: usize, seed: u64) -> Result<&Self, Failure> {
        let mut random = Random(seed);
        let mut content = Vec::new();
        for index in 0..count {
            if random.below(10) != 0 || index == 0 {
                let len = random.below(4096) as usize;
                content = random.bytes(len);
            }
            let mode = if random.below(8) == 0 { 0o755 } else { 0o644 };
            let name = format!(
                "d{:02}/s{:02}/f{index:06}",
                index / 10_000,
                index / 100 % 100
            );
            self.file(&name, &content, mode)?;
        }
        Ok(self)
    }

    /// Writes a file of `len` bytes that is a hole except for a random block every 16 MiB and at
    /// its end, so that it takes little space on disk.
    pub fn large(&self, name: &str, len: u64, seed: u64) -> Result<&Self, Failure> {
        let path = self.path_for(name)?;
        write_large(&path, len, seed).map_err(Failure::doing(format!("write {path:?}")))?;
        self.mode(name, 0o644)
    }

    /// Adds one of every kind: things that have gone wrong in tools like this one. No extended
    /// attribute has an empty value, because `ostree checkout` itself drops those.
    pub fn all_kinds(&self) -> Result<&Self, Failure> {
        self.file("zero", b"", 0o644)?
            .file(
                "caf\u{e9} \u{1f980}/na\u{ef}ve name with spaces",
                b"utf-8",
                0o644,
            )?
            .file("new\nline", b"a name of two lines", 0o644)?
            .file("same-1", b"identical content", 0o644)?
            .file("same-2", b"identical content", 0o644)?
            .file("same-content-other-mode", b"identical content", 0o600)?
            .file("deep/er/and/deep/er/still/leaf", b"leaf", 0o640)?
            .file("bin/setuid", b"#!/bin/sh\n", 0o4755)?
            .file("bin/setgid", b"#!/bin/sh\n", 0o2755)?
            .file("bin/unreadable", b"", 0o000)?
            .file("xattrs", b"with extended attributes", 0o644)?
            .file("binary", &Random(1).bytes(300_000), 0o644)?
            .file("zeros", &[0; 500_000], 0o644)?
            .dir("empty", 0o755)?
            .dir("empty-too", 0o700)?
            .dir("sticky", 0o1777)?
            .dir("setgid-dir", 0o2775)?
            .symlink("link", "same-1")?
            .symlink("deep/up", "../bin/setuid")?
            .symlink("absolute", "/nonexistent/absolute")?
            .symlink("dangling", "nowhere at all")?
            .symlink("loop", "loop")?
            .xattr("xattrs", "user.mime_type", b"text/plain")?
            .xattr("xattrs", "user.binary", &[0, 255, 10, 0])?
            .xattr("xattrs", "user.comment", "caf\u{e9}".as_bytes())?
            .xattr("empty-too", "user.on-a-directory", b"yes")
    }

    fn mode(&self, name: &str, mode: u32) -> Result<&Self, Failure> {
        let path = self.root.join(name);
        fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(Failure::doing(format!("change the mode of {path:?}")))?;
        Ok(self)
    }

    fn path_for(&self, name: &str) -> Result<PathBuf, Failure> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Failure::doing(format!("make {parent:?}")))?;
        }
        Ok(path)
    }
}

fn write_large(path: &Path, len: u64, seed: u64) -> std::io::Result<()> {
    let mut random = Random(seed);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)?;
    file.set_len(len)?;
    let block = |file: &mut File, at: u64, bytes: &[u8]| {
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    };
    let mut at = 0;
    while at + (BLOCK_LEN as u64) < len {
        block(&mut file, at, &random.bytes(BLOCK_LEN))?;
        at += BLOCK_EVERY;
    }
    block(&mut file, len.saturating_sub(1), b"!")
}

const BLOCK_LEN: usize = 64 * 1024;
const BLOCK_EVERY: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listing::{Listing, compare};

    #[test]
    fn the_same_calls_make_the_same_tree_and_another_seed_another() {
        let dir = tempfile::tempdir().unwrap();
        let build = |name: &str, seed| {
            let tree = Tree::create(&dir.path().join(name)).unwrap();
            tree.generated(250, seed).unwrap().all_kinds().unwrap();
            tree.large("large", 40 << 20, seed).unwrap();
            tree.root().to_owned()
        };
        let (first, second, other) = (build("first", 1), build("second", 1), build("other", 2));
        compare(&first, &second).unwrap();
        assert!(compare(&first, &other).is_err());
        assert_eq!(Listing::of(&first.join("d00")).unwrap().len(), 1 + 3 + 250);
    }

    #[test]
    fn a_large_file_has_its_length_and_takes_little_room() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        Tree::create(dir.path())
            .unwrap()
            .large("large", 1 << 30, 7)
            .unwrap();
        let metadata = fs::metadata(dir.path().join("large")).unwrap();
        assert_eq!(metadata.len(), 1 << 30);
        assert!(metadata.blocks() * 512 < 16 << 20);
    }
}
