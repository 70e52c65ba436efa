//! A set of object ids that takes little more than the 32 bytes of each checksum.
//!
//! A hash set of a million ids needs twice that, and briefly three times while it grows. This one
//! consists of small sorted arrays, each of which grows by itself and by little. A set of few ids
//! is one array, because a push needs many sets.

use std::hash::{BuildHasher, RandomState};
use std::mem;

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::tree::descent::Levels;

/// A set of object ids. Each can be marked, with the levels of directories below it, and flagged.
#[derive(Debug, Default)]
pub(crate) struct IdSet {
    // Keyed, so that nobody can choose checksums that all fall into one array.
    hasher: RandomState,
    // In the order of `ObjectKind::ALL`.
    kinds: [Members; ObjectKind::ALL.len()],
}

/// The members of one kind.
#[derive(Debug, Default)]
struct Members {
    // No arrays, or a power of two of them: the low bits of a member's hash choose its array.
    arrays: Vec<Vec<Member>>,
    len: usize,
}

#[derive(Debug)]
struct Member {
    checksum: Checksum,
    marked: bool,
    flagged: bool,
    levels: Levels,
}

impl Members {
    /// Returns the array that holds a member, and the member's place in it.
    fn find(&self, hash: usize, checksum: &Checksum) -> Option<(usize, usize)> {
        let slot = hash.checked_rem(self.arrays.len())?;
        Some((slot, find(&self.arrays[slot], checksum).ok()?))
    }

    fn insert(&mut self, hash: usize, checksum: Checksum) -> bool {
        let slot = hash % self.arrays.len();
        let array = &mut self.arrays[slot];
        let Err(place) = find(array, &checksum) else {
            return false;
        };
        if array.len() == array.capacity() {
            array.reserve_exact(array.len() / 32 + 4);
        }
        let member = Member {
            checksum,
            marked: false,
            flagged: false,
            levels: Levels::default(),
        };
        array.insert(place, member);
        self.len += 1;
        true
    }

