//! Closure lists: the objects beneath a commit. A push does not have to ask for them one by one, or
//! to read the directories of a base.
//!
//! A push that relies on bases does not learn which of their objects the new commit reaches: *have*
//! on a dirtree prunes everything below it. The list of such a commit therefore names the new
//! objects, and the bases whose lists complete it. Everything that these lists name exists as long
//! as a ref holds the commit. Together they name **at least** every object that the commit reaches.
//! Once a push of a base replaces the base's list, they may name fewer, and a push that relies on
//! them then sends objects that the bucket has already. An [exact](Heading::exact) list names
//! exactly the objects that the commit reaches, without any other list. Collection trusts only
//! exact lists, and makes the others exact (`collect/reach.rs`).
//!
//! ```text
//! magic    8 bytes   "ACclose" 0x01
//! commit   32        the commit of this list
//! flags    1         bit 0: exact
//! bases    1, 32 each    at most 8: all commits whose lists complete this one
//! parents  1, 32 each    at most 64: the ancestors of the commit, the nearest first
//! counts   4 each    files, dirtrees, dirmetas; little-endian
//! digest   32        SHA-256 of everything before: the heading can be read alone
//! files    32 each   sorted
//! dirtrees 33 each   sorted; the levels of directories below each follow its checksum
//! dirmetas 32 each   sorted
//! digest   32        SHA-256 of everything before
//! ```
//!
//! A missing or damaged list, or a list of another commit, is made again from the objects. When a
//! check finds an object beneath a commit missing or damaged, a [mark](INCOMPLETE) replaces the
//! commit's list: no push relies on the commit until a push or a mirror has put all its objects and
//! a new list. The list of a commit stays as long as the commit is reached, and so do the lists of
//! its bases.

mod merged;

use std::fmt;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use bytes::Bytes;

use crate::bucket::records::sealed::{seal, unseal};
use crate::tree::descent::Levels;

pub(crate) use crate::bucket::records::closures::merged::merged;

/// The mark that replaces the list of a commit known to be incomplete. Every list is longer.
pub(crate) const INCOMPLETE: &[u8] = b"artifact-cache incomplete 1\n";

/// A decoded list. It takes little more memory than its encoded bytes.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ClosureList {
    commit: Checksum,
    heading: Heading,
    files: Bytes,
    dirtrees: Bytes,
    dirmetas: Bytes,
}

/// The part of a list before its objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heading {
    /// Whether the list names exactly the objects that the commit reaches; then it has no bases.
    pub(crate) exact: bool,
    /// The commits whose lists complete this one, all of them: at most [`BASES_MAX`].
    pub(crate) bases: Vec<Checksum>,
    /// The nearest ancestors of the commit, the nearest first and at most [`PARENTS_MAX`], whether
    /// they are in the bucket or not.
    pub(crate) parents: Vec<Checksum>,
}

impl Heading {
    /// The longest heading in bytes.
    pub(crate) const LEN_MAX: u64 = 8 + 32 + 1 + (1 + 32 * 8) + (1 + 32 * 64) + 4 * 3 + 32;

    /// The heading of a list that names exactly what its commit reaches.
    pub(crate) const fn exact(parents: Vec<Checksum>) -> Self {
        Self {
            exact: true,
            bases: Vec::new(),
            parents,
        }
    }

    /// Reads a heading from the first bytes of a commit's list; `None` if it is damaged, or another
    /// commit's.
    pub(crate) fn decode(commit: Checksum, content: &Bytes) -> Option<Self> {
        Some(split(commit, content)?.0)
    }
}

