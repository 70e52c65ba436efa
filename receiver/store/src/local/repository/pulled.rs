//! The commits to which pulls have set refs of an own repository. Nobody made such a commit here,
//! so a later pull may replace it.
//!
//! One file for each ref, named by a digest of the ref's name. It is neither locked nor synced: if
//! it is lost, the next pull needs a history that leads to the ref's commit, or force.

use artifact_formats::{Checksum, RefName};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, make_dir, read_file};
use crate::local::repository::refs::{self, MAX_REF_FILE_LEN};

/// Returns the commit that the last pull of a ref has set it to.
pub(crate) fn last<F: Fs>(fs: &F, name: &RefName) -> Result<Option<Checksum>, Error> {
    let path = path(name);
    match read_file(fs, &path, MAX_REF_FILE_LEN) {
        Ok(content) => Ok(content.and_then(|content| Checksum::from_ref(&content))),
        Err(error) if refs::is_shape(&error) => Ok(None),
        Err(error) => Err(Error::io("reading", &path)(error)),
    }
}

/// Notes that a pull has set a ref.
pub(crate) fn note<F: Fs>(fs: &F, scratch: &impl PutFile, name: &RefName, commit: Checksum) {
    let dir = RepoPath::pulled();
    let noted = make_dir(fs, &dir, DIR_MODE)
        .map_err(Error::io("making", &dir))
        .and_then(|_| scratch.put_file(&path(name), &refs::content(commit)));
    if let Err(error) = noted {
        tracing::debug!(%name, %error, "cannot note what the ref was set to");
    }
}

fn path(name: &RefName) -> RepoPath {
    RepoPath::pulled().child(&Checksum::of(name.as_str().as_bytes()).to_hex())
}

const DIR_MODE: u32 = 0o775;
