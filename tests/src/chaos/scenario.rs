//! The disturbed pushes: each has a server's repository, a client's, and the expected change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use artifact_formats::RefName;

use crate::exec::Failure;
use crate::invariants::Change;
use crate::repo::{Mode, Repo};
use crate::tree::Tree;

/// A push that can be repeated from the same state.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name in reports.
    pub name: &'static str,
    /// The server's repository before the push; only copies of it are changed.
    pub base: PathBuf,
    /// The client's repository.
    pub source: PathBuf,
    /// The refs to push, sorted.
    pub refs: Vec<RefName>,
    /// The expected change.
    pub change: Change,
}

/// Makes all scenarios in an empty directory.
pub fn all(dir: &Path) -> Result<Vec<Scenario>, Failure> {
    Ok(vec![
        first(Workshop::new(dir, "first")?)?,
        update(Workshop::new(dir, "update")?)?,
        several(Workshop::new(dir, "several")?)?,
        detached(Workshop::new(dir, "detached")?)?,
        based(Workshop::new(dir, "based")?)?,
    ])
}

/// A small tree into an empty repository.
fn first(shop: Workshop) -> Result<Scenario, Failure> {
    shop.tree
        .file("file", b"a file", 0o644)?
        .file("bin/program", &[7; 50_000], 0o755)?
        .symlink("link", "file")?;
    shop.commit("project/element/key", &[])?;
    shop.finish(&["project/element/key"])
}

/// A ref moves to a commit that descends from its old value; a neighbour is left alone.
fn update(shop: Workshop) -> Result<Scenario, Failure> {
    shop.tree.file("file", b"old", 0o644)?;
    shop.commit("a/b", &[])?;
    shop.commit("a/neighbour", &[])?;
    shop.publish(&["a/b", "a/neighbour"])?;
    shop.tree
        .file("file", b"new", 0o644)?
        .file("deep/er/leaf", b"leaf", 0o644)?;
    let parent = format!("--parent={}", shop.source.commit_of("a/b")?);
    shop.commit("a/b", &[&parent])?;
    shop.finish(&["a/b"])
}

/// Several refs at once, new and moved, with enough objects that directories are synced together,
/// and one large enough to be sent in pieces.
fn several(shop: Workshop) -> Result<Scenario, Failure> {
    shop.tree.generated(12, 1)?;
    shop.commit("many/a", &[])?;
    shop.publish(&["many/a"])?;
    shop.tree.generated(20, 2)?.file(
        "large",
        &artifact_models::random::Random(3).bytes(600_000),
        0o644,
    )?;
    let parent = format!("--parent={}", shop.source.commit_of("many/a")?);
    shop.commit("many/a", &[&parent])?;
    for name in ["many/b/c", "other/d"] {
        shop.tree.file("which", name.as_bytes(), 0o644)?;
        shop.commit(name, &[])?;
    }
    shop.finish(&["many/a", "many/b/c", "other/d"])
}

/// A new commit that has detached metadata, such as a signature.
fn detached(shop: Workshop) -> Result<Scenario, Failure> {
    shop.tree.file("file", b"old", 0o644)?;
    shop.commit("signed", &[])?;
    shop.publish(&["signed"])?;
    shop.tree.file("file", b"new", 0o644)?;
    let parent = format!("--parent={}", shop.source.commit_of("signed")?);
    let signature = "--add-detached-metadata-string=signature=of somebody";
    shop.commit("signed", &[&parent, signature])?;
    shop.finish(&["signed"])
}

/// A new ref beside one that shares most of its tree: the push relies on what is there.
fn based(shop: Workshop) -> Result<Scenario, Failure> {
    shop.tree.generated(30, 4)?.file("which", b"old", 0o644)?;
    shop.commit("project/element/old", &[])?;
    shop.publish(&["project/element/old"])?;
    shop.tree.file("which", b"new", 0o644)?;
    shop.commit("project/element/new", &[])?;
    shop.finish(&["project/element/new"])
}

/// The place where a scenario is made.
struct Workshop {
    name: &'static str,
    tree: Tree,
    source: Repo,
    base: Repo,
}

impl Workshop {
    fn new(dir: &Path, name: &'static str) -> Result<Self, Failure> {
        let dir = dir.join(name);
        fs::create_dir_all(&dir).map_err(Failure::doing(format!("make {dir:?}")))?;
        Ok(Self {
            name,
            tree: Tree::create(&dir.join("tree"))?,
            source: Repo::init(&dir.join("source"), Mode::Archive)?,
            base: Repo::init(&dir.join("base"), Mode::Archive)?,
        })
    }

    fn commit(&self, name: &str, options: &[&str]) -> Result<(), Failure> {
        self.source
            .commit(name, self.tree.root(), options)
            .map(drop)
    }

    /// Puts refs into the server's repository.
    fn publish(&self, names: &[&str]) -> Result<(), Failure> {
        self.base.pull_path(self.source.path(), names)?;
        self.base.ostree("summary", ["-u"]).map(drop)
    }

    fn finish(self, names: &[&str]) -> Result<Scenario, Failure> {
        let old = self.base.refs()?;
        let mut change = Change::default();
        for &name in names {
            let new = self.source.commit_of(name)?;
            let values = (old.get(name).copied(), new);
            change.refs.insert(name.to_owned(), values);
            if let Some(metadata) = self.source.detached(&new) {
                change.detached.insert(new, metadata);
            }
        }
        change.others = old
            .into_iter()
            .filter(|(name, _)| !change.refs.contains_key(name))
            .collect::<BTreeMap<_, _>>();
        let refs = names.iter().map(|name| name.parse());
        Ok(Scenario {
            name: self.name,
            base: self.base.path().to_owned(),
            source: self.source.path().to_owned(),
            refs: refs
                .collect::<Result<_, _>>()
                .map_err(|error| Failure::new(format!("{error}")))?,
            change,
        })
    }
}
