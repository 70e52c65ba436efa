//! Removes refs from a bucket, beside running pushes.

use artifact_formats::{Checksum, RefName};

use crate::bucket::client::Client;
use crate::bucket::layout;
use crate::error::Error;
use crate::local::repository::refs;
use crate::local::upkeep::remove::Removal;

/// Removes refs, each only if it still holds the commit given with it. Their commits stay until a
/// collection. The summary names the refs until it is made again.
///
/// Servers have no conditional removal that can be relied on: a push that sets one of these refs in
/// the moment between the look at it and its removal loses it.
pub fn remove_refs(
    client: &Client,
    wanted: &[(RefName, Option<Checksum>)],
) -> Result<Vec<Removal>, Error> {
    let mut removals = Vec::new();
    for (name, expected) in wanted {
        let Some(key) = layout::head(name) else {
            removals.push(Removal::NotThere);
            continue;
        };
        let found = client.get(&key).map_err(Error::bucket("reading", name))?;
        let held = found.map(|found| refs::parse(&found.content));
        let removal = match held {
            None => Removal::NotThere,
            Some(Some(commit)) if expected.is_none_or(|expected| expected == commit) => {
                Removal::Removed(commit)
            }
            Some(None) if expected.is_none() => Removal::RemovedOther,
            Some(_) => Removal::Kept,
        };
        if matches!(removal, Removal::Removed(_) | Removal::RemovedOther) {
            let mut keys = vec![key];
            // Otherwise no ref could ever be set below this name.
            keys.extend(layout::guard(name.as_str()));
            let removed = client.delete(&keys);
            removed.map_err(Error::bucket("removing", name))?;
        }
        removals.push(removal);
    }
    Ok(removals)
}
