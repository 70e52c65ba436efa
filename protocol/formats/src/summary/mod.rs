//! The summary of a repository: its refs, and other facts that pullers read first.
//!
//! Written as `ostree summary -u` writes it (`ostree-repo.c`, `regenerate_metadata`), byte for byte
//! except for the order of static deltas, which libostree leaves to a hash table; here they are
//! sorted.

mod signature;

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::error::FormatError;
use crate::gvariant::{
    Layout, append_member, array, be_u64, entry, for_each_entry, split_array, split_members,
    string, string_bytes, tuple,
};
use crate::object::Checksum;

pub use crate::summary::signature::{ed25519_signatures, gpg_signatures, serialize_signature};

/// A summary, `(a(s(taya{sv}))a{sv})`.
///
/// Keys without a field here are checked and dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Refs by name; those of the repository's collection, if it has one.
    pub refs: BTreeMap<String, SummaryRef>,
    /// How the repository stores objects, as in its `config`.
    pub mode: Option<String>,
    /// When the summary was written, in seconds since 1970.
    pub last_modified: Option<u64>,
    /// Whether deleted commits leave a mark.
    pub tombstone_commits: Option<bool>,
    /// SHA-256 of the superblock of each static delta, by `TO` or `FROM-TO`.
    pub static_deltas: BTreeMap<String, Checksum>,
    /// Refs of other collections, by collection and name.
    pub collection_map: BTreeMap<String, BTreeMap<String, SummaryRef>>,
    /// Whether the repository has indexes of static deltas.
    pub indexed_deltas: Option<bool>,
    /// The collection that the refs belong to.
    pub collection_id: Option<String>,
}

/// A summary's entry for one ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryRef {
    /// The commit.
    pub commit: Checksum,
    /// Length of the commit object in bytes. Pullers refuse to load more.
    pub commit_len: u64,
    /// The commit's timestamp, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// The commit's version.
    pub version: Option<String>,
    /// Stored bytes of everything that the commit reaches. Only this project writes it; others skip
    /// it.
    pub size: Option<u64>,
}

impl Summary {
    /// Serializes the summary.
    pub fn serialize(&self) -> Vec<u8> {
        let mut keys = Vec::new();
        // The order in which libostree's hash table returns them, whichever of them are set.
        if let Some(mode) = &self.mode {
            keys.push(entry(MODE, "s", &string_bytes(mode)));
        }
        if let Some(time) = self.last_modified {
            keys.push(entry(LAST_MODIFIED, "t", &time.to_be_bytes()));
        }
        if let Some(tombstones) = self.tombstone_commits {
            keys.push(entry(TOMBSTONE_COMMITS, "b", &[u8::from(tombstones)]));
        }
        if !self.static_deltas.is_empty() {
            let delta = |(name, sum): (&String, &Checksum)| entry(name, "ay", sum.as_bytes());
            let deltas = array(Layout::ALIGNED, self.static_deltas.iter().map(delta));
            keys.push(entry(STATIC_DELTAS, "a{sv}", &deltas));
        }
        if !self.collection_map.is_empty() {
            let collection = |(name, refs): (&String, &BTreeMap<_, _>)| {
                tuple(&[
                    (Layout::BYTES, &string_bytes(name)),
                    (Layout::ALIGNED, &serialize_refs(refs)),
                ])
            };
            let map = array(Layout::ALIGNED, self.collection_map.iter().map(collection));
            keys.push(entry(COLLECTION_MAP, COLLECTION_MAP_TYPE, &map));
        }
        if let Some(indexed) = self.indexed_deltas {
            keys.push(entry(INDEXED_DELTAS, "b", &[u8::from(indexed)]));
        }
        if let Some(id) = &self.collection_id {
            keys.push(entry(COLLECTION_ID, "s", &string_bytes(id)));
        }
        // Avoids a copy: a summary may have thousands of refs.
        let refs = serialize_refs(&self.refs);
        append_member(refs, &array(Layout::ALIGNED, keys))
    }

    /// Parses a summary, also one of another program, if it is well-formed.
    pub fn parse(data: &[u8]) -> Result<Self, FormatError> {
        Self::parse_rule(data).map_err(FormatError::part("summary"))
    }

