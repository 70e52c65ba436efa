//! The last steps of a publication: puts commits, guards, detached metadata and refs, only while
//! the lease is young (R8). The puts of keys that others may change have conditions.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId};

use crate::bucket::push::state::{PushState, read_commit};
use crate::bucket::push::update::Update;
use crate::bucket::push::work::Work;
use crate::bucket::records::commits::sort_stored;
use crate::bucket::records::layout;
use crate::bucket::records::refs::{self, Held};
use crate::bucket::requests::ask::{ask_all, ask_once, get_all};
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Answer, Class, Condition, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::update::{Value, conflict, lost_race};

/// Puts commits. Everything below them must be in the bucket (INV-2).
pub(super) fn put_commits(work: &Work, sent: &[Checksum]) -> Result<(), Error> {
    let writer = work.writer()?;
    let membership = &writer.membership;
    let mut left = sent.to_vec();
    for turn in 0..TURNS {
        if left.is_empty() {
            return Ok(());
        }
        pause(work, turn)?;
        let mut requests = Vec::with_capacity(left.len());
        for &commit in &left {
            requests.push(Request::Put {
                key: layout::object(&ObjectId::commit(commit)),
                content: read_commit(work, commit)?.ok_or(Error::StagingLost)?,
                condition: Condition::Always,
                class: Class::Object,
            });
        }
        // R8.
        let answers = ask_once(&work.client, &requests, || membership.check().is_ok());
        writer.doubt.hear(&answers);
        (_, left) = sort_stored(left, answers)?;
    }
    Err(gave_up("storing", "commits"))
}

/// Creates the guards of new refs, and refuses those whose names have another use.
pub(super) fn guard(work: &Work, state: &mut PushState) -> Result<(), Error> {
    let mut guards = mem::take(&mut state.guards);
    let new = state
        .updates
        .accepted()
        .filter(|update| update.held == Held::Nothing);
    let created = guards.create(&work.client, new.map(|update| &update.wanted.name));
    for update in state.updates.accepted_mut() {
        if update.held == Held::Nothing
            && let Some(why) = guards.conflict(&update.wanted.name)
        {
            update.refuse(conflict(why));
        }
    }
    state.guards = guards;
    created
}

/// Attaches the detached metadata of accepted updates before a ref leads to their commits. Replaces
/// detached metadata that others have attached in the meantime only where the client may do so.
pub(super) fn attach_detached(work: &Work, state: &mut PushState) -> Result<(), Error> {
    for turn in 0..TURNS {
        let mut wanted = BTreeMap::new();
        for update in state.updates.accepted_mut() {
            let commit = update.commit();
            let Some(announced) = update.wanted.detached else {
                continue;
            };
            let there = state.attached.get(&commit);
            let checksum = there.map(|(checksum, _)| *checksum);
            if checksum == Some(announced) || !update.judge_detached(checksum) {
                continue;
            }
            let held_back = work.held_back.lock();
            let Some(content) = held_back.detached(commit) else {
                // The bucket had this metadata before, and another push has replaced it since.
                update.refuse(lost_race());
                continue;
            };
            let condition = there.map_or(Condition::New, |(_, tag)| Condition::Is(tag.clone()));
            wanted.insert(commit, (content.clone(), condition));
        }
        if wanted.is_empty() {
            return Ok(());
        }
        pause(work, turn)?;
        let put = |(commit, (content, condition)): (&Checksum, &(bytes::Bytes, Condition))| {
            Request::Put {
                key: layout::detached(*commit),
                content: content.clone(),
                condition: condition.clone(),
                class: Class::Current,
            }
        };
        let answers = ask_all(&work.client, wanted.iter().map(put).collect());
        for ((commit, (content, _)), answer) in wanted.into_iter().zip(answers) {
            match answer {
                Ok(Answer::Stored(tag)) => {
                    state.attached.insert(commit, (Checksum::of(&content), tag));
                }
                Ok(Answer::NotMet) | Err(BucketError::Unclear(_)) => {
                    state.look_at_detached(&work.client, commit)?;
                }
                Ok(other) => {
                    let misfit = BucketError::misfit("a put", &other);
                    return Err(Error::bucket("signing", &commit)(misfit));
                }
                Err(error) => return Err(Error::bucket("signing", &commit)(error)),
            }
        }
    }
    Err(gave_up("storing", "detached metadata"))
}

/// Sets refs by compare-and-swap.
pub(super) fn set_refs(work: &Work, state: &mut PushState) -> Result<(), Error> {
    for update in state
        .updates
        .accepted_mut()
        .filter(|update| update.is_held())
    {
        update.set();
    }
    let mut random = Random::new();
    for turn in 0..TURNS {
        pause(work, turn)?;
        let mut put = |update: &Update| {
            Some(Request::Put {
                key: update.place.clone()?,
                content: refs::content(update.commit(), &mut random),
                condition: update.held.condition(),
                class: Class::Current,
            })
        };
        let requests: Vec<_> = state.updates.accepted().filter_map(&mut put).collect();
        if requests.is_empty() {
            return Ok(());
        }
        let writer = work.writer()?;
        // R8.
        let may = || writer.membership.check().is_ok();
        let answers = ask_once(&work.client, &requests, may);
        writer.doubt.hear(&answers);
        let mut doubtful = Vec::new();
        let mut failed = None;
        let updates = state.updates.accepted_mut();
        let updates = updates.filter(|update| update.place.is_some());
        for (update, answer) in updates.zip(answers) {
            match answer {
                Ok(Answer::Stored(_)) => update.set(),
                Ok(Answer::NotMet) | Err(BucketError::Unclear(_)) => doubtful.push(update),
                // The put was certainly not executed.
                Err(BucketError::Busy(_)) => {}
                Ok(other) => failed = Some(BucketError::misfit("a put", &other)),
                Err(error) => failed = Some(error),
            }
        }
        let keys: Vec<_> = doubtful
            .iter()
            .filter_map(|update| update.place.clone())
            .collect();
        let found = get_all(&work.client, &keys)?;
        for (update, found) in doubtful.into_iter().zip(found) {
            let now = Held::of(found.as_ref());
            if now.commit() == Some(update.commit()) {
                // This push set it and the answer was lost, or another push set the same value.
                update.set();
            } else if now != update.held {
                update.moved(now, false);
            }
        }
        if let Some(error) = failed {
            return Err(Error::bucket("setting", &"refs")(error));
        }
    }
    match state.updates.accepted().next() {
        Some(update) => Err(gave_up("setting", update.wanted.name.as_str())),
        None => Ok(()),
    }
}

/// The error after the last attempt.
fn gave_up(doing: &'static str, what: &str) -> Error {
    let unclear = BucketError::Unclear("each answer was lost".to_owned());
    Error::bucket(doing, &what)(unclear)
}

/// Waits before all attempts but the first, and makes sure that the push may still set refs.
fn pause(work: &Work, turn: u32) -> Result<(), Error> {
    if turn > 0 {
        work.client.clock().sleep(PAUSE * turn);
        work.keep_up()?;
    }
    work.writer()?.membership.check()
}

/// The most attempts at a put whose answers are lost.
const TURNS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(100);
