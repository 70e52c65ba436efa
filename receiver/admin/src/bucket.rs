//! Caches in object storage, for the commands that take `s3://bucket/prefix`.

use std::path::Path;

use artifact_store::bucket::Client;

/// Returns whether a repository is meant to be one in object storage.
pub(crate) fn is_meant_by(repo: &Path) -> bool {
    repo.as_os_str().as_encoded_bytes().starts_with(b"s3://")
}

/// Opens a bucket that was checked, as the table `[bucket]` of the configuration says.
#[cfg(feature = "bucket")]
pub(crate) fn open(repo: &Path, config: Option<&Path>) -> anyhow::Result<Client> {
    use std::sync::Arc;

    let engine = artifact_bucket::open(&settings(repo, config)?)?;
    let clock = Arc::new(artifact_store::bucket::SystemClock);
    Ok(Client::new(Arc::new(engine), clock))
}

#[cfg(not(feature = "bucket"))]
pub(crate) fn open(_: &Path, _: Option<&Path>) -> anyhow::Result<Client> {
    anyhow::bail!(LACKS)
}

/// Returns where a bucket is, and how to reach it.
#[cfg(feature = "bucket")]
pub(crate) fn settings(
    repo: &Path,
    config: Option<&Path>,
) -> anyhow::Result<artifact_bucket::Settings> {
    let config = artifact_receiver::config::Config::read(config)?.unwrap_or_default();
    let mut settings = artifact_bucket::Settings::new(repo.to_string_lossy().parse()?);
    settings.reach = config.bucket;
    Ok(settings)
}

#[cfg(not(feature = "bucket"))]
pub(crate) const LACKS: &str = "this program was built without object storage: build it with the \
    feature `bucket`, or install the package";
