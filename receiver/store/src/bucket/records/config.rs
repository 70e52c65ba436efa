//! The `config` of the repository in a bucket.

use artifact_formats::{RepoConfig, RepoMode};

use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::error::Error;

/// Reads the `config` of an archive repository.
pub(crate) fn read(client: &Client) -> Result<RepoConfig, Error> {
    find(client)?.ok_or(Error::NotARepository {
        why: "the bucket has no config there: `artifact-cache-admin init` makes one",
    })
}

/// Reads the `config` of an archive repository, if the bucket has one.
pub(crate) fn find(client: &Client) -> Result<Option<RepoConfig>, Error> {
    let key = layout::config();
    let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
    let Some(found) = found else { return Ok(None) };
    let text = std::str::from_utf8(&found.content).map_err(|_| Error::NotARepository {
        why: "its config is not UTF-8",
    })?;
    let config = RepoConfig::parse(text)?;
    match config.mode {
        RepoMode::Archive => Ok(Some(config)),
        RepoMode::Bare | RepoMode::BareUser | RepoMode::BareUserOnly => {
            Err(Error::NotARepository {
                why: "its mode is not archive",
            })
        }
    }
}
