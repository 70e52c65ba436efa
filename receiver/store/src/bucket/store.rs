//! The store on a bucket.

use artifact_formats::{Checksum, RefName, RepoConfig, Share};
use artifact_protocol::session::{Announcement, Opened, RefQuery};

use crate::bucket::push::BucketPush;
use crate::bucket::records::config;
use crate::bucket::records::refs::{self, READ_AT_ONCE, values};
use crate::bucket::requests::client::Client;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::seam::Store;

/// A repository in a bucket: a cache for the pushes of one identity. Any number of these, on any
/// machines, share a bucket.
///
/// The store obeys the rights, the limits of a push, the quotas, and the summary settings of its
/// [configuration](StoreConfig). It does not count the sessions on all machines, and it cannot see
/// free space: the operator limits the user's tasks on each machine, and gives the bucket a quota
/// of its own.
#[derive(Debug)]
pub struct BucketStore {
    client: Client,
    config: StoreConfig,
    repo: RepoConfig,
}

impl BucketStore {
    /// Opens the repository in a bucket.
    ///
    /// Fails, by fault of the operator, when the bucket holds no repository of mode archive, or the
    /// quota of bytes is a percentage.
    pub fn open(client: Client, config: StoreConfig) -> Result<Self, Error> {
        if let Some(Share::Percent(_)) = config.allowance.bytes_max {
            return Err(Error::NotARepository {
                why: "object storage has no disk of which `bytes-max` could be a percentage: give \
                      a number of bytes, such as \"500GB\"",
            });
        }
        let repo = config::read(&client)?;
        Ok(Self {
            client,
            config,
            repo,
        })
    }
}

impl Store for BucketStore {
    type Push = BucketPush;

    fn refs(&self, query: &RefQuery) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
        match query {
            RefQuery::Named(names) => {
                let told = names.iter().filter(|name| self.config.policy.tells(name));
                let told: Vec<_> = told.cloned().collect();
                Ok((values(&self.client, &told)?, true))
            }
            RefQuery::All { len_max } => self.all(*len_max),
        }
    }

    fn begin(&self, announcement: &Announcement) -> Result<(Opened, BucketPush), Error> {
        BucketPush::begin(&self.client, &self.config, &self.repo, announcement)
    }
}

impl BucketStore {
    /// Reads all refs whose values the client may know, up to a total length, and returns whether
    /// these are all. It stops listing refs once it has enough.
    fn all(&self, len_max: usize) -> Result<(Vec<(RefName, Checksum)>, bool), Error> {
        let policy = &self.config.policy;
        let mut entries = refs::list(&self.client)
            .filter(|entry| entry.as_ref().map_or(true, |(name, _)| policy.tells(name)));
        let (mut found, mut len) = (Vec::new(), 0);
        loop {
            let mut names = Vec::new();
            for entry in entries.by_ref().take(READ_AT_ONCE) {
                names.push(entry?.0);
            }
            if names.is_empty() {
                return Ok((found, true));
            }
            for (name, commit) in values(&self.client, &names)? {
                len += name.as_str().len() + Checksum::LEN * 2;
                if len > len_max {
                    return Ok((found, false));
                }
                found.push((name, commit));
            }
        }
    }
}
