//! A cache in object storage: an agent that holds keys and connections starts before the sandbox,
//! and the store is opened within it.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use artifact_bucket::agent::{self, Started};
pub(crate) use artifact_bucket::agent::{ARGUMENT, serve};
use artifact_bucket::{Address, Settings};
use artifact_formats::Share;
use artifact_receiver::config::Config;
use artifact_store::StoreConfig;
use artifact_store::bucket::{BucketStore, Client, SystemClock};

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
        if is_percentage(store.allowance.bytes_max) && !sets_percentage(config) {
            // The default is for a disk.
            store.allowance.bytes_max = None;
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

/// Returns whether the configuration limits the bytes of everybody, or of somebody, by a percentage.
fn sets_percentage(config: &Config) -> bool {
    let mut identities = config.identities.iter();
    is_percentage(config.limits.bytes_max)
        || identities.any(|identity| is_percentage(identity.allowance.bytes_max))
}

const fn is_percentage(share: Option<Share>) -> bool {
    matches!(share, Some(Share::Percent(_)))
}

fn unready(cause: anyhow::Error) -> Unready {
    Unready::new(
        "the server's object storage cannot be used; its log says why",
        cause,
    )
}

const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
