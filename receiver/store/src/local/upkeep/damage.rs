//! What is wrong with one file among the objects: for those who report it, and those who repair.

use std::io;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{RepoMode, check_detached, with_causes};

use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, read_file};
use crate::local::repository::form;
use crate::local::repository::stored::Stored;
use crate::verify::Rejection;

/// A file among the objects that does not match its name.
#[derive(Clone, Debug)]
pub(crate) struct Damaged {
    pub(crate) path: RepoPath,
    pub(crate) stored: Stored,
}

/// The fault of a file among the objects.
pub(crate) struct Wrong {
    pub(crate) why: String,
    /// Whether the file is useless to everybody.
    pub(crate) is_damaged: bool,
}

/// Returns the length of an object or detached metadata, or its fault.
pub(crate) fn judge<F: Fs>(
    fs: &F,
    mode: RepoMode,
    damaged: &Damaged,
    object_len_max: u64,
) -> Result<u64, Wrong> {
    let Damaged { path, stored } = damaged;
    let wrong = |why: String| Wrong {
        why,
        is_damaged: true,
    };
    let read = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(0),
        io::ErrorKind::PermissionDenied => Err(Wrong {
            why: error.to_string(),
            is_damaged: false,
        }),
        _ => Err(wrong(error.to_string())),
    };
    match stored {
        Stored::Object(id) => match form::verify_file(fs, mode, path, *id, object_len_max) {
            Ok(Ok(verified)) => Ok(verified.stored_len()),
            Ok(Err(rejection)) => Err(Wrong {
                why: with_causes(&rejection),
                is_damaged: !matches!(rejection, Rejection::TooLarge { .. }),
            }),
            Err(error) => read(error),
        },
        Stored::Detached(_) => match read_file(fs, path, MAX_METADATA_LEN) {
            Ok(content) => {
                let checked = check_detached(&content.unwrap_or_default());
                checked
                    .map(|()| 0)
                    .map_err(|error| wrong(error.to_string()))
            }
            Err(error) => read(error),
        },
        Stored::Misshapen(_) => Err(wrong("has an object's name, but is not a file".to_owned())),
        Stored::Companion | Stored::Foreign => Ok(0),
    }
}
