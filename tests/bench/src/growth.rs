//! The time of a push as something grows: its objects, the refs of the cache, the depth of a tree,
//! the history of a ref.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use artifact_formats::Checksum;
use artifact_models::random::Random;
use artifact_tests::exec::{Failure, run};
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;

use crate::data::{count_objects, make_dir, remove};
use crate::spread::Spread;
use crate::timed::{self, Timed};

/// The pushes at one size.
#[derive(Clone, Debug)]
pub struct Point {
    /// The size.
    pub at: u64,
    /// The time of each push.
    pub pushes: Vec<Timed>,
}

/// The time of a push as one thing grows.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The thing that grows.
    pub name: &'static str,
    /// The push.
    pub push: &'static str,
    /// From small to large.
    pub points: Vec<Point>,
}

impl Point {
    /// Returns the milliseconds until the refs were set.
    pub fn finalized(&self) -> Option<Spread> {
        self.milliseconds(|push| push.finalized)
    }

    /// Returns the milliseconds until the summary listed them.
    pub fn summarized(&self) -> Option<Spread> {
        self.milliseconds(|push| push.summarized)
    }

    fn milliseconds(&self, part: fn(&Timed) -> Duration) -> Option<Spread> {
        Spread::of(
            self.pushes
                .iter()
                .map(|push| part(push).as_secs_f64() * 1e3),
        )
    }
}

/// Returns all curves, measured in `dir`; reports progress to `say`.
pub fn curves(dir: &Path, say: &dyn Fn(&str)) -> Result<Vec<Curve>, Failure> {
    say("objects");
    let objects = objects(
        &dir.join("objects"),
        &[1_000, 3_000, 10_000, 30_000, 100_000],
    )?;
    say("refs");
    let refs = refs(&dir.join("refs"), &[1, 100, 1_000, 10_000, 50_000], 5)?;
    say("depth");
    let depth = depth(&dir.join("depth"), &[1, 10, 50, 100, 250])?;
    say("history");
    let history = history(&dir.join("history"), &[1, 10, 100, 1_000])?;
    Ok(vec![objects, refs, depth, history])
}

/// Pushes small artifacts, by turns, to caches with these numbers of refs.
pub fn refs(dir: &Path, counts: &[u64], pushes: usize) -> Result<Curve, Failure> {
    make_dir(dir)?;
    let source = Repo::init(&dir.join("source"), Mode::Archive)?;
    let mut random = Random(REFS_SEED);
    let names: Vec<String> = (0..pushes)
        .map(|push| format!("bench/small/k{push}"))
        .collect();
    for name in &names {
        small_commit(&source, name, &dir.join("tree"), &mut random)?;
    }
    let mut caches = Vec::new();
    for &count in counts {
        let cache = Repo::at(&dir.join(format!("cache-{count}")));
        cache.ostree("init", ["--mode=archive-z2"])?;
        let commit = small_commit(&cache, "first/of/all", &dir.join("tree"), &mut random)?;
        add_refs(&cache, count.saturating_sub(1), &commit)?;
        cache.ostree("summary", ["-u"])?;
        caches.push((cache, Point::new(count)));
    }
    for name in &names {
        for (cache, point) in &mut caches {
            point.pushes.push(timed::push(
                source.path(),
                cache.path(),
                std::slice::from_ref(name),
            )?);
        }
        caches.rotate_left(1);
    }
    let mut points: Vec<Point> = caches.into_iter().map(|(_, point)| point).collect();
    points.sort_by_key(|point| point.at);
    Ok(Curve {
        name: "refs of the cache",
        push: "an artifact of 50 files",
        points,
    })
}

fn objects(dir: &Path, counts: &[u64]) -> Result<Curve, Failure> {
    let mut points = Vec::new();
    for &count in counts {
        make_dir(dir)?;
        let tree = Tree::create(&dir.join("tree"))?;
        // One in ten equals another.
        tree.generated(count as usize * 10 / 9, count)?;
        let source = commit_tree(dir, tree.root())?;
        points.push(push_to_empty(dir, &source, count)?);
        remove(dir)?;
    }
    Ok(Curve {
        name: "objects pushed",
        push: "all of them, to an empty cache",
        points,
    })
}

