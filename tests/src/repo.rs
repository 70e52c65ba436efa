//! OSTree repositories, through the `ostree` program: the judge of the receiver's work.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::exec::{Failure, run};
use crate::listing::Listing;

/// How a repository stores its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Compressed, for serving over http; the mode of a shared cache.
    Archive,
    /// Files of the current user with the real metadata in an attribute; the mode of a build tool's
    /// cache.
    BareUser,
}

/// A repository on disk.
#[derive(Clone, Debug)]
pub struct Repo {
    path: PathBuf,
}

impl Repo {
    /// Makes an empty repository as `ostree init` does, whose start takes longer than all the work
    /// of most pushes.
    pub fn init(path: &Path, mode: Mode) -> Result<Self, Failure> {
        let mode = match mode {
            Mode::Archive => "archive-z2",
            Mode::BareUser => "bare-user",
        };
        // Tests that need durability ask for it; the others need not wait for disks.
        let config = format!("[core]\nrepo_version=1\nmode={mode}\nfsync=false\n");
        DIRECTORIES
            .iter()
            .try_for_each(|name| fs::create_dir_all(path.join(name)))
            .and_then(|()| fs::write(path.join("config"), config))
            .map_err(Failure::doing(format!("make a repository at {path:?}")))?;
        Ok(Self::at(path))
    }

