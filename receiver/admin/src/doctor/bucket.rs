//! The doctor of a cache in object storage: the bucket's check, its contents, what everybody may
//! see, the clock.

use std::path::Path;
use std::sync::Arc;

use artifact_bucket::{Engine, Settings};
use artifact_formats::Size;
use artifact_store::bucket::upkeep::{self, BucketStatus};
use artifact_store::bucket::{BucketError, Client, Clock, Key, SystemClock};

use super::finding::{Finding, quoted};
use crate::bucket;

/// Looks for what keeps a cache in object storage from working.
pub(super) fn examine(repo: &Path, config: Option<&Path>) -> anyhow::Result<Vec<Finding>> {
    let settings = bucket::settings(repo, config)?;
    let address = quoted(&settings.address.to_string());
    let engine = match artifact_bucket::open(&settings) {
        Ok(engine) => Arc::new(engine),
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            let check = format!("artifact-cache-admin check {address}");
            return Ok(vec![Finding::fault("bucket", what).fix(check)]);
        }
    };
    let client = Client::new(Arc::clone(&engine) as _, Arc::new(SystemClock));
    let mut found = match upkeep::status(&client) {
        Ok(status) => judge(&status, &address),
        Err(error) => {
            let what = format!("{:#}", anyhow::Error::from(error));
            let init = format!("artifact-cache-admin init {address}");
            vec![Finding::fault("bucket-contents", what).fix(init)]
        }
    };
    found.extend(public(&settings)?);
    let clocks = engine
        .server_time()
        .map(|server| (server, SystemClock.wall()));
    found.extend(clocks.and_then(|(server, here)| clock(server, here)));
    let name = settings.address.bucket();
    let what =
        "whether a rule deletes objects by age cannot be seen from here: none may expire any";
    let look = format!("aws s3api get-bucket-lifecycle-configuration --bucket {name}");
    found.push(Finding::unseen("bucket-lifecycle", what).fix(look));
    Ok(found)
}

fn judge(status: &BucketStatus, address: &str) -> Vec<Finding> {
    let mut found = Vec::new();
    for (name, why) in &status.broken {
        let what = format!("the key refs/heads/{name} {why}");
        found.push(Finding::warning("bucket-ref", what));
    }
    let make = format!("artifact-cache-admin summary {address}");
    match status.summary {
        None if !status.refs.is_empty() => {
            let what = "there is no summary, so stock clients cannot list refs";
            found.push(Finding::warning("bucket-summary", what).fix(make));
        }
        Some((len, _)) if len > SUMMARY_WARN_LEN => {
            let what = format!(
                "the summary takes {}, and clients of Debian 12 read at most 10 MiB",
                Size(len)
            );
            let prune = format!("artifact-cache-admin prune {address} --keep 3");
            found.push(Finding::warning("bucket-summary", what).fix(prune));
        }
        Some(_) | None => {}
    }
    found
}

/// Looks at the bucket as everybody may.
fn public(settings: &Settings) -> anyhow::Result<Vec<Finding>> {
    let anonymous = Settings {
        anonymous: true,
        ..settings.clone()
    };
    let client = Client::new(Arc::new(Engine::new(&anonymous)?), Arc::new(SystemClock));
    let read = |key: &str| -> anyhow::Result<_> { Ok(client.get(&Key::new(key)?)) };
    let policy = "see \"A bucket\" in receiver/OBJECT-STORAGE.md";
    let mut found = Vec::new();
    if let Err(error) = read("config")? {
        let what = format!("nobody can pull without keys, unless a CDN reads the bucket: {error}");
        found.push(Finding::warning("bucket-public", what).fix(policy));
    }
    if let Err(BucketError::Refused(_)) = read("refs/heads/no-such-ref")? {
        let what = "everybody is told 403 instead of 404 for what is missing: stock clients \
                    fail, unless a CDN turns it into 404";
        found.push(Finding::warning("bucket-missing", what).fix(policy));
    }
    if let Ok(Some(_)) = read("extensions/artifact-cache/store")? {
        let what = "everybody can read what is below extensions/, which tells what others push";
        found.push(Finding::fault("bucket-private", what).fix(policy));
    }
    Ok(found)
}

fn clock(server: u64, here: u64) -> Option<Finding> {
    let apart = server.abs_diff(here);
    let what = format!("the clocks of this machine and the server differ by {apart} seconds");
    (apart > CLOCK_MAX)
        .then(|| Finding::warning("bucket-clock", what).fix("timedatectl set-ntp true"))
}

/// The length of a summary from which the administrator is warned, in bytes.
const SUMMARY_WARN_LEN: u64 = 7 * 1024 * 1024;
/// Seconds by which clocks may differ: servers refuse requests that are signed a quarter of an hour
/// off.
const CLOCK_MAX: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_long_summary_and_a_wrong_clock_are_found() {
        let ids = |found: Vec<Finding>| found.into_iter().map(|f| f.id).collect::<Vec<_>>();
        let mut status = BucketStatus::default();
        assert_eq!(ids(judge(&status, "s3://abc")), [""; 0]);
        status
            .broken
            .push(("x".to_owned(), "does not hold a checksum"));
        status.summary = Some((SUMMARY_WARN_LEN + 1, 0));
        assert_eq!(
            ids(judge(&status, "s3://abc")),
            ["bucket-ref", "bucket-summary"]
        );
        assert!(clock(1000, 1060).is_none() && clock(1061, 1000).is_some());
    }
}
