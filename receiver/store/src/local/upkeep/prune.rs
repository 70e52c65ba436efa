//! Removes objects that no ref reaches.
//!
//! It works as `ostree prune --refs-only` does, under the same exclusive lock, with three
//! differences. It can tell beforehand what it would remove if more refs were gone: one walk
//! answers both. A ref that leads nowhere, or an alias of a directory, with which libostree cannot
//! list refs, does not stop it from making room. And commits are removed durably before the objects
//! they reach, so that a crash leaves every complete commit its closure (INV-2).
//!
//! The walk also counts anew what each identity holds (`held.rs`).
//!
//! If a commit that counts as complete lacks an object, nothing is removed: the objects below the
//! missing one cannot be told from unneeded ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use artifact_formats::{
    Checksum, Commit, ObjectId, ObjectKind, RefName, RepoMode, serialize_tombstone,
};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{FileKind, Fs, LockMode, PutFile, Stat, if_there, list_dir};
use crate::local::repository::listing::{self, Broken};
use crate::local::repository::stored::{self, Stored};
use crate::local::repository::{self, Repo, account, deltas, held, objects};
use crate::local::staging::Staging;
use crate::local::upkeep::remove;
use crate::quota::load::Weight;
use crate::summary::config::SummaryConfig;
use crate::tree;
use crate::tree::id_set::IdSet;

/// The objects that were removed, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The number of objects before.
    pub objects: u64,
    /// How many of them are removed.
    pub removed: u64,
    /// Bytes of everything removed.
    pub bytes: u64,
}

/// Removes all objects that no ref reaches, and static deltas to removed commits.
///
/// Fails with [`Error::NotWhole`] when an object is missing below a commit that is not marked
/// partial.
pub fn prune(path: &Path, summary: SummaryConfig) -> Result<Pruned, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let repo = Repo::open(fs)?;
    let scratch = remove::scratch(&repo)?;
    let lock = repo.lock(LockMode::Exclusive)?;
    let fs = &*repo.fs;
    let owners = if held::is_counted(fs)? {
        account::owners(fs)?
    } else {
        HashMap::new()
    };
    let Reached { all, of_each } = reach(fs, &HashSet::new(), &owners)?;
    let sweep = Sweep {
        fs,
        reached: all,
        scratch: Some(&scratch),
        tombstones: repo.config.tombstone_commits,
    };
    let mut pruned = Pruned::default();
    sweep.objects(&mut pruned, true)?;
    if pruned.removed > 0 {
        fs.sync_all()
            .map_err(Error::io("syncing", &RepoPath::root()))?;
    }
    sweep.objects(&mut pruned, false)?;
    pruned.bytes += sweep.deltas()?;
    remove::if_room(held::recount(fs, &scratch, &of_each))?;
    drop(lock);
    // It names removed static deltas, and refs that were removed while the disk was full.
    remove::update_summary(&repo, &scratch, &summary)?;
    scratch.publish();
    Ok(pruned)
}

/// Returns what [`prune`] would remove if these refs were gone; changes nothing.
pub fn would_prune(path: &Path, going: &[RefName]) -> Result<Pruned, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    repository::read_config(&fs)?;
    let going: HashSet<_> = going.iter().map(RefName::as_str).collect();
    let sweep = Sweep {
        fs: &fs,
        reached: reach(&fs, &going, &HashMap::new())?.all,
        scratch: None,
        tombstones: false,
    };
    let mut pruned = Pruned::default();
    sweep.objects(&mut pruned, true)?;
    sweep.objects(&mut pruned, false)?;
    pruned.bytes += sweep.deltas()?;
    Ok(pruned)
}

/// What refs reach.
struct Reached {
    all: IdSet,
    /// What those of each identity reach, and none that was looked at before.
    of_each: BTreeMap<String, Weight>,
}

/// Returns all that refs reach, but for some of `refs/heads`: of histories as much as is there.
/// Refs that nobody owns come first, and what they reach is nobody's.
fn reach<F: Fs>(
    fs: &F,
    going: &HashSet<&str>,
    owners: &HashMap<Box<str>, String>,
) -> Result<Reached, Error> {
    let all = listing::list(fs)?;
    let others = all.mirrors.values().chain(all.remotes.values()).flatten();
    let leftovers = all.broken.iter().filter_map(|(_, broken)| match broken {
        Broken::Leftover(commit) => Some(*commit),
        Broken::Foreign | Broken::NoChecksum | Broken::Lost(_) => None,
    });
    let nobodys = others.map(|(_, &commit)| commit).chain(leftovers);
    let mut groups: BTreeMap<Option<&String>, Vec<_>> = BTreeMap::new();
    groups.insert(None, nobodys.collect());
    for (name, commit) in &all.heads {
        if !going.contains(name.as_str()) {
            let owner = owners.get(name.as_str());
            groups.entry(owner).or_default().push(*commit);
        }
    }
    let mut walk = Walk {
        fs,
        reached: IdSet::default(),
        weight: None,
    };
    let mut of_each = BTreeMap::new();
    for (owner, commits) in groups {
        walk.weight = owner.map(|_| Weight::default());
        walk.histories(commits)?;
        of_each.extend(owner.cloned().zip(walk.weight.take()));
    }
    Ok(Reached {
        all: walk.reached,
        of_each,
    })
}

struct Walk<'a, F: Fs> {
    fs: &'a F,
    reached: IdSet,
    // Of what is reached now, if that is counted.
    weight: Option<Weight>,
}