fn depth(dir: &Path, depths: &[u64]) -> Result<Curve, Failure> {
    let mut points = Vec::new();
    for &depth in depths {
        make_dir(dir)?;
        // Built inside out, since a path cannot have so many components; all directories differ.
        let tree = dir.join("tree");
        make_dir(&tree)?;
        for level in 1..depth {
            let outer = dir.join("outer");
            make_dir(&outer)?;
            let moving = || Failure::doing("make a deep directory");
            fs::write(tree.join("level"), level.to_string()).map_err(moving())?;
            fs::rename(&tree, outer.join("d")).map_err(moving())?;
            fs::rename(&outer, &tree).map_err(moving())?;
        }
        let source = commit_tree(dir, &tree)?;
        let mut point = push_to_empty(dir, &source, depth)?;
        point.at = depth;
        points.push(point);
        remove(dir)?;
    }
    Ok(Curve {
        name: "levels of directories",
        push: "a tree of one file a level, to an empty cache",
        points,
    })
}

/// Moves a ref by one commit, when both ends have so many commits behind it.
fn history(dir: &Path, lengths: &[u64]) -> Result<Curve, Failure> {
    make_dir(dir)?;
    let source = Repo::init(&dir.join("source"), Mode::Archive)?;
    let mut random = Random(HISTORY_SEED);
    let mut points = Vec::new();
    let (mut len, mut last) = (0, None::<Checksum>);
    let mut grow = |source: &Repo| -> Result<(), Failure> {
        let parent = last.map_or_else(
            || "--parent=none".to_owned(),
            |commit| format!("--parent={commit}"),
        );
        let tree = dir.join("tree");
        make_dir(&tree)?;
        fs::write(tree.join("file"), random.bytes(100)).map_err(Failure::doing("write a file"))?;
        last = Some(source.commit(REF, &tree, &["--no-xattrs", &parent])?);
        Ok(())
    };
    for &wanted in lengths {
        while len < wanted {
            grow(&source)?;
            len += 1;
        }
        let before = dir.join("before");
        run(Command::new("cp").arg("-a").arg(source.path()).arg(&before))?.success()?;
        grow(&source)?;
        len += 1;
        let mut point = Point::new(wanted);
        for _ in 0..PUSHES {
            let cache = dir.join("cache");
            run(Command::new("cp").arg("-a").arg(&before).arg(&cache))?.success()?;
            let pushed = timed::push(source.path(), &cache, &[REF.to_owned()])?;
            point.pushes.push(pushed);
            remove(&cache)?;
        }
        points.push(point);
        remove(&before)?;
    }
    Ok(Curve {
        name: "commits behind the ref",
        push: "one more commit",
        points,
    })
}

impl Point {
    const fn new(at: u64) -> Self {
        Self {
            at,
            pushes: Vec::new(),
        }
    }
}

fn commit_tree(dir: &Path, tree: &Path) -> Result<PathBuf, Failure> {
    let source = Repo::init(&dir.join("source"), Mode::Archive)?;
    source.commit(REF, tree, &["--no-xattrs"])?;
    remove(tree)?;
    Ok(source.path().to_owned())
}

/// Pushes to new caches; the point is at the number of objects.
fn push_to_empty(dir: &Path, source: &Path, at: u64) -> Result<Point, Failure> {
    let mut point = Point::new(at);
    for push in 0..PUSHES {
        let cache = Repo::at(&dir.join(format!("cache-{push}")));
        cache.ostree("init", ["--mode=archive-z2"])?;
        point
            .pushes
            .push(timed::push(source, cache.path(), &[REF.to_owned()])?);
        point.at = count_objects(cache.path())?;
    }
    Ok(point)
}

pub(crate) fn small_commit(
    repo: &Repo,
    name: &str,
    path: &Path,
    random: &mut Random,
) -> Result<Checksum, Failure> {
    let tree = Tree::create(path)?;
    for file in 0..50 {
        tree.file(&format!("f{file}"), &random.bytes(6_000), 0o644)?;
    }
    let commit = repo.commit(name, tree.root(), &["--no-xattrs"])?;
    remove(path)?;
    Ok(commit)
}

/// Adds refs with names like a build tool's, all to one commit.
pub(crate) fn add_refs(repo: &Repo, count: u64, commit: &Checksum) -> Result<(), Failure> {
    let mut random = Random(count);
    for index in 0..count {
        let dir = repo
            .path()
            .join(format!("refs/heads/project/element-{}.bst", index % 500));
        make_dir(&dir)?;
        let path = dir.join(hex::encode(random.bytes(16)));
        fs::write(&path, format!("{commit}\n"))
            .map_err(Failure::doing(format!("write {path:?}")))?;
    }
    Ok(())
}

const REF: &str = "bench/growth/ref";
const REFS_SEED: u64 = 50_000;
const HISTORY_SEED: u64 = 1_000;
const PUSHES: usize = 3;
