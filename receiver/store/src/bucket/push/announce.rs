//! The beginning of a push: looks up and judges its updates, and collects commits to rely on.
//!
//! It sends its requests in five rounds: for refs, signatures and neighbours; for the lease and
//! guards; under the lease, for the refs of all commits that the push may rely on; and for the
//! beginnings of their closure lists, and of the lists that complete those.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use artifact_formats::{Checksum, RefName};
use artifact_protocol::frame::{RefUpdate, Verdict};
use artifact_protocol::limits::MAX_BASES;
use artifact_protocol::session::Announcement;
use parking_lot::Mutex;

use crate::bucket::push::account::PushAccount;
use crate::bucket::push::bases::{Bases, LISTS_LEN_MAX};
use crate::bucket::push::history::History;
use crate::bucket::push::join::{join, refuse_conflicts};
use crate::bucket::push::lease::PUSH_MAX;
use crate::bucket::push::secure::secure;
use crate::bucket::push::state::PushState;
use crate::bucket::push::survey;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::records::closures::{Heading, INCOMPLETE};
use crate::bucket::records::journal::Earlier;
use crate::bucket::records::layout::{self, SessionId};
use crate::bucket::records::refs::Held;
use crate::bucket::requests::ask::{ask_all, found_at, get, listed};
use crate::bucket::requests::client::Client;
use crate::bucket::requests::random::unique;
use crate::bucket::requests::seam::{Answer, Found, Key, LIST_MAX, Request};
use crate::bucket::requests::window::Window;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::policy::Current;
use crate::quota::load::Load;
use crate::update::{Taken, Value, conflict};

/// The values of the announced refs and of proposed bases.
type Refs = BTreeMap<RefName, Held>;

/// Looks up the announced refs and judges them.
pub(crate) fn announce(
    client: &Client,
    config: &StoreConfig,
    collection: Option<&str>,
    announcement: &Announcement,
) -> Result<(Arc<Work>, PushState), Error> {
    let mut state = PushState::new(client, &config.policy, collection, announcement);
    let mut account = PushAccount::new(client, &config.identity, &config.allowance);
    let first = look(client, config, announcement, &mut state, account.as_mut())?;
    let mut work = Work {
        client: client.clone(),
        window: Window::new(client.clone()),
        limits: config.limits,
        load: Load::new(account.as_ref().map(PushAccount::quota)),
        account: account.map(Mutex::new),
        known: Mutex::default(),
        bases: Mutex::default(),
        held_back: Mutex::default(),
        writer: None,
    };
    judge(&work, &mut state, announcement, &first.refs)?;
    if state.updates.accepted().next().is_some() {
        let id = SessionId::new(unique()?);
        let prepared = prepare(&mut work, &mut state, config, id, announcement, &first);
        if prepared.is_err() && !state.is_dry_run() {
            // The push has put nothing yet, so a lease serves nothing.
            if let Err(error) = client.delete(&[layout::session(id)]) {
                tracing::debug!(%error, "the lease of this push stays until it ends");
            }
        }
        prepared?;
    }
    Ok((Arc::new(work), state))
}

/// Joins collection as the push `id`, and gathers the commits that the push may rely on.
fn prepare(
    work: &mut Work,
    state: &mut PushState,
    config: &StoreConfig,
    id: SessionId,
    announcement: &Announcement,
    first: &First,
) -> Result<(), Error> {
    if !state.is_dry_run() {
        work.writer = Some(join(work, state, &config.identity, id)?);
    }
    refuse_conflicts(state);
    // A bucket that lost an object below one commit may have lost some below others, and some that
    // journals name, so the push relies on none of them.
    let candidates = match state.updates.all.iter().any(Update::heals) {
        true => {
            state.earlier = Earlier::default();
            Candidates::default()
        }
        false => candidates(state, announcement, first),
    };
    collect_bases(work, candidates, &mut state.history)
}

/// The answers of the first round.
struct First {
    refs: Refs,
    // The refs beside the announced ones, the newest first.
    neighbours: Vec<RefName>,
}

