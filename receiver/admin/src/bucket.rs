//! Caches in object storage, for the commands that take `s3://bucket/prefix`.

use std::path::Path;

use artifact_formats::{Checksum, RefName, counted};
use artifact_store::bucket::{Client, upkeep};
use artifact_store::{Error, Removal, SummaryConfig};
use serde_json::json;

use crate::output::tell;

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

/// Removes refs from a bucket and from its summary, and waits until nothing can bring them back.
pub(crate) fn remove_refs(
    client: &Client,
    summary: &SummaryConfig,
    wanted: &[(RefName, Option<Checksum>)],
    is_json: bool,
) -> Result<Vec<Removal>, Error> {
    let mut removals = upkeep::remove_refs(client, wanted)?;
    upkeep::rebuild_summary(client, summary)?;
    let waits = |sessions: &[String]| {
        let running = counted(sessions.len() as u64, "running push");
        let text = format!("waiting for {running}, some minutes at most");
        tell(is_json, "waiting", &json!({"sessions": sessions}), &text);
    };
    if upkeep::settle_removals(client, wanted, &mut removals, &waits)? {
        upkeep::rebuild_summary(client, summary)?;
    }
    Ok(removals)
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