impl<F: Fs> Walk<'_, F> {
    fn histories(&mut self, mut commits: Vec<Checksum>) -> Result<(), Error> {
        while let Some(commit) = commits.pop() {
            let id = ObjectId::new(ObjectKind::Commit, commit);
            let path = RepoPath::object(&id);
            if !objects::is_there(self.fs, &path)? || !self.reached.insert(id) {
                continue;
            }
            self.count(&path)?;
            self.count(&RepoPath::detached(commit))?;
            commits.extend(self.commit(commit)?);
        }
        Ok(())
    }

    /// Adds what is beneath a commit; returns its parent.
    fn commit(&mut self, commit: Checksum) -> Result<Option<Checksum>, Error> {
        let mut parent = None;
        let mut stack = vec![ObjectId::new(ObjectKind::Commit, commit)];
        while let Some(id) = stack.pop() {
            let Some(content) = objects::read_metadata(self.fs, id)? else {
                if objects::is_whole(self.fs, commit)? {
                    return Err(Error::NotWhole { commit, id });
                }
                continue;
            };
            for child in tree::children(id, &content).unwrap_or_default() {
                if !self.reached.insert(child) {
                    continue;
                }
                self.count(&RepoPath::object(&child))?;
                if child.kind == ObjectKind::Dirtree {
                    stack.push(child);
                }
            }
            if id.kind == ObjectKind::Commit {
                parent = Commit::parse(&content)
                    .ok()
                    .and_then(|commit| commit.parent);
            }
        }
        Ok(parent)
    }

    /// Adds a file to what is counted, if it is there.
    fn count(&mut self, path: &RepoPath) -> Result<(), Error> {
        if let Some(weight) = &mut self.weight {
            let stat = if_there(self.fs.stat(path)).map_err(Error::io("looking at", path))?;
            let file = |stat: Stat| Weight {
                objects: 1,
                bytes: stat.len,
            };
            *weight = *weight + stat.map(file).unwrap_or_default();
        }
        Ok(())
    }
}

struct Sweep<'a, F: Fs> {
    fs: &'a F,
    reached: IdSet,
    // `None` for a dry run.
    scratch: Option<&'a Staging<F>>,
    /// Whether a removed commit leaves a tombstone.
    tombstones: bool,
}

impl<F: Fs> Sweep<'_, F> {
    /// Removes objects that are not reached: commits with their metadata, or all others.
    fn objects(&self, pruned: &mut Pruned, commits: bool) -> Result<(), Error> {
        for first in 0..=u8::MAX {
            let dir = RepoPath::fan_out(first);
            for (name, kind) in list_dir(self.fs, &dir)? {
                match stored::look(RepoMode::Archive, first, &name, kind) {
                    Stored::Object(id) if (id.kind == ObjectKind::Commit) == commits => {
                        pruned.objects += 1;
                        if !self.reached.contains(&id) {
                            pruned.removed += 1;
                            pruned.bytes += self.object(id)?;
                        }
                    }
                    Stored::Detached(commit) if !commits => {
                        let id = ObjectId::new(ObjectKind::Commit, commit);
                        if !self.reached.contains(&id) {
                            pruned.bytes += self.file(&dir.child(&name))?;
                        }
                    }
                    Stored::Object(_)
                    | Stored::Detached(_)
                    | Stored::Misshapen(_)
                    | Stored::Companion
                    | Stored::Foreign => {}
                }
            }
        }
        Ok(())
    }

    fn object(&self, id: ObjectId) -> Result<u64, Error> {
        if id.kind != ObjectKind::Commit {
            return self.file(&RepoPath::object(&id));
        }
        if let Some(scratch) = self.scratch.filter(|_| self.tombstones) {
            let tombstone = RepoPath::tombstone(id.checksum);
            scratch.put_file(&tombstone, &serialize_tombstone(&id.checksum))?;
        }
        let bytes = self.file(&RepoPath::object(&id))?;
        // After the commit, which must not look complete while it exists.
        let partial = RepoPath::partial(id.checksum);
        Ok(bytes + self.file(&partial)?)
    }

    /// Removes a file if it exists; returns its length.
    fn file(&self, path: &RepoPath) -> Result<u64, Error> {
        let stat = if_there(self.fs.stat(path)).map_err(Error::io("looking at", path))?;
        let Some(stat) = stat else { return Ok(0) };
        if self.scratch.is_some() {
            if_there(self.fs.unlink(path)).map_err(Error::io("removing", path))?;
        }
        Ok(stat.len)
    }

    /// Removes static deltas to commits that are not reached, and their indexes; returns their
    /// length.
    fn deltas(&self) -> Result<u64, Error> {
        let mut bytes = 0;
        let top = RepoPath::deltas();
        for (first, _) in dirs_in(self.fs, &top)? {
            for (rest, dir) in dirs_in(self.fs, &top.child(&first))? {
                let Some(name) = deltas::name(&format!("{first}/{rest}")) else {
                    continue;
                };
                if self
                    .reached
                    .contains(&ObjectId::new(ObjectKind::Commit, name.to))
                {
                    continue;
                }
                bytes += self.file(&deltas::index(name.to))?;
                for (part, kind) in list_dir(self.fs, &dir)? {
                    if kind == FileKind::File {
                        bytes += self.file(&dir.child(&part))?;
                    }
                }
                if self.scratch.is_some() {
                    // Other files in it were put there by other programs.
                    let _ = self.fs.rmdir(&dir);
                }
            }
        }
        Ok(bytes)
    }
}

fn dirs_in<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<(String, RepoPath)>, Error> {
    let entries = list_dir(fs, dir)?.into_iter();
    let dirs = entries.filter(|(_, kind)| *kind == FileKind::Dir);
    Ok(dirs
        .map(|(name, _)| (name.clone(), dir.child(&name)))
        .collect())
}