/// Splits a list into its heading, its counts, and the rest.
fn split(commit: Checksum, content: &Bytes) -> Option<(Heading, [usize; 3], Bytes)> {
    let mut rest = content.clone();
    if take(&mut rest, MAGIC.len())?[..] != MAGIC[..] {
        return None;
    }
    if checksum(&take(&mut rest, Checksum::LEN)?) != commit {
        return None;
    }
    let flags = *take(&mut rest, 1)?.first()?;
    let bases = checksums(&mut rest)?;
    let parents = checksums(&mut rest)?;
    let counts = [count(&mut rest)?, count(&mut rest)?, count(&mut rest)?];
    take(&mut rest, Checksum::LEN)?;
    unseal(&content[..content.len() - rest.len()])?;
    let heading = Heading {
        exact: flags & EXACT != 0,
        bases,
        parents,
    };
    let good = heading.bases.len() <= BASES_MAX && flags & !EXACT == 0;
    good.then_some((heading, counts, rest))
}

impl ClosureList {
    /// Reads the list of a commit; `None` if it is damaged, or another commit's.
    pub(crate) fn decode(commit: Checksum, content: &Bytes) -> Option<Self> {
        let content = content.slice_ref(unseal(content)?);
        let (heading, [files, dirtrees, dirmetas], mut rest) = split(commit, &content)?;
        let list = Self {
            commit,
            heading,
            files: take(&mut rest, files.checked_mul(Checksum::LEN)?)?,
            dirtrees: take(&mut rest, dirtrees.checked_mul(DIRTREE_LEN)?)?,
            dirmetas: take(&mut rest, dirmetas.checked_mul(Checksum::LEN)?)?,
        };
        rest.is_empty().then_some(list)
    }

    /// Writes a list of objects, which must come in ascending order. It leaves out commits, and the
    /// levels of all objects but dirtrees.
    pub(crate) fn encode(
        commit: Checksum,
        heading: &Heading,
        objects: impl Iterator<Item = (ObjectId, Levels)>,
    ) -> Bytes {
        debug_assert!(heading.bases.len() <= BASES_MAX, "a chain has an end");
        debug_assert!(
            !heading.exact || heading.bases.is_empty(),
            "bases are not exact"
        );
        let mut list = Vec::from(MAGIC);
        list.extend(commit.as_bytes());
        list.push(if heading.exact { EXACT } else { 0 });
        for (names, most) in [(&heading.bases, BASES_MAX), (&heading.parents, PARENTS_MAX)] {
            let names = names.get(..most.min(names.len())).unwrap_or_default();
            // A list has at most 64.
            list.push(u8::try_from(names.len()).unwrap_or(u8::MAX));
            list.extend(names.iter().flat_map(|name| name.as_bytes()));
        }
        let counts_at = list.len();
        let mut counts = [0u32; 3];
        list.extend([0; 4 * 3 + Checksum::LEN]);
        let mut last = None;
        for (id, levels) in objects {
            debug_assert!(last < Some(id), "objects are sorted");
            last = Some(id);
            let [files, dirtrees, dirmetas] = &mut counts;
            match id.kind {
                ObjectKind::File => *files += 1,
                ObjectKind::Dirtree => *dirtrees += 1,
                ObjectKind::Dirmeta => *dirmetas += 1,
                ObjectKind::Commit => continue,
            }
            list.extend(id.checksum.as_bytes());
            if id.kind == ObjectKind::Dirtree {
                list.push(levels.to_byte());
            }
        }
        for (at, count) in counts.into_iter().enumerate() {
            let from = counts_at + 4 * at;
            list[from..from + 4].copy_from_slice(&count.to_le_bytes());
        }
        let (digested, rest) = list.split_at_mut(counts_at + 4 * 3);
        rest[..Checksum::LEN].copy_from_slice(Checksum::of(digested).as_bytes());
        seal(list)
    }

    /// Reads the heading of a commit's list, and the length of the whole list in bytes, from its
    /// first bytes; `None` if the heading is damaged, or another commit's.
    pub(crate) fn outline(commit: Checksum, first: &Bytes) -> Option<(Heading, u64)> {
        let (heading, [files, dirtrees, dirmetas], rest) = split(commit, first)?;
        let plain = files.checked_add(dirmetas)?.checked_mul(Checksum::LEN)?;
        let objects = plain.checked_add(dirtrees.checked_mul(DIRTREE_LEN)?)?;
        let len = (first.len() - rest.len()).checked_add(objects)? + Checksum::LEN;
        Some((heading, len as u64))
    }

