//! Objects in `objects/`: read and verified again, since a disk may have changed them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{self, Read};

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, if_there, read_file};
use crate::verify::{Rejection, Scratch, Verified, Verifier, verify};

/// Reads a dirtree, dirmeta or commit; `None` if it is missing or damaged.
pub(crate) fn read_metadata<F: Fs>(fs: &F, id: ObjectId) -> Result<Option<Vec<u8>>, Error> {
    let path = RepoPath::object(&id);
    let content = match read_file(fs, &path, MAX_METADATA_LEN) {
        Ok(Some(content)) => content,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        Err(error) => return Err(Error::io("reading", &path)(error)),
    };
    match verify(
        id,
        &content,
        MAX_METADATA_LEN as u64,
        &mut Scratch::default(),
    ) {
        Ok(_) => Ok(Some(content)),
        Err(rejection) => {
            tracing::warn!(%path, %rejection, "a stored object is damaged");
            Ok(None)
        }
    }
}

/// Verifies the file at a path as an object, in bounded memory.
pub(crate) fn verify_file<F: Fs>(
    fs: &F,
    path: &RepoPath,
    id: ObjectId,
    object_len_max: u64,
) -> io::Result<Result<Verified, Rejection>> {
    let mut file = fs.open(path)?;
    let mut verifier = Verifier::new(id, object_len_max);
    let mut buffer = vec![0; READ_LEN];
    loop {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(verifier.finish()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if let Err(rejection) = verifier.append(buffer.get(..read).unwrap_or_default()) {
            return Ok(Err(rejection));
        }
    }
}

/// Returns whether a regular file exists at a path.
pub(crate) fn is_there<F: Fs>(fs: &F, path: &RepoPath) -> Result<bool, Error> {
    let stat = if_there(fs.stat(path)).map_err(Error::io("looking at", path))?;
    Ok(stat.is_some_and(|stat| stat.kind == FileKind::File))
}

/// Returns whether a commit is here and not marked partial.
pub(crate) fn is_whole<F: Fs>(fs: &F, commit: Checksum) -> Result<bool, Error> {
    let id = ObjectId::new(ObjectKind::Commit, commit);
    Ok(is_there(fs, &RepoPath::object(&id))? && !is_there(fs, &RepoPath::partial(commit))?)
}

/// The reason why a commit is marked partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Partial {
    /// A check found an object missing (`ostree-repo.h`, `OSTREE_REPO_COMMIT_STATE_FSCK_PARTIAL`).
    Found,
    /// It was pulled in part, or a pull is running.
    Pulled,
}

/// Returns why a commit is marked partial, if it is.
pub(crate) fn partial<F: Fs>(fs: &F, commit: Checksum) -> Result<Option<Partial>, Error> {
    let path = RepoPath::partial(commit);
    match read_file(fs, &path, PARTIAL_FOUND.len()) {
        Ok(None) => Ok(None),
        Ok(Some(content)) if content == PARTIAL_FOUND => Ok(Some(Partial::Found)),
        Ok(Some(_)) => Ok(Some(Partial::Pulled)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(Partial::Pulled)),
        Err(error) => Err(Error::io("reading", &path)(error)),
    }
}

/// Returns the SHA-256 of a commit's stored detached metadata, if it has some.
pub(crate) fn detached_checksum<F: Fs>(
    fs: &F,
    commit: Checksum,
) -> Result<Option<Checksum>, Error> {
    let path = RepoPath::detached(commit);
    // libostree has no limit for it. Metadata longer than ours can never equal an announced one.
    match read_file(fs, &path, MAX_METADATA_LEN) {
        Ok(content) => Ok(content.map(|content| Checksum::of(&content))),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Ok(Some(Checksum::new([0; 32])))
        }
        Err(error) => Err(Error::io("reading", &path)(error)),
    }
}

/// The SHA-256 of commits' detached metadata, of which each is read once: thousands of refs may
/// name one commit, and it may have megabytes of them.
#[derive(Debug, Default)]
pub(crate) struct DetachedSums(HashMap<Checksum, Option<Checksum>>);

impl DetachedSums {
    /// Returns that of a commit, as it was at the first look.
    pub(crate) fn of<F: Fs>(
        &mut self,
        fs: &F,
        commit: Checksum,
    ) -> Result<Option<Checksum>, Error> {
        Ok(match self.0.entry(commit) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => *unknown.insert(detached_checksum(fs, commit)?),
        })
    }
}

/// The content of a mark that a check makes (`ostree-repo-commit.c`,
/// `ostree_repo_mark_commit_partial_reason`).
pub(crate) const PARTIAL_FOUND: &[u8] = b"f";
const READ_LEN: usize = 64 * 1024;
