//! The local repository that a pull writes.
//!
//! The store creates and writes it. This file reads its refs, and the commits to which earlier
//! pulls set them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, Commit, ObjectId, RefName, RepoMode};
use artifact_protocol::frame::{Base, Prefix};
use artifact_protocol::limits::{MAX_BASES, MAX_HELD};
use artifact_store::{LocalStore, Own, Ref};
use bytes::Bytes;

use crate::cpus::cpus;
use crate::error::Error;

/// A local repository.
#[derive(Debug)]
pub struct Local {
    path: PathBuf,
    config: String,
    store: Arc<LocalStore>,
}

impl Local {
    /// Opens a repository.
    ///
    /// # Errors
    ///
    /// It does not exist, or its configuration cannot be used.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let own = Own {
            threads: cpus(),
            ..Own::default()
        };
        let opened = LocalStore::open_own(&path, own);
        let store = opened.map_err(unusable(&path))?;
        let file = path.join("config");
        let config = fs::read_to_string(&file).map_err(io_error("read", &file))?;
        Ok(Self {
            path,
            config,
            store: Arc::new(store),
        })
    }

    /// Opens a repository, or creates one in a new or empty directory; returns whether it did.
    ///
    /// It creates one directory at most: if the parent is missing too, the path is probably a
    /// typing mistake.
    ///
    /// # Errors
    ///
    /// It can neither be opened nor created.
    pub fn open_or_create(path: &Path, mode: RepoMode) -> Result<(Self, bool), Error> {
        let is_empty = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => is_empty(path),
            Err(error) => return Err(io_error("create", path)(error)),
        };
        let is_new = is_empty && artifact_store::create(path, mode).map_err(unusable(path))?;
        Ok((Self::open(path)?, is_new))
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how it stores its objects.
    pub fn mode(&self) -> RepoMode {
        self.store.mode()
    }

    /// Returns the store that writes it.
    pub(crate) const fn store(&self) -> &Arc<LocalStore> {
        &self.store
    }

    /// Returns the text of its configuration.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    /// Returns the commit that a ref holds. Looks only among the refs: libostree would take some
    /// names for an abbreviated checksum.
    ///
    /// # Errors
    ///
    /// The ref's file cannot be read.
    pub fn commit_of(&self, name: &RefName) -> Result<Option<Checksum>, Error> {
        let path = self.path.join("refs/heads").join(name.as_str());
        match fs::read_to_string(&path) {
            // A file with something else in it holds nothing that could get lost.
            Ok(text) => Ok(text.trim_end().parse().ok()),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Reads a commit, if the repository has it.
    pub(crate) fn commit(&self, commit: Checksum) -> Option<Commit> {
        Commit::parse(&self.commit_bytes(commit)?).ok()
    }

    /// Reads a commit's bytes, if the repository has it undamaged.
    pub(crate) fn commit_bytes(&self, commit: Checksum) -> Option<Bytes> {
        let path = self.object(&ObjectId::commit(commit), "commit");
        let len = fs::metadata(&path).ok()?.len();
        let bytes = (len <= MAX_METADATA_LEN as u64).then(|| fs::read(path).ok())??;
        (Checksum::of(&bytes) == commit).then(|| bytes.into())
    }

    /// Reads a commit's detached metadata, if the repository has some.
    pub(crate) fn detached_bytes(&self, commit: Checksum) -> Option<Bytes> {
        let path = self.object(&ObjectId::commit(commit), "commitmeta");
        let len = fs::metadata(&path).ok()?.len();
        let bytes = (len <= MAX_DETACHED_LEN as u64).then(|| fs::read(path).ok())??;
        Some(bytes.into())
    }

    /// Returns the values of refs, and whether they are complete.
    pub(crate) fn held(&self, names: &[RefName]) -> Result<Vec<Option<Ref>>, Error> {
        self.store.held(names).map_err(unusable(&self.path))
    }

    /// Returns the names of all refs.
    pub(crate) fn names(&self) -> Result<Vec<RefName>, Error> {
        let mut names = Vec::new();
        collect(&self.path.join("refs/heads"), "", &mut names)?;
        Ok(names)
    }

    fn object(&self, id: &ObjectId, extension: &str) -> PathBuf {
        self.path.join("objects").join(id.loose_path(extension))
    }

    /// Returns complete commits from which those of these refs may differ little.
    pub(crate) fn bases(&self, names: &[RefName]) -> Result<Vec<Base>, Error> {
        let bases = self.store.bases(names, MAX_BASES);
        bases.map_err(unusable(&self.path))
    }

    /// Returns the beginnings of the names of objects that an interrupted pull has left.
    pub(crate) fn leftovers(&self) -> Result<Vec<Prefix>, Error> {
        let left = self.store.leftovers(MAX_HELD);
        let left = left.map_err(unusable(&self.path))?;
        let mut prefixes: Vec<_> = left.iter().map(|id| Prefix::of(&id.checksum)).collect();
        // A directory of metadata and a file may have the same beginning.
        prefixes.sort_unstable();
        prefixes.dedup();
        Ok(prefixes)
    }

    /// Returns the commit that the last pull set a ref to: that one is not the user's work.
    pub(crate) fn pulled_before(&self, name: &RefName) -> Option<Checksum> {
        self.store.pulled(name).ok().flatten()
    }
}

fn unusable(path: &Path) -> impl FnOnce(artifact_store::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Local {
        path,
        source: Box::new(source),
    }
}

/// Adds the names of the refs below a directory.
fn collect(dir: &Path, prefix: &str, names: &mut Vec<RefName>) -> Result<(), Error> {
    let entries = match fs::read_dir(dir) {
        Err(error) if is_absent(&error) => return Ok(()),
        entries => entries.map_err(io_error("list", dir))?,
    };
    for entry in entries {
        let entry = entry.map_err(io_error("list", dir))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => collect(&entry.path(), &format!("{name}/"), names)?,
            false => names.extend(name.parse::<RefName>().ok()),
        }
    }
    Ok(())
}

pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// Returns whether a directory contains nothing, or no more than what programs that create a
/// repository begin with.
fn is_empty(path: &Path) -> bool {
    let is_unfinished = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| artifact_store::is_unfinished(&entry.file_name()))
    };
    fs::read_dir(path).is_ok_and(|mut entries| entries.all(is_unfinished))
}

/// Returns whether an error says that there is no file of this path.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_created_in_an_empty_directory_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let open = |path: &Path| Local::open_or_create(path, RepoMode::Archive);
        let new = dir.path().join("new");
        assert!(open(&new).unwrap().1);
        let (again, created) = open(&new).unwrap();
        assert!(!created && again.mode() == RepoMode::Archive);
        assert!(open(&dir.path().join("no/parent")).is_err());
        fs::create_dir(dir.path().join("other")).unwrap();
        fs::write(dir.path().join("other/file"), "x").unwrap();
        assert!(open(&dir.path().join("other")).is_err());
        assert_eq!(fs::read_dir(dir.path().join("other")).unwrap().count(), 1);
    }

    #[test]
    fn a_repository_that_many_create_at_once_is_created_by_one_and_opened_by_all() {
        for _ in 0..50 {
            let dir = tempfile::tempdir().unwrap();
            let new = dir.path().join("new");
            let open = || Local::open_or_create(&new, RepoMode::Archive);
            let created = std::thread::scope(|scope| {
                let all: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
                let opened = all.into_iter().map(|one| one.join().unwrap().unwrap());
                opened.filter(|(_, created)| *created).count()
            });
            assert_eq!(created, 1);
        }
    }

    #[test]
    fn what_a_program_that_was_killed_has_begun_to_create_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("config.new.0123456789abcdef"), "[co").unwrap();
        let (local, created) = Local::open_or_create(dir.path(), RepoMode::Archive).unwrap();
        assert!(created && local.mode() == RepoMode::Archive);
    }

    #[test]
    fn a_ref_is_looked_up_by_its_whole_name() {
        let dir = tempfile::tempdir().unwrap();
        let (local, _) = Local::open_or_create(dir.path(), RepoMode::Archive).unwrap();
        let (name, commit): (RefName, _) = ("x/b".parse().unwrap(), Checksum::of(b"x"));
        assert_eq!(local.pulled_before(&name), None);
        assert_eq!(local.commit_of(&name).unwrap(), None);
        fs::create_dir(dir.path().join("refs/heads/x")).unwrap();
        fs::write(dir.path().join("refs/heads/x/b"), format!("{commit}\n")).unwrap();
        assert_eq!(local.commit_of(&name).unwrap(), Some(commit));
        assert_eq!(local.commit_of(&"x".parse().unwrap()).unwrap(), None);
        assert_eq!(local.commit_of(&"x/b/c".parse().unwrap()).unwrap(), None);
    }
}
