//! Publication into a bucket, in the only order that is safe at every instant (SPEC "Invariants"):
//!
//! 1. The push checks that everything that the new commits reach is present and verified (INV-2).
//!    It puts the closure lists of the commits, and a note that the summary may lack these refs.
//!    Every put must be acknowledged.
//! 2. It checks that the refs still hold the values that the client was told, and adds new refs and
//!    objects to the account of the identity, if it has quotas.
//! 3. It checks that the lease is young, so that nobody has given the push up. Then it puts the
//!    commits, the guards of new names, and detached metadata, where permitted.
//! 4. It sets each ref by compare-and-swap (INV-3, INV-4, INV-5).
//!
//! After a lost race or an unclear answer it reads the key, which may hold this very value. A
//! process that dies anywhere in between leaves refs with their old or new values, and every commit
//! with everything that it reaches. Nothing is locked (INV-7).

use std::cell::Cell;
use std::collections::{BTreeSet, HashSet};

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::session::Published;

use crate::bucket::push::closure::{Closure, Ground, walk};
use crate::bucket::push::confirm::confirm;
use crate::bucket::push::set::{attach_detached, guard, put_commits, set_refs};
use crate::bucket::push::state::PushState;
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::records::closures::{BASES_MAX, ClosureList, Heading, PARENTS_MAX, merged};
use crate::bucket::records::layout;
use crate::bucket::records::pending::Pending;
use crate::bucket::requests::seam::Class;
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::tree::children;

/// Publishes the accepted updates of a push. If objects are missing, returns these and sets no ref.
pub(crate) fn publish(work: &Work, state: &mut PushState) -> Result<Published, Error> {
    if state.published {
        return Err(Error::Misuse {
            what: "publish a push twice",
        });
    }
    if !state.is_dry_run()
        && let Some(missing) = publish_accepted(work, state)?
    {
        return Ok(Published::Missing(missing));
    }
    state.published = true;
    Ok(Published::Done(state.updates.outcomes()))
}

/// Publishes the accepted updates; returns the objects missing for that.
fn publish_accepted(work: &Work, state: &mut PushState) -> Result<Option<Vec<ObjectId>>, Error> {
    let mut is_looked_at = false;
    // Each round but the last settles an update, so that this ends.
    while state.updates.accepted().next().is_some() {
        work.keep_up()?;
        for (commit, parent) in work.held_back.lock().parents() {
            state.history.learn(commit, parent);
        }
        let unseen = state.judge_commits(work)?;
        let commits: BTreeSet<_> = state.updates.accepted().map(Update::commit).collect();
        let commits: Vec<_> = commits.into_iter().collect();
        if commits.is_empty() {
            break;
        }
        // 1. Everything is present.
        let (closure, _) = walk_all(work, state, &commits, Some(state.ancestors.depth))?;
        let sent = match closure {
            Closure::Complete(sent) => sent,
            Closure::Missing(missing) => return Ok(Some(missing)),
        };
        if !unseen.is_empty() {
            return Ok(Some(unseen.into_iter().collect()));
        }
        if sent.is_empty() && state.updates.settle_unchanged() {
            continue;
        }
        check_detached(state)?;
        check_objects(work)?;
        put_lists(work, state, &commits, &sent)?;
        put_note(work, state)?;
        // 2. The refs still hold, while the last puts end.
        let held = confirm(work, state);
        let settled = work.window.settle();
        settled.map_err(Error::bucket("storing", &"objects"))?;
        is_looked_at = true;
        if !held? || state.updates.accepted().next().is_none() {
            continue;
        }
        // 3. Commits, then 4. refs.
        let membership = &work.writer()?.membership;
        work.keep_up()?;
        membership.check()?;
        put_commits(work, &sent)?;
        guard(work, state)?;
        attach_detached(work, state)?;
        set_refs(work, state)?;
        return Ok(None);
    }
    if !is_looked_at {
        confirm(work, state)?;
    }
    Ok(None)
}

/// Walks everything that commits reach, and their ancestors that were sent; without a depth, only
/// the commits themselves. Also returns the bytes of the objects that it had to read back.
fn walk_all(
    work: &Work,
    state: &mut PushState,
    commits: &[Checksum],
    depth: Option<usize>,
) -> Result<(Closure, usize), Error> {
    let read_len = Cell::new(0);
    let history = &mut state.history;
    let mut parent = |commit: Checksum| match (work.held_back.lock().commit(commit), depth) {
        (_, None) => Ok(None),
        (Some(held), Some(_)) => Ok(held.parent),
        (None, Some(0)) => Ok(None),
        (None, Some(_)) => history.parent(commit),
    };
    let read = |id: ObjectId| {
        // The put may still be on its way.
        let settled = work.window.settle();
        settled.map_err(Error::bucket("storing", &"objects"))?;
        let key = layout::object(&id);
        let found = work
            .client
            .get(&key)
            .map_err(Error::bucket("reading", &id))?;
        let content = found.map(|found| found.content).unwrap_or_default();
        read_len.set(read_len.get() + content.len());
        // The object was verified before it was put, so damage is the server's fault.
        children(id, &content).map_err(|_| {
            let why = "it is missing or damaged right after it was stored".to_owned();
            Error::bucket("reading", &id)(BucketError::Broken(why))
        })
    };
    let ground = Ground {
        known: &mut work.known.lock(),
        bases: &mut *work.bases.lock(),
        parent: &mut parent,
        read: &read,
    };
    let closure = walk(ground, commits, depth.unwrap_or(0))?;
    Ok((closure, read_len.get()))
}

