//! The contents of a summary.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use artifact_formats::{Summary, SummaryRef};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::{Repo, account, deltas};
use crate::local::summary::scan::{File, Scan};
use crate::summary::config::SummaryMode;
use crate::summary::fit::{Built, Crowd, Whose, fit};

/// Gathers the contents that `ostree summary -u` would, as far as clients can read them.
///
/// Fails when even a summary without refs would be too long.
pub(crate) fn build<F: Fs>(
    repo: &Repo<F>,
    mode: &SummaryMode,
    scan: &Scan,
) -> Result<Built, Error> {
    let summary = gather(repo, mode, scan);
    fit(summary, |summary| gather_owners(&*repo.fs, scan, summary))
}

/// Groups the refs of a summary by the identities that set them.
fn gather_owners<F: Fs>(fs: &F, scan: &Scan, summary: &Summary) -> Result<Crowd, Error> {
    let owners = account::owners(fs)?;
    let set = |file: &File| file.stamp.map(|stamp| stamp.changed);
    let when: HashMap<_, _> = scan
        .files_below(&RepoPath::heads())
        .map(|(name, file)| (name, set(file)))
        .collect();
    Ok(Crowd::of(summary, |name, _| {
        let identity = owners.get(name).cloned().map(Whose::Identity);
        let whose = identity.unwrap_or_else(|| Whose::project(name));
        (whose, when.get(name).copied().flatten())
    }))
}

/// Gathers the full contents (`ostree-repo.c`, `regenerate_metadata`).
fn gather<F: Fs>(repo: &Repo<F>, mode: &SummaryMode, scan: &Scan) -> Summary {
    let refs_below = |top: &RepoPath| -> BTreeMap<String, SummaryRef> {
        let refs = scan.files_below(top);
        refs.filter(|(name, _)| mode.names(name))
            .filter_map(|(name, file)| {
                let facts = file.facts.as_ref()?;
                Some((name, facts.entry(file.value?, mode.has_timestamps())))
            })
            .collect()
    };
    let mut main = refs_below(&RepoPath::heads());
    let mut others = BTreeMap::new();
    for collection in scan.collections() {
        let refs = refs_below(&RepoPath::mirrors().child(collection));
        if repo.config.collection_id.as_deref() == Some(collection) {
            main.extend(refs);
        } else if !refs.is_empty() {
            others.insert(collection.to_owned(), refs);
        }
    }
    let top = RepoPath::deltas();
    let superblock = |(path, file): (String, &File)| {
        let name = deltas::name(path.strip_suffix("/superblock")?)?;
        Some((name, file.value?))
    };
    let deltas: Vec<_> = scan.files_below(&top).filter_map(superblock).collect();
    // libostree makes indexes along with its summary; this program does not. Pullers that are told
    // of indexes look for deltas nowhere else.
    let indexed = deltas::are_indexed(&*repo.fs, &deltas);
    let deltas = deltas
        .into_iter()
        .map(|(name, digest)| (name.to_string(), digest));
    let deltas = deltas
        .filter(|_| !repo.config.no_deltas_in_summary)
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut summary = Summary {
        refs: main,
        mode: Some(repo.config.mode.as_str().to_owned()),
        last_modified: Some(now.as_secs()),
        tombstone_commits: Some(repo.config.tombstone_commits),
        static_deltas: deltas,
        collection_map: others,
        indexed_deltas: Some(indexed),
        collection_id: repo.config.collection_id.clone(),
    };
    if summary.refs.len() > MAX_SIZED_REFS {
        for entry in summary.refs.values_mut() {
            entry.size = None;
        }
    }
    summary
}

/// A summary with more refs than this omits their sizes, whose space the refs need.
const MAX_SIZED_REFS: usize = 25_000;
