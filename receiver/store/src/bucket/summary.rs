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

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use artifact_formats::{
    Checksum, ObjectId, RefName, RepoConfig, Summary, SummaryRef, ed25519_signatures,
    serialize_signature,
};
use bytes::Bytes;

use crate::bucket::client::{Client, Outcome};
use crate::bucket::layout;
use crate::bucket::pending::Pending;
use crate::bucket::push::ask::{ask_all, found_at, get, get_all, listed};
use crate::bucket::push::update::Held;
use crate::bucket::random::Random;
use crate::bucket::seam::{
    Answer, BucketError, Class, Condition, Entry, Found, Key, LIST_MAX, Request,
};
use crate::error::Error;
use crate::local::summary::build::{Built, Crowd, fit};
use crate::local::summary::config::{SummaryConfig, SummaryMode};
use crate::local::summary::facts::Facts;
use crate::update::Value;

/// The parts needed to make a summary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a SummaryConfig,
    pub(crate) repo: &'a RepoConfig,
}

/// The state of the bucket at the start of an attempt.
struct Current {
    summary: Option<Found>,
    signature: Option<Found>,
    notes: Vec<Entry>,
}

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

/// The refs to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Notes,
    AllRefs,
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

/// A summary that was made.
struct Made {
    built: Built,
    /// Whether it differs from the current one in more than its date.
    is_new: bool,
    /// The notes that are no longer needed once it is stored.
    done_with: Vec<Key>,
}

fn make(
    maker: Maker<'_>,
    current: &Current,
    wanted: &Pending,
    extent: Extent,
) -> Result<Made, Error> {
    let client = maker.client;
    let old = current.summary.as_ref();
    let old = old.and_then(|found| Summary::parse(&found.content).ok());
    let notes: Vec<_> = current.notes.iter().take(NOTES_MAX).collect();
    let mut keys: Vec<_> = notes.iter().map(|entry| entry.key.clone()).collect();
    let leases = notes.iter().map(|note| &note.key);
    keys.extend(leases.filter_map(layout::session_of_note));
    let mut found = get_all(client, &keys)?;
    // A push whose lease is gone sets no more refs (R9), so the values of its refs are final.
    let are_over: Vec<_> = found
        .drain(notes.len()..)
        .map(|lease| lease.is_none())
        .collect();
    let parsed = found
        .into_iter()
        .map(|found| Pending::parse(&found?.content));
    let others: Vec<Option<Pending>> = parsed.collect();
    let mut to_read: BTreeSet<RefName> = wanted.refs.keys().cloned().collect();
    to_read.extend(
        others
            .iter()
            .flatten()
            .flat_map(|note| note.refs.keys().cloned()),
    );
    if extent == Extent::AllRefs || old.is_none() {
        for entry in client.list_each(layout::HEADS) {
            let entry = entry.map_err(Error::bucket("listing", &"refs"))?;
            to_read.extend(layout::head_of(&entry.key));
        }
    }
    let values = read_refs(client, to_read)?;
    let mut facts = known_facts(old.as_ref());
    for (commit, known) in others
        .iter()
        .flatten()
        .chain([wanted])
        .flat_map(|n| n.refs.values())
    {
        if let Some(known) = known {
            facts.insert(*commit, known.clone());
        }
    }
    learn(maker, &values, &mut facts)?;
    let mut summary = match extent {
        Extent::Notes => old.clone().unwrap_or_default(),
        Extent::AllRefs => Summary {
            refs: BTreeMap::new(),
            ..old.clone().unwrap_or_default()
        },
    };
    describe(maker, &mut summary);
    for (name, commit) in &values {
        let entry = commit.and_then(|commit| {
            let facts = facts.get(&commit)?;
            Some(facts.entry(commit, maker.config.mode.has_timestamps()))
        });
        match entry.filter(|_| maker.config.mode.names(name.as_str())) {
            Some(entry) => _ = summary.refs.insert(name.to_string(), entry),
            None => _ = summary.refs.remove(name.as_str()),
        }
    }
    let is_new = old.is_none_or(|old| {
        let last_modified = summary.last_modified;
        Summary {
            last_modified,
            ..old
        } != summary
    });
    let oldest = client.clock().wall().saturating_sub(NOTE_LIFE.as_secs());
    let notes = notes.iter().zip(&others).zip(are_over);
    let done_with = notes.filter(|((entry, note), is_over)| {
        let holds = |(name, (commit, _)): (&RefName, &(Checksum, Option<Facts>))| {
            values.get(name).copied().flatten() == Some(*commit)
        };
        *is_over
            || entry.modified < oldest
            || note
                .as_ref()
                .is_some_and(|note| note.refs.iter().all(holds))
    });
    Ok(Made {
        done_with: done_with.map(|((entry, _), _)| entry.key.clone()).collect(),
        is_new,
        built: fit(summary, |summary| Ok(Crowd::of_projects(summary)))?,
    })
}

