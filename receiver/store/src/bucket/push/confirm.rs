//! The second step of a publication: the last look at the refs of a push, and the account of its
//! identity.

use std::collections::BTreeSet;

use artifact_formats::Checksum;
use parking_lot::Mutex;

use crate::bucket::push::account::PushAccount;
use crate::bucket::push::state::PushState;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::records::refs::Held;
use crate::bucket::records::{guards, layout};
use crate::bucket::requests::ask::{ask_all, found_at, get};
use crate::bucket::requests::seam::{Answer, Key, Request};
use crate::error::Error;

/// Adds new refs and the objects of the push to the account of the identity, and refuses the refs
/// for which it has no room. Returns the put of the account.
fn charge(
    work: &Work,
    state: &mut PushState,
    account: &mut PushAccount,
) -> Result<Option<Request>, Error> {
    // Some that were admitted have been refused since.
    account.forget_new();
    for update in state.updates.accepted_mut() {
        if let Some(name) = update.new_name()
            && let Err(refusal) = account.admit(name.as_str())
        {
            update.refuse(refusal);
        }
    }
    match state.updates.accepted().next() {
        Some(_) => account.put(&work.client, work.load.brought()),
        None => Ok(None),
    }
}

/// Compares all refs and detached metadata with the values that the push knows; returns whether all
/// accepted updates are unchanged. Stores the account of the identity.
pub(super) fn confirm(work: &Work, state: &mut PushState) -> Result<bool, Error> {
    let keys: Vec<Key> = state
        .updates
        .all
        .iter()
        .filter_map(|update| update.place.clone())
        .collect();
    let signed = state
        .updates
        .accepted()
        .filter(|update| update.wanted.detached.is_some());
    let signed: BTreeSet<_> = signed.map(Update::commit).collect();
    let mut account = work.account.as_ref().map(Mutex::lock);
    let charge = account.as_mut().map(|account| charge(work, state, account));
    let charge = charge.transpose()?.flatten();
    let mut requests: Vec<_> = keys.iter().map(get).collect();
    requests.extend(signed.iter().map(|commit| get(&layout::detached(*commit))));
    let new: Vec<_> = state
        .updates
        .accepted()
        .filter_map(Update::new_name)
        .cloned()
        .collect();
    let guards = state.guards.missing(new.iter());
    requests.extend(guards.iter().filter_map(guards::put));
    // A removal may have freed names since they were found.
    let present = state.guards.present(new.iter());
    requests.extend(present.iter().map(|(_, key)| get(key)));
    let is_charged = charge.is_some();
    requests.extend(charge);
    let mut answers = ask_all(&work.client, requests);
    if let Some(account) = &mut account
        && let Some(answer) = answers.pop_if(|_| is_charged)
    {
        let full = account.settle(&work.client, answer)?;
        for update in state.updates.accepted_mut() {
            if full.contains(update.wanted.name.as_str()) {
                update.refuse(account.refusal());
            }
        }
    }
    drop(account);
    let mut answers = answers.into_iter();
    let mut now = Vec::with_capacity(keys.len());
    for (key, answer) in keys.iter().zip(answers.by_ref()) {
        now.push(Held::of(found_at(key, answer)?.as_ref()));
    }
    for (commit, answer) in signed.into_iter().zip(answers.by_ref()) {
        match found_at(&layout::detached(commit), answer)? {
            Some(found) => {
                let there = (Checksum::of(&found.content), found.tag);
                state.attached.insert(commit, there);
            }
            None => _ = state.attached.remove(&commit),
        }
    }
    // Unclear answers are asked again before the refs are set.
    for ((name, taken), answer) in guards.into_iter().zip(answers.by_ref()) {
        if matches!(answer, Ok(Answer::Stored(_))) {
            state.guards.note(name, taken);
        }
    }
    for ((name, key), answer) in present.into_iter().zip(answers) {
        let found = found_at(&key, answer)?;
        state.guards.learn(name, &key, found.as_ref())?;
    }
    let mut confirmed = true;
    let attached = &state.attached;
    let updates = state
        .updates
        .all
        .iter_mut()
        .filter(|update| update.place.is_some());
    for (update, now) in updates.zip(now) {
        let there = attached
            .get(&update.commit())
            .map(|(checksum, _)| *checksum);
        if update.is_accepted() {
            confirmed &= update.confirm(now, there) && update.judge_detached(there);
        } else {
            update.confirm_unchanged(&now);
        }
    }
    Ok(confirmed)
}
