//! Commit objects, and the detached metadata beside them.

use crate::error::FormatError;
use crate::gvariant::{
    Layout, array, be_u64, check, entry, for_each_entry, split_array, split_members, string,
    string_bytes, tuple,
};
use crate::limits::MAX_DETACHED_LEN;
use crate::object::Checksum;

/// The parts of a commit object, `(a{sv}aya(say)sstayay)`, that a cache uses.
///
/// Metadata under other keys is checked and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The commit before this one.
    pub parent: Option<Checksum>,
    /// Dirtree of the root directory.
    pub tree: Checksum,
    /// Dirmeta of the root directory.
    pub meta: Checksum,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// A line that describes the commit.
    pub subject: String,
    /// The rest of the description.
    pub body: String,
    /// `ostree.ref-binding`: the refs that may hold this commit.
    pub ref_bindings: Option<Vec<String>>,
    /// `ostree.collection-binding`: the collection that the commit belongs to.
    pub collection_binding: Option<String>,
    /// `version`, if it is a string.
    pub version: Option<String>,
}

impl Commit {
    /// Returns a first commit of a tree, made in 1970, with no description and no bindings.
    pub const fn new(tree: Checksum, meta: Checksum) -> Self {
        Self {
            parent: None,
            tree,
            meta,
            timestamp: 0,
            subject: String::new(),
            body: String::new(),
            ref_bindings: None,
            collection_binding: None,
            version: None,
        }
    }

    /// Parses a commit object.
    pub fn parse(data: &[u8]) -> Result<Self, FormatError> {
        let layouts = [
            Layout::ALIGNED,
            Layout::BYTES,
            Layout::BYTES,
            Layout::BYTES,
            Layout::BYTES,
            Layout::U64,
            Layout::BYTES,
            Layout::BYTES,
        ];
        let part = FormatError::part("commit");
        let [
            metadata,
            parent,
            related,
            subject,
            body,
            timestamp,
            tree,
            meta,
        ] = split_members(layouts, data).map_err(&part)?;
        check("a(say)", related)?;
        let mut commit = Self::new(
            checksum(tree).map_err(&part)?,
            checksum(meta).map_err(&part)?,
        );
        commit.timestamp = be_u64(timestamp).map_err(&part)?;
        commit.subject = string(subject).map_err(&part)?.to_owned();
        commit.body = string(body).map_err(&part)?.to_owned();
        if !parent.is_empty() {
            commit.parent = Some(checksum(parent).map_err(&part)?);
        }
        for_each_entry(metadata, |key, kind, value| commit.take(key, kind, value))
            .map_err(FormatError::part("metadata of a commit"))?;
        Ok(commit)
    }

    /// Serializes a commit with the metadata that this type has fields for.
    pub fn serialize(&self) -> Vec<u8> {
        let mut metadata = Vec::new();
        if let Some(refs) = &self.ref_bindings {
            let refs = array(Layout::BYTES, refs.iter().map(|name| string_bytes(name)));
            metadata.push(entry(REF_BINDING, "as", &refs));
        }
        if let Some(collection) = &self.collection_binding {
            metadata.push(entry(COLLECTION_BINDING, "s", &string_bytes(collection)));
        }
        if let Some(version) = &self.version {
            metadata.push(entry(VERSION, "s", &string_bytes(version)));
        }
        let parent = self.parent.as_ref().map_or(&[][..], |sum| sum.as_bytes());
        tuple(&[
            (Layout::ALIGNED, &array(Layout::ALIGNED, metadata)),
            (Layout::BYTES, parent),
            (Layout::BYTES, &[]),
            (Layout::BYTES, &string_bytes(&self.subject)),
            (Layout::BYTES, &string_bytes(&self.body)),
            (Layout::U64, &self.timestamp.to_be_bytes()),
            (Layout::BYTES, self.tree.as_bytes()),
            (Layout::BYTES, self.meta.as_bytes()),
        ])
    }

    /// Keeps a value of the metadata that this type has a field for.
    fn take(&mut self, key: &str, kind: &[u8], value: &[u8]) -> Result<(), &'static str> {
        match (key, kind) {
            (REF_BINDING, b"as") => {
                let names = split_array(Layout::BYTES, value)?.iter();
                let names = names.map(|name| string(name).map(str::to_owned));
                set_once(&mut self.ref_bindings, names.collect::<Result<_, _>>()?)
            }
            (COLLECTION_BINDING, b"s") => {
                set_once(&mut self.collection_binding, string(value)?.to_owned())
            }
            // Readers disagree on the bindings then: some see none, others the next ones.
            (REF_BINDING | COLLECTION_BINDING, _) => Err("a binding has the wrong type"),
            (VERSION, b"s") => set_once(&mut self.version, string(value)?.to_owned()),
            _ => Ok(()),
        }
    }
}

/// Checks a commit's detached metadata, `a{sv}`: signatures and other replaceable data. Keeps
/// LIM-10.
pub fn check_detached(data: &[u8]) -> Result<(), FormatError> {
    let part = FormatError::part("detached metadata");
    if data.len() > MAX_DETACHED_LEN {
        return Err(part("it is longer than 1 MiB"));
    }
    for_each_entry(data, |_, _, _| Ok(())).map_err(part)
}

/// Returns the mark that libostree leaves for a deleted commit, if the repository sets
/// `core.tombstone-commits`.
pub fn serialize_tombstone(commit: &Checksum) -> Vec<u8> {
    let name = string_bytes(&commit.to_hex());
    array(Layout::ALIGNED, [entry("commit", "ay", &name)])
}

