//! The existing refs that an identity has set: their cost to others is bounded.
//!
//! An account is one file for an identity, with one name a line. It is written before its refs are
//! set, and not synced: after a power cut an identity may seem to have fewer refs than it has,
//! never more.

use std::collections::{BTreeSet, HashMap, HashSet};

use artifact_formats::{Checksum, RefName};
use artifact_protocol::frame::Refusal;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, PutFile, if_there, make_dir, read_file};
use crate::local::repository::held;
use crate::local::repository::refs::{self, Held};
use crate::quota::refs::{RefsWeight, too_many_refs};

#[derive(Debug)]
pub(crate) struct Account {
    identity: String,
    names: BTreeSet<Box<str>>,
    weight: RefsWeight,
    max: u64,
    // Admitted since it was read: these refs do not exist yet.
    admitted: HashSet<Box<str>>,
    settled: bool,
    changed: bool,
}

/// The content of an account's file.
struct Stored {
    identity: String,
    names: Vec<Box<str>>,
}

impl Account {
    /// Reads the account of an identity.
    pub(crate) fn load<F: Fs>(fs: &F, identity: &str, max: u64) -> Result<Self, Error> {
        let stored = read(fs, &path(identity))?;
        let names = stored.map(|stored| stored.names).unwrap_or_default();
        let names: BTreeSet<_> = names.into_iter().collect();
        Ok(Self {
            identity: identity.to_owned(),
            weight: RefsWeight::of(&names),
            names,
            max,
            admitted: HashSet::new(),
            settled: false,
            changed: false,
        })
    }

    /// Reads the same account again.
    pub(crate) fn reload<F: Fs>(&self, fs: &F) -> Result<Self, Error> {
        Self::load(fs, &self.identity, self.max)
    }

    /// Admits a new ref to the account, if the allowance permits.
    pub(crate) fn admit<F: Fs>(&mut self, fs: &F, name: &RefName) -> Result<bool, Error> {
        let name = name.as_str();
        if self.names.contains(name) {
            return Ok(true);
        }
        if !self.weight.has_room_for(name, self.max) && !self.settled {
            self.settle(fs)?;
        }
        let admitted = self.weight.has_room_for(name, self.max);
        if admitted {
            self.weight.add(name);
            self.names.insert(name.into());
            self.admitted.insert(name.into());
            self.changed = true;
        }
        Ok(admitted)
    }

    /// Refuses a ref that was not admitted.
    pub(crate) fn refuse(&self) -> Refusal {
        too_many_refs(self.weight.used(), self.max)
    }

    /// Writes the account if it has changed. The lock of refs must be held.
    pub(crate) fn save<F: Fs>(&self, fs: &F, scratch: &impl PutFile) -> Result<(), Error> {
        if !self.changed {
            return Ok(());
        }
        write(fs, scratch, &self.identity, &self.names)
    }

    /// Forgets refs that no longer exist.
    fn settle<F: Fs>(&mut self, fs: &F) -> Result<(), Error> {
        self.settled = true;
        let before = self.names.len();
        for name in std::mem::take(&mut self.names) {
            if self.admitted.contains(&name) || is_there(fs, &name)? {
                self.names.insert(name);
            }
        }
        self.changed |= self.names.len() < before;
        self.weight = RefsWeight::of(&self.names);
        Ok(())
    }
}

/// Removes the refs for which `is_gone` is true from all accounts. The lock of refs must be held.
pub(crate) fn close<F: Fs>(
    fs: &F,
    scratch: &impl PutFile,
    mut is_gone: impl FnMut(&str) -> Result<bool, Error>,
) -> Result<(), Error> {
    for path in list(fs)? {
        let Some(Stored { identity, names }) = read(fs, &path)? else {
            continue;
        };
        let mut left = BTreeSet::new();
        let before = names.len();
        for name in names {
            if !is_gone(&name)? {
                left.insert(name);
            }
        }
        if left.is_empty() {
            held::forget(fs, &identity)?;
        }
        if left.len() < before || left.is_empty() {
            write(fs, scratch, &identity, &left)?;
        }
    }
    // Fails unless the directory is empty.
    let _ = fs.rmdir(&RepoPath::accounts());
    Ok(())
}

/// Returns who has set each ref.
pub(crate) fn owners<F: Fs>(fs: &F) -> Result<HashMap<Box<str>, String>, Error> {
    let mut owners = HashMap::new();
    for path in list(fs)? {
        if let Some(Stored { identity, names }) = read(fs, &path)? {
            owners.extend(names.into_iter().map(|name| (name, identity.clone())));
        }
    }
    Ok(owners)
}

/// Returns whether a ref, or another entry of its name, exists.
pub(crate) fn is_there<F: Fs>(fs: &F, name: &str) -> Result<bool, Error> {
    let Ok(name) = RefName::parse_stored(name) else {
        return Ok(false);
    };
    Ok(refs::look(fs, &RepoPath::head(&name))? != Held::Nothing)
}

fn path(identity: &str) -> RepoPath {
    RepoPath::accounts().child(&Checksum::of(identity.as_bytes()).to_hex())
}

fn list<F: Fs>(fs: &F) -> Result<Vec<RepoPath>, Error> {
    let dir = RepoPath::accounts();
    let entries = if_there(fs.read_dir(&dir, usize::MAX)).map_err(Error::io("listing", &dir))?;
    let entries = entries.unwrap_or_default().into_iter();
    Ok(entries.map(|entry| dir.child(&entry.name)).collect())
}

/// Reads an account's identity and names. Lines that a power cut damaged are skipped.
fn read<F: Fs>(fs: &F, path: &RepoPath) -> Result<Option<Stored>, Error> {
    let content = read_file(fs, path, MAX_LEN).map_err(Error::io("reading", path))?;
    let Some(content) = content else {
        return Ok(None);
    };
    let content = String::from_utf8_lossy(&content);
    let mut lines = content.lines();
    let identity = lines.next().unwrap_or_default().to_owned();
    let names = lines.filter(|name| RefName::parse_stored(name).is_ok());
    Ok(Some(Stored {
        identity,
        names: names.map(Box::from).collect(),
    }))
}

fn write<F: Fs>(
    fs: &F,
    scratch: &impl PutFile,
    identity: &str,
    names: &BTreeSet<Box<str>>,
) -> Result<(), Error> {
    let (dir, path) = (RepoPath::accounts(), path(identity));
    if names.is_empty() {
        return match if_there(fs.unlink(&path)) {
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io("removing", &path)(error)),
        };
    }
    make_dir(fs, &dir, 0o775).map_err(Error::io("making", &dir))?;
    let lines = [identity].into_iter().chain(names.iter().map(|n| &**n));
    let content = lines.fold(String::new(), |text, line| text + line + "\n");
    scratch.put_file(&path, content.as_bytes())
}

/// The longest account that is read, in bytes: more than a million names.
const MAX_LEN: usize = 128 * 1024 * 1024;
