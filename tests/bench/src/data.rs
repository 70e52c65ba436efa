//! The test data: made once, from a seed or from Debian's packages, and kept.
//!
//! Each case has two commits without a parent, `one` and `two`; the second has one file in a
//! hundred changed (for huge cases only the commit differs). There is an archive repository with
//! the first, one with both, and the first in a bare-user repository where that is measured; lists
//! of the objects that an empty destination lacks, and that one with `one` lacks; and all objects
//! of `one` in a single file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_formats::Checksum;
use artifact_models::random::Random;
use artifact_tests::exec::{Failure, run};
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;

use crate::case::{Case, Source, Work};

/// The repositories and lists of a case.
#[derive(Clone, Debug)]
pub struct Data {
    pub case: Case,
    dir: PathBuf,
    one: Checksum,
    two: Checksum,
    full: Extent,
    change: Extent,
}

/// A number of objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    pub objects: u64,
    /// Their stored bytes in an archive repository.
    pub bytes: u64,
}

impl Data {
    /// Creates the data of a case below `root`, unless it exists.
    pub fn prepare(case: Case, root: &Path) -> Result<Self, Failure> {
        let dir = root.join(case.name());
        if !dir.exists() {
            let making = root.join(format!("{}.new", case.name()));
            remove(&making)?;
            make_dir(&making)?;
            make(case, root, &making)?;
            fs::rename(&making, &dir).map_err(Failure::doing(format!("make {dir:?}")))?;
        }
        let both = Repo::at(&dir.join("both"));
        Ok(Self {
            case,
            one: both.commit_of(&reference(case, Work::Full))?,
            two: both.commit_of(&reference(case, Work::Change))?,
            full: Extent::of(&dir, Work::Full)?,
            change: Extent::of(&dir, Work::Change)?,
            dir,
        })
    }

    /// Returns the repository to push from: it has exactly what the destination must have in the
    /// end.
    pub fn source(&self, source: Source, work: Work) -> PathBuf {
        self.dir.join(match (source, work) {
            (Source::BareUser, _) => "bare-user",
            (Source::Archive, Work::Change) => "both",
            (Source::Archive, Work::Full | Work::Nothing) => "one",
        })
    }

    /// Returns the repository that has only `one`.
    pub fn first(&self) -> PathBuf {
        self.dir.join("one")
    }

    /// Returns the tree of a commit, checked out once.
    pub fn checkout(&self, work: Work) -> Result<PathBuf, Failure> {
        let tree = self.dir.join(match work {
            Work::Full | Work::Nothing => "one.tree",
            Work::Change => "two.tree",
        });
        if !tree.exists() {
            let making = tree.with_extension("new");
            remove(&making)?;
            let both = Repo::at(&self.dir.join("both"));
            let making_at = making.to_string_lossy().into_owned();
            both.ostree("checkout", ["-U", &self.reference(work), &making_at])?;
            fs::rename(&making, &tree).map_err(Failure::doing(format!("make {tree:?}")))?;
        }
        Ok(tree)
    }

    /// Returns the list of missing files, including the ref, relative to the repository.
    pub fn list(&self, work: Work) -> PathBuf {
        list(&self.dir, work)
    }

    /// Returns the file with all objects of `one`.
    pub fn bundle(&self) -> PathBuf {
        self.dir.join("one.tar")
    }

    /// Returns the ref to push.
    pub fn reference(&self, work: Work) -> String {
        reference(self.case, work)
    }

    /// Returns the commit that the ref must hold afterwards.
    pub fn commit(&self, work: Work) -> Checksum {
        match work {
            Work::Full | Work::Nothing => self.one,
            Work::Change => self.two,
        }
    }

    /// Returns how much is missing.
    pub fn missing(&self, work: Work) -> Extent {
        match work {
            Work::Full => self.full,
            Work::Change => self.change,
            Work::Nothing => Extent::default(),
        }
    }

    /// Returns how many objects the destination must have afterwards.
    pub fn objects_after(&self, work: Work) -> u64 {
        match work {
            Work::Full | Work::Nothing => self.full.objects,
            Work::Change => self.full.objects + self.change.objects,
        }
    }
}

