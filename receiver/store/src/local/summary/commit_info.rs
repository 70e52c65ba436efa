//! The summary's data about commits. Each commit is read once, and its data carried over as long as
//! a ref holds it.

use std::collections::{HashMap, HashSet};

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};
use crate::local::repository::objects;
use crate::local::summary::scan::{self, Scan};
use crate::local::summary::sizes;
use crate::summary::config::SummaryMode;
use crate::summary::facts::Facts;

/// Reads the commits to list for which the scan has no data yet. Leaves out partial ones, including
/// those that were marked since.
///
/// `sizes` are used if nothing better is known.
pub(crate) fn learn<F: Fs>(
    fs: &F,
    scan: &mut Scan,
    mode: &SummaryMode,
    sizes: &HashMap<Checksum, u64>,
) -> Result<(), Error> {
    let partial = partial_commits(fs)?;
    // Many refs may hold one commit.
    let mut learnt: HashMap<Checksum, Option<Facts>> = HashMap::new();
    for (dir, file) in scan.refs_mut() {
        let Some(commit) = file.value else { continue };
        if partial.contains(&commit) {
            file.facts = None;
        } else if file.facts.is_none() && mode.names(&scan::ref_name(dir, &file.name)) {
            file.facts = match learnt.get(&commit) {
                Some(facts) => facts.clone(),
                None => {
                    let facts = read(fs, commit)?;
                    learnt.insert(commit, facts.clone());
                    facts
                }
            };
            if file.facts.is_none() {
                tracing::warn!(%dir, name = %file.name, %commit, "a ref's commit is partial: \
                    leaving the ref out of the summary");
            }
        }
        if let Some(facts) = &mut file.facts
            && let Some(&size) = sizes.get(&commit)
        {
            facts.size = Some(size);
        }
    }
    Ok(())
}

/// Counts the sizes that are still missing.
pub(crate) fn count<F: Fs>(fs: &F, scan: &mut Scan) -> Result<(), Error> {
    let mut counted: HashMap<Checksum, Option<u64>> = HashMap::new();
    for (_, file) in scan.refs_mut() {
        let (Some(commit), Some(facts)) = (file.value, &mut file.facts) else {
            continue;
        };
        if facts.size.is_none() {
            facts.size = match counted.get(&commit) {
                Some(size) => *size,
                None => {
                    let size = sizes::count(fs, commit)?;
                    counted.insert(commit, size);
                    size
                }
            };
        }
    }
    Ok(())
}

fn read<F: Fs>(fs: &F, commit: Checksum) -> Result<Option<Facts>, Error> {
    if !objects::is_whole(fs, commit)? {
        return Ok(None);
    }
    let id = ObjectId::new(ObjectKind::Commit, commit);
    let Some(content) = objects::read_metadata(fs, id)? else {
        return Ok(None);
    };
    Ok(Facts::of(&content))
}

/// Returns the commits that are marked partial.
fn partial_commits<F: Fs>(fs: &F) -> Result<HashSet<Checksum>, Error> {
    let state = RepoPath::state();
    let entries =
        if_there(fs.read_dir(&state, usize::MAX)).map_err(Error::io("listing", &state))?;
    let entries = entries.unwrap_or_default();
    let commit = |name: &str| name.strip_suffix(PARTIAL)?.parse().ok();
    Ok(entries
        .iter()
        .filter_map(|entry| commit(&entry.name))
        .collect())
}

const PARTIAL: &str = ".commitpartial";
