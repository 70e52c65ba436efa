//! What the pushes of an identity have brought: the objects and bytes that prune, fsck and backups
//! go through for everybody.
//!
//! One small file an identity, beside its account of refs. A push adds what it brings right before
//! that gets names among the objects, and whether refs are set afterwards makes no difference: it
//! is there; so does what was sent though it was here. A prune counts anew, from what the
//! identity's refs reach and no ref reached that was counted before. It is not synced: after a
//! power cut an identity may seem to have less than it has, until the next prune.

use std::collections::BTreeMap;

use artifact_formats::Checksum;

use crate::config::Allowance;
use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, PutFile, if_there, list_dir, make_dir, read_file};
use crate::local::repository::Repo;
use crate::quota::load::{Load, Quota, Weight};

/// Looks what an identity holds; `None` if it may have as much as there is room for.
pub(crate) fn quota<F: Fs>(
    fs: &F,
    identity: &str,
    allowance: &Allowance,
) -> Result<Option<Quota>, Error> {
    let Allowance {
        objects_max,
        bytes_max,
        ..
    } = allowance;
    if objects_max.is_none() && bytes_max.is_none() {
        return Ok(None);
    }
    let room = fs.room();
    let room = room.map_err(Error::io("looking for room in", &RepoPath::root()))?;
    Ok(Some(Quota {
        identity: identity.to_owned(),
        held: held(fs, identity)?,
        max: Weight {
            objects: objects_max.unwrap_or(u64::MAX),
            bytes: bytes_max.map_or(u64::MAX, |share| share.of(room.bytes)),
        },
    }))
}

/// Adds what a push has brought to what its identity holds. Fails if that is too much by now, since
/// other sessions of the same identity add to it as well. The lock of the repository must be held,
/// so that no prune counts meanwhile.
pub(crate) fn charge<F: Fs>(
    repo: &Repo<F>,
    scratch: &impl PutFile,
    load: &Load,
) -> Result<(), Error> {
    let brought = load.brought();
    let Some(quota) = load.quota().filter(|_| brought != Weight::default()) else {
        return Ok(());
    };
    let _lock = repo.lock_own(&RepoPath::refs_lock(), LockMode::Exclusive)?;
    let now = Quota {
        held: held(&*repo.fs, &quota.identity)?,
        ..quota.clone()
    };
    now.check(brought)?;
    write(&*repo.fs, scratch, &now.identity, now.held + brought)
}

/// Writes down what each identity holds, by a count of all; those that hold nothing any more go.
/// The lock of the repository must be held exclusively.
pub(crate) fn recount<F: Fs>(
    fs: &F,
    scratch: &impl PutFile,
    counted: &BTreeMap<String, Weight>,
) -> Result<(), Error> {
    for (path, identity) in identities(fs)? {
        match counted.get(&identity) {
            Some(weight) => write(fs, scratch, &identity, *weight)?,
            None => _ = if_there(fs.unlink(&path)).map_err(Error::io("removing", &path))?,
        }
    }
    // Goes when it is empty.
    let _ = fs.rmdir(&RepoPath::held());
    Ok(())
}

/// Forgets what an identity without any ref holds: whoever has removed all of them prunes as well.
pub(crate) fn forget<F: Fs>(fs: &F, identity: &str) -> Result<(), Error> {
    let path = path(identity);
    if_there(fs.unlink(&path)).map_err(Error::io("removing", &path))?;
    let _ = fs.rmdir(&RepoPath::held());
    Ok(())
}

/// Returns whether anybody's is counted.
pub(crate) fn is_counted<F: Fs>(fs: &F) -> Result<bool, Error> {
    Ok(!identities(fs)?.is_empty())
}

fn path(identity: &str) -> RepoPath {
    RepoPath::held().child(&Checksum::of(identity.as_bytes()).to_hex())
}

/// Lists the files, and whose they are.
fn identities<F: Fs>(fs: &F) -> Result<Vec<(RepoPath, String)>, Error> {
    let dir = RepoPath::held();
    let mut found = Vec::new();
    for (name, _) in list_dir(fs, &dir)? {
        let path = dir.child(&name);
        let content = read_file(fs, &path, MAX_LEN).map_err(Error::io("reading", &path))?;
        let content = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
        found.push((path, content.lines().next().unwrap_or_default().to_owned()));
    }
    Ok(found)
}

/// Returns what an identity holds. What a power cut has made of it is nothing.
fn held<F: Fs>(fs: &F, identity: &str) -> Result<Weight, Error> {
    let path = path(identity);
    let content = read_file(fs, &path, MAX_LEN).map_err(Error::io("reading", &path))?;
    let content = String::from_utf8_lossy(&content.unwrap_or_default()).into_owned();
    let weight = || {
        let (objects, bytes) = content.lines().nth(1)?.split_once(' ')?;
        Some(Weight {
            objects: objects.parse().ok()?,
            bytes: bytes.parse().ok()?,
        })
    };
    Ok(weight().unwrap_or_default())
}

fn write<F: Fs>(
    fs: &F,
    scratch: &impl PutFile,
    identity: &str,
    weight: Weight,
) -> Result<(), Error> {
    let dir = RepoPath::held();
    make_dir(fs, &dir, 0o775).map_err(Error::io("making", &dir))?;
    let Weight { objects, bytes } = weight;
    let content = format!("{identity}\n{objects} {bytes}\n");
    scratch.put_file(&path(identity), content.as_bytes())
}

/// A longer file is none of these, in bytes.
const MAX_LEN: usize = 64 * 1024;