impl Extent {
    fn of(dir: &Path, work: Work) -> Result<Self, Failure> {
        let path = list(dir, work);
        let text = fs::read_to_string(&path).map_err(Failure::doing(format!("read {path:?}")))?;
        let mut extent = Self::default();
        for name in text.lines().filter(|name| name.starts_with("objects/")) {
            let path = dir.join("both").join(name);
            let metadata = fs::metadata(&path).map_err(Failure::doing(format!("find {path:?}")))?;
            extent.objects += 1;
            extent.bytes += metadata.len();
        }
        Ok(extent)
    }
}

fn reference(case: Case, work: Work) -> String {
    let commit = match work {
        Work::Full | Work::Nothing => "one",
        Work::Change => "two",
    };
    format!("bench/{}/{commit}", case.name())
}

fn list(dir: &Path, work: Work) -> PathBuf {
    dir.join(match work {
        Work::Full => "one.list",
        Work::Change => "two.list",
        Work::Nothing => "none.list",
    })
}

fn make(case: Case, root: &Path, dir: &Path) -> Result<(), Failure> {
    let tree = dir.join("tree");
    make_tree(case, root, &tree)?;
    let one = Repo::init(&dir.join("one"), Mode::Archive)?;
    commit(&one, case, Work::Full, &tree)?;
    if case.has_bare_user() {
        let bare = Repo::init(&dir.join("bare-user"), Mode::BareUser)?;
        commit(&bare, case, Work::Full, &tree)?;
    }
    let both = Repo::at(&dir.join("both"));
    copy_linked(one.path(), both.path())?;
    if !case.is_huge() {
        change(&tree)?;
    }
    commit(&both, case, Work::Change, &tree)?;
    let first = write_list(dir, Work::Full, one.path(), &[], case)?;
    write_list(dir, Work::Change, both.path(), &first, case)?;
    for repo in [&one, &both] {
        repo.ostree("summary", ["-u"])?;
    }
    remove(&tree)?;
    if case.is_huge() {
        return Ok(());
    }
    run(Command::new("tar")
        .args(["-b", "512", "-cf"])
        .arg(dir.join("one.tar"))
        .arg("-C")
        .arg(one.path())
        .arg("objects"))?
    .success()
    .map(drop)
}

fn make_tree(case: Case, root: &Path, path: &Path) -> Result<(), Failure> {
    if case == Case::A {
        return copy_root_file_system(root, path);
    }
    let tree = Tree::create(path)?;
    match case {
        Case::T => {
            let mut random = Random(50);
            for index in 0..50 {
                let content = half_random(&mut random, 2_000 + 400 * index);
                tree.file(
                    &format!("usr/share/t{}/f{index}", index % 5),
                    &content,
                    0o644,
                )?;
            }
        }
        Case::A => {}
        Case::B => {
            let mut random = Random(100_000);
            for index in 0..100_000_u32 {
                let len = 512 + random.below(8 * 1024 - 511) as usize;
                let content = half_random(&mut random, len);
                tree.file(
                    &format!("d{:03}/f{index:05}", index % 1_000),
                    &content,
                    0o644,
                )?;
            }
        }
        Case::C => {
            for (index, name) in ["image", "random", "text", "words"].iter().enumerate() {
                let path = path.join(name);
                write_large(&path, LARGE_LEN, index as u64 + 1, index > 1)
                    .map_err(Failure::doing(format!("write {path:?}")))?;
            }
        }
        Case::M => {
            for index in 0..1_000_000_u32 {
                let name = format!("d{:03}/s{}/f{index}", index % 1_000, index / 100_000);
                tree.file(&name, &index.to_le_bytes(), 0o644)?;
            }
        }
        Case::G => {
            let path = path.join("large");
            write_large(&path, 10 << 30, 10, false)
                .map_err(Failure::doing(format!("write {path:?}")))?;
        }
    }
    Ok(())
}

/// Makes bytes that deflate shortens by about a third.
fn half_random(random: &mut Random, len: usize) -> Vec<u8> {
    let mut content = random.bytes(len * 3 / 5);
    while content.len() < len {
        content.extend_from_slice(b"the same words again, ");
    }
    content.truncate(len);
    content
}

fn write_large(path: &Path, len: usize, seed: u64, compressible: bool) -> std::io::Result<()> {
    let mut random = Random(seed);
    let mut file = fs::File::create(path)?;
    for _ in 0..len / MIB {
        let block = if compressible {
            hex::encode(random.bytes(MIB / 2)).into_bytes()
        } else {
            random.bytes(MIB)
        };
        file.write_all(&block)?;
    }
    Ok(())
}

