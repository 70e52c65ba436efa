//! Repositories, the trees in them, and readers of their objects.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_formats::{Checksum, FileHeader, ObjectId, ObjectKind};
use artifact_sender::{LargeObject, Object, Repository};
use flate2::{Decompress, FlushDecompress, Status};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A directory of its own for each test.
pub(crate) struct Fixture {
    directory: TempDir,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory }
    }

    /// Makes a directory in memory, where the machine has such a place: for thousands of files of
    /// which only the names and the content matter.
    pub(crate) fn in_memory() -> Self {
        tempfile::tempdir_in("/dev/shm")
            .map_or_else(|_| Self::new(), |directory| Self { directory })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes an empty repository that need not survive a power cut.
    pub(crate) fn init(&self, name: &str, mode: &str) -> PathBuf {
        let path = self.path(name);
        ostree(&path, ["init", &format!("--mode={mode}")]);
        let mut config = File::options()
            .append(true)
            .open(path.join("config"))
            .unwrap();
        config.write_all(b"fsync=false\n").unwrap();
        path
    }

    /// Makes an empty directory.
    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }
}

/// Runs the `ostree` program; returns its output, without the final line end.
pub(crate) fn ostree<I: IntoIterator<Item = A>, A: AsRef<OsStr>>(repo: &Path, args: I) -> String {
    let mut command = Command::new("ostree");
    command.arg(format!("--repo={}", repo.display())).args(args);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().into()
}

/// Commits a tree; the parent is the branch's current commit.
pub(crate) fn commit(repo: &Path, branch: &str, tree: &Path) -> Checksum {
    let branch = format!("--branch={branch}");
    let path = tree.to_str().unwrap();
    let commit = ostree(repo, ["commit", &branch, path]);
    commit.parse().unwrap()
}

/// Fills a directory with kinds of files that are easy to get wrong.
pub(crate) fn fill_awkward(tree: &Path) {
    let file = |name: &str, content: &[u8]| fs::write(tree.join(name), content).unwrap();
    file("empty", b"");
    file("one", b"1");
    file("twin", b"1");
    file("with space", b"space");
    file("with\nnewline", b"newline");
    file("\u{1}control", b"control");
    file("r\u{e9}sum\u{e9}", b"UTF-8");
    file("-dash", b"dash");
    file("setuid", b"#!/bin/sh\n");
    mode(tree, "setuid", 0o4755);
    file("sticky-setgid", b"x");
    mode(tree, "sticky-setgid", 0o3710);
    file("unreadable", b"secret");
    mode(tree, "unreadable", 0o000);
    file("owned", b"owned");
    chown(tree.join("owned"), Some(1234), Some(4321)).unwrap();
    file("attributes", b"attributes");
    xattr(&tree.join("attributes"), "user.zebra", b"striped");
    xattr(&tree.join("attributes"), "user.empty", b"");
    xattr(&tree.join("attributes"), "user.ant", &[0, 0xff, 7]);
    file("zeros", &vec![0; 3 * LargeObject::CHUNK_LEN_MAX]);
    for len in [32 * 1024, 128 * 1024, 256 * 1024] {
        for len in [len - 40, len - 1, len, len + 1] {
            file(&format!("noise-{len}"), &noise(len));
        }
    }
    file("noise", &noise(1_000_000));
    symlink("one", tree.join("link")).unwrap();
    symlink("/no/such/r\u{e9}sum\u{e9}", tree.join("dangling")).unwrap();
    symlink("d/".repeat(500), tree.join("long-link")).unwrap();
    fs::create_dir_all(tree.join("sub/deep/er")).unwrap();
    fs::create_dir(tree.join("void")).unwrap();
    mode(tree, "void", 0o1777);
    fs::write(tree.join("sub/deep/er/one"), b"1").unwrap();
    fs::write(
        tree.join("sub/text"),
        "all work and no play\n".repeat(30_000),
    )
    .unwrap();
}

