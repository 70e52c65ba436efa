//! What the commands that change a repository want to know of the server's configuration.

use std::path::PathBuf;

use artifact_receiver::config::Config;
use artifact_store::SummaryConfig;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Server {
    /// The configuration [default: /etc/artifact-cache.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Server {
    /// Reads the configuration; the default without one.
    pub(crate) fn read(&self) -> anyhow::Result<Config> {
        Ok(Config::read(self.config.as_deref())?.unwrap_or_default())
    }

    /// Reads how the summary is made, its key included.
    pub(crate) fn summary(&self) -> anyhow::Result<SummaryConfig> {
        Ok(self.read()?.summary.load()?)
    }
}
