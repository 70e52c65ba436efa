//! The store on a local OSTree repository of mode archive.

pub(crate) mod disk;
pub(crate) mod push;
pub(crate) mod repository;
pub(crate) mod staging;
pub(crate) mod summary;
pub(crate) mod upkeep;

use std::path::Path;
use std::sync::Arc;

use artifact_formats::{Checksum, RefName};
use artifact_protocol::limits::Limits;
use artifact_protocol::session::{Announcement, Opened, RefQuery};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::real::RealFs;
use crate::local::disk::space::HeadRoom;
use crate::local::push::session_limit::Places;
use crate::local::push::workspace::{Bounds, Workspace};
use crate::local::push::{LocalPush, Pusher};
use crate::local::repository::account::{Account, Allowance};
use crate::local::repository::{Repo, heads};
use crate::local::staging::Staging;
use crate::local::summary::config::SummaryConfig;
use crate::local::summary::{MadeSummary, Maker};
use crate::policy::Policy;
use crate::seam::Store;

/// For whom a store is opened, and within which bounds.
#[derive(Clone, Debug, Default)]
pub struct StoreConfig {
    /// Who pushes, as the server knows them.
    pub identity: String,
    /// What that identity may do.
    pub policy: Policy,
    /// Sizes that are kept to.
    pub limits: Limits,
    /// How the summary is made.
    pub summary: SummaryConfig,
    /// What must be free for a push to be accepted.
    pub head_room: HeadRoom,
    /// Most sessions at once that have something accepted.
    pub places: Places,
    /// How many refs the identity may have.
    pub allowance: Allowance,
    /// Bytes of objects that are here and beneath nothing the client relies on that a push may have
    /// verified again, beside as many as it sends; 1 GiB if nothing is said.
    pub reread_max: Option<u64>,
    /// Threads that publish many objects; 0 is one.
    pub threads: usize,
}

/// A repository on this machine, for the pushes of one identity.
#[derive(Debug)]
pub struct LocalStore<F: Fs = RealFs> {
    repo: Arc<Repo<F>>,
    config: StoreConfig,
}

impl LocalStore {
    /// Opens the repository at `path`.
    pub fn open(path: &Path, config: StoreConfig) -> Result<Self, Error> {
        let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
        Self::with_fs(fs, config)
    }
}

impl<F: Fs> LocalStore<F> {
    /// Opens the repository that is the root of a file system.
    pub fn with_fs(fs: F, config: StoreConfig) -> Result<Self, Error> {
        Ok(Self {
            repo: Arc::new(Repo::open(fs)?),
            config,
        })
    }

    /// Makes the summary from what lies in the repository and from nothing that is remembered, and
    /// calls `sign` while no other session may replace it. One that says the same already is left
    /// as it is.
    pub fn rebuild_summary<T>(&self, sign: impl FnOnce(&MadeSummary) -> T) -> Result<T, Error> {
        let scratch = Staging::create(&self.repo, &self.config.identity, 1)?;
        let maker = Maker {
            repo: &self.repo,
            config: &self.config.summary,
            scratch: &scratch,
        };
        summary::rebuild(maker, sign)
    }
}

impl<F: Fs> Store for LocalStore<F> {
    type Push = LocalPush<F>;

    fn refs(&self, query: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
        heads::heads(&*self.repo.fs, query)
    }

    fn begin(&self, announcement: &Announcement) -> Result<(Opened, LocalPush<F>), Error> {
        let StoreConfig {
            identity,
            policy,
            limits,
            summary,
            head_room,
            places,
            allowance,
            reread_max,
            threads,
        } = &self.config;
        let account = (allowance.refs_max)
            .map(|max| Account::load(&*self.repo.fs, identity, max))
            .transpose()?;
        let bounds = Bounds {
            limits: *limits,
            head_room: *head_room,
            reread_max: *reread_max,
            threads: *threads,
        };
        let work = Workspace::new(&self.repo, identity, bounds)?;
        let pusher = Pusher {
            identity,
            policy,
            places: *places,
        };
        LocalPush::begin(work, pusher, account, summary.clone(), announcement)
    }
}
