//! Removes refs from a bucket while pushes run.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use artifact_formats::{Checksum, RefName};

use crate::bucket::collect::{LEASE_LIFE, REQUEST_LIFE};
use crate::bucket::records::{accounts, layout};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::Key;
use crate::error::Error;
use crate::upkeep::Removal;

/// Removes refs, each only if it still holds the commit given with it. Their commits stay until a
/// collection. The summary names the refs until it is made again.
///
/// This frees the names of the removed refs, of given refs that were already gone, and of the
/// directories that no longer lead to any ref.
///
/// Servers have no reliable conditional removal: if a push sets one of these refs between the read
/// and the removal, that ref is lost. In the same way, a push that creates a ref at that moment may
/// leave it without a guard. A removal is certain only after [`settle_removals`].
pub fn remove_refs(
    client: &Client,
    wanted: &[(RefName, Option<Checksum>)],
) -> Result<Vec<Removal>, Error> {
    let (mut removals, mut gone) = (Vec::new(), Vec::new());
    for (name, expected) in wanted {
        let Some(key) = layout::head(name) else {
            removals.push(Removal::NotThere);
            continue;
        };
        let found = client.get(&key).map_err(Error::bucket("reading", name))?;
        let held = found.map(|found| Checksum::from_ref(&found.content));
        let removal = match held {
            None => Removal::NotThere,
            Some(Some(commit)) if expected.is_none_or(|expected| expected == commit) => {
                Removal::Removed(commit)
            }
            Some(None) if expected.is_none() => Removal::RemovedOther,
            Some(_) => Removal::Kept,
        };
        match removal {
            Removal::Removed(_) | Removal::RemovedOther => {
                client
                    .delete(&[key])
                    .map_err(Error::bucket("removing", name))?;
                gone.push(name);
            }
            // An interrupted removal or push may have left the guard.
            Removal::NotThere => gone.push(name),
            Removal::Kept | Removal::LedTo(_) | Removal::SetAgain => {}
        }
        removals.push(removal);
    }
    free(client, &gone)?;
    Ok(removals)
}

/// Waits until no put from before the removals can take effect any more, and marks the refs that
/// exist again. Returns whether any of them does; then the summary must be made again.
///
/// A push creates a ref on the condition that it does not exist, so a put that arrives late, for
/// example because its answer was lost, sets a ref that was removed in the meantime. A session with
/// such a put has a lease (R8, R9). Calls `waits` with the names of these sessions, if any.
///
/// The refs that are gone no longer count towards the quotas of the identities that created them.
pub fn settle_removals(
    client: &Client,
    wanted: &[(RefName, Option<Checksum>)],
    removals: &mut [Removal],
    waits: &dyn Fn(&[String]),
) -> Result<bool, Error> {
    let before = client.clock().wall().saturating_sub(CLOSED_BEFORE);
    let any = settle(client, wanted, removals, waits)?;
    let gone = wanted.iter().zip(removals);
    let gone = gone.filter(|(_, removal)| is_removed(removal) || **removal == Removal::NotThere);
    let gone = gone.map(|((name, _), _)| name.as_str()).collect();
    if let Err(error) = close_accounts(client, before, &gone) {
        // A collection takes them off.
        tracing::warn!(%error, "the removed refs still count towards quotas");
    }
    Ok(any)
}

fn settle(
    client: &Client,
    wanted: &[(RefName, Option<Checksum>)],
    removals: &mut [Removal],
    waits: &dyn Fn(&[String]),
) -> Result<bool, Error> {
    if !removals.iter().any(is_removed) {
        return Ok(false);
    }
    let clock = client.clock();
    let end = clock.now() + REQUEST_LIFE;
    let mut before = living_sessions(client)?;
    if !before.is_empty() {
        let name = |key: &Key| key.as_str().replace(layout::SESSIONS, "");
        waits(&before.iter().map(name).collect::<Vec<_>>());
    }
    while !before.is_empty() && clock.now() < end {
        clock.sleep(PAUSE);
        let living = living_sessions(client)?;
        before.retain(|key| living.contains(key));
    }
    let mut any = false;
    for ((name, _), removal) in wanted.iter().zip(&mut *removals) {
        if is_removed(removal)
            && let Some(key) = layout::head(name)
            && client
                .get(&key)
                .map_err(Error::bucket("reading", name))?
                .is_some()
        {
            *removal = Removal::SetAgain;
            any = true;
        }
    }
    Ok(any)
}

const fn is_removed(removal: &Removal) -> bool {
    match removal {
        Removal::Removed(_) | Removal::RemovedOther => true,
        Removal::NotThere | Removal::LedTo(_) | Removal::Kept | Removal::SetAgain => false,
    }
}

/// Takes refs that are gone off the accounts of identities, except those that a push has announced
/// since `before`, in seconds since 1970: it may be about to set them. A collection takes these
/// off.
fn close_accounts(client: &Client, before: u64, gone: &HashSet<&str>) -> Result<(), Error> {
    for (key, account) in accounts::read_all(client)? {
        let mut names = account.refs.keys();
        if names.any(|name| gone.contains(&**name)) {
            accounts::change(client, &key, &account.identity, None, |account| {
                Ok(account.close(before, |name| gone.contains(name)))
            })?;
        }
    }
    Ok(())
}

/// Lists the leases that have not expired. The lease of a dead session stays much longer.
fn living_sessions(client: &Client) -> Result<BTreeSet<Key>, Error> {
    let oldest = client.clock().wall().saturating_sub(LEASE_LIFE.as_secs());
    let mut living = BTreeSet::new();
    for entry in client.list_each(layout::SESSIONS) {
        let entry = entry.map_err(Error::bucket("listing", &"sessions"))?;
        if entry.modified >= oldest {
            living.insert(entry.key);
        }
    }
    Ok(living)
}

/// Removes the guards of refs that are gone, and of directories that lead to no other ref.
pub(crate) fn free(client: &Client, gone: &[&RefName]) -> Result<(), Error> {
    let failed = || Error::bucket("removing", &"guards");
    let (mut spent, mut kept) = (BTreeSet::new(), BTreeSet::new());
    for name in gone {
        spent.extend(layout::guard(name.as_str()));
        let mut at = name.parent();
        while let Some(dir) = at
            && !kept.contains(dir)
        {
            let left = client.list(&layout::heads_below(dir), None, 1);
            if !left.map_err(failed())?.entries.is_empty() {
                kept.insert(dir);
                break;
            }
            spent.extend(layout::guard(dir));
            at = dir.rsplit_once('/').map(|(above, _)| above);
        }
    }
    let spent: Vec<_> = spent.into_iter().collect();
    client.delete(&spent).map_err(failed())
}

/// How much older than the end of [`remove_refs`] an announcement must be, in seconds: clocks
/// differ, the removal of many refs takes time, and a push sets its refs soon after it announced
/// them.
const CLOSED_BEFORE: u64 = 10 * 60;
/// The pause between two looks at the sessions that run.
const PAUSE: Duration = Duration::from_secs(2);