    /// Returns the bytes that the objects of this list take.
    pub(crate) fn bytes_len(&self) -> u64 {
        (self.files.len() + self.dirtrees.len() + self.dirmetas.len()) as u64
    }

    /// Returns the commit of this list.
    pub(crate) const fn commit(&self) -> Checksum {
        self.commit
    }

    /// Returns the heading.
    pub(crate) const fn heading(&self) -> &Heading {
        &self.heading
    }

    /// Returns the number of objects that this list names.
    pub(crate) fn len(&self) -> usize {
        let checksums = (self.files.len() + self.dirmetas.len()) / Checksum::LEN;
        checksums + self.dirtrees.len() / DIRTREE_LEN
    }

    /// Returns the levels of directories below an object, if this list names it.
    pub(crate) fn levels(&self, id: &ObjectId) -> Option<Levels> {
        let (entries, len) = match id.kind {
            ObjectKind::File => (&self.files, Checksum::LEN),
            ObjectKind::Dirtree => (&self.dirtrees, DIRTREE_LEN),
            ObjectKind::Dirmeta => (&self.dirmetas, Checksum::LEN),
            ObjectKind::Commit => return (id.checksum == self.commit).then(Levels::default),
        };
        let wanted = &id.checksum.as_bytes()[..];
        let (mut low, mut high) = (0, entries.len() / len);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = &entries[middle * len..][..len];
            let (name, levels) = entry.split_at(Checksum::LEN);
            match name.cmp(wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => {
                    return Some(
                        levels
                            .first()
                            .copied()
                            .map_or_else(Levels::default, Levels::of_byte),
                    );
                }
            }
        }
        None
    }

    /// Returns the objects that this list names, in ascending order, and the levels of directories
    /// below each.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (ObjectId, Levels)> {
        let plain = |kind, entries: &Bytes| {
            let entries = entries.clone();
            (0..entries.len() / Checksum::LEN).map(move |at| {
                let name = &entries[at * Checksum::LEN..][..Checksum::LEN];
                (ObjectId::new(kind, checksum(name)), Levels::default())
            })
        };
        let dirtrees = self.dirtrees.chunks_exact(DIRTREE_LEN).map(|entry| {
            let (name, levels) = entry.split_at(Checksum::LEN);
            let levels = levels.first().copied().unwrap_or_default();
            let id = ObjectId::new(ObjectKind::Dirtree, checksum(name));
            (id, Levels::of_byte(levels))
        });
        plain(ObjectKind::File, &self.files)
            .chain(dirtrees)
            .chain(plain(ObjectKind::Dirmeta, &self.dirmetas))
    }
}

impl fmt::Debug for ClosureList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClosureList")
            .field("commit", &self.commit)
            .field("heading", &self.heading)
            .field("objects", &self.len())
            .finish()
    }
}

/// Takes `len` bytes from the front, if there are so many.
fn take(rest: &mut Bytes, len: usize) -> Option<Bytes> {
    (len <= rest.len()).then(|| rest.split_to(len))
}

