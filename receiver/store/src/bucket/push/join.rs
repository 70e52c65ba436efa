//! The first step of a push that may change something: it stores its lease, and checks whether the
//! names of new refs are free.

use std::collections::BTreeSet;

use artifact_formats::RefName;

use crate::bucket::push::lease::Membership;
use crate::bucket::push::state::PushState;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::{Work, Writer};
use crate::bucket::records::guards::{self, Taken, needed};
use crate::bucket::records::journal::Journal;
use crate::bucket::records::layout::{self, SessionId};
use crate::bucket::records::refs::Held;
use crate::bucket::requests::ask::{ask_all, found_at, get, listed};
use crate::bucket::requests::seam::Request;
use crate::error::Error;
use crate::update::conflict;

/// Joins collection, and learns which names are taken: from their guards, and from the refs
/// themselves, because refs that other programs have copied into the bucket have no guards.
pub(super) fn join(
    work: &Work,
    state: &mut PushState,
    identity: &str,
    id: SessionId,
) -> Result<Writer, Error> {
    let client = &work.client;
    let membership = Membership::new(client, id, identity);
    let new: Vec<RefName> = (state.updates)
        .accepted()
        .filter_map(Update::new_name)
        .cloned()
        .collect();
    let guarded = guards::keyed(guards::names(new.iter()));
    let above = new.iter().flat_map(needed);
    let above = above.filter(|(_, taken)| *taken == Taken::ByDir);
    let above: BTreeSet<_> = above.map(|(name, _)| name).collect();
    let below = |name: &RefName| Request::List {
        prefix: layout::heads_below(name.as_str()),
        after: None,
        most: 1,
    };
    let mut requests: Vec<_> = guarded.iter().map(|(_, key)| get(key)).collect();
    requests.extend(above.iter().map(|name| get(&layout::head_above(name))));
    requests.extend(new.iter().map(below));
    requests.extend(membership.request());
    let mut answers = ask_all(client, requests).into_iter();
    for ((name, key), answer) in guarded.iter().zip(answers.by_ref()) {
        let found = found_at(key, answer)?;
        state.guards.learn(name, key, found.as_ref())?;
    }
    for (name, answer) in above.into_iter().zip(answers.by_ref()) {
        if found_at(&layout::head_above(name), answer)?.is_some() {
            state.guards.note(name, Taken::ByRef);
        }
    }
    for (name, answer) in new.iter().zip(answers.by_ref()) {
        if !listed(name, answer)?.is_empty() {
            state.guards.note(name.as_str(), Taken::ByDir);
        }
    }
    if let Some(answer) = answers.next() {
        membership.take(answer, |_| false)?;
    }
    membership.settle_lease()?;
    let journal = Journal::new(identity, id, client.clock().now());
    Ok(Writer::new(membership, journal))
}

/// Refuses new refs whose names, or parts of them, have another use.
pub(super) fn refuse_conflicts(state: &mut PushState) {
    let guards = std::mem::take(&mut state.guards);
    for update in state.updates.accepted_mut() {
        if update.held == Held::Nothing
            && let Some(why) = guards.conflict(&update.wanted.name)
        {
            update.refuse(conflict(why));
        }
    }
    state.guards = guards;
}
