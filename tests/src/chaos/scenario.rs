//! The disturbed pushes and pulls: each has a repository that changes, one that objects come from,
//! and the expected change.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use artifact_formats::RefName;

use crate::exec::Failure;
use crate::invariants::Change;
use crate::repo::{Mode, Repo};
use crate::tree::Tree;

/// Whose work is disturbed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A receiver's, in a push to an archive.
    Receiver,
    /// A puller's, in a pull into an own repository.
    Puller,
}

/// A push or pull that can be repeated from the same state.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name in reports.
    pub name: String,
    /// The repository before the push; only copies of it are changed.
    pub base: PathBuf,
    /// The repository that the objects come from, an archive.
    pub source: PathBuf,
    /// The refs to push, sorted.
    pub refs: Vec<RefName>,
    /// The expected change.
    pub change: Change,
}

/// Makes all scenarios of a role in an empty directory.
pub fn all(dir: &Path, role: Role) -> Result<Vec<Scenario>, Failure> {
    let shop = |mode, name| Workshop::new(dir, role, mode, name);
    let mut all = Vec::new();
    let modes: &[_] = match role {
        Role::Receiver => &[Mode::Archive],
        Role::Puller => &[Mode::Archive, Mode::BareUser],
    };
    for &mode in modes {
        all.extend([
            first(shop(mode, "first")?)?,
            update(shop(mode, "update")?)?,
            several(shop(mode, "several")?)?,
            detached(shop(mode, "detached")?)?,
            based(shop(mode, "based")?)?,
        ]);
        if role == Role::Puller {
            all.push(partial(shop(mode, "partial")?)?);
        }
    }
    Ok(all)
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

/// A commit of which another program has pulled a part.
fn partial(shop: Workshop) -> Result<Scenario, Failure> {
    shop.tree.generated(12, 5)?.symlink("link", "which")?;
    shop.commit("half", &[])?;
    let commit = shop.source.commit_of("half")?;
    shop.base
        .pull_path(shop.source.path(), &[&commit.to_hex()])?;
    let mark = format!("state/{commit}.commitpartial");
    let mark = shop.base.path().join(mark);
    fs::write(&mark, b"").map_err(Failure::doing(format!("write {mark:?}")))?;
    let listing = shop.base.listing(&[])?;
    let is_file = |path: &&Path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("file" | "filez"))
    };
    for path in listing.paths().filter(is_file).step_by(2) {
        let path = shop.base.path().join(path);
        fs::remove_file(&path).map_err(Failure::doing(format!("remove {path:?}")))?;
    }
    shop.finish(&["half"])
}

/// The place where a scenario is made.
struct Workshop {
    name: String,
    role: Role,
    tree: Tree,
    source: Repo,
    base: Repo,
}

impl Workshop {
    fn new(dir: &Path, role: Role, mode: Mode, name: &str) -> Result<Self, Failure> {
        let name = match mode {
            Mode::Archive => name.to_owned(),
            Mode::BareUser => format!("{name}-bare-user"),
        };
        let dir = dir.join(&name);
        fs::create_dir_all(&dir).map_err(Failure::doing(format!("make {dir:?}")))?;
        Ok(Self {
            name,
            role,
            tree: Tree::create(&dir.join("tree"))?,
            source: Repo::init(&dir.join("source"), Mode::Archive)?,
            base: Repo::init(&dir.join("base"), mode)?,
        })
    }

    fn commit(&self, name: &str, options: &[&str]) -> Result<(), Failure> {
        self.source
            .commit(name, self.tree.root(), options)
            .map(drop)
    }

    /// Puts refs into the repository that changes.
    fn publish(&self, names: &[&str]) -> Result<(), Failure> {
        self.base.pull_path(self.source.path(), names)?;
        match self.role {
            Role::Receiver => self.base.ostree("summary", ["-u"]).map(drop),
            Role::Puller => Ok(()),
        }
    }

    fn finish(self, names: &[&str]) -> Result<Scenario, Failure> {
        let old = self.base.refs()?;
        let mut change = Change {
            is_pull: self.role == Role::Puller,
            ..Change::default()
        };
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