fn count(rest: &mut Bytes) -> Option<usize> {
    let bytes = take(rest, 4)?[..].try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn checksums(rest: &mut Bytes) -> Option<Vec<Checksum>> {
    let count = *take(rest, 1)?.first()?;
    let names = take(rest, usize::from(count) * Checksum::LEN)?;
    Some(names.chunks_exact(Checksum::LEN).map(checksum).collect())
}

/// Reads the 32 bytes of a checksum.
fn checksum(bytes: &[u8]) -> Checksum {
    Checksum::from_slice(bytes).expect("callers hand over 32 bytes")
}

/// The most lists that complete another: a longer chain is merged into one list.
pub(crate) const BASES_MAX: usize = 8;
/// The most ancestors in a list.
pub(crate) const PARENTS_MAX: usize = 64;
const MAGIC: &[u8; 8] = b"ACclose\x01";
const EXACT: u8 = 1;
/// The length of a dirtree's entry: its checksum and its levels.
const DIRTREE_LEN: usize = Checksum::LEN + 1;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn name(number: u8) -> Checksum {
        Checksum::of(&[number])
    }

    fn any_objects() -> impl Strategy<Value = BTreeMap<ObjectId, Levels>> {
        proptest::collection::btree_map((1u8..=3, any::<u8>()), any::<u8>(), 0..80).prop_map(
            |all| {
                all.into_iter()
                    .map(|((kind, number), levels)| {
                        let kind = ObjectKind::from_wire(kind).unwrap();
                        let levels = match kind {
                            ObjectKind::Dirtree => Levels::of_byte(levels),
                            _ => Levels::default(),
                        };
                        (ObjectId::new(kind, name(number)), levels)
                    })
                    .collect()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn what_is_written_is_read_and_a_changed_byte_is_noticed(
            objects in any_objects(),
            commit in any::<u8>(),
            bases in proptest::collection::vec(any::<u8>(), 0..=BASES_MAX),
            parents in proptest::collection::vec(any::<u8>(), 0..=PARENTS_MAX + 2),
            at in any::<prop::sample::Index>(),
        ) {
            let heading = Heading {
                exact: bases.is_empty(),
                bases: bases.into_iter().map(name).collect(),
                parents: parents.into_iter().map(name).collect(),
            };
            let sorted = objects.iter().map(|(id, levels)| (*id, *levels));
            let content = ClosureList::encode(name(commit), &heading, sorted);
            let list = ClosureList::decode(name(commit), &content).unwrap();
            prop_assert_eq!(list.commit(), name(commit));
            let mut heading = heading;
            heading.parents.truncate(PARENTS_MAX);
            prop_assert_eq!(list.heading(), &heading);
            let first = content.slice(..content.len().min(Heading::LEN_MAX as usize));
            prop_assert_eq!(Heading::decode(name(commit), &first), Some(heading.clone()));
            let outline = ClosureList::outline(name(commit), &first);
            prop_assert_eq!(outline, Some((heading, content.len() as u64)));
            prop_assert_eq!(list.len(), objects.len());
            prop_assert_eq!(list.objects().collect::<BTreeMap<_, _>>(), objects.clone());
            for kind in [ObjectKind::File, ObjectKind::Dirtree, ObjectKind::Dirmeta] {
                for number in 0..=u8::MAX {
                    let id = ObjectId::new(kind, name(number));
                    prop_assert_eq!(list.levels(&id), objects.get(&id).copied());
                }
            }
            let mut changed = content.to_vec();
            changed[at.index(content.len())] ^= 1;
            prop_assert_eq!(ClosureList::decode(name(commit), &changed.into()), None);
            let cut = content.slice(..at.index(content.len()));
            prop_assert_eq!(ClosureList::decode(name(commit), &cut), None);
            prop_assert_eq!(ClosureList::decode(name(commit.wrapping_add(1)), &content), None);
        }
    }

    #[test]
    fn counts_that_lie_are_refused_although_the_digest_is_right() {
        let mut list = Vec::from(MAGIC);
        list.extend(name(1).as_bytes());
        list.extend([EXACT, 0, 0]);
        list.extend([u32::MAX; 3].map(u32::to_le_bytes).concat());
        let digest = Checksum::of(&list);
        list.extend(digest.as_bytes());
        let digest = Checksum::of(&list);
        list.extend(digest.as_bytes());
        assert_eq!(ClosureList::decode(name(1), &list.into()), None);
    }

    #[test]
    fn a_list_covers_its_own_commit() {
        let heading = Heading::exact(Vec::new());
        let content = ClosureList::encode(name(1), &heading, std::iter::empty());
        let list = ClosureList::decode(name(1), &content).unwrap();
        assert!(list.levels(&ObjectId::commit(name(1))).is_some());
        assert!(list.levels(&ObjectId::commit(name(2))).is_none());
    }
}
