//! The summary of a bucket: one object, replaced by compare-and-swap. A push that replaces it also
//! adds the refs that other pushes have set.
//!
//! Each push writes a note of the refs that it is about to set. If it dies before it updates the
//! summary, another push does so from the note. A push first reads the current summary, then its
//! own refs and those of all notes, and replaces only the summary that it has read. An older value
//! of a ref thus never replaces a newer one. The summary names only values that refs hold, and only
//! commits that exist (INV-8).
//!
//! A signature is stored before its summary, as on a disk. A bucket cannot replace both at once, so
//! a push that signs checks them again afterwards: the last push to check leaves a matching pair.

mod make;

use std::time::Duration;

use artifact_formats::{RefName, Summary, ed25519_signatures, serialize_signature};
use bytes::Bytes;

use self::make::{Current, Extent, Made, make};
use crate::bucket::records::layout;
use crate::bucket::records::pending::Pending;
use crate::bucket::requests::ask::{ask_all, found_at, get, listed};
use crate::bucket::requests::client::{Client, Outcome};
use crate::bucket::requests::random::Random;
use crate::bucket::requests::seam::{Answer, Class, Condition, Key, LIST_MAX, Request};
use crate::error::Error;
use crate::error::bucket::BucketError;
use crate::summary::config::SummaryMode;
use crate::summary::fit::Built;

pub(crate) use self::make::Maker;

/// Adds these refs, which the bucket holds, to the summary unless it names them already; `own` is
/// the key of this push's note. Returns the notes of other pushes that are no longer needed.
pub(crate) fn update(
    maker: Maker<'_>,
    wanted: &Pending,
    own: Option<&Key>,
) -> Result<Vec<Key>, Error> {
    let is_wanted = |name: &RefName| maker.config.mode.names(name.as_str());
    if maker.config.mode != SummaryMode::None && !wanted.refs.keys().any(is_wanted) {
        return Ok(Vec::new());
    }
    turn_by_turn(maker, wanted, own, Extent::Notes)
}

/// Makes the summary from all refs, whatever the current one says.
pub(crate) fn rebuild(maker: Maker<'_>) -> Result<Vec<Key>, Error> {
    turn_by_turn(maker, &Pending::default(), None, Extent::AllRefs)
}

fn turn_by_turn(
    maker: Maker<'_>,
    wanted: &Pending,
    own: Option<&Key>,
    extent: Extent,
) -> Result<Vec<Key>, Error> {
    let mut random = Random::new();
    let mut taken = Vec::new();
    let mut is_made = false;
    for turn in 1..=TURNS {
        let mut current = look(maker.client)?;
        current.notes.retain(|entry| Some(&entry.key) != own);
        if maker.config.mode == SummaryMode::None {
            remove(maker.client, &current)?;
            return Ok(taken);
        }
        let is_done = match extent {
            Extent::Notes => names(maker, &current, wanted),
            Extent::AllRefs => is_made,
        };
        if is_done && is_signed(maker, &current) {
            return Ok(taken);
        }
        let Made {
            built,
            is_new,
            done_with,
        } = make(maker, &current, wanted, extent)?;
        if let Some(name) = wanted
            .refs
            .keys()
            .find(|n| built.left_out.contains(n.as_str()))
        {
            // The refs of other pushes still need it.
            replace(maker, &current, &built)?;
            return Err(Error::NoRoomInSummary {
                name: name.to_string(),
            });
        }
        if !is_new && is_signed(maker, &current) {
            return Ok(done_with);
        }
        if replace(maker, &current, &built)? {
            taken = done_with;
            is_made = true;
            if maker.config.sign_key.is_none() {
                return Ok(taken);
            }
            // Another push may have stored its signature in the meantime: check again.
        } else {
            let wait = random.below(u64::from(turn.min(8)) * PAUSE_MS);
            maker.client.clock().sleep(Duration::from_millis(wait));
        }
    }
    let unclear = BucketError::Busy("others replaced it each time".to_owned());
    Err(Error::bucket("replacing", &"the summary")(unclear))
}