/// Refuses a key that occurs twice: readers differ in which of the values they take.
fn set_once<T>(field: &mut Option<T>, value: T) -> Result<(), &'static str> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err("a key occurs twice"),
    }
}

fn checksum(data: &[u8]) -> Result<Checksum, &'static str> {
    Checksum::from_slice(data).ok_or("a checksum is not 32 bytes long")
}

const REF_BINDING: &str = "ostree.ref-binding";
const COLLECTION_BINDING: &str = "ostree.collection-binding";
const VERSION: &str = "version";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gvariant::variant;
    use crate::limits::MAX_VARIANT_DEPTH;

    const SUM: Checksum = Checksum::new([7; 32]);

    fn commit() -> Commit {
        Commit {
            parent: Some(SUM),
            tree: SUM,
            meta: SUM,
            timestamp: 1_700_000_000,
            subject: "subject".into(),
            body: String::new(),
            ref_bindings: Some(vec!["a/b".into(), "c".into()]),
            collection_binding: Some("org.example".into()),
            version: Some("1.2".into()),
        }
    }

    fn with_metadata(entries: &[Vec<u8>]) -> Vec<u8> {
        with_parts(entries, &[], &[])
    }

    fn with_parts(entries: &[Vec<u8>], parent: &[u8], related: &[u8]) -> Vec<u8> {
        tuple(&[
            (Layout::ALIGNED, &array(Layout::ALIGNED, entries)),
            (Layout::BYTES, parent),
            (Layout::BYTES, related),
            (Layout::BYTES, b"\0"),
            (Layout::BYTES, b"\0"),
            (Layout::U64, &[0; 8]),
            (Layout::BYTES, SUM.as_bytes()),
            (Layout::BYTES, SUM.as_bytes()),
        ])
    }

    #[test]
    fn commit_round_trips_with_and_without_each_optional_part() {
        let full = commit();
        let mut bare = commit();
        bare.parent = None;
        bare.ref_bindings = None;
        bare.collection_binding = None;
        bare.version = None;
        let mut unbound = commit();
        unbound.ref_bindings = Some(vec![]);
        for commit in [full, bare, unbound] {
            assert_eq!(Commit::parse(&commit.serialize()), Ok(commit));
        }
    }

    #[test]
    fn parent_is_a_checksum_or_none_and_related_objects_are_well_formed() {
        let accepts = |parent, related| Commit::parse(&with_parts(&[], parent, related)).is_ok();
        assert!(accepts(&[], &[]));
        assert!(accepts(&[7; 32], &[]));
        assert!(!accepts(&[7; 31], &[]));
        assert!(accepts(&[], b"a\0\x07\x02\x04"));
        assert!(!accepts(&[], b"a\x07\x02\x03"));
    }

    #[test]
    fn commit_cut_at_any_byte_is_refused() {
        let bytes = commit().serialize();
        for cut in 0..bytes.len() {
            assert!(Commit::parse(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn version_of_another_type_is_ignored_but_a_binding_of_another_type_is_refused() {
        let number = |key| with_metadata(&[entry(key, "u", &[0; 4])]);
        assert_eq!(Commit::parse(&number(VERSION)).unwrap().version, None);
        assert!(Commit::parse(&number(REF_BINDING)).is_err());
        assert!(Commit::parse(&number(COLLECTION_BINDING)).is_err());
    }

    #[test]
    fn keys_that_are_empty_or_read_and_twice_there_are_refused() {
        let text = |key| entry(key, "s", b"x\0");
        assert!(Commit::parse(&with_metadata(&[text("a"), text("a")])).is_ok());
        assert!(Commit::parse(&with_metadata(&[text("")])).is_err());
        assert!(Commit::parse(&with_metadata(&[text(VERSION), text(VERSION)])).is_err());
    }

    #[test]
    fn variant_depth_limit_holds_at_n_and_fails_at_n_plus_one() {
        let nested = |depth: usize| {
            let (mut value, mut kind) = (vec![0], "y");
            for _ in 0..depth {
                value = variant(kind, &value);
                kind = "v";
            }
            with_metadata(&[entry("k", kind, &value)])
        };
        assert!(Commit::parse(&nested(MAX_VARIANT_DEPTH)).is_ok());
        assert!(Commit::parse(&nested(MAX_VARIANT_DEPTH + 1)).is_err());
        let typed =
            |depth: usize| with_metadata(&[entry("k", &format!("{}y", "a".repeat(depth)), &[])]);
        assert!(Commit::parse(&typed(MAX_VARIANT_DEPTH)).is_ok());
        assert!(Commit::parse(&typed(MAX_VARIANT_DEPTH + 1)).is_err());
    }

    #[test]
    fn detached_metadata_length_limit_holds_at_n_and_fails_at_n_plus_one() {
        let detached = |len| array(Layout::ALIGNED, [entry("k", "ay", &vec![0; len])]);
        let overhead = detached(MAX_DETACHED_LEN).len() - MAX_DETACHED_LEN;
        let longest = detached(MAX_DETACHED_LEN - overhead);
        assert_eq!(longest.len(), MAX_DETACHED_LEN);
        assert!(check_detached(&longest).is_ok());
        assert!(check_detached(&detached(MAX_DETACHED_LEN - overhead + 1)).is_err());
        assert!(check_detached(&[]).is_ok());
        assert!(check_detached(b"\0").is_err());
    }
}
