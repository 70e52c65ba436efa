//! The parts of one push share this: the repository, and this push's own files and budgets.

use std::collections::BTreeSet;
use std::sync::Arc;

use artifact_formats::ObjectId;
use artifact_protocol::limits::Limits;

use crate::config::{Allowance, HeadRoom};
use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::disk::space::Meter;
use crate::local::push::rereads::Rereads;
use crate::local::repository::{Repo, held};
use crate::local::staging::Staging;
use crate::local::staging::abandoned::Owner;
use crate::quota::load::{Load, Quota};

/// A repository, and one push's staging directory and budgets. Threads share it.
#[derive(Debug)]
pub(crate) struct Workspace<F: Fs> {
    pub(crate) repo: Arc<Repo<F>>,
    pub(crate) staging: Staging<F>,
    pub(crate) limits: Limits,
    pub(crate) rereads: Rereads,
    pub(crate) load: Load,
    /// Whether existing objects count as here, whoever brought them. Otherwise only those do that
    /// lie beneath refs which the client may pull: it could pull the others once it had named them.
    pub(crate) adopts: bool,
    meter: Meter,
    // The directories of objects that existed when this was made.
    fan_out: BTreeSet<String>,
}

/// The limits of a push.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) limits: Limits,
    pub(crate) head_room: HeadRoom,
    pub(crate) reread_max: Option<u64>,
    /// Concurrent threads.
    pub(crate) threads: usize,
    pub(crate) allowance: Allowance,
    /// Whether the client may pull everything.
    pub(crate) adopts: bool,
}

impl<F: Fs> Workspace<F> {
    /// Makes a staging directory for a push of `identity`.
    pub(crate) fn new(repo: &Arc<Repo<F>>, identity: &str, bounds: Bounds) -> Result<Self, Error> {
        let objects = RepoPath::objects();
        let listed = repo.fs.read_dir(&objects, MAX_LISTED);
        let listed = listed.map_err(Error::io("listing", &objects))?;
        let quota = held::quota(&*repo.fs, identity, &bounds.allowance)?;
        let owner = Owner::new(identity, quota.as_ref().map(Quota::left));
        Ok(Self {
            staging: Staging::create(repo, owner, bounds.threads)?,
            repo: Arc::clone(repo),
            limits: bounds.limits,
            rereads: Rereads::new(bounds.reread_max),
            load: Load::new(quota),
            adopts: bounds.adopts,
            meter: Meter::new(bounds.head_room),
            fan_out: listed.into_iter().map(|entry| entry.name).collect(),
        })
    }

    pub(crate) fn fs(&self) -> &F {
        &self.repo.fs
    }

    /// Fails if there is too little free space for a push to begin.
    pub(crate) fn check_room(&self) -> Result<(), Error> {
        let reclaim = || self.staging.reclaim();
        self.meter.check(self.fs(), &self.repo.config, reclaim)
    }

    /// Counts bytes and files that the client sends; fails if they leave too little free space, or
    /// exceed the quota of its identity.
    pub(crate) fn receive(&self, bytes: usize, files: u64) -> Result<(), Error> {
        self.rereads.earn(bytes as u64);
        self.load.bring(files, bytes as u64)?;
        self.take_room(bytes, files)
    }

    /// Counts bytes and files that the push is about to create; fails if they leave too little free
    /// space.
    pub(crate) fn take_room(&self, bytes: usize, files: u64) -> Result<(), Error> {
        let reclaim = || self.staging.reclaim();
        let taken = (bytes as u64, files);
        self.meter
            .count(self.fs(), &self.repo.config, taken, reclaim)
    }

    /// Returns whether an object may have been here when the push began. This saves a first push
    /// from looking for each of its objects.
    pub(crate) fn may_have_had(&self, id: &ObjectId) -> bool {
        let [first, ..] = *id.checksum.as_bytes();
        self.fan_out.contains(RepoPath::fan_out(first).split().1)
    }
}

/// Entries of the directory of objects that are looked at: a repository has 256 there.
const MAX_LISTED: usize = 1024;
