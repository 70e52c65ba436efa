//! The summary: derived from the current refs, and made again whenever they change.
//!
//! It never names a commit that is missing, unreadable or partial (INV-8). It is written to a
//! temporary file and renamed under the repository's exclusive lock, and only if the refs are still
//! those it was made from; `ostree summary -u` holds that lock from before it reads the refs until
//! its summary has its name. So no older summary replaces a newer one.
//!
//! A summary is always made in full, from a scan (`scan.rs`) and the facts about commits
//! (`commit_info.rs`). Both are carried over in a record (`cache.rs`), so that only changed files
//! are read again; a commit that is carried over was complete when a ref began to hold it.

pub(crate) mod build;
mod cache;
pub(crate) mod catalogue;
mod commit_info;
mod files;
mod maker;
mod presence;
mod scan;
mod sizes;

use std::collections::{HashMap, HashSet};

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, RefName, Summary, SummaryRef, ed25519_signatures};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, LockMode, dates, if_there};
use crate::local::summary::cache::Record;
use crate::local::summary::files::{read, read_or_empty, replace, write};
use crate::local::summary::scan::Moment;
use crate::summary::MadeSummary;
use crate::summary::config::SummaryMode;
use crate::summary::fit::Built;

pub(crate) use crate::local::summary::maker::Maker;

/// How far an update trusts the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Unchanged files are not read again.
    Record,
    /// Everything is read again.
    Nothing,
}

/// The result of making a summary.
struct Made {
    summary: MadeSummary,
    /// The refs without room.
    left_out: HashSet<String>,
}

/// Brings the summary up to date, unless it names `wanted` already, because another session has
/// done so.
pub(crate) fn update<'a, F: Fs>(
    maker: Maker<'_, F>,
    wanted: impl Iterator<Item = (&'a RefName, Checksum)>,
) -> Result<(), Error> {
    let lock = maker
        .repo
        .lock_own(&RepoPath::summary_lock(), LockMode::Exclusive)?;
    let wanted: Vec<_> = wanted.collect();
    if !wanted.is_empty() && maker.config.mode != SummaryMode::None {
        let content = read(maker.fs())?;
        let named = names(&content, &maker.config.mode, wanted.iter().copied());
        if named && is_signed(maker, &content)? {
            return Ok(());
        }
    }
    let Made { left_out, .. } = make(maker, Trust::Record)?;
    drop(lock);
    let mut wanted = wanted.iter().map(|(name, _)| name.as_str());
    match wanted.find(|&name| left_out.contains(name)) {
        Some(name) => Err(Error::NoRoomInSummary {
            name: name.to_owned(),
        }),
        None => Ok(()),
    }
}

/// Makes the summary from the repository alone, counts the sizes not counted yet, and calls `then`
/// while no other session may replace the summary.
pub(crate) fn rebuild<F: Fs, T>(
    maker: Maker<'_, F>,
    then: impl FnOnce(&MadeSummary) -> T,
) -> Result<T, Error> {
    let lock = maker
        .repo
        .lock_own(&RepoPath::summary_lock(), LockMode::Exclusive)?;
    let made = make(maker, Trust::Nothing)?;
    let done = then(&made.summary);
    drop(lock);
    Ok(done)
}

/// Counts the stored bytes of pushed commits for the summary, unless that takes looking at more
/// objects than a client should wait for. A failure does not fail the push.
pub(crate) fn count<F: Fs>(
    maker: Maker<'_, F>,
    objects: usize,
    commits: impl Iterator<Item = Checksum>,
) {
    let is_said = maker.config.mode.has_timestamps() && maker.config.mode != SummaryMode::None;
    if !is_said || objects > MAX_COUNTED_OBJECTS {
        return;
    }
    for commit in commits.take(MAX_COUNTED) {
        if let Err(error) = sizes::leave(maker.fs(), maker.scratch, commit) {
            tracing::debug!(%commit, %error, "not counted");
        }
    }
}

/// Returns whether the summary on disk names those of these refs that it should, with these values.
/// For no refs, it is not read.
pub(crate) fn is_named<'a, F: Fs>(
    maker: Maker<'_, F>,
    wanted: impl Iterator<Item = (&'a RefName, Checksum)>,
) -> Result<bool, Error> {
    let mode = &maker.config.mode;
    let mut wanted = wanted
        .filter(|(name, _)| mode.names(name.as_str()))
        .peekable();
    Ok(wanted.peek().is_none() || names(&read(maker.fs())?, mode, wanted))
}

fn names<'a>(
    content: &[u8],
    mode: &SummaryMode,
    mut wanted: impl Iterator<Item = (&'a RefName, Checksum)>,
) -> bool {
    wanted.all(|(name, commit)| {
        !mode.names(name.as_str()) || Summary::find(content, name.as_str()) == Ok(Some(commit))
    })
}

