//! A repository on this machine, and its parents.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, RepoConfig, RepoMode};
use bytes::Bytes;
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};

use super::archive::ArchiveFile;
use super::bare;
use super::deflate::Compressors;
use super::fault::{self, FileFault, ObjectFault, Place};
use super::files::Files;
use super::object::{Object, Rest};
use crate::error::Error;

/// A repository on this machine.
pub struct Repository {
    files: Files,
    mode: RepoMode,
    compressors: Arc<Compressors>,
    parent: Option<Box<Self>>, // has the objects that this one lacks
}

impl Repository {
    /// The default level at which content of bare repositories is compressed.
    ///
    /// Pushed over a pipe, on two cores, Debian's root file system takes 1.03 s with it and is 2.1
    /// % larger than with libostree's level 6; level 5 would take an eighth more time for 1.8 %
    /// less, and level 2 would save a sixteenth for 1.7 % more. Without the feature `libdeflate` it
    /// takes 1.15 s and is 4.1 % larger.
    pub const DEFAULT_COMPRESSION: u32 = 3;

    /// Opens the repository at `path`.
    ///
    /// Reads objects that it lacks from its parent, if its `config` names one.
    ///
    /// Fails if it does not exist, if the user may not read it, or if its mode or version is
    /// unknown.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::open_nested(path.into(), 0)
    }

    fn open_nested(path: PathBuf, above: usize) -> Result<Self, Error> {
        let files = Files::open(path.clone()).map_err(|source| Error::Io {
            action: "open",
            path,
            source,
        })?;
        let mut repository = Self {
            files,
            mode: RepoMode::Archive,
            compressors: Arc::new(Compressors::new(Self::DEFAULT_COMPRESSION)),
            parent: None,
        };
        let config = repository.read_config()?;
        repository.mode = config.mode;
        if let Some(parent) = config.parent {
            let opened = match above {
                PARENTS_MAX.. => Err(Error::Internal("parents of parents without an end")),
                // libostree, too, resolves it from the program's working directory.
                _ => Self::open_nested(parent.clone().into(), above + 1),
            };
            repository.parent = Some(Box::new(opened.map_err(|source| Error::Parent {
                path: repository.path().join("config"),
                parent: parent.into(),
                source: Box::new(source),
            })?));
        }
        Ok(repository)
    }

    /// Sets the level at which content of bare repositories is compressed: 0 is not at all, 9 the
    /// most.
    #[must_use]
    pub fn with_compression(mut self, level: u32) -> Self {
        self.compressors = Arc::new(Compressors::new(level.min(9)));
        self.parent = (self.parent).map(|parent| Box::new(parent.with_compression(level)));
        self
    }

    /// Returns the repository's path.
    pub fn path(&self) -> &Path {
        self.files.path()
    }

    /// Returns the repository that has the objects which this one lacks.
    pub(super) fn parent(&self) -> Option<&Self> {
        self.parent.as_deref()
    }

    /// Returns how the repository stores its objects.
    pub const fn mode(&self) -> RepoMode {
        self.mode
    }

    /// Returns whether a commit is marked partial.
    pub fn is_partial(&self, commit: Checksum) -> Result<bool, Error> {
        let marker = format!("state/{commit}{PARTIAL}");
        if self.has(&marker)? {
            return Ok(true);
        }
        let id = ObjectId::commit(commit);
        match &self.parent {
            Some(parent) if !self.has(&self.relative_path(id))? => parent.is_partial(commit),
            _ => Ok(false),
        }
    }

    /// Refines an error about an object that neither side has: a user who pulled only a part of a
    /// commit has not lost anything.
    pub(crate) fn explain(&self, error: Error, pushed: &[Checksum]) -> Error {
        let Error::MissingObject { id, .. } = error else {
            return error;
        };
        let is_partial = |commit: &Checksum| self.is_partial(*commit).unwrap_or(false);
        let mut pushed = pushed.iter().copied().filter(is_partial);
        match pushed
            .next()
            .or_else(|| self.partial_commits().into_iter().next())
        {
            Some(commit) => Error::PartialCommit { commit, id },
            None => error,
        }
    }

    /// Lists the commits that are marked partial, here or in the parents.
    fn partial_commits(&self) -> BTreeSet<Checksum> {
        let commit_of = |entry: io::Result<DirEntry>| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(PARTIAL)?.parse().ok()
        };
        let marked = fs::read_dir(self.path().join("state"));
        let mut partial: BTreeSet<_> = marked.into_iter().flatten().filter_map(commit_of).collect();
        if let Some(parent) = &self.parent {
            partial.append(&mut parent.partial_commits());
        }
        partial
    }

    /// Reads a commit that must be complete here; `None` if it is missing or partial.
    pub fn complete_commit(&self, commit: Checksum) -> Result<Option<Commit>, Error> {
        if self.is_partial(commit)? {
            return Ok(None);
        }
        match self.commit(commit) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(Error::MissingObject { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads and parses a commit.
    pub fn commit(&self, commit: Checksum) -> Result<Commit, Error> {
        let id = ObjectId::commit(commit);
        Commit::parse(&self.metadata(id)?).map_err(|source| self.place(id).error(source.into()))
    }

    /// Reads which objects a commit or dirtree names; other kinds name none. A commit's parent is
    /// not among them.
    pub fn children(&self, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
        match id.kind {
            ObjectKind::Commit => {
                let commit = self.commit(id.checksum)?;
                Ok(vec![
                    ObjectId::new(ObjectKind::Dirtree, commit.tree),
                    ObjectId::new(ObjectKind::Dirmeta, commit.meta),
                ])
            }
            ObjectKind::Dirtree => {
                let bytes = self.metadata(id)?;
                let dirtree = Dirtree::parse(&bytes);
                let dirtree = dirtree.map_err(|source| self.place(id).error(source.into()))?;
                Ok(dirtree.children().collect())
            }
            ObjectKind::Dirmeta | ObjectKind::File => Ok(Vec::new()),
        }
    }

    /// Reads a commit's detached metadata, such as its signatures, if it has some.
    pub fn detached(&self, commit: Checksum) -> Result<Option<Bytes>, Error> {
        let id = ObjectId::commit(commit);
        let relative = format!("objects/{}", id.loose_path("commitmeta"));
        // The name says nothing of the content: a link could show another file.
        let detached = self
            .files
            .read(&relative, OFlags::NOFOLLOW, MAX_DETACHED_LEN);
        let detached = detached.map_err(|fault| fault.at(self.path().join(&relative)))?;
        match (detached, &self.parent) {
            (None, Some(parent)) => parent.detached(commit),
            // When the last entry is removed, libostree writes an empty file, that is, an empty
            // dictionary.
            (detached, _) => Ok(detached.filter(|bytes| !bytes.is_empty())),
        }
    }

    /// Reads a dirtree, dirmeta or commit and verifies its checksum.
    pub fn metadata(&self, id: ObjectId) -> Result<Bytes, Error> {
        let own = self.own_metadata(id);
        let own = own.map_err(|fault| self.place(id).error(fault));
        self.or_parent(own, |parent| parent.metadata(id))
    }

    /// Reads an object in the form that an archive repository stores.
    ///
    /// Compresses content of a bare repository in the calling thread.
    pub fn read(&self, id: ObjectId) -> Result<Object, Error> {
        let own = match self.open_own(id) {
            Ok((read, rest)) => Ok(Object::new(read, rest, || self.place(id))),
            Err(fault) => Err(self.place(id).error(fault)),
        };
        self.or_parent(own, |parent| parent.read(id))
    }

    /// Returns a path at which a commit has a file, for people to recognise it by. Of several paths
    /// any may be returned.
    ///
    /// Reads as many directories as it takes to find the file.
    pub fn path_of(&self, commit: Checksum, file: Checksum) -> Result<Option<String>, Error> {
        let mut dirs = vec![(String::new(), self.commit(commit)?.tree)];
        let mut seen = HashSet::new();
        while let Some((path, tree)) = dirs.pop() {
            if !seen.insert(tree) {
                continue;
            }
            let id = ObjectId::new(ObjectKind::Dirtree, tree);
            let bytes = self.metadata(id)?;
            let dirtree = Dirtree::parse(&bytes);
            let dirtree = dirtree.map_err(|source| self.place(id).error(source.into()))?;
            if let Some((name, _)) = dirtree.files().find(|(_, checksum)| *checksum == file) {
                return Ok(Some(format!("{path}{name}")));
            }
            let below = dirtree.dirs();
            dirs.extend(below.map(|(name, tree, _)| (format!("{path}{name}/"), tree)));
        }
        Ok(None)
    }

    /// Returns the length in bytes of an object's file, or `None` if there is none. Does not open
    /// it. In a bare repository, content is shorter once it is compressed.
    pub fn file_len(&self, id: ObjectId) -> Result<Option<u64>, Error> {
        let stat = self.files.stat(&self.relative_path(id));
        let stat = stat.map_err(|fault| self.place(id).error(fault.into()))?;
        match (stat, &self.parent) {
            (None, Some(parent)) => parent.file_len(id),
            (stat, _) => Ok(stat.map(|stat| stat.st_size.unsigned_abs())),
        }
    }

    /// Starts to read an object of this repository: returns its first bytes, and the source of the
    /// rest.
    fn open_own(&self, id: ObjectId) -> Result<(Bytes, Rest), ObjectFault> {
        if id.kind.is_metadata() {
            return Ok((self.own_metadata(id)?, Rest::Nothing));
        }
        let (files, relative) = (&self.files, self.relative_path(id));
        if self.mode == RepoMode::Archive {
            let (first, file) = ArchiveFile::open(files, &relative)?;
            return Ok((first, Rest::Archive(file)));
        }
        let opened = bare::open(files, self.mode, &self.compressors, &relative, id.checksum)?;
        let (read, file) = opened;
        let rest = file.map_or(Rest::Nothing, |file| Rest::Bare(Box::new(file)));
        Ok((read, rest))
    }

    fn own_metadata(&self, id: ObjectId) -> Result<Bytes, ObjectFault> {
        let bytes = self
            .files
            .read(&self.relative_path(id), OFlags::empty(), MAX_METADATA_LEN)?;
        let bytes = bytes.ok_or(ObjectFault::Missing)?;
        fault::verify(id.checksum, Sha256::new_with_prefix(&bytes))?;
        Ok(bytes)
    }

    /// Asks the parent, if any, for something that this repository lacks.
    fn or_parent<'r, T>(
        &'r self,
        found: Result<T, Error>,
        ask: impl FnOnce(&'r Self) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match (found, &self.parent) {
            (Err(missing @ Error::MissingObject { .. }), Some(parent)) => match ask(parent) {
                Err(Error::MissingObject { .. }) => Err(missing),
                found => found,
            },
            (found, _) => found,
        }
    }

    fn read_config(&self) -> Result<RepoConfig, Error> {
        let not_a_repository = |missing| Error::NotARepository {
            path: self.path().to_owned(),
            missing,
        };
        let text = self
            .read_file("config", CONFIG_LEN_MAX)?
            .ok_or_else(|| not_a_repository("config"))?;
        let text = str::from_utf8(&text)
            .map_err(|error| FileFault::io("read", io::Error::other(error)))
            .map_err(|fault| fault.at(self.path().join("config")))?;
        let config = RepoConfig::parse(text).map_err(|source| Error::Config {
            path: self.path().join("config"),
            source,
        })?;
        // Programs that keep repositories for us, such as git, may have left out empty directories.
        let is_bare = config.parent.is_none() && !self.has("refs")?;
        if is_bare && !self.has("objects")? {
            return Err(not_a_repository("objects"));
        }
        Ok(config)
    }
}

/// Paths and files.
impl Repository {
    /// Reads a file of at most `limit` bytes; `None` if it does not exist.
    pub(super) fn read_file(&self, relative: &str, limit: usize) -> Result<Option<Bytes>, Error> {
        let read = self.files.read(relative, OFlags::empty(), limit);
        read.map_err(|fault| fault.at(self.path().join(relative)))
    }

    /// Reads a file like [`read_file`](Self::read_file), with no symbolic link in its path.
    pub(super) fn read_beneath(
        &self,
        relative: &str,
        limit: usize,
    ) -> Result<Option<Bytes>, Error> {
        let read = self.files.read_beneath(relative, limit);
        read.map_err(|fault| fault.at(self.path().join(relative)))
    }

    /// Returns whether a file exists.
    fn has(&self, relative: &str) -> Result<bool, Error> {
        match self.files.stat(relative) {
            Ok(stat) => Ok(stat.is_some()),
            Err(fault) => Err(fault.at(self.path().join(relative))),
        }
    }

    /// Returns an object's path below the repository.
    fn relative_path(&self, id: ObjectId) -> String {
        let extension = if id.kind == ObjectKind::File && self.mode != RepoMode::Archive {
            "file"
        } else {
            id.kind.archive_extension()
        };
        format!("objects/{}", id.loose_path(extension))
    }

    fn place(&self, id: ObjectId) -> Place {
        Place {
            id,
            path: self.path().join(self.relative_path(id)),
            parent: self.parent().map(|parent| parent.path().to_owned()),
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("path", &self.path())
            .field("mode", &self.mode)
            .finish_non_exhaustive()
    }
}

/// The longest `config` to read, in bytes.
const CONFIG_LEN_MAX: usize = 1024 * 1024;
/// Most parents above one another; a circle has more.
const PARENTS_MAX: usize = 16;
/// The end of the name of a partial commit's mark, after the checksum.
const PARTIAL: &str = ".commitpartial";
