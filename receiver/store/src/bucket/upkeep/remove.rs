//! Removes refs from a bucket while pushes run.

use artifact_formats::{Checksum, RefName};

use crate::bucket::client::Client;
use crate::bucket::layout;
use crate::bucket::seam::Key;
use crate::error::Error;
use crate::local::repository::refs;
use crate::local::upkeep::remove::Removal;

/// Removes refs, each only if it still holds the commit given with it. Their commits stay until a
/// collection. The summary names the refs until it is made again.
///
/// This frees the names of the removed refs, of given refs that were already gone, and of the
/// directories that no longer lead to any ref.
///
/// Servers have no reliable conditional removal: if a push sets one of these refs between the read
/// and the removal, that ref is lost. In the same way, a push that creates a ref at that moment may
/// leave it without a guard.
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
        match removal {
            Removal::Removed(_) | Removal::RemovedOther => free(client, name, Some(key))?,
            // An interrupted removal or push may have left the guard.
            Removal::NotThere => free(client, name, None)?,
            Removal::Kept | Removal::LedTo(_) => {}
        }
        removals.push(removal);
    }
    Ok(removals)
}

/// Removes a ref, if it exists, and then the guards that only this ref needed.
fn free(client: &Client, name: &RefName, head: Option<Key>) -> Result<(), Error> {
    let failed = || Error::bucket("removing", name);
    if let Some(head) = head {
        client.delete(&[head]).map_err(failed())?;
    }
    let mut keys: Vec<_> = layout::guard(name.as_str()).into_iter().collect();
    let mut at = name.parent();
    while let Some(dir) = at {
        let left = client.list(&layout::heads_below(dir), None, 1);
        if !left.map_err(failed())?.entries.is_empty() {
            break;
        }
        keys.extend(layout::guard(dir));
        at = dir.rsplit_once('/').map(|(above, _)| above);
    }
    client.delete(&keys).map_err(failed())
}