/// Asks for the announced refs and those of proposed bases, for detached metadata, for refs beside
/// the announced ones, for journals, and for the account of the identity.
fn look(
    client: &Client,
    config: &StoreConfig,
    announcement: &Announcement,
    state: &mut PushState,
    account: Option<&mut PushAccount>,
) -> Result<First, Error> {
    let bases = announcement.bases.iter().take(MAX_BASES);
    let announced = announcement.refs.iter().map(|wanted| &wanted.name);
    let names: BTreeSet<_> = announced.chain(bases.map(|base| &base.name)).collect();
    let names: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((name, layout::head(name)?)))
        .collect();
    let signed = announcement.refs.iter().filter(|r| r.detached.is_some());
    let signed: BTreeSet<_> = signed.map(|wanted| wanted.commit).collect();
    let parents = announcement.refs.iter().filter_map(|r| r.name.parent());
    let parents: BTreeSet<_> = parents.take(PARENTS_LISTED).collect();
    let list = |prefix, most| Request::List {
        prefix,
        after: None,
        most,
    };
    let mut requests: Vec<_> = names.iter().map(|(_, key)| get(key)).collect();
    requests.extend(signed.iter().map(|commit| get(&layout::detached(*commit))));
    requests.extend(
        parents
            .iter()
            .map(|dir| list(layout::heads_below(dir), SEARCHED_MAX)),
    );
    requests.push(list(layout::journals_of(&config.identity), LIST_MAX));
    requests.extend(account.as_ref().map(|account| account.request()));
    let mut answers = ask_all(client, requests).into_iter();
    let mut refs = Refs::new();
    for ((name, key), answer) in names.iter().zip(answers.by_ref()) {
        refs.insert((*name).clone(), Held::of(found_at(key, answer)?.as_ref()));
    }
    for (commit, answer) in signed.iter().zip(answers.by_ref()) {
        if let Some(found) = found_at(&layout::detached(*commit), answer)? {
            let there = (Checksum::of(&found.content), found.tag);
            state.attached.insert(*commit, there);
        }
    }
    let mut neighbours = Vec::new();
    for (dir, answer) in parents.iter().zip(answers.by_ref()) {
        neighbours.extend(listed(dir, answer)?);
    }
    let mut newest: Vec<_> = neighbours
        .iter()
        .filter_map(|entry| Some((entry.modified, layout::head_of(&entry.key)?)))
        .filter(|(_, name)| name.parent().is_some_and(|dir| parents.contains(dir)))
        .collect();
    newest.sort_unstable_by(|a, b| b.cmp(a));
    let journals = answers.next().unwrap_or(Ok(Answer::Deleted));
    let journals = listed(&"journals", journals)?;
    state.earlier = Earlier::of(journals, client.clock().wall(), PUSH_MAX);
    if let (Some(account), Some(answer)) = (account, answers.next()) {
        account.learn(answer)?;
    }
    Ok(First {
        refs,
        neighbours: newest.into_iter().map(|(_, name)| name).collect(),
    })
}

/// Judges each update by the values that were found.
fn judge(
    work: &Work,
    state: &mut PushState,
    announcement: &Announcement,
    refs: &Refs,
) -> Result<(), Error> {
    let mut taken = Taken::default();
    let whole = whole(work, state, announcement, refs)?;
    for wanted in &announcement.refs {
        let key = layout::head(&wanted.name);
        let held = refs.get(&wanted.name).cloned().unwrap_or(Held::Nothing);
        let commit = held.commit();
        let complete = commit.is_some_and(|held| held != wanted.commit || whole.contains(&held));
        let current = Current {
            commit,
            complete,
            new: state.existing(work, wanted, commit == Some(wanted.commit))?,
        };
        let mut verdict = state.policy.judge_announced(wanted, current);
        if key.is_none() {
            verdict = Verdict::Refused(conflict(&too_long()));
        }
        let name = wanted.name.as_str();
        if verdict == Verdict::Accepted
            && let Err(refusal) = taken.judge(name)
        {
            verdict = Verdict::Refused(refusal);
        }
        if verdict == Verdict::Accepted
            && held == Held::Nothing
            && let Some(account) = &work.account
            && let Err(refusal) = account.lock().admit(name)
        {
            verdict = Verdict::Refused(refusal);
        }
        if verdict == Verdict::Accepted {
            taken.insert(name);
        }
        let update = Update::announced(wanted, key, held, verdict, !complete);
        state.updates.all.push(update);
    }
    Ok(())
}

