//! The store on a local OSTree repository.

pub(crate) mod disk;
pub(crate) mod own;
pub(crate) mod push;
pub(crate) mod repository;
pub(crate) mod staging;
pub(crate) mod summary;
pub(crate) mod terms;
pub(crate) mod upkeep;

use std::path::Path;
use std::sync::Arc;

use artifact_formats::{Checksum, RefName};
use artifact_protocol::session::{Announcement, Opened, RefQuery};

use crate::config::StoreConfig;
use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::real::RealFs;
use crate::local::push::pusher::Pusher;
use crate::local::push::workspace::{Bounds, Workspace};
use crate::local::push::{LocalPush, session_limit};
use crate::local::repository::account::Account;
use crate::local::repository::{Repo, heads};
use crate::local::staging::Staging;
use crate::local::staging::abandoned::Owner;
use crate::local::summary::Maker;
use crate::local::terms::{RefPlace, Terms};
use crate::seam::Store;
use crate::summary::MadeSummary;

/// A repository on this machine: a cache for the pushes of one identity, or one's own, for pulls.
#[derive(Debug)]
pub struct LocalStore<F: Fs = RealFs> {
    repo: Arc<Repo<F>>,
    config: StoreConfig,
    // Set if it is an own repository.
    own: Option<RefPlace>,
}

/// A place among the sessions that may run at once, until this is dropped.
#[derive(Debug)]
pub struct SessionPlace<F: Fs = RealFs>(#[expect(dead_code, reason = "locks")] Vec<F::Lock>);

impl LocalStore {
    /// The directory below the repository in which [`take_place`](Self::take_place) writes.
    pub const SESSIONS: &str = "extensions/artifact-cache";

    /// Opens the repository of mode archive at `path`, as a cache.
    pub fn open(path: &Path, config: StoreConfig) -> Result<Self, Error> {
        let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
        Self::with_fs(fs, config)
    }
}

impl<F: Fs> LocalStore<F> {
    /// Opens the repository of mode archive that is the root of a file system, as a cache.
    pub fn with_fs(fs: F, config: StoreConfig) -> Result<Self, Error> {
        Ok(Self {
            repo: Arc::new(Repo::open(fs)?),
            config,
            own: None,
        })
    }

    /// Takes a place among the sessions that may run at once, for a session that only reads.
    pub fn take_place(&self) -> Result<SessionPlace<F>, Error> {
        let StoreConfig {
            identity, places, ..
        } = &self.config;
        session_limit::take(&*self.repo.fs, identity, *places).map(SessionPlace)
    }

    /// Makes the summary from the repository alone, without the record, and calls `sign` while no
    /// other session may replace it. An up-to-date summary stays untouched.
    pub fn rebuild_summary<T>(&self, sign: impl FnOnce(&MadeSummary) -> T) -> Result<T, Error> {
        let owner = Owner::new(&self.config.identity, None);
        let scratch = Staging::create(&self.repo, owner, 1)?;
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
        heads::heads(&*self.repo.fs, &self.config.policy, query)
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
            allowance: *allowance,
            adopts: policy.readable().is_none(),
        };
        let work = Workspace::new(&self.repo, identity, bounds)?;
        let pusher = Pusher {
            identity,
            policy,
            account,
        };
        let terms = match &self.own {
            Some(place) => Terms::Own(place.clone()),
            None => Terms::Cache {
                summary: Box::new(summary.clone()),
                places: *places,
            },
        };
        LocalPush::begin(work, terms, pusher, announcement)
    }
}