fn mode(tree: &Path, name: &str, mode: u32) {
    fs::set_permissions(tree.join(name), PermissionsExt::from_mode(mode)).unwrap();
}

pub(crate) fn xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::setxattr(path, name, value, rustix::fs::XattrFlags::empty()).unwrap();
}

/// Incompressible bytes, always the same.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + Checksum::LEN);
    let mut block = Sha256::digest(len.to_be_bytes());
    while bytes.len() < len {
        bytes.write_all(&block).unwrap();
        block = Sha256::digest(block);
    }
    bytes.truncate(len);
    bytes
}

/// Returns the path of an object's file.
pub(crate) fn object_path(repo: &Path, id: ObjectId, extension: &str) -> PathBuf {
    repo.join("objects").join(id.loose_path(extension))
}

/// Lists all objects of a repository.
pub(crate) fn objects(repo: &Path) -> BTreeSet<ObjectId> {
    let mut ids = BTreeSet::new();
    for directory in fs::read_dir(repo.join("objects")).unwrap() {
        let directory = directory.unwrap();
        for entry in fs::read_dir(directory.path()).unwrap() {
            let prefix = directory.file_name().into_string().unwrap();
            let name = prefix + &entry.unwrap().file_name().into_string().unwrap();
            let (checksum, extension) = name.split_once('.').unwrap();
            let kind = match extension {
                "file" | "filez" => ObjectKind::File,
                "dirtree" => ObjectKind::Dirtree,
                "dirmeta" => ObjectKind::Dirmeta,
                "commit" => ObjectKind::Commit,
                _ => continue,
            };
            ids.insert(ObjectId::new(kind, checksum.parse().unwrap()));
        }
    }
    ids
}

/// Reads a whole object in stored form, and checks the promises about its pieces.
pub(crate) fn read_stored(
    repository: &Repository,
    id: ObjectId,
) -> Result<Vec<u8>, artifact_sender::Error> {
    let mut large = match repository.read(id)? {
        Object::Small(bytes) => {
            assert!(bytes.len() <= Object::SMALL_LEN_MAX);
            return Ok(bytes.to_vec());
        }
        Object::Large(large) => large,
    };
    let mut stored = Vec::new();
    while let Some(chunk) = large.next().transpose()? {
        assert!(!chunk.is_empty() && chunk.len() <= LargeObject::CHUNK_LEN_MAX);
        stored.extend_from_slice(&chunk);
    }
    assert!(large.next().is_none());
    Ok(stored)
}

/// Checks an object in stored form as a server would, and returns it with its content inflated.
pub(crate) fn unpack(id: ObjectId, stored: &[u8]) -> (Option<FileHeader>, Vec<u8>) {
    if id.kind.is_metadata() {
        assert_eq!(Sha256::digest(stored)[..], id.checksum.as_bytes()[..]);
        return (None, stored.to_vec());
    }
    let ((header, len), packed) = split_file(stored);
    let mut content = Vec::with_capacity(len as usize + 1);
    if header.symlink_target().is_none() {
        let mut inflate = Decompress::new(false);
        let status = inflate.decompress_vec(packed, &mut content, FlushDecompress::Finish);
        assert_eq!(status.unwrap(), Status::StreamEnd, "{id}");
        assert_eq!(
            inflate.total_in(),
            packed.len() as u64,
            "{id}: trailing bytes"
        );
    } else {
        assert!(packed.is_empty());
    }
    assert_eq!(content.len() as u64, len, "{id}: declared size");
    let digest = Sha256::new_with_prefix(header.to_hashed()).chain_update(&content);
    assert_eq!(digest.finalize()[..], id.checksum.as_bytes()[..], "{id}");
    (Some(header), content)
}

fn split_file(stored: &[u8]) -> ((FileHeader, u64), &[u8]) {
    let header_len = u32::from_be_bytes(stored[..4].try_into().unwrap()) as usize + 8;
    let (header, packed) = stored.split_at(header_len);
    (FileHeader::parse_archive(header).unwrap(), packed)
}