/// Returns the announced commits that their refs already hold and that the bucket has complete.
fn whole(
    work: &Work,
    state: &mut PushState,
    announcement: &Announcement,
    refs: &Refs,
) -> Result<HashSet<Checksum>, Error> {
    let holds = |wanted: &&RefUpdate| {
        refs.get(&wanted.name)
            .is_some_and(|held| held.commit() == Some(wanted.commit))
    };
    let held = announcement.refs.iter().filter(holds);
    let held: BTreeSet<_> = held.map(|wanted| wanted.commit).collect();
    let part = |commit: &Checksum| Request::GetRange {
        key: layout::closure(*commit),
        from: 0,
        most: Heading::LEN_MAX,
    };
    let answers = ask_all(&work.client, held.iter().map(part).collect());
    let mut listed = Vec::new();
    for (commit, answer) in held.into_iter().zip(answers) {
        let found = found_at(&layout::closure(commit), answer)?;
        if found
            .as_ref()
            .is_some_and(|found| found.content == INCOMPLETE)
        {
            continue;
        }
        let heading = found.and_then(|found: Found| Heading::decode(commit, &found.content));
        let heading = match heading {
            Some(heading) => Some(heading),
            None => survey::list(&work.client, commit)?.map(|(list, _)| list.heading().clone()),
        };
        let Some(heading) = heading else { continue };
        state.history.learn_heading(commit, &heading);
        listed.push(commit);
    }
    // The push is not up to date while ancestors that the client may offer are missing.
    let (ancestors, history) = (&mut state.ancestors, &mut state.history);
    ancestors.filled(&work.client, history, &listed)
}

/// Refs whose commits a push may rely on.
#[derive(Default)]
struct Candidates {
    /// Refs that the client proposed, each with the commit that it must hold, and refs that the
    /// push replaces.
    named: Vec<(Key, Option<Checksum>)>,
    /// Neighbours that may help.
    others: Vec<Key>,
}

/// Chooses among the refs that the client may pull: it must not learn that others hold a commit, or
/// build upon one that it cannot get.
fn candidates(state: &PushState, announcement: &Announcement, first: &First) -> Candidates {
    let lets_pull = |name: &RefName| state.policy.lets_pull(name);
    let proposed = announcement.bases.iter().take(MAX_BASES);
    let proposed = proposed.filter(|base| lets_pull(&base.name));
    let proposed = proposed.filter_map(|base| Some((layout::head(&base.name)?, Some(base.commit))));
    let held = |update: &&Update| update.held.commit().is_some() && lets_pull(&update.wanted.name);
    let replaced = state.updates.all.iter().filter(held).take(MAX_BASES);
    let replaced = replaced.filter_map(|update| Some((update.place.clone()?, None)));
    // A client that may not push to a directory must not learn the values of its refs.
    let dirs: BTreeSet<_> = (state.updates)
        .accepted()
        .filter_map(|update| update.wanted.name.parent())
        .collect();
    Candidates {
        named: proposed.chain(replaced).collect(),
        others: (first.neighbours.iter())
            .filter(|name| name.parent().is_some_and(|dir| dirs.contains(dir)) && lets_pull(name))
            .take(MAX_BASES)
            .filter_map(layout::head)
            .collect(),
    }
}

/// Reads the values of refs under the lease, which from now on keeps the objects below these
/// commits from collection, and the beginnings of their closure lists.
fn collect_bases(work: &Work, candidates: Candidates, history: &mut History) -> Result<(), Error> {
    let Candidates { named, others } = candidates;
    let keys = named.iter().map(|(key, _)| key).chain(&others);
    let mut requests: Vec<_> = keys.map(get).collect();
    let mut canary = Vec::new();
    if let Some(writer) = &work.writer {
        // Sent together with the first read of `gc`, the canary takes no extra time.
        canary = writer.membership.canary();
        requests.extend(canary.iter().cloned());
        requests.extend(writer.membership.request());
    }
    let mut answers = ask_all(&work.client, requests).into_iter();
    let mut bases = Bases::default();
    for ((key, expected), answer) in named.iter().zip(answers.by_ref()) {
        let held = Held::of(found_at(key, answer)?.as_ref()).commit();
        if let Some(held) = held.filter(|held| expected.is_none_or(|wanted| wanted == *held)) {
            bases.add(held);
        }
    }
    for (key, answer) in others.iter().zip(answers.by_ref()) {
        if let Some(held) = Held::of(found_at(key, answer)?.as_ref()).commit() {
            bases.suggest(held);
        }
    }
    for answer in answers.by_ref().take(canary.len()) {
        if matches!(answer, Ok(Answer::Stored(_))) {
            return Err(Error::Unconditional);
        }
    }
    if let Some(writer) = &work.writer {
        if let Some(answer) = answers.next() {
            writer.membership.take(answer, |_| false)?;
        }
        writer.membership.drive(|_| false)?;
    }
    let since = work.epoch();
    bases.outline(&work.client, LISTS_LEN_MAX)?;
    let read = bases.commits();
    *work.bases.lock() = bases;
    secure(work, history, &read, since)
}

fn too_long() -> String {
    format!(
        "its name has more than {} bytes, for which object storage has no room",
        layout::REF_LEN_MAX
    )
}

/// Directories of refs in which a push looks for neighbours.
const PARENTS_LISTED: usize = 4;
/// The most refs listed in one directory; in a larger directory any of them will do.
const SEARCHED_MAX: u32 = 256;
