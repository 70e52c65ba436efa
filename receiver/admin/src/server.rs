//! The settings of the server's configuration that commands need to change a repository.

use std::path::{Path, PathBuf};

use artifact_receiver::config::Config;
use artifact_store::SummaryConfig;

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Server {
    /// Configuration file [default: /etc/artifact-cache.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Server {
    /// Returns the configuration file that was named.
    pub(crate) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// Reads the configuration; without a file, returns the default.
    pub(crate) fn read(&self) -> anyhow::Result<Config> {
        Ok(Config::read(self.config.as_deref())?.unwrap_or_default())
    }

    /// Reads the settings of the summary, and its key.
    pub(crate) fn summary(&self) -> anyhow::Result<SummaryConfig> {
        Ok(self.read()?.summary.load()?)
    }
}