/// Checks that announced detached metadata was sent or is in the bucket; fails by fault of the
/// peer.
fn check_detached(state: &PushState) -> Result<(), Error> {
    for update in state.updates.accepted() {
        let commit = update.commit();
        let there = state.attached.get(&commit).map(|(checksum, _)| *checksum);
        if update.wanted.detached.is_some()
            && !state.updates.detached.contains_key(&commit)
            && there != update.wanted.detached
        {
            return Err(Error::DetachedMissing { commit });
        }
    }
    Ok(())
}

/// Fails, by fault of the peer, if the push has more objects than it may.
fn check_objects(work: &Work) -> Result<(), Error> {
    let limit = work.limits.push_objects_max;
    match work.known.lock().here() as u64 > limit {
        true => Err(Error::TooManyObjects { limit }),
        false => Ok(()),
    }
}

/// Puts the lists of these commits, if they were sent, and of every 64th of their ancestors, up to
/// a total length of lists and of objects read for them: a later push makes a missing list when it
/// needs one.
fn put_lists(
    work: &Work,
    state: &mut PushState,
    commits: &[Checksum],
    sent: &[Checksum],
) -> Result<(), Error> {
    let sent: HashSet<_> = sent.iter().collect();
    let mut left = LISTED_MAX + 2 * work.known.lock().here();
    for commit in with_lists(state, commits, &sent) {
        work.keep_up()?;
        let mut read_len = 0;
        // Walks this commit alone, without its history.
        if commits.len() > 1 || sent.len() > 1 {
            (_, read_len) = walk_all(work, state, &[commit], None)?;
        }
        let parents = state.history.known_ancestors(commit, PARENTS_MAX);
        let content = list(work, commit, parents);
        let len = content.len() + read_len;
        let Some(rest) = left.checked_sub(len / Checksum::LEN) else {
            return Ok(());
        };
        left = rest;
        let key = layout::closure(commit);
        // Other lists may build on an existing list of this commit. A list with other bases could
        // lack objects that they rely on. An exact list lacks nothing, and also replaces the mark
        // of an incomplete commit.
        let put = match work.bases.lock().used().is_empty() {
            true => work.window.put(key, content, Class::Private),
            false => work.window.put_new(key, content, Class::Private),
        };
        put.map_err(Error::bucket("storing the list of", &commit))?;
    }
    Ok(())
}

/// Returns the commits whose lists to put. Each list names the ancestors up to the next commit with
/// a list, so nobody has to read a history commit by commit.
fn with_lists(
    state: &PushState,
    tips: &[Checksum],
    sent: &HashSet<&Checksum>,
) -> BTreeSet<Checksum> {
    let tips = tips.iter().filter(|commit| sent.contains(commit));
    let mut listed: BTreeSet<_> = tips.clone().copied().collect();
    for tip in tips {
        let ancestors = state.history.known_ancestors(*tip, sent.len());
        let some = ancestors
            .into_iter()
            .skip(PARENTS_MAX - 1)
            .step_by(PARENTS_MAX);
        listed.extend(some.filter(|commit| sent.contains(commit)));
    }
    listed
}

/// Makes the list of a commit from the last walk.
fn list(work: &Work, commit: Checksum, parents: Vec<Checksum>) -> bytes::Bytes {
    let (known, bases) = (work.known.lock(), work.bases.lock());
    let used = bases.used();
    let mut heading = Heading {
        exact: used.is_empty(),
        bases: used.iter().map(|list| list.commit()).collect(),
        parents,
    };
    let own = known
        .all_reached()
        .filter(|(id, _)| *id != ObjectId::commit(commit));
    if heading.bases.len() <= BASES_MAX {
        return ClosureList::encode(commit, &heading, own);
    }
    // Merges the lists, so that nobody has to read a longer chain.
    heading.bases.clear();
    let mut lists: Vec<Box<dyn Iterator<Item = _>>> = vec![Box::new(own)];
    for list in used {
        lists.push(Box::new(list.objects()));
    }
    ClosureList::encode(commit, &heading, merged(lists))
}

/// Notes the refs that the push is about to set. Another push names them in the summary if this one
/// dies before it does.
fn put_note(work: &Work, state: &PushState) -> Result<(), Error> {
    let pending = Pending::of(
        state
            .updates
            .accepted()
            .filter(|update| !update.is_held())
            .map(|update| {
                let held_back = work.held_back.lock();
                let content = held_back
                    .commit(update.commit())
                    .map(|held| held.content.clone());
                (&update.wanted.name, update.commit(), content)
            }),
    );
    if pending.is_empty() {
        return Ok(());
    }
    let key = layout::pending(work.writer()?.membership.id());
    let put = work.window.put(key, pending.to_bytes(), Class::Private);
    put.map_err(Error::bucket("storing", &"the note for the summary"))
}

/// The most objects in all lists of one push, and 32 bytes of objects that it reads for them each,
/// in addition to two for each object that it has put.
const LISTED_MAX: usize = 4 * 1024 * 1024;