/// Copies a root file system, downloaded the first time, without devices and leftovers.
fn copy_root_file_system(root: &Path, path: &Path) -> Result<(), Failure> {
    let kept = root.join("A.tree");
    if !kept.exists() {
        let loading = root.join("A.tree.new");
        remove(&loading)?;
        run(Command::new("debootstrap")
            .args(["--variant=minbase", "bookworm"])
            .arg(&loading)
            .arg(MIRROR))
        .map_err(|failure| Failure::new(format!("{failure:?}; `apt-get install debootstrap`")))?
        .success()?;
        fs::rename(&loading, &kept).map_err(Failure::doing(format!("make {kept:?}")))?;
    }
    run(Command::new("cp").arg("-a").arg(&kept).arg(path))?.success()?;
    for emptied in ["dev", "var/cache/apt", "var/lib/apt/lists", "var/log"] {
        remove(&path.join(emptied))?;
        make_dir(&path.join(emptied))?;
    }
    Ok(())
}

/// Adds a line to one regular file in a hundred, at least to one.
fn change(tree: &Path) -> Result<(), Failure> {
    let mut files = Vec::new();
    collect_files(tree, &mut files)?;
    files.sort();
    for path in files.iter().step_by(100) {
        let changing = || Failure::doing(format!("change {path:?}"));
        let mut file = OpenOptions::new()
            .append(true)
            .open(path)
            .map_err(changing())?;
        file.write_all(b"changed\n").map_err(changing())?;
    }
    Ok(())
}

fn collect_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let reading = || Failure::doing(format!("read {dir:?}"));
    for entry in fs::read_dir(dir).map_err(reading())? {
        let entry = entry.map_err(reading())?;
        let kind = entry.file_type().map_err(reading())?;
        if kind.is_dir() {
            collect_files(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn commit(repo: &Repo, case: Case, work: Work, tree: &Path) -> Result<Checksum, Failure> {
    let options = ["--timestamp=2026-01-01 00:00:00 +0000", "--no-xattrs"];
    repo.commit(&reference(case, work), tree, &options)
}

/// Lists the objects of a repository that `before` lacks, and the ref; returns all objects.
fn write_list(
    dir: &Path,
    work: Work,
    repo: &Path,
    before: &[String],
    case: Case,
) -> Result<Vec<String>, Failure> {
    let mut files = Vec::new();
    collect_files(&repo.join("objects"), &mut files)?;
    let mut names: Vec<String> = files
        .iter()
        .filter_map(|path| path.strip_prefix(repo).ok()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    let new = |name: &&String| before.binary_search(name).is_err();
    let mut text: String = names.iter().filter(new).map(|n| format!("{n}\n")).collect();
    text += &format!("refs/heads/{}\n", reference(case, work));
    let path = list(dir, work);
    fs::write(&path, text).map_err(Failure::doing(format!("write {path:?}")))?;
    Ok(names)
}

/// Copies a repository by hard links: no writer of repositories changes a file in place.
pub fn copy_linked(from: &Path, to: &Path) -> Result<(), Failure> {
    run(Command::new("cp").arg("-al").arg(from).arg(to))?
        .success()
        .map(drop)
}

/// Creates a directory and its parents.
pub fn make_dir(path: &Path) -> Result<(), Failure> {
    fs::create_dir_all(path).map_err(Failure::doing(format!("make {path:?}")))
}

/// Removes a tree, if it exists.
pub fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::doing(format!("remove {path:?}"))(error))
        }
        _ => Ok(()),
    }
}

/// Returns the number of objects in a repository.
pub fn count_objects(repo: &Path) -> Result<u64, Failure> {
    let objects = repo.join("objects");
    let reading = || Failure::doing(format!("list {objects:?}"));
    let mut count = 0;
    for directory in fs::read_dir(&objects).map_err(reading())? {
        let path = directory.map_err(reading())?.path();
        for entry in fs::read_dir(&path).map_err(reading())? {
            let name = entry.map_err(reading())?.file_name();
            // Skips the mark that a commit was made somewhere else.
            count += u64::from(!name.to_string_lossy().ends_with(".commitpartial"));
        }
    }
    Ok(count)
}

const MIB: usize = 1 << 20;
const LARGE_LEN: usize = 256 * MIB;
const MIRROR: &str = "http://deb.debian.org/debian";
