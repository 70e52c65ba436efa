//! The summary: derived from the refs as they are, rebuilt whenever they change.
//!
//! It never names a commit that is missing, unreadable or partial. It is written beside and renamed
//! under the repository's lock held exclusively, and only if the refs are still those it was made
//! from, so that no older one replaces a newer one. It is not signed here.

mod config;
mod key;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use artifact_protocol::limits::MAX_METADATA_LEN;
use artifact_protocol::ostree::{Commit, Summary, SummaryRef};
use artifact_protocol::{Checksum, ObjectId, ObjectKind, RefName};
use sha2::{Digest, Sha256};

pub use self::config::{SummaryConfig, SummaryMode};
pub use self::key::{KeyError, SummaryKey};
use super::fs::{FileKind, Fs, LockMode, if_there, read_file};
use super::objects;
use super::path::RepoPath;
use super::refs::{self, AllRefs};
use super::repo::Repo;
use crate::error::Error;

/// Brings the summary up to date, unless it names `wanted` already: then another session did.
pub(super) fn update<'a, F: Fs>(
    repo: &Repo<F>,
    wanted: impl Iterator<Item = (&'a RefName, Checksum)>,
) -> Result<(), Error> {
    let fs = &*repo.fs;
    let mode = &repo.summary.mode;
    let lock = repo.lock_own(&RepoPath::summary_lock(), LockMode::Exclusive)?;
    if *mode == SummaryMode::None {
        return remove(fs);
    }
    let mut wanted = wanted.peekable();
    if wanted.peek().is_some() && names(fs, mode, wanted)? {
        return Ok(());
    }
    let mut all = refs::list(fs)?;
    for turn in 1.. {
        let file = write(repo, &all)?;
        let exclusive = repo.lock(LockMode::Exclusive)?;
        let now = refs::list(fs)?;
        if now == all || turn == MAX_TURNS {
            replace(fs, &file)?;
            drop(exclusive);
            break;
        }
        repo.staging.forget(&file);
        all = now;
    }
    drop(lock);
    Ok(())
}

/// Returns whether the summary names those of these refs that it ought to, with these values. It is
/// not read for none.
pub(super) fn names<'a, F: Fs>(
    fs: &F,
    mode: &SummaryMode,
    wanted: impl Iterator<Item = (&'a RefName, Checksum)>,
) -> Result<bool, Error> {
    let mut wanted = wanted
        .filter(|(name, _)| mode.names(name.as_str()))
        .peekable();
    if wanted.peek().is_none() {
        return Ok(true);
    }
    let path = RepoPath::summary();
    let content = match read_file(fs, &path, MAX_READ_LEN) {
        Ok(content) => content.unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(Error::io("reading", &path)(error)),
    };
    let Ok(summary) = Summary::parse(&content) else {
        return Ok(false);
    };
    Ok(wanted.all(|(name, commit)| {
        summary
            .refs
            .get(name.as_str())
            .is_some_and(|entry| entry.commit == commit)
    }))
}

/// Writes a summary of these refs to a durable file.
fn write<F: Fs>(repo: &Repo<F>, all: &AllRefs) -> Result<RepoPath, Error> {
    let content = build(repo, all)?.serialize();
    if content.len() > WARN_LEN {
        tracing::warn!(
            bytes = content.len(),
            "the summary nears 10 MiB, the most that older clients read"
        );
    }
    let (path, mut file) = repo.staging.temporary()?;
    file.write_all(&content)
        .map_err(Error::io("writing", &path))?;
    repo.fs
        .sync_data(&file)
        .map_err(Error::io("syncing", &path))?;
    Ok(path)
}

/// Removes a summary that there should not be.
fn remove<F: Fs>(fs: &F) -> Result<(), Error> {
    for path in [RepoPath::summary(), RepoPath::summary_signature()] {
        if_there(fs.unlink(&path)).map_err(Error::io("removing", &path))?;
    }
    Ok(())
}

/// Puts a durable file in the summary's place. A signature of the old one would make clients refuse
/// the new one.
fn replace<F: Fs>(fs: &F, file: &RepoPath) -> Result<(), Error> {
    let summary = RepoPath::summary();
    fs.rename(file, &summary)
        .map_err(Error::io("replacing", &summary))?;
    let signature = RepoPath::summary_signature();
    if_there(fs.unlink(&signature)).map_err(Error::io("removing", &signature))?;
    fs.sync_dir(&RepoPath::root())
        .map_err(Error::io("syncing", &RepoPath::root()))
}

