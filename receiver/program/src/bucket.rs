//! A cache in object storage: an agent that holds keys and connections starts before the sandbox,
//! and the store is opened within it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use artifact_bucket::agent::{self, Started};
pub(crate) use artifact_bucket::agent::{ARGUMENT, serve};
use artifact_bucket::{Address, Settings};
use artifact_receiver::config::Config;
use artifact_store::bucket::{BucketStore, Client, SystemClock};
use artifact_store::{Allowance, StoreConfig};

use crate::unready::Unready;

/// A bucket whose agent has started.
pub(crate) struct Begun {
    started: Started,
    config: StoreConfig,
}

/// Returns whether a repository is meant to be one in object storage.
pub(crate) fn is_meant_by(repo: &Path) -> bool {
    repo.to_str().is_some_and(Address::is_meant_by)
}

impl Begun {
    /// Starts the agent.
    pub(crate) fn new(
        repo: &Path,
        config: &Config,
        mut store: StoreConfig,
    ) -> Result<Self, Unready> {
        if !has_quotas(config) {
            // The defaults are for the disk of one machine.
            store.allowance = Allowance::default();
        }
        let started = (|| {
            let mut settings = Settings::new(repo.to_string_lossy().parse()?);
            settings.reach = config.bucket.clone();
            if std::env::var_os(SECRET).is_some() {
                tracing::warn!(
                    "the keys of object storage are in the environment of the process that reads \
                     from clients: put them into a file, which that process cannot open"
                );
            }
            agent::start(settings).context("cannot start the agent for object storage")
        })();
        let started = started.map_err(unready)?;
        Ok(Self {
            started,
            config: store,
        })
    }

    /// Opens the store. Needs no rights but those of a confined process.
    pub(crate) fn open(self) -> Result<Arc<BucketStore>, Unready> {
        let agent = self
            .started
            .connect()
            .map_err(|error| unready(error.into()))?;
        let client = Client::new(Arc::new(agent), Arc::new(SystemClock));
        let store = BucketStore::open(client, self.config).map_err(|error| Unready {
            fault: error.to_fault(),
            cause: anyhow::Error::new(error).context("cannot open the cache in object storage"),
        })?;
        Ok(Arc::new(store))
    }
}

/// Returns whether the configuration sets a quota, of everybody or of somebody.
fn has_quotas(config: &Config) -> bool {
    let limits = &config.limits;
    let of_all =
        limits.refs_max.is_some() || limits.objects_max.is_some() || limits.bytes_max.is_some();
    let mut identities = config.identities.iter();
    of_all || identities.any(|identity| identity.allowance != Allowance::default())
}

fn unready(cause: anyhow::Error) -> Unready {
    Unready::new(
        "the server's object storage cannot be used; its log says why",
        cause,
    )
}

const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
