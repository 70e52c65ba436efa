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
        store.allowance = in_bucket(store.allowance, config);
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

/// Returns the quotas of an identity without the default for bytes, which is a share of a disk. A
/// percentage that the configuration sets, for everybody or for somebody, stays: the store refuses
/// it.
fn in_bucket(allowance: Allowance, config: &Config) -> Allowance {
    let identities = config.identities.iter();
    let mut set = identities.map(|identity| identity.allowance.bytes_max);
    let is_set = is_percentage(config.limits.bytes_max) || set.any(is_percentage);
    let bytes_max = allowance.bytes_max;
    Allowance {
        bytes_max: bytes_max.filter(|_| is_set || !is_percentage(bytes_max)),
        ..allowance
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance_of(config: &str) -> Allowance {
        let config = Config::parse(config, Path::new("")).unwrap();
        in_bucket(config.limits.complete(&Allowance::default()), &config)
    }

    #[test]
    fn the_default_share_of_a_disk_limits_nothing_in_a_bucket_and_what_is_set_stays() {
        let default = allowance_of("");
        assert_eq!(default.bytes_max, None);
        assert!(default.refs_max.is_some() && default.objects_max.is_some());
        let set = allowance_of("[limits]\nbytes-max = \"5GB\"");
        assert_eq!(set.bytes_max, Some(Share::Bytes(5_000_000_000)));
        let set = allowance_of("[limits]\nbytes-max = \"10%\"");
        assert_eq!(set.bytes_max, Some(Share::Percent(10)));
    }
}
