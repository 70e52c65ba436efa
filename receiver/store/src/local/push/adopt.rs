//! How an object on this disk becomes staged: one of the repository, or one that an earlier session
//! of the same identity left.
//!
//! Both are linked into staging and verified there, under a name that no other process replaces.

use artifact_formats::ObjectId;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::local::push::workspace::Workspace;
use crate::local::repository::form;
use crate::verify::{Rejection, Verified};

/// Verifies an existing object of the repository and links it into staging; returns whether that
/// succeeded. A damaged object counts as missing, and so does one whose verification would exceed
/// this push's budget.
pub(crate) fn adopt<F: Fs>(work: &Workspace<F>, id: ObjectId) -> Result<bool, Error> {
    if !work.adopts || !work.may_have_had(&id) {
        return Ok(false);
    }
    let Some(len_max) = work.rereads.allowed() else {
        return Ok(false);
    };
    let Some(linked) = work.staging.link(&work.repo.object(&id))? else {
        return Ok(false);
    };
    match accept(work, &linked, id, len_max)? {
        Ok(verified) => {
            work.rereads.count(verified.effort());
            work.staging.was_here(&id);
            Ok(true)
        }
        Err(Rejection::TooLarge { .. }) => {
            work.rereads.count(TOO_LARGE_READ);
            Ok(false)
        }
        Err(_) => {
            let path = work.repo.object(&id);
            let stat =
                if_there(work.repo.fs.stat(&path)).map_err(Error::io("looking at", &path))?;
            work.rereads.count(stat.map_or(0, |stat| stat.len));
            Ok(false)
        }
    }
}

/// Verifies an object linked into staging, under the name that no other process replaces; returns
/// its length.
fn accept_if_good<F: Fs>(
    work: &Workspace<F>,
    linked: &RepoPath,
    id: ObjectId,
) -> Result<Option<u64>, Error> {
    let accepted = accept(work, linked, id, u64::MAX)?;
    Ok(accepted.ok().map(|verified| verified.stored_len()))
}

/// Does the same with an object of at most so many bytes.
fn accept<F: Fs>(
    work: &Workspace<F>,
    linked: &RepoPath,
    id: ObjectId,
    len_max: u64,
) -> Result<Result<Verified, Rejection>, Error> {
    let object_len_max = work.limits.object_len_max;
    let mode = work.repo.config.mode;
    let len_max = len_max.min(object_len_max);
    let verified = form::verify_file(work.fs(), mode, linked, id, len_max)
        .map_err(Error::io("reading", linked))?;
    match verified {
        Ok(verified) => {
            work.staging.accept(linked, &verified)?;
            Ok(Ok(verified))
        }
        Err(rejection) => {
            match &rejection {
                Rejection::TooLarge { limit } if *limit < object_len_max => {
                    tracing::debug!(%id, "a stored object is more than this push may have read");
                }
                _ => tracing::warn!(%id, %rejection, "a stored object is damaged"),
            }
            work.staging.forget(linked);
            Ok(Err(rejection))
        }
    }
}

/// Takes an object over, whatever is below it; returns whether that succeeded.
pub(crate) fn take_over<F: Fs>(work: &Workspace<F>, id: ObjectId) -> Result<bool, Error> {
    let mode = work.repo.config.mode;
    // REQ-40.
    for sibling in work.staging.siblings() {
        let Some(linked) = work.staging.link(&sibling.path(&id, mode))? else {
            continue;
        };
        // REQ-41.
        let is_whole = || work.staging.is_whole(&linked, id.kind);
        let taken = if sibling.is_doubtful(work.fs())? || !is_whole()? {
            work.staging.forget(&linked);
            false
        } else {
            match accept_if_good(work, &linked, id)? {
                Some(len) => {
                    // Another push may have published it meanwhile.
                    if !work.repo.has(&id)? {
                        work.load.bring(1, len)?;
                    }
                    true
                }
                None => false,
            }
        };
        if taken {
            sibling.took();
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes read before an object proves too large.
const TOO_LARGE_READ: u64 = 64 * 1024;