    /// Doubles the number of arrays once they are long. Splits one array after another, which takes
    /// hardly any memory besides theirs.
    fn grow(&mut self, hash: impl Fn(&Checksum) -> usize) {
        let old = self.arrays.len();
        if old == 0 {
            self.arrays.push(Vec::new());
        } else if self.len == old * ARRAY_LEN {
            self.arrays.resize_with(old * 2, Vec::new);
            let (low, high) = self.arrays.split_at_mut(old);
            for (stay, leave) in low.iter_mut().zip(high) {
                let leaves = |member: &mut Member| hash(&member.checksum) & old != 0;
                leave.extend(stay.extract_if(.., leaves));
                leave.shrink_to_fit();
                stay.shrink_to_fit();
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = &Member> {
        self.arrays.iter().flatten()
    }
}

impl IdSet {
    /// Adds an id; returns whether it is new.
    pub(crate) fn insert(&mut self, id: ObjectId) -> bool {
        let members = &mut self.kinds[index(id.kind)];
        members.grow(|checksum| hash(&self.hasher, checksum));
        members.insert(hash(&self.hasher, &id.checksum), id.checksum)
    }

    /// Returns whether the set contains an id.
    pub(crate) fn contains(&self, id: &ObjectId) -> bool {
        self.get(id).is_some()
    }

    /// Marks an id; returns whether it was marked already, and `None` if the set lacks it.
    pub(crate) fn mark(&mut self, id: &ObjectId, levels: Levels) -> Option<bool> {
        let member = self.get_mut(id)?;
        member.levels = levels;
        Some(mem::replace(&mut member.marked, true))
    }

    /// Returns the mark of an id, and `None` if the set lacks it.
    pub(crate) fn look(&self, id: &ObjectId) -> Option<Option<Levels>> {
        let member = self.get(id)?;
        Some(member.marked.then_some(member.levels))
    }

    /// Removes every mark.
    pub(crate) fn unmark_all(&mut self) {
        let members = self.kinds.iter_mut().flat_map(|kind| &mut kind.arrays);
        for member in members.flatten() {
            member.marked = false;
        }
    }

    /// Returns the number of ids.
    pub(crate) fn len(&self) -> usize {
        self.kinds.iter().map(|kind| kind.len).sum()
    }

    /// Flags an id, if the set contains it.
    pub(crate) fn flag(&mut self, id: &ObjectId) {
        if let Some(member) = self.get_mut(id) {
            member.flagged = true;
        }
    }

    /// Returns whether an id is flagged, and `None` if the set lacks it.
    pub(crate) fn flagged(&self, id: &ObjectId) -> Option<bool> {
        Some(self.get(id)?.flagged)
    }

    /// Returns the ids that are not flagged, in no order.
    pub(crate) fn unflagged(&self) -> impl Iterator<Item = ObjectId> {
        let kinds = self.kinds.iter().zip(ObjectKind::ALL);
        kinds.flat_map(|(members, kind)| {
            let unflagged = members.iter().filter(|member| !member.flagged);
            unflagged.map(move |member| ObjectId::new(kind, member.checksum))
        })
    }

    /// Returns one of `parts` roughly equal parts of the marked ids of one kind, in no order.
    pub(crate) fn marked_of_kind(
        &self,
        kind: ObjectKind,
        part: usize,
        parts: usize,
    ) -> impl Iterator<Item = ObjectId> {
        let arrays = self.kinds[index(kind)].arrays.iter();
        let members = arrays.skip(part).step_by(parts).flatten();
        members
            .filter(|member| member.marked)
            .map(move |member| ObjectId::new(kind, member.checksum))
    }

    fn get(&self, id: &ObjectId) -> Option<&Member> {
        let members = &self.kinds[index(id.kind)];
        let (slot, place) = members.find(hash(&self.hasher, &id.checksum), &id.checksum)?;
        Some(&members.arrays[slot][place])
    }

    fn get_mut(&mut self, id: &ObjectId) -> Option<&mut Member> {
        let members = &mut self.kinds[index(id.kind)];
        let (slot, place) = members.find(hash(&self.hasher, &id.checksum), &id.checksum)?;
        Some(&mut members.arrays[slot][place])
    }
}

fn hash(hasher: &RandomState, checksum: &Checksum) -> usize {
    // Truncation is intended: any bits of the hash will do.
    hasher.hash_one(checksum) as usize
}

fn find(array: &[Member], checksum: &Checksum) -> Result<usize, usize> {
    array.binary_search_by(|member| member.checksum.cmp(checksum))
}

const fn index(kind: ObjectKind) -> usize {
    match kind {
        ObjectKind::File => 0,
        ObjectKind::Dirtree => 1,
        ObjectKind::Dirmeta => 2,
        ObjectKind::Commit => 3,
    }
}

/// The average length at which arrays are split. An insertion moves half an array: some 2 KiB.
const ARRAY_LEN: usize = 128;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_a_set_of_which_some_are_marked(
            ids in proptest::collection::vec((1u8..=4, any::<u8>(), any::<u8>()), 0..4_000)
        ) {
            let mut set = IdSet::default();
            let (mut model, mut marked) = (HashSet::new(), HashSet::new());
            for (kind, first, last) in ids {
                let mut digest = [0; 32];
                digest[0] = first;
                digest[31] = last % 4;
                let kind = ObjectKind::from_wire(kind).unwrap();
                let id = ObjectId::new(kind, Checksum::new(digest));
                prop_assert_eq!(set.contains(&id), model.contains(&id));
                if last >= 128 {
                    let expected = model.contains(&id).then(|| !marked.insert(id));
                    prop_assert_eq!(set.mark(&id, Levels::default()), expected);
                    continue;
                }
                prop_assert_eq!(set.insert(id), model.insert(id));
                prop_assert!(set.contains(&id));
            }
            prop_assert_eq!(set.len(), model.len());
            let mut unflagged = model.clone();
            for id in model.iter().filter(|id| id.checksum.as_bytes()[0] % 2 == 0) {
                set.flag(id);
                unflagged.remove(id);
            }
            prop_assert_eq!(set.unflagged().collect::<HashSet<_>>(), unflagged.clone());
            let flagged = |id| set.flagged(id) == Some(!unflagged.contains(id));
            prop_assert!(model.iter().all(flagged));
            let all_marked = |set: &IdSet| -> HashSet<_> {
                let kinds = ObjectKind::ALL.into_iter();
                kinds.flat_map(|kind| set.marked_of_kind(kind, 0, 1)).collect()
            };
            prop_assert_eq!(all_marked(&set), marked.clone());
            let mut parts: Vec<_> = (0..3)
                .flat_map(|part| {
                    let kinds = ObjectKind::ALL.into_iter();
                    let set = &set;
                    kinds.flat_map(move |kind| set.marked_of_kind(kind, part, 3))
                })
                .collect();
            prop_assert_eq!(parts.len(), marked.len());
            parts.retain(|id| !marked.contains(id));
            prop_assert!(parts.is_empty());
            set.unmark_all();
            prop_assert_eq!(all_marked(&set), HashSet::new());
            prop_assert!(model.iter().all(|id| set.contains(id)));
        }
    }

    #[test]
    fn a_million_ids_take_less_than_40_bytes_each() {
        let mut set = IdSet::default();
        for number in 0..1_000_000u32 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_le_bytes());
            set.insert(ObjectId::new(ObjectKind::File, Checksum::new(digest)));
        }
        let room: usize = set.kinds[0]
            .arrays
            .iter()
            .map(|array| array.capacity() * size_of::<Member>() + 24)
            .sum();
        assert!(room < 40_000_000, "{room}");
    }
}