    /// Names a repository that exists or will exist.
    pub fn at(path: &Path) -> Self {
        Self { path: path.into() }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `ostree SUBCOMMAND --repo=... ARGUMENTS`, and returns its output.
    pub fn ostree<A: AsRef<OsStr>>(
        &self,
        subcommand: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, Failure> {
        let mut command = Command::new("ostree");
        command
            .arg(subcommand)
            .arg(self.argument())
            .args(arguments)
            // A fixed time zone and language, so that printed text can be compared.
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC");
        run(&mut command)
            .map_err(|failure| Failure::new(format!("{failure:?}; `apt-get install ostree`")))?
            .success()
    }

    /// Commits a tree under a ref; `options` are further options of `ostree commit`, such as
    /// `--parent=...`, `--canonical-permissions`, `--owner-uid=0`, `--bind-ref=...`,
    /// `--add-detached-metadata-string=...`.
    pub fn commit(&self, name: &str, tree: &Path, options: &[&str]) -> Result<Checksum, Failure> {
        let branch = format!("--branch={name}");
        let tree = format!("--tree=dir={}", tree.display());
        let first = [branch.as_str(), tree.as_str(), "--subject=artifact"];
        checksum(&self.ostree("commit", first.iter().chain(options))?)
    }

    /// Points another ref at a commit.
    pub fn add_ref(&self, name: &str, commit: &Checksum) -> Result<(), Failure> {
        let create = format!("--create={name}");
        self.ostree("refs", [create.as_str(), &commit.to_hex()])
            .map(drop)
    }

    /// Returns every local ref with its commit.
    pub fn refs(&self) -> Result<BTreeMap<String, Checksum>, Failure> {
        self.ostree("refs", [""; 0])?
            .lines()
            .map(|name| Ok((name.to_owned(), self.commit_of(name)?)))
            .collect()
    }

    /// Returns the commit a ref names.
    pub fn commit_of(&self, name: &str) -> Result<Checksum, Failure> {
        match fs::read_to_string(self.path.join("refs/heads").join(name)) {
            Ok(line) => checksum(&line),
            Err(_) => checksum(&self.ostree("rev-parse", [name])?),
        }
    }

    /// Returns the stored detached metadata of a commit, if it has some.
    pub fn detached(&self, commit: &Checksum) -> Option<Vec<u8>> {
        let hex = commit.to_hex();
        let (head, tail) = hex.split_at(2);
        fs::read(self.path.join(format!("objects/{head}/{tail}.commitmeta"))).ok()
    }

    /// Checks every object with `ostree fsck`.
    pub fn fsck(&self) -> Result<(), Failure> {
        self.ostree("fsck", ["--quiet"]).map(drop)
    }

    /// Pulls refs from a web server, verifying every object.
    pub fn pull_http(&self, url: &str, refs: &[&str]) -> Result<(), Failure> {
        let config = self.path.join("config");
        let section = format!("\n[remote \"web\"]\nurl={url}\ngpg-verify=false\n");
        fs::read_to_string(&config)
            .and_then(|text| match text.contains("[remote \"web\"]") {
                true => Ok(()),
                false => fs::write(&config, text + &section),
            })
            .map_err(Failure::doing(format!("add a remote to {config:?}")))?;
        self.ostree("pull", ["--mirror", "web"].iter().chain(refs))
            .map(drop)
    }

    /// Pulls refs from a repository on this machine, verifying every object.
    pub fn pull_path(&self, source: &Path, refs: &[&str]) -> Result<(), Failure> {
        let source = source.to_string_lossy();
        self.ostree("pull-local", ["--untrusted", &source].iter().chain(refs))
            .map(drop)
    }

    /// Checks a commit or ref out into a directory that does not exist, with modes and attributes.
    pub fn checkout(&self, revision: &str, destination: &Path) -> Result<(), Failure> {
        // Hard links would share the modes that bare-user repositories store in an attribute.
        let destination = destination.to_string_lossy();
        self.ostree("checkout", ["--force-copy", revision, &destination])
            .map(drop)
    }

    /// Returns the content of the summary, without its time.
    pub fn summary(&self) -> Result<Vec<String>, Failure> {
        let printed = self.ostree("summary", ["--view"])?;
        Ok(printed
            .lines()
            .filter(|line| !line.starts_with("Last-Modified"))
            .map(str::to_owned)
            .collect())
    }

    /// Lists the whole repository except for its locks and the given paths, which may change.
    pub fn listing(&self, volatile: &[&str]) -> Result<Listing, Failure> {
        Listing::without(&self.path, &[&[".lock"], volatile].concat())
    }

    /// Returns every object of a kind in an archive repository, in no order.
    pub fn objects(&self, kind: ObjectKind) -> Result<Vec<ObjectId>, Failure> {
        let listing = self.listing(&[])?;
        let extension = kind.archive_extension();
        Ok(listing
            .paths()
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .filter_map(|path| {
                let digits = path.strip_prefix("objects").ok()?.with_extension("");
                let digits = digits.to_str()?.replace('/', "");
                Some(ObjectId::new(kind, digits.parse().ok()?))
            })
            .collect())
    }

    /// Flips one bit in the middle of a stored object of an archive repository.
    pub fn damage(&self, id: &ObjectId) -> Result<(), Failure> {
        let path = self.path.join("objects").join(id.archive_path());
        let damaging = || Failure::doing(format!("damage {path:?}"));
        let mut bytes = fs::read(&path).map_err(damaging())?;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).map_err(damaging())
    }

    fn argument(&self) -> String {
        format!("--repo={}", self.path.display())
    }
}

/// What `ostree init` makes.
const DIRECTORIES: [&str; 7] = [
    "extensions",
    "objects",
    "refs/heads",
    "refs/mirrors",
    "refs/remotes",
    "state",
    "tmp/cache",
];

fn checksum(printed: &str) -> Result<Checksum, Failure> {
    printed.trim().parse().map_err(|_| {
        Failure::new(format!(
            "ostree printed {printed:?}, which is not a checksum"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::HttpServer;
    use crate::listing::compare;
    use crate::tree::Tree;

    /// The end-to-end tests conclude something from a checkout only if stock tools make it right.
    #[test]
    fn a_tree_survives_commit_pull_by_http_and_by_path_and_checkout() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        Tree::create(&at("tree")).unwrap().all_kinds().unwrap();
        let archive = Repo::init(&at("archive"), Mode::Archive).unwrap();
        let options = [
            "--add-detached-metadata-string=key=value",
            "--bind-ref=p/e/weak",
        ];
        let commit = archive.commit("p/e/strong", &at("tree"), &options).unwrap();
        archive.add_ref("p/e/weak", &commit).unwrap();
        assert_eq!(
            archive.refs().unwrap().into_values().collect::<Vec<_>>(),
            [commit; 2]
        );
        for name in ["p/e/strong", "p/e/weak"] {
            let parsed = archive.ostree("rev-parse", [name]).unwrap();
            assert_eq!(parsed.trim(), commit.to_hex());
        }
        let server = HttpServer::start(archive.path()).unwrap();
        for way in ["http", "path"] {
            let user = Repo::init(&at(way), Mode::BareUser).unwrap();
            match way {
                "http" => user.pull_http(&server.url(), &["p/e/weak"]).unwrap(),
                _ => user.pull_path(archive.path(), &["p/e/weak"]).unwrap(),
            }
            user.fsck().unwrap();
            assert_eq!(user.commit_of("p/e/weak").unwrap(), commit);
            assert_eq!(user.detached(&commit), archive.detached(&commit));
            let out = at(way).with_extension("out");
            user.checkout("p/e/weak", &out).unwrap();
            compare(&at("tree"), &out).unwrap();
        }
        assert!(archive.detached(&commit).is_some());
    }

    #[test]
    fn an_empty_repository_is_the_one_that_ostree_makes() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, name) in [(Mode::Archive, "archive-z2"), (Mode::BareUser, "bare-user")] {
            let ours = Repo::init(&dir.path().join(name), mode).unwrap();
            let theirs = Repo::at(&dir.path().join("theirs").join(name));
            fs::create_dir_all(theirs.path().parent().unwrap()).unwrap();
            theirs.ostree("init", [format!("--mode={name}")]).unwrap();
            theirs
                .ostree("config", ["set", "core.fsync", "false"])
                .unwrap();
            let listing = |repo: &Repo| repo.listing(&[]).unwrap();
            listing(&theirs).must_equal(&listing(&ours)).unwrap();
        }
    }

    #[test]
    fn fsck_and_listing_see_a_damaged_object() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        Tree::create(&at("tree")).unwrap().all_kinds().unwrap();
        let repo = Repo::init(&at("repo"), Mode::Archive).unwrap();
        let commit = repo.commit("main", &at("tree"), &[]).unwrap();
        let before = repo.listing(&[]).unwrap();
        repo.fsck().unwrap();
        before.must_equal(&repo.listing(&[]).unwrap()).unwrap();
        repo.damage(&ObjectId::new(ObjectKind::Commit, commit))
            .unwrap();
        assert!(repo.fsck().is_err());
        assert!(before.must_equal(&repo.listing(&[]).unwrap()).is_err());
    }
}