/// Gathers what `ostree summary -u` would (`ostree-repo.c`, `regenerate_metadata`).
fn build<F: Fs>(repo: &Repo<F>, all: &AllRefs) -> Result<Summary, Error> {
    let fs = &*repo.fs;
    let mut entries = Entries {
        fs,
        mode: &repo.summary.mode,
        known: HashMap::new(),
    };
    let mut main = entries.of(&all.heads)?;
    let mut others = BTreeMap::new();
    for (collection, refs) in &all.mirrors {
        let refs = entries.of(refs)?;
        if repo.config.collection_id.as_ref() == Some(collection) {
            main.extend(refs);
        } else if !refs.is_empty() {
            others.insert(collection.clone(), refs);
        }
    }
    let deltas = if repo.config.no_deltas_in_summary {
        BTreeMap::new()
    } else {
        static_deltas(fs)?
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(Summary {
        refs: main,
        mode: Some(repo.config.mode.as_str().to_owned()),
        last_modified: Some(now.as_secs()),
        tombstone_commits: Some(repo.config.tombstone_commits),
        static_deltas: deltas,
        collection_map: others,
        indexed_deltas: Some(true),
        collection_id: repo.config.collection_id.clone(),
    })
}

/// What a summary says of commits; each is read once.
struct Entries<'a, F: Fs> {
    fs: &'a F,
    mode: &'a SummaryMode,
    known: HashMap<Checksum, Option<SummaryRef>>,
}

impl<F: Fs> Entries<'_, F> {
    fn of(
        &mut self,
        refs: &BTreeMap<String, Checksum>,
    ) -> Result<BTreeMap<String, SummaryRef>, Error> {
        let mut entries = BTreeMap::new();
        for (name, &commit) in refs.iter().filter(|(name, _)| self.mode.names(name)) {
            let entry = match self.known.get(&commit) {
                Some(entry) => entry.clone(),
                None => {
                    let entry = self.read(commit)?;
                    self.known.insert(commit, entry.clone());
                    entry
                }
            };
            match entry {
                Some(entry) => _ = entries.insert(name.clone(), entry),
                None => tracing::warn!(%name, %commit, "a ref's commit is not whole: left out"),
            }
        }
        Ok(entries)
    }

    fn read(&self, commit: Checksum) -> Result<Option<SummaryRef>, Error> {
        if !objects::is_whole(self.fs, commit)? {
            return Ok(None);
        }
        let id = ObjectId::new(ObjectKind::Commit, commit);
        let content = objects::read_metadata(self.fs, id)?;
        let entry = |content: Vec<u8>| {
            let parsed = Commit::parse(&content).ok()?;
            Some(SummaryRef {
                commit,
                commit_len: content.len() as u64,
                timestamp: self.mode.has_timestamps().then_some(parsed.timestamp),
                version: parsed.version,
            })
        };
        Ok(content.and_then(entry))
    }
}

/// Returns the SHA-256 of each static delta's superblock, by the delta's name
/// (`ostree-repo-static-delta-core.c`, `ostree_repo_list_static_delta_names`).
fn static_deltas<F: Fs>(fs: &F) -> Result<BTreeMap<String, Checksum>, Error> {
    let mut deltas = BTreeMap::new();
    let top = RepoPath::deltas();
    for prefix in dirs_in(fs, &top)? {
        let dir = top.child(&prefix);
        for rest in dirs_in(fs, &dir)? {
            let superblock = dir.child(&rest).child("superblock");
            let Some(checksum) = file_checksum(fs, &superblock)? else {
                continue;
            };
            if let Some(name) = delta_name(&format!("{prefix}{rest}")) {
                deltas.insert(name, checksum);
            }
        }
    }
    Ok(deltas)
}

/// Turns the base64 of a delta's directory into `TO` or `FROM-TO` in digits.
fn delta_name(encoded: &str) -> Option<String> {
    let checksums: Option<Vec<_>> = encoded.split('-').map(from_base64).collect();
    match *checksums? {
        [to] => Some(to.to_hex()),
        [from, to] => Some(format!("{from}-{to}")),
        _ => None,
    }
}

/// Decodes a checksum of 43 digits, `_` standing for `/` (`ostree-core.c`,
/// `ostree_checksum_b64_inplace_to_bytes`).
fn from_base64(text: &str) -> Option<Checksum> {
    let mut bytes = Vec::with_capacity(Checksum::LEN + 1);
    let (mut bits, mut count) = (0u32, 0u32);
    for digit in text.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Checksum::from_slice(&bytes)
}

fn dirs_in<F: Fs>(fs: &F, dir: &RepoPath) -> Result<Vec<String>, Error> {
    let entries = if_there(fs.read_dir(dir, usize::MAX)).map_err(Error::io("listing", dir))?;
    let dirs = entries.unwrap_or_default().into_iter();
    Ok(dirs
        .filter(|entry| entry.kind == FileKind::Dir)
        .map(|entry| entry.name)
        .collect())
}

fn file_checksum<F: Fs>(fs: &F, path: &RepoPath) -> Result<Option<Checksum>, Error> {
    let Some(mut file) = if_there(fs.open(path)).map_err(Error::io("opening", path))? else {
        return Ok(None);
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(Checksum::new(hasher.finalize().into()))),
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("reading", path)(error)),
        }
    }
}

/// Times a summary is made again because the refs changed; by then it is newer than any other.
const MAX_TURNS: u32 = 5;
/// Length from which the administrator is warned, in bytes.
const WARN_LEN: usize = 7 * 1024 * 1024;
/// A longer summary is rebuilt without looking whether it must be, in bytes.
const MAX_READ_LEN: usize = 4 * MAX_METADATA_LEN;
