//! The state that all parts of one push share: the bucket, the objects that the push has put, and
//! those that it relies on.

use std::collections::HashMap;

use artifact_formats::{Checksum, Commit, ObjectId};
use artifact_protocol::limits::{Limits, MAX_HELD_BACK_LEN};
use bytes::Bytes;
use parking_lot::Mutex;

use crate::bucket::collect::Fate;
use crate::bucket::push::account::PushAccount;
use crate::bucket::push::bases::Bases;
use crate::bucket::push::known::Known;
use crate::bucket::push::lease::Membership;
use crate::bucket::records::commits::Doubt;
use crate::bucket::records::journal::Journal;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::window::Window;
use crate::error::Error;
use crate::quota::load::Load;

/// The state that the threads of a push share. A thread that takes several of its locks takes the
/// one of [`Membership`] first.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) client: Client,
    pub(crate) window: Window,
    pub(crate) limits: Limits,
    pub(crate) load: Load,
    /// The account of the identity, if it has quotas.
    pub(crate) account: Option<Mutex<PushAccount>>,
    pub(crate) known: Mutex<Known>,
    pub(crate) bases: Mutex<Bases>,
    pub(crate) held_back: Mutex<HeldBack>,
    /// `None` for a push that changes nothing: a dry run, or one without accepted updates.
    pub(crate) writer: Option<Writer>,
}

/// The further state of a push that may change something.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) membership: Membership,
    pub(crate) journal: Journal,
    pub(crate) doubt: Doubt,
}

impl Writer {
    pub(crate) fn new(membership: Membership, journal: Journal) -> Self {
        Self {
            membership,
            journal,
            doubt: Doubt::default(),
        }
    }
}

impl Work {
    /// Returns whether the push relies on an object, or has begun to put it.
    pub(crate) fn relies_on(&self, id: &ObjectId) -> bool {
        self.known.lock().holds(id) || self.bases.lock().names(id)
    }

    /// Returns the epoch of the last collection that the push keeps to; 0 without a lease.
    pub(crate) fn epoch(&self) -> u64 {
        let writer = self.writer.as_ref();
        writer.map_or(0, |writer| writer.membership.epoch())
    }

    /// Returns the state of a push that may change something.
    pub(crate) fn writer(&self) -> Result<&Writer, Error> {
        self.writer.as_ref().ok_or(Error::Misuse {
            what: "change something in a push that changes nothing",
        })
    }

    /// Renews the lease, charges the account, and writes the journal when they are due.
    pub(crate) fn keep_up(&self) -> Result<(), Error> {
        let Some(Writer {
            membership,
            journal,
            ..
        }) = &self.writer
        else {
            return Ok(());
        };
        membership.renew_if_due(|id| self.relies_on(id))?;
        if let Some(mut account) = self.account.as_ref().and_then(Mutex::try_lock) {
            account.charge_if_due(&self.client, self.load.brought())?;
        }
        let now = self.client.clock().now();
        journal.write_some(&self.window, now, || membership.epoch())
    }

    /// Notes an object that is about to be put, and the objects that it names; returns whether it
    /// is new. Waits while a collection deletes an object of this name.
    pub(crate) fn claim(&self, id: ObjectId, below: &[ObjectId]) -> Result<bool, Error> {
        let membership = &self.writer()?.membership;
        loop {
            match membership.judge(&id, || self.known.lock().take(id, below)) {
                Ok(is_new) => return Ok(is_new),
                Err(Fate::Wait) => membership.wait(|id| self.relies_on(id))?,
                Err(Fate::Spare | Fate::Free) => {
                    membership.spare(vec![id], |id| self.relies_on(id))?;
                }
            }
        }
    }
}

/// Commits and detached metadata, held in memory until all their objects are in the bucket.
#[derive(Debug, Default)]
pub(crate) struct HeldBack {
    commits: HashMap<Checksum, HeldCommit>,
    detached: HashMap<Checksum, Bytes>,
    len: usize,
}

/// A commit that was verified.
#[derive(Clone, Debug)]
pub(crate) struct HeldCommit {
    pub(crate) content: Bytes,
    pub(crate) parent: Option<Checksum>,
}

impl HeldBack {
    /// Takes a verified commit.
    pub(crate) fn take_commit(&mut self, commit: Checksum, content: Bytes) -> Result<(), Error> {
        if self.commits.contains_key(&commit) {
            return Ok(());
        }
        self.count(content.len())?;
        let parent = Commit::parse(&content)
            .ok()
            .and_then(|commit| commit.parent);
        self.commits.insert(commit, HeldCommit { content, parent });
        Ok(())
    }

    /// Takes checked detached metadata.
    pub(crate) fn take_detached(&mut self, commit: Checksum, content: Bytes) -> Result<(), Error> {
        // Metadata that is sent again replaces the first.
        self.len -= self.detached.remove(&commit).map_or(0, |old| old.len());
        self.count(content.len())?;
        self.detached.insert(commit, content);
        Ok(())
    }

    /// Returns a commit that was sent.
    pub(crate) fn commit(&self, commit: Checksum) -> Option<&HeldCommit> {
        self.commits.get(&commit)
    }

    /// Returns the commits that were sent, each with its parent.
    pub(crate) fn parents(&self) -> impl Iterator<Item = (Checksum, Option<Checksum>)> {
        let commits = self.commits.iter();
        commits.map(|(commit, held)| (*commit, held.parent))
    }

    /// Returns the detached metadata that was sent for a commit.
    pub(crate) fn detached(&self, commit: Checksum) -> Option<&Bytes> {
        self.detached.get(&commit)
    }

    fn count(&mut self, len: usize) -> Result<(), Error> {
        self.len = self.len.saturating_add(len);
        if self.len > MAX_HELD_BACK_LEN {
            return Err(Error::TooMuchHeldBack {
                limit: MAX_HELD_BACK_LEN,
            });
        }
        Ok(())
    }
}