    fn parse_rule(data: &[u8]) -> Result<Self, &'static str> {
        let [refs, keys] = split_members([Layout::ALIGNED; 2], data)?;
        let mut summary = Self {
            refs: parse_refs(refs)?,
            ..Self::default()
        };
        for_each_entry(keys, |key, kind, value| summary.take(key, kind, value))?;
        Ok(summary)
    }

    /// Returns the commit of a ref in a serialized summary, without reading most other refs.
    pub fn find(data: &[u8], name: &str) -> Result<Option<Checksum>, FormatError> {
        Self::find_rule(data, name).map_err(FormatError::part("summary"))
    }

    fn find_rule(data: &[u8], name: &str) -> Result<Option<Checksum>, &'static str> {
        let [refs, _] = split_members([Layout::ALIGNED; 2], data)?;
        let refs = split_array(Layout::ALIGNED, refs)?;
        let (mut low, mut high) = (0, refs.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let element = refs.get(middle).unwrap_or_default();
            let [found, entry] = split_members([Layout::BYTES, Layout::ALIGNED], element)?;
            match string(found)?.cmp(name) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return SummaryRef::parse(entry).map(|entry| Some(entry.commit)),
            }
        }
        Ok(None)
    }

    /// Keeps a global value that this type has a field for.
    fn take(&mut self, key: &str, kind: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match (key, kind) {
            (MODE, b"s") => self.mode = Some(string(value)?.to_owned()),
            (LAST_MODIFIED, b"t") => self.last_modified = Some(be_u64(value)?),
            (TOMBSTONE_COMMITS, b"b") => self.tombstone_commits = Some(value == [1]),
            (INDEXED_DELTAS, b"b") => self.indexed_deltas = Some(value == [1]),
            (COLLECTION_ID, b"s") => self.collection_id = Some(string(value)?.to_owned()),
            (STATIC_DELTAS, b"a{sv}") => self.static_deltas.append(&mut parse_deltas(value)?),
            (COLLECTION_MAP, kind) if kind == COLLECTION_MAP_TYPE.as_bytes() => {
                for element in split_array(Layout::ALIGNED, value)?.iter() {
                    let [name, refs] = split_members([Layout::BYTES, Layout::ALIGNED], element)?;
                    self.collection_map
                        .insert(string(name)?.to_owned(), parse_refs(refs)?);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl SummaryRef {
    fn serialize(&self) -> Vec<u8> {
        let mut keys = Vec::new();
        if let Some(version) = &self.version {
            keys.push(entry(COMMIT_VERSION, "s", &string_bytes(version)));
        }
        if let Some(time) = self.timestamp {
            keys.push(entry(COMMIT_TIMESTAMP, "t", &time.to_be_bytes()));
        }
        if let Some(size) = self.size {
            keys.push(entry(SIZE, "t", &size.to_be_bytes()));
        }
        tuple(&[
            // In the machine's byte order; the machines that matter are little-endian.
            (Layout::U64, &self.commit_len.to_le_bytes()),
            (Layout::BYTES, self.commit.as_bytes()),
            (Layout::ALIGNED, &array(Layout::ALIGNED, keys)),
        ])
    }

    fn parse(data: &[u8]) -> Result<Self, &'static str> {
        let layouts = [Layout::U64, Layout::BYTES, Layout::ALIGNED];
        let [commit_len, commit, keys] = split_members(layouts, data)?;
        let mut entry = Self {
            commit: Checksum::from_slice(commit).ok_or("a commit's checksum is not 32 bytes")?,
            commit_len: be_u64(commit_len).map(u64::swap_bytes)?,
            timestamp: None,
            version: None,
            size: None,
        };
        for_each_entry(keys, |key, kind, value| {
            match (key, kind) {
                (COMMIT_VERSION, b"s") => entry.version = Some(string(value)?.to_owned()),
                (COMMIT_TIMESTAMP, b"t") => entry.timestamp = Some(be_u64(value)?),
                (SIZE, b"t") => entry.size = Some(be_u64(value)?),
                _ => {}
            }
            Ok(())
        })?;
        Ok(entry)
    }
}

/// Parses the index of the static deltas to a commit: the digest of each superblock, by the delta's
/// name in a summary.
pub fn parse_delta_index(data: &[u8]) -> Result<BTreeMap<String, Checksum>, FormatError> {
    let mut deltas = BTreeMap::new();
    for_each_entry(data, |key, kind, value| {
        if (key, kind) == (STATIC_DELTAS, b"a{sv}") {
            deltas.append(&mut parse_deltas(value)?);
        }
        Ok(())
    })
    .map_err(FormatError::part("delta index"))?;
    Ok(deltas)
}

fn parse_deltas(data: &[u8]) -> Result<BTreeMap<String, Checksum>, &'static str> {
    let mut deltas = BTreeMap::new();
    for_each_entry(data, |name, kind, value| {
        let digest = Checksum::from_slice(value).filter(|_| kind == b"ay");
        let digest = digest.ok_or("a static delta has no SHA-256")?;
        deltas.insert(name.to_owned(), digest);
        Ok(())
    })?;
    Ok(deltas)
}

fn serialize_refs(refs: &BTreeMap<String, SummaryRef>) -> Vec<u8> {
    let element = |(name, entry): (&String, &SummaryRef)| {
        tuple(&[
            (Layout::BYTES, &string_bytes(name)),
            (Layout::ALIGNED, &entry.serialize()),
        ])
    };
    array(Layout::ALIGNED, refs.iter().map(element))
}

fn parse_refs(data: &[u8]) -> Result<BTreeMap<String, SummaryRef>, &'static str> {
    let mut refs = BTreeMap::new();
    let mut before = "";
    for element in split_array(Layout::ALIGNED, data)?.iter() {
        let [name, entry] = split_members([Layout::BYTES, Layout::ALIGNED], element)?;
        let name = string(name)?;
        // Pullers find a ref by bisection.
        if name <= before {
            return Err("refs are not sorted, or one occurs twice or has no name");
        }
        before = name;
        refs.insert(name.to_owned(), SummaryRef::parse(entry)?);
    }
    Ok(refs)
}

const MODE: &str = "ostree.summary.mode";
const LAST_MODIFIED: &str = "ostree.summary.last-modified";
const TOMBSTONE_COMMITS: &str = "ostree.summary.tombstone-commits";
const STATIC_DELTAS: &str = "ostree.static-deltas";
const COLLECTION_MAP: &str = "ostree.summary.collection-map";
const COLLECTION_MAP_TYPE: &str = "a{sa(s(taya{sv}))}";
const INDEXED_DELTAS: &str = "ostree.summary.indexed-deltas";
const COLLECTION_ID: &str = "ostree.summary.collection-id";
const COMMIT_VERSION: &str = "ostree.commit.version";
const COMMIT_TIMESTAMP: &str = "ostree.commit.timestamp";
const SIZE: &str = "artifact-cache.size";

#[cfg(test)]
mod tests {
    use super::*;

    /// The output of `ostree summary -u` 2022.7 for a repository with only refs, and for one with a
    /// collection, mirrored refs of others and static deltas (one, so that their order does not
    /// matter).
    const RECORDED: [&[u8]; 2] = [
        include_bytes!("../../testdata/ostree/summary-plain"),
        include_bytes!("../../testdata/ostree/summary-full"),
    ];

    #[test]
    fn what_ostree_writes_is_read_and_written_the_same() {
        for recorded in RECORDED {
            let summary = Summary::parse(recorded).unwrap();
            assert_eq!(summary.serialize(), recorded);
        }
    }

    #[test]
    fn every_part_of_a_full_summary_is_read() {
        let summary = Summary::parse(RECORDED[1]).unwrap();
        assert_eq!(summary.mode.as_deref(), Some("archive-z2"));
        assert_eq!(summary.tombstone_commits, Some(false));
        assert_eq!(summary.indexed_deltas, Some(true));
        assert_eq!(summary.collection_id.as_deref(), Some("org.example.Main"));
        assert_eq!(summary.static_deltas.len(), 1);
        assert!(summary.last_modified.is_some());
        let other = &summary.collection_map["org.example.Other"];
        assert_eq!(other["os/main"], summary.refs["os/main"]);
        let main = &summary.refs["os/main"];
        assert_eq!(main.version.as_deref(), Some("1.2"));
        assert_eq!(main.timestamp, Some(1_700_000_000));
    }

    #[test]
    fn a_ref_is_found_without_reading_the_others() {
        let entry = |number: u8| SummaryRef {
            commit: Checksum::new([number; 32]),
            commit_len: 7,
            timestamp: Some(number.into()),
            version: None,
            size: number.is_multiple_of(2).then_some(number.into()),
        };
        for count in 0..20 {
            let refs = (0..count).map(|number| (format!("r/{number:02}"), entry(number)));
            let summary = Summary {
                refs: refs.collect(),
                ..Summary::default()
            };
            let data = summary.serialize();
            assert_eq!(Summary::parse(&data).unwrap(), summary);
            for number in 0..count {
                let found = Summary::find(&data, &format!("r/{number:02}")).unwrap();
                assert_eq!(found, Some(entry(number).commit));
            }
            for absent in ["", "a", "r/00x", "r/190", "z"] {
                assert_eq!(Summary::find(&data, absent), Ok(None));
            }
        }
    }

    #[test]
    fn an_empty_summary_round_trips() {
        let empty = Summary::default();
        assert_eq!(Summary::parse(&empty.serialize()), Ok(empty));
    }

    #[test]
    fn unsorted_refs_are_refused() {
        let entry = SummaryRef {
            commit: Checksum::new([1; 32]),
            commit_len: 7,
            timestamp: None,
            version: None,
            size: None,
        };
        let parse = |names: [&str; 2]| {
            let element = |name: &str| {
                tuple(&[
                    (Layout::BYTES, &string_bytes(name)),
                    (Layout::ALIGNED, &entry.serialize()),
                ])
            };
            Summary::parse(&tuple(&[
                (Layout::ALIGNED, &array(Layout::ALIGNED, names.map(element))),
                (Layout::ALIGNED, &[]),
            ]))
        };
        assert!(parse(["a", "b"]).is_ok());
        assert!(parse(["b", "a"]).is_err());
        assert!(parse(["a", "a"]).is_err());
    }
}
