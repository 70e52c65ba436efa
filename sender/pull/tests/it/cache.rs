//! A cache in memory: the files of an archive repository, by path; and local repositories.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, FileHeader, ObjectId, ObjectKind, RepoMode,
    Summary, SummaryRef, Xattrs,
};
use artifact_puller::{Local, Origin, Pull, WebOptions};
use flate2::Compression;
use flate2::write::DeflateEncoder;

use crate::server::Server;

pub(crate) const REF: &str = "project/element/key";

/// The files of a repository.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cache {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Cache {
    /// A cache with one ref, whose commit reaches each kind of object.
    pub(crate) fn new() -> Self {
        let mut cache = Self::default();
        let config = "[core]\nrepo_version=1\nmode=archive-z2\n";
        cache.put("config", config.as_bytes());
        let (commit, _) = cache.commit("one", None);
        cache.set(REF, commit);
        cache
    }

    pub(crate) fn put(&mut self, path: &str, content: &[u8]) {
        self.files.insert(path.to_owned(), content.to_vec());
    }

    pub(crate) fn set(&mut self, name: &str, commit: Checksum) {
        self.put(
            &format!("refs/heads/{name}"),
            format!("{commit}\n").as_bytes(),
        );
        self.summarize();
    }

    /// Writes the summary from the refs.
    pub(crate) fn summarize(&mut self) {
        let mut summary = Summary::default();
        for (path, content) in &self.files {
            if let Some(name) = path.strip_prefix("refs/heads/") {
                let commit = str::from_utf8(content).unwrap().trim().parse().unwrap();
                let commit_len = self.object(ObjectId::commit(commit)).len() as u64;
                let entry = SummaryRef {
                    commit,
                    commit_len,
                    timestamp: None,
                    version: None,
                    size: None,
                };
                summary.refs.insert(name.to_owned(), entry);
            }
        }
        self.put("summary", &summary.serialize());
    }

    /// Adds a commit of a small tree; returns it, and its root.
    pub(crate) fn commit(
        &mut self,
        content: &str,
        parent: Option<Checksum>,
    ) -> (Checksum, Checksum) {
        let meta = self.meta();
        let small = self.file(content.as_bytes());
        let large = self.file(&noise(300_000));
        let below = self.tree([("inner", small)], []);
        let root = self.tree([("large", large), ("small", small)], [("sub", below, meta)]);
        let commit = Commit {
            parent,
            timestamp: 1_700_000_000,
            subject: content.to_owned(),
            ..Commit::new(root, meta)
        };
        (self.add(ObjectKind::Commit, commit.serialize()), root)
    }

    /// Adds a commit as it is.
    pub(crate) fn add_commit(&mut self, commit: &Commit) -> Checksum {
        self.add(ObjectKind::Commit, commit.serialize())
    }

    pub(crate) fn tree<'a>(
        &mut self,
        files: impl IntoIterator<Item = (&'a str, Checksum)>,
        dirs: impl IntoIterator<Item = (&'a str, Checksum, Checksum)>,
    ) -> Checksum {
        self.add(ObjectKind::Dirtree, Dirtree::serialize(files, dirs))
    }

    pub(crate) fn meta(&mut self) -> Checksum {
        let dirmeta = Dirmeta::new(attributes(0o040_755)).unwrap();
        self.add(ObjectKind::Dirmeta, dirmeta.serialize())
    }

    pub(crate) fn file(&mut self, content: &[u8]) -> Checksum {
        let (checksum, stored) = filez(content, content.len() as u64);
        let id = ObjectId::new(ObjectKind::File, checksum);
        self.put(&path_of(id), &stored);
        checksum
    }

    /// Adds an object of metadata under its checksum.
    pub(crate) fn add(&mut self, kind: ObjectKind, stored: Vec<u8>) -> Checksum {
        let checksum = Checksum::of(&stored);
        self.put(&path_of(ObjectId::new(kind, checksum)), &stored);
        checksum
    }

    pub(crate) fn object(&self, id: ObjectId) -> &[u8] {
        &self.files[&path_of(id)]
    }

    /// Returns the path of some object of a kind; of files the largest.
    pub(crate) fn some(&self, extension: &str) -> String {
        let of_kind = |(path, _): &(&String, &Vec<u8>)| {
            path.starts_with("objects/") && path.ends_with(&format!(".{extension}"))
        };
        let objects = self.files.iter().filter(of_kind);
        let largest = objects.max_by_key(|(_, content)| content.len());
        largest.unwrap().0.clone()
    }

    pub(crate) fn head(&self) -> Checksum {
        let text = &self.files[&format!("refs/heads/{REF}")];
        str::from_utf8(text).unwrap().trim().parse().unwrap()
    }
}

pub(crate) fn path_of(id: ObjectId) -> String {
    format!("objects/{}", id.archive_path())
}

/// Returns a file object's checksum, and its stored bytes with a header that says `size`.
pub(crate) fn filez(content: &[u8], size: u64) -> (Checksum, Vec<u8>) {
    let header = FileHeader::new(attributes(0o100_644), None).unwrap();
    let hashed = [&header.to_hashed(), content].concat();
    let mut stored = header.to_archive(size);
    let mut encoder = DeflateEncoder::new(&mut stored, Compression::new(6));
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap();
    (Checksum::of(&hashed), stored)
}

fn attributes(mode: u32) -> Attributes {
    Attributes {
        uid: 0,
        gid: 0,
        mode,
        xattrs: Xattrs::new(Vec::new()).unwrap(),
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A local repository in a directory of its own.
pub(crate) struct Here {
    dir: tempfile::TempDir,
}

impl Here {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Local::open_or_create(&dir.path().join("repo"), RepoMode::Archive).unwrap();
        Self { dir }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("repo")
    }

    pub(crate) fn pull(&self) -> Pull {
        Pull::new(Local::open(self.path()).unwrap())
    }

    pub(crate) fn held(&self, name: &str) -> Option<Checksum> {
        let local = Local::open(self.path()).unwrap();
        local.commit_of(&name.parse().unwrap()).unwrap()
    }

    /// Returns everything that another program may look at: not our own staging, which a thread of
    /// a pull that failed may still be clearing.
    pub(crate) fn visible(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut seen = BTreeMap::new();
        look(&self.path(), &mut seen);
        seen
    }
}

fn look(dir: &Path, seen: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("extensions") {
            continue;
        }
        if path.is_dir() {
            look(&path, seen);
        } else {
            seen.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
}

/// Returns a place to pull from that gives up on a silent server soon.
pub(crate) fn origin(server: &Server) -> Origin {
    let options = WebOptions {
        read_timeout: std::time::Duration::from_millis(700),
        pause: std::time::Duration::from_millis(5),
        ..WebOptions::default()
    };
    Origin::web(server.url().parse().unwrap(), &options).unwrap()
}
