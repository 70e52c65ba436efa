//! Creates a cache in a bucket, and reports the contents of one.

use artifact_formats::{Checksum, RefName};

use crate::bucket::records::{config, layout, refs};
use crate::bucket::requests::client::{Client, Outcome};
use crate::bucket::requests::seam::{Class, Condition, Entry, Key};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::upkeep::{Count, StoredRef};

/// The contents of a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BucketStatus {
    /// The refs, by name.
    pub refs: Vec<StoredRef>,
    /// Keys in the place of refs that are not valid refs, and why.
    pub broken: Vec<(String, &'static str)>,
    /// Objects: files, dirtrees, dirmetas and commits.
    pub objects: Count,
    /// Other files for pullers: detached metadata, static deltas.
    pub others: Count,
    /// Closure lists.
    pub lists: Count,
    /// Leases of pushes and mirrors, running or interrupted.
    pub sessions: u64,
    /// Other records of this project.
    pub own: Count,
    /// The length of the summary in bytes, and the time when it was stored, in seconds since 1970.
    pub summary: Option<(u64, u64)>,
}

/// Turns an empty bucket, or an empty prefix of a bucket, into a cache. Returns `false` if it
/// already is a cache.
pub fn init(client: &Client) -> Result<bool, Error> {
    if config::find(client)?.is_some() {
        return Ok(false);
    }
    for entry in client.list_each("") {
        let entry = entry.map_err(Error::bucket("listing", &"the bucket"))?;
        // A probe of the bucket may have left some.
        if !entry.key.as_str().starts_with(layout::OWN) {
            return Err(Error::NotARepository {
                why: "the bucket is neither empty there nor a repository: choose another prefix",
            });
        }
    }
    let key = layout::config();
    let content = CONFIG.as_bytes().into();
    match client.put(&key, content, Condition::New, Class::Current) {
        Ok(Outcome::Stored(_)) => Ok(true),
        // The put may have taken place, or somebody else was faster.
        Ok(Outcome::NotMet) | Err(BucketError::Unclear(_)) if config::find(client)?.is_some() => {
            Ok(true)
        }
        Ok(Outcome::NotMet) => Err(Error::NotARepository {
            why: "another program writes to the bucket: try again",
        }),
        Err(error) => Err(Error::bucket("storing", &key)(error)),
    }
}

/// Lists everything in a bucket, and counts it.
pub fn status(client: &Client) -> Result<BucketStatus, Error> {
    config::read(client)?;
    let mut status = BucketStatus::default();
    let mut heads = Vec::new();
    for entry in client.list_each("") {
        let entry = entry.map_err(Error::bucket("listing", &"the bucket"))?;
        let key = entry.key.as_str();
        if key.starts_with(layout::HEADS) {
            heads.push(entry);
        } else if key == layout::summary().as_str() {
            status.summary = Some((entry.len, entry.modified));
        } else if layout::object_of(&entry.key).is_some() {
            status.objects.add(entry.len);
        } else if key.starts_with(layout::SESSIONS) {
            status.sessions += 1;
        } else if key.starts_with(layout::CLOSURES) {
            status.lists.add(entry.len);
        } else if key.starts_with(layout::OWN) {
            status.own.add(entry.len);
        } else if key.contains('/') {
            status.others.add(entry.len);
        }
    }
    (status.refs, status.broken) = read(client, &heads)?;
    Ok(status)
}

/// Lists the refs of a bucket, by name.
pub fn list_refs(client: &Client) -> Result<Vec<StoredRef>, Error> {
    let heads = client.list_all(layout::HEADS);
    let heads = heads.map_err(Error::bucket("listing", &"refs"))?;
    Ok(read(client, &heads)?.0)
}

/// Keys in the place of refs that are not valid refs, and why.
pub(super) type Broken = Vec<(String, &'static str)>;

/// Reads refs that were listed, except those that were removed in the meantime.
pub(super) fn read(client: &Client, heads: &[Entry]) -> Result<(Vec<StoredRef>, Broken), Error> {
    let (mut stored, mut broken) = (Vec::new(), Vec::new());
    let keys: Vec<Key> = heads.iter().map(|entry| entry.key.clone()).collect();
    refs::read_each(client, &keys, |key, found| {
        let Some(found) = found else { return Ok(()) };
        match (layout::head_of(key), Checksum::from_ref(&found.content)) {
            (None, _) => broken.push((shown(key), "is no ref; OSTree skips it")),
            (Some(_), None) => broken.push((shown(key), "does not hold a checksum")),
            (Some(name), Some(commit)) => stored.push(of(name, commit, found.modified)),
        }
        Ok(())
    })?;
    Ok((stored, broken))
}

fn of(name: RefName, commit: Checksum, modified: u64) -> StoredRef {
    StoredRef {
        name,
        commit,
        set: (i64::try_from(modified).unwrap_or(i64::MAX), 0),
        alias: None,
    }
}

fn shown(key: &Key) -> String {
    let key = key.as_str();
    key.strip_prefix(layout::HEADS).unwrap_or(key).to_owned()
}

/// The `config` of a new cache.
const CONFIG: &str = "[core]\nrepo_version=1\nmode=archive-z2\n";
