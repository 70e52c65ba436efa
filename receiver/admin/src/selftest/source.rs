//! Commits to push, in a repository of their own.

use std::fs;
use std::path::{Path, PathBuf};

use artifact_formats::Checksum;
use ostree::prelude::*;
use ostree::{gio, glib};

/// The repository that pushes come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    tree: PathBuf,
    made: u64,
}

impl Source {
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        let this = Self {
            path: dir.join("source"),
            tree: dir.join("tree"),
            made: 0,
        };
        fs::create_dir(&this.path)?;
        let repo = ostree::Repo::new_for_path(&this.path);
        repo.create(ostree::RepoMode::Archive, gio::Cancellable::NONE)?;
        fs::create_dir(&this.tree)?;
        Ok(this)
    }

    /// Makes a commit that has new objects, small ones and a large one.
    pub(super) fn commit(
        &mut self,
        parent: Option<Checksum>,
        random: &mut fastrand::Rng,
    ) -> anyhow::Result<Checksum> {
        self.made += 1;
        for file in 0..SMALL_FILES {
            let content = bytes(random, 2000);
            let dir = self.tree.join(format!("dir{}", file % 4));
            fs::create_dir_all(&dir)?;
            fs::write(dir.join(format!("file{file}")), content)?;
        }
        fs::write(self.tree.join("large"), bytes(random, LARGE_LEN))?;
        let repo = ostree::Repo::new_for_path(&self.path);
        repo.open(gio::Cancellable::NONE)?;
        let transaction = repo.auto_transaction(gio::Cancellable::NONE)?;
        let tree = ostree::MutableTree::new();
        let dir = gio::File::for_path(&self.tree);
        repo.write_directory_to_mtree(&dir, &tree, None, gio::Cancellable::NONE)?;
        let root = repo.write_mtree(&tree, gio::Cancellable::NONE)?;
        let root = root
            .downcast::<ostree::RepoFile>()
            .map_err(|_| anyhow::anyhow!("ostree wrote no tree"))?;
        let parent = parent.map(|parent| parent.to_hex());
        let subject = format!("selftest {}", self.made);
        let commit = repo.write_commit(
            parent.as_deref(),
            Some(&subject),
            None,
            None::<&glib::Variant>,
            &root,
            gio::Cancellable::NONE,
        )?;
        transaction.commit(gio::Cancellable::NONE)?;
        Ok(commit.parse()?)
    }
}

fn bytes(random: &mut fastrand::Rng, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}

const SMALL_FILES: usize = 24;
const LARGE_LEN: usize = 400_000;
