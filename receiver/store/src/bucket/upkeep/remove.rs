//! Removes refs from a bucket, beside running pushes.

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
/// The names of refs that are gone, also before this, become free, and so do the directories that
/// lead to no ref any more.
///
/// Servers have no conditional removal that can be relied on: a push that sets one of these refs in
/// the moment between the look at it and its removal loses it. In the same way, a push that begins
/// a new ref at that moment may find its name free and not guard it.
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
            // A removal, or a push, that was interrupted may have left the guard.
            Removal::NotThere => free(client, name, None)?,
            Removal::Kept | Removal::LedTo(_) => {}
        }
        removals.push(removal);
    }
    Ok(removals)
}

/// Removes a ref, if it is there, and then the guards that it alone needed.
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