fn look(client: &Client) -> Result<Current, Error> {
    let (summary, signature) = (layout::summary(), layout::summary_signature());
    let notes = Request::List {
        prefix: layout::PENDING.to_owned(),
        after: None,
        most: LIST_MAX,
    };
    let requests = vec![get(&summary), get(&signature), notes];
    let mut answers = ask_all(client, requests).into_iter();
    let mut next = || answers.next().unwrap_or(Ok(Answer::Absent));
    let (first, second, third) = (next(), next(), next());
    Ok(Current {
        notes: listed(&"notes for the summary", third)?,
        summary: found_at(&summary, first)?,
        signature: found_at(&signature, second)?,
    })
}

/// Returns whether the summary names these refs, except those that the configuration leaves out,
/// with these commits.
fn names(maker: Maker<'_>, current: &Current, wanted: &Pending) -> bool {
    let Some(summary) = &current.summary else {
        return false;
    };
    let mut wanted = wanted.refs.iter();
    wanted.all(|(name, (commit, _))| {
        !maker.config.mode.names(name.as_str())
            || Summary::find(&summary.content, name.as_str()) == Ok(Some(*commit))
    })
}

/// Returns whether the summary is signed as configured.
fn is_signed(maker: Maker<'_>, current: &Current) -> bool {
    let (Some(key), Some(summary)) = (&maker.config.sign_key, &current.summary) else {
        return maker.config.sign_key.is_none();
    };
    let signatures = current.signature.as_ref().map(|found| &found.content[..]);
    let signatures = ed25519_signatures(signatures.unwrap_or_default()).unwrap_or_default();
    signatures
        .iter()
        .any(|signature| key.has_signed(&summary.content, signature))
}

/// Replaces the current summary; returns `false` if somebody else has replaced it first.
fn replace(maker: Maker<'_>, current: &Current, built: &Built) -> Result<bool, Error> {
    let client = maker.client;
    let content = Bytes::from(built.content.clone());
    if content.len() > WARN_LEN {
        tracing::warn!(
            bytes = content.len(),
            "the summary nears 10 MiB, the most that clients of Debian 12 read: choose another \
             `mode` of it in the configuration"
        );
    }
    let signature = layout::summary_signature();
    match &maker.config.sign_key {
        Some(key) => {
            let signed = serialize_signature(&key.sign(&content));
            let put = client.put(&signature, signed.into(), Condition::Always, Class::Current);
            put.map_err(Error::bucket("storing", &signature))?;
        }
        // Clients would check the new summary against the old signature, and refuse it.
        None if current.signature.is_some() => {
            let deleted = client.delete(&[signature]);
            deleted.map_err(Error::bucket("removing", &"the signature of the summary"))?;
        }
        None => {}
    }
    let key = layout::summary();
    let condition = match &current.summary {
        Some(found) => Condition::Is(found.tag.clone()),
        None => Condition::New,
    };
    match client.put(&key, content.clone(), condition, Class::Current) {
        Ok(Outcome::Stored(_)) => Ok(true),
        Ok(Outcome::NotMet) => Ok(false),
        Err(BucketError::Unclear(_)) => {
            let found = client.get(&key).map_err(Error::bucket("reading", &key))?;
            Ok(found.is_some_and(|found| found.content == content))
        }
        Err(error) => Err(Error::bucket("replacing", &key)(error)),
    }
}

/// Removes the summary and its signature, because the configuration asks for none.
fn remove(client: &Client, current: &Current) -> Result<(), Error> {
    if current.summary.is_none() && current.signature.is_none() {
        return Ok(());
    }
    let keys = [layout::summary_signature(), layout::summary()];
    let deleted = client.delete(&keys);
    deleted.map_err(Error::bucket("removing", &"the summary"))
}

/// The most attempts to replace the summary while other pushes replace it too.
const TURNS: u32 = 64;
/// The longest wait after the first lost race, in milliseconds.
const PAUSE_MS: u64 = 40;
/// The length in bytes above which the log warns the administrator.
const WARN_LEN: usize = 7 * 1024 * 1024;
