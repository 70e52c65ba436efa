//! The search for garbage: the objects that no ref reaches, for a collection to delete. It also
//! counts what the refs of each identity reach.

use std::collections::HashSet;
use std::time::Duration;

use artifact_formats::ObjectId;

use super::reach::{Lists, Reach, read_refs, read_summary};
use super::recount::{Groups, Recount};
use crate::bucket::records::layout;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Key;
use crate::error::Error;

/// The objects that nothing reaches.
pub(super) struct Marked {
    pub(super) objects: u64,
    /// Sorted, each with its length in bytes.
    pub(super) garbage: Vec<(ObjectId, u64)>,
    /// What the refs of each identity reach.
    pub(super) recount: Recount,
}

/// Finds objects that nothing reaches and that are older than the grace, as if the `skipped` refs
/// did not exist. `groups` are the identities for which to count, read before.
pub(super) fn mark(
    client: &Client,
    reach: &mut Reach<'_>,
    grace: Duration,
    now: u64,
    skipped: &HashSet<Key>,
    mut groups: Groups,
) -> Result<Marked, Error> {
    let is_young = |modified: u64| modified + grace.as_secs() >= now;
    let lists = Lists::read(client)?;
    let young: Vec<_> = lists
        .iter()
        .filter(|(_, stored)| is_young(*stored))
        .collect();
    let named = if skipped.is_empty() {
        read_summary(client)?
    } else {
        // The summary will no longer name the skipped refs.
        Vec::new()
    };
    let young = young.into_iter().map(|(commit, _)| commit).chain(named);
    groups.divide(read_refs(client, skipped)?);
    for (at, commits) in groups.take_commits().into_iter().enumerate() {
        reach.walk(&lists, commits, [], &mut |id| groups.reach(at, id))?;
    }
    reach.walk(&lists, [], young, &mut |id| groups.reach(0, id))?;
    let (mut objects, mut garbage) = (0, Vec::new());
    for entry in client.list_each(layout::OBJECTS) {
        let entry = entry.map_err(Error::bucket("listing", &layout::OBJECTS))?;
        let id = layout::object_of(&entry.key);
        objects += u64::from(id.is_some());
        let detached = || layout::detached_of(&entry.key).map(ObjectId::commit);
        let Some(id) = id.or_else(detached) else {
            continue;
        };
        if !groups.count(&id, entry.len) && !is_young(entry.modified) {
            garbage.push((id, entry.len));
        }
    }
    for (commit, stored) in lists.iter() {
        let id = ObjectId::commit(commit);
        let is_needed = groups.has(&id) || reach.keeps_list(&commit);
        if !is_needed && !is_young(stored) {
            garbage.push((id, 0));
        }
    }
    garbage.sort_unstable();
    // A commit, its detached metadata and its closure list count as one object.
    garbage.dedup_by(|next, first| {
        let is_same = next.0 == first.0;
        first.1 += if is_same { next.1 } else { 0 };
        is_same
    });
    Ok(Marked {
        objects,
        garbage,
        recount: groups.into_recount(now),
    })
}
