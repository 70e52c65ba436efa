//! Static deltas. libostree makes them; this project only lists and removes them.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, parse_delta_index};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, read_file};

/// The commits of a static delta: where it begins, if anywhere, and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeltaName {
    pub(crate) from: Option<Checksum>,
    pub(crate) to: Checksum,
}

impl fmt::Display for DeltaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(f, "{from}-{}", self.to),
            None => write!(f, "{}", self.to),
        }
    }
}

/// Parses the path of a delta's directory below `deltas`: `XX/YYYY` or `XX/YYYY-ZZZZ`.
pub(crate) fn name(path: &str) -> Option<DeltaName> {
    let encoded = path.replacen('/', "", 1);
    let checksums: Option<Vec<_>> = encoded.split('-').map(from_base64).collect();
    match *checksums? {
        [to] => Some(DeltaName { from: None, to }),
        [from, to] => Some(DeltaName {
            from: Some(from),
            to,
        }),
        _ => None,
    }
}

/// Returns the path of the index of the deltas that lead to a commit.
pub(crate) fn index(to: Checksum) -> RepoPath {
    let encoded = STANDARD_NO_PAD.encode(to.as_bytes()).replace('/', "_");
    let (first, rest) = encoded.split_at(2);
    RepoPath::delta_indexes()
        .child(first)
        .child(&format!("{rest}.index"))
}

/// Returns whether there are static deltas, and indexes list each with its digest.
pub(crate) fn are_indexed<F: Fs>(fs: &F, deltas: &[(DeltaName, Checksum)]) -> bool {
    let mut indexes: HashMap<Checksum, BTreeMap<String, Checksum>> = HashMap::new();
    let mut is_indexed = |(name, digest): &(DeltaName, Checksum)| {
        let index = indexes.entry(name.to).or_insert_with(|| {
            let content = read_file(fs, &index(name.to), MAX_METADATA_LEN);
            // An unreadable index counts as none.
            let content = content.ok().flatten().unwrap_or_default();
            parse_delta_index(&content).unwrap_or_default()
        });
        index.get(&name.to_string()) == Some(digest)
    };
    !deltas.is_empty() && deltas.iter().all(&mut is_indexed)
}

/// Decodes a checksum of 43 digits, with `_` in place of `/` (`ostree-core.c`,
/// `ostree_checksum_b64_inplace_to_bytes`).
fn from_base64(text: &str) -> Option<Checksum> {
    let bytes = STANDARD_NO_PAD.decode(text.replace('_', "/")).ok()?;
    Checksum::from_slice(&bytes)
}