/// Returns whether a summary is signed as configured. A crash may have come between the two files.
fn is_signed<F: Fs>(maker: Maker<'_, F>, content: &[u8]) -> Result<bool, Error> {
    let Some(key) = &maker.config.sign_key else {
        return Ok(true);
    };
    let path = RepoPath::summary_signature();
    let signatures = read_or_empty(maker.fs(), &path, MAX_METADATA_LEN)?;
    let signatures = ed25519_signatures(&signatures).unwrap_or_default();
    Ok(signatures
        .iter()
        .any(|signature| key.has_signed(content, signature)))
}

/// Makes the summary, and saves the record. The summary's own lock must be held.
fn make<F: Fs>(maker: Maker<'_, F>, trust: Trust) -> Result<Made, Error> {
    let fs = maker.fs();
    if maker.config.mode == SummaryMode::None {
        return Ok(Made {
            summary: remove(fs)?,
            left_out: HashSet::new(),
        });
    }
    let Record { mut scan, sizes } = remembered(fs, trust);
    let left = sizes::left(fs)?;
    let sizes: HashMap<_, _> = sizes.into_iter().chain(left.clone()).collect();
    scan.settle();
    let mut moment = now(maker)?;
    scan.refresh(fs, moment)?;
    dates::pace(fs, &RepoPath::summary())?;
    let mut built = Built::default();
    let mut replaced = false;
    for turn in 1.. {
        presence::confirm(fs, &mut scan, moment)?;
        commit_info::learn(fs, &mut scan, &maker.config.mode, &sizes)?;
        if trust == Trust::Nothing {
            commit_info::count(fs, &mut scan)?;
        }
        built = build::build(maker.repo, &maker.config.mode, &scan)?;
        replaced = trust == Trust::Record || !is_there(maker, &built.summary)?;
        let files = write(maker, &built.content)?;
        let exclusive = maker.repo.lock(LockMode::Exclusive)?;
        moment = now(maker)?;
        let changed = scan.refresh(fs, moment)?;
        if !changed || turn == MAX_TURNS {
            replaced = replaced || changed || !is_there(maker, &built.summary)?;
            if replaced {
                replace(fs, &files)?;
            }
            drop(exclusive);
            break;
        }
        drop(exclusive);
        files.forget(maker);
    }
    fs.sync_dir(&RepoPath::root())
        .map_err(Error::io("syncing", &RepoPath::root()))?;
    match cache::save(maker.fs(), maker.scratch, &scan) {
        Ok(()) => sizes::clear(fs, &left),
        Err(error) => tracing::warn!(%error, "the next summary will take longer"),
    }
    Ok(Made {
        summary: MadeSummary {
            refs: built.summary.refs.len(),
            len: built.content.len(),
            left_out: built.left_out.len(),
            replaced,
        },
        left_out: built.left_out,
    })
}

/// Returns whether the current summary has the same contents except its time, and is signed as
/// configured. Then it stays untouched, and units that watch it are not woken.
fn is_there<F: Fs>(maker: Maker<'_, F>, summary: &Summary) -> Result<bool, Error> {
    let content = read(maker.fs())?;
    let Ok(mut there) = Summary::parse(&content) else {
        return Ok(false);
    };
    there.last_modified = summary.last_modified;
    Ok(*summary == there && is_signed(maker, &content)?)
}

/// Returns the facts from earlier summaries.
fn remembered<F: Fs>(fs: &F, trust: Trust) -> Record {
    match cache::load(fs) {
        Some(record) if trust == Trust::Record => record,
        Some(record) if record.sizes.is_empty() => cache::distrust(record.scan),
        Some(record) => record,
        // The summary itself contains the sizes as well.
        None => {
            let summary = Summary::parse(&read(fs).unwrap_or_default()).unwrap_or_default();
            let size = |entry: &SummaryRef| Some((entry.commit, entry.size?));
            Record {
                sizes: summary.refs.values().filter_map(size).collect(),
                ..Record::default()
            }
        }
    }
}

/// Removes a summary that the configuration does not want.
fn remove<F: Fs>(fs: &F) -> Result<MadeSummary, Error> {
    let mut made = MadeSummary::default();
    for path in [RepoPath::summary(), RepoPath::summary_signature()] {
        let removed = if_there(fs.unlink(&path)).map_err(Error::io("removing", &path))?;
        made.replaced |= removed.is_some();
    }
    if made.replaced {
        // It must not come back after a power cut, and name commits pruned meanwhile.
        let root = RepoPath::root();
        fs.sync_dir(&root).map_err(Error::io("syncing", &root))?;
    }
    Ok(made)
}

/// Returns the file system's time, before anything is looked at.
fn now<F: Fs>(maker: Maker<'_, F>) -> Result<Moment, Error> {
    let (path, _) = maker.scratch.temporary()?;
    let stat = maker
        .fs()
        .stat(&path)
        .map_err(Error::io("looking at", &path))?;
    maker.scratch.forget(&path);
    Ok(Moment(stat.changed))
}

/// How often a summary is made again because the refs changed; by then it is newer than any other.
const MAX_TURNS: u32 = 5;
/// Commits of one push whose sizes are counted.
const MAX_COUNTED: usize = 16;
/// Objects looked at to count a push's commits, in some 15 milliseconds a commit: a small push into
/// a large tree must not cost as much as the tree.
const MAX_COUNTED_OBJECTS: usize = 4_000;
