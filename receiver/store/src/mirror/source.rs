//! The repository to mirror, read while pushes and prunes run in it. Only the summary is read under
//! locks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN, MAX_TREE_DEPTH};
use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind, RefName, Summary, check_detached};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, if_there, make_dir, read_file};
use crate::local::repository::{self, Repo, listing, objects};
use crate::tree;
use crate::tree::descent::{Descent, Levels, Next};
use crate::tree::id_set::IdSet;

/// A repository of mode archive.
#[derive(Debug)]
pub(crate) struct Source<F: Fs> {
    pub(crate) repo: Repo<F>,
}

/// The refs of a repository at one moment.
#[derive(Debug, Default)]
pub(crate) struct Refs {
    /// The refs that pullers see.
    pub(crate) heads: BTreeMap<RefName, Checksum>,
    /// The commits of mirror refs, which a summary may name.
    pub(crate) others: BTreeSet<Checksum>,
    /// Names that cannot be mirrored.
    pub(crate) unusable: Vec<String>,
}

/// A summary and its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) summary: Vec<u8>,
    pub(crate) signature: Option<Vec<u8>>,
}

impl Signed {
    /// Returns the commits that the summary names, or `None` if it is damaged.
    pub(crate) fn commits(&self) -> Option<BTreeSet<Checksum>> {
        let summary = Summary::parse(&self.summary).ok()?;
        let others = summary.collection_map.values().flat_map(BTreeMap::values);
        let all = summary.refs.values().chain(others);
        Some(all.map(|entry| entry.commit).collect())
    }
}

/// An object that a commit needs but that cannot be mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lacks {
    pub(crate) id: ObjectId,
    pub(crate) why: &'static str,
}

/// Everything that a commit reaches, as a closure list names it.
pub(crate) type Closure = Vec<(ObjectId, Levels)>;

impl<F: Fs> Source<F> {
    /// Opens a repository without changing anything in it.
    pub(crate) fn open(fs: F) -> Result<Self, Error> {
        let config = repository::read_config(&fs)?;
        let fs = Arc::new(fs);
        Ok(Self {
            repo: Repo { fs, config },
        })
    }

    pub(crate) fn fs(&self) -> &F {
        &self.repo.fs
    }

    /// Reads all refs.
    pub(crate) fn refs(&self) -> Result<Refs, Error> {
        let all = listing::list(self.fs())?;
        let mut refs = Refs::default();
        for (name, commit) in all.heads {
            match RefName::parse_stored(&name) {
                Ok(name) => _ = refs.heads.insert(name, commit),
                Err(_) => refs.unusable.push(name),
            }
        }
        let others = all.mirrors.into_values().flat_map(BTreeMap::into_values);
        refs.others = others.collect();
        Ok(refs)
    }

    /// Reads one ref, even if it is an alias.
    pub(crate) fn head(&self, name: &RefName) -> Result<Option<Checksum>, Error> {
        let path = RepoPath::head(name);
        let stat = if_there(self.fs().stat(&path)).map_err(Error::io("looking at", &path))?;
        let Some(stat) = stat else { return Ok(None) };
        Ok(listing::value(self.fs(), &path, stat.kind)?.unwrap_or_default())
    }

    /// Reads the summary and its signatures under the locks that keep others from replacing them.
    pub(crate) fn summary(&self) -> Result<Option<Signed>, Error> {
        let own = RepoPath::own();
        make_dir(self.fs(), &own, 0o775).map_err(Error::io("making", &own))?;
        // Receivers take the first lock while they make a summary, other programs the second.
        let ours = self
            .repo
            .lock_own(&RepoPath::summary_lock(), LockMode::Shared)?;
        let theirs = self.repo.lock(LockMode::Shared)?;
        let read = |path: RepoPath| {
            read_file(self.fs(), &path, SUMMARY_LEN_MAX).map_err(Error::io("reading", &path))
        };
        let signature = read(RepoPath::summary_signature())?;
        let summary = read(RepoPath::summary())?;
        drop((ours, theirs));
        Ok(summary.map(|summary| Signed { summary, signature }))
    }

    /// Reads a commit; `None` if it is missing, damaged, or marked partial.
    pub(crate) fn commit(&self, commit: Checksum) -> Result<Option<Commit>, Error> {
        if !objects::is_whole(self.fs(), commit)? {
            return Ok(None);
        }
        let content = objects::read_metadata(self.fs(), ObjectId::commit(commit))?;
        Ok(content.and_then(|content| Commit::parse(&content).ok()))
    }

    /// Reads the detached metadata of a commit, unless it is malformed.
    pub(crate) fn detached(&self, commit: Checksum) -> Result<Option<Vec<u8>>, Error> {
        let path = RepoPath::detached(commit);
        let content = match read_file(self.fs(), &path, MAX_DETACHED_LEN) {
            Ok(content) => content,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => None,
            Err(error) => return Err(Error::io("reading", &path)(error)),
        };
        Ok(content.filter(|content| check_detached(content).is_ok()))
    }

    /// Returns everything that a commit reaches except itself, in ascending order, with the levels
    /// of directories below each object.
    pub(crate) fn closure(&self, commit: Checksum) -> Result<Result<Closure, Lacks>, Error> {
        let root = ObjectId::commit(commit);
        let mut found = Vec::new();
        let mut seen = IdSet::default();
        let mut descent = Descent::new(MAX_TREE_DEPTH);
        let mut next = Some(Next::Look(root));
        while let Some(step) = next {
            match step {
                Next::Look(id) => match seen.look(&id).flatten() {
                    Some(levels) => descent.settle(levels),
                    None => {
                        let content = objects::read_metadata(self.fs(), id)?;
                        let children = content.and_then(|c| tree::children(id, &c).ok());
                        let Some(children) = children else {
                            return Ok(Err(Lacks {
                                id,
                                why: "is missing or damaged",
                            }));
                        };
                        for &child in &children {
                            if child.kind != ObjectKind::Dirtree && seen.insert(child) {
                                found.push((child, Levels::default()));
                            }
                        }
                        if descent.enter(id, children).is_err() {
                            return Ok(Err(Lacks {
                                id,
                                why: "nests too deep, or is too wide",
                            }));
                        }
                    }
                },
                Next::Done(id, levels) => {
                    if id != root {
                        seen.insert(id);
                        seen.mark(&id, levels);
                        found.push((id, levels));
                    }
                }
            }
            next = descent.next();
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        Ok(Ok(found))
    }
}

/// The longest summary that is mirrored, in bytes: pullers refuse longer ones.
const SUMMARY_LEN_MAX: usize = MAX_METADATA_LEN;
