//! The content of a summary: the entries of the current one, and the refs' values now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId, RefName, RepoConfig, Summary, SummaryRef};

use crate::bucket::records::layout;
use crate::bucket::records::pending::Pending;
use crate::bucket::records::refs::{self, Held};
use crate::bucket::requests::ask::get_all;
use crate::bucket::requests::client::Client;
use crate::bucket::requests::seam::{Entry, Found, Key};
use crate::error::Error;
use crate::summary::config::SummaryConfig;
use crate::summary::facts::Facts;
use crate::summary::fit::{Built, Crowd, Whose, fit};
use crate::update::Value;

/// The parts needed to make a summary.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maker<'a> {
    pub(crate) client: &'a Client,
    pub(crate) config: &'a SummaryConfig,
    pub(crate) repo: &'a RepoConfig,
}

/// The state of the bucket at the start of an attempt.
pub(super) struct Current {
    pub(super) summary: Option<Found>,
    pub(super) signature: Option<Found>,
    pub(super) notes: Vec<Entry>,
}

/// The refs to read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Notes,
    AllRefs,
}

/// A summary that was made.
pub(super) struct Made {
    pub(super) built: Built,
    /// Whether it differs from the current one in more than its date.
    pub(super) is_new: bool,
    /// The notes that are no longer needed once it is stored.
    pub(super) done_with: Vec<Key>,
}

pub(super) fn make(
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
        for entry in refs::list(client) {
            to_read.insert(entry?.0);
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
        built: fit(summary, |summary| Ok(by_project(summary)))?,
    })
}

/// Groups the refs of a summary by their first components, because nobody knows who has set them or
/// when. The age of a ref is the age of its commit.
fn by_project(summary: &Summary) -> Crowd {
    Crowd::of(summary, |name, entry| {
        let made = i64::try_from(entry.timestamp.unwrap_or_default()).unwrap_or(i64::MAX);
        (Whose::project(name), Some((made, 0)))
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

/// The most notes of other pushes that one summary takes in.
const NOTES_MAX: usize = 64;
/// Refs or commits in memory at once.
const READ_AT_ONCE: usize = 1024;
/// How long a note is kept while its push may still set refs.
const NOTE_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