/// Reads the current values of refs.
fn read_refs(
    client: &Client,
    names: BTreeSet<RefName>,
) -> Result<BTreeMap<RefName, Option<Checksum>>, Error> {
    let named: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((layout::head(&name)?, name)))
        .collect();
    let mut values = BTreeMap::new();
    for some in named.chunks(READ_AT_ONCE) {
        let keys: Vec<_> = some.iter().map(|(key, _)| key.clone()).collect();
        for ((_, name), found) in some.iter().zip(get_all(client, &keys)?) {
            values.insert(name.clone(), Held::of(found.as_ref()).commit());
        }
    }
    Ok(values)
}

/// Returns what the current summary says about commits.
fn known_facts(old: Option<&Summary>) -> HashMap<Checksum, Facts> {
    let entries = old.into_iter().flat_map(|old| old.refs.values());
    let complete = entries.filter_map(|entry: &SummaryRef| {
        let facts = Facts {
            len: entry.commit_len,
            timestamp: entry.timestamp?,
            version: entry.version.clone().map(String::into_boxed_str),
            size: entry.size,
        };
        Some((entry.commit, facts))
    });
    complete.collect()
}

/// Reads the commits that `facts` lacks. The summary leaves out a ref whose commit is missing.
fn learn(
    maker: Maker<'_>,
    values: &BTreeMap<RefName, Option<Checksum>>,
    facts: &mut HashMap<Checksum, Facts>,
) -> Result<(), Error> {
    let listed = values
        .iter()
        .filter(|(name, _)| maker.config.mode.names(name.as_str()));
    let unknown = listed.filter_map(|(_, commit)| *commit);
    let unknown: BTreeSet<_> = unknown
        .filter(|commit| !facts.contains_key(commit))
        .collect();
    let unknown: Vec<_> = unknown.into_iter().collect();
    for some in unknown.chunks(READ_AT_ONCE) {
        let keys = some
            .iter()
            .map(|commit| layout::object(&ObjectId::commit(*commit)));
        let found = get_all(maker.client, &keys.collect::<Vec<_>>())?;
        for (commit, found) in some.iter().zip(found) {
            let good = found.filter(|found| Checksum::of(&found.content) == *commit);
            match good.and_then(|found| Facts::of(&found.content)) {
                Some(known) => _ = facts.insert(*commit, known),
                None => {
                    tracing::warn!(%commit, "a ref's commit is missing: the summary leaves it out");
                }
            }
        }
    }
    Ok(())
}

/// Fills in the fields about the repository, and drops what the configuration leaves out.
fn describe(maker: Maker<'_>, summary: &mut Summary) {
    let Maker { config, repo, .. } = maker;
    summary.mode = Some(repo.mode.as_str().to_owned());
    summary.last_modified = Some(maker.client.clock().wall());
    summary.tombstone_commits = Some(repo.tombstone_commits);
    summary.collection_id.clone_from(&repo.collection_id);
    summary.indexed_deltas = Some(summary.indexed_deltas.unwrap_or_default());
    summary.refs.retain(|name, _| config.mode.names(name));
    if !config.mode.has_timestamps() {
        for entry in summary.refs.values_mut() {
            (entry.timestamp, entry.size) = (None, None);
        }
    }
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
/// The most notes of other pushes that one summary takes in.
const NOTES_MAX: usize = 64;
/// Refs or commits in memory at once.
const READ_AT_ONCE: usize = 1024;
/// How long a note is kept while its push may still set refs.
const NOTE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// The length in bytes above which the log warns the administrator.
const WARN_LEN: usize = 7 * 1024 * 1024;
