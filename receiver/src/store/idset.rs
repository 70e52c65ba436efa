//! A set of object ids that takes little more than the 32 bytes of each checksum.
//!
//! A hash set of a million ids needs twice that, and briefly three times while it grows. Here each
//! of many small sorted arrays grows by itself and by little.

use std::hash::{BuildHasher, RandomState};

use artifact_protocol::{Checksum, ObjectId, ObjectKind};

/// A set of object ids.
#[derive(Debug, Default)]
pub(super) struct IdSet {
    // Keyed, so that nobody can choose checksums that all fall into one array.
    hasher: RandomState,
    // One a kind, in the order of `ObjectKind::ALL`.
    kinds: [Vec<Vec<Checksum>>; ObjectKind::ALL.len()],
}

impl IdSet {
    /// Adds an id; returns whether it was not there.
    pub(super) fn insert(&mut self, id: ObjectId) -> bool {
        let slot = self.slot(&id.checksum);
        let arrays = &mut self.kinds[index(id.kind)];
        if arrays.is_empty() {
            arrays.resize_with(ARRAYS, Vec::new);
        }
        let array = &mut arrays[slot];
        let Err(place) = array.binary_search(&id.checksum) else {
            return false;
        };
        if array.len() == array.capacity() {
            array.reserve_exact(array.len() / 8 + 4);
        }
        array.insert(place, id.checksum);
        true
    }

    /// Returns whether an id is there.
    pub(super) fn contains(&self, id: &ObjectId) -> bool {
        self.kinds[index(id.kind)]
            .get(self.slot(&id.checksum))
            .is_some_and(|array| array.binary_search(&id.checksum).is_ok())
    }

    /// Returns the ids of one kind, in no order.
    pub(super) fn of_kind(&self, kind: ObjectKind) -> impl Iterator<Item = ObjectId> {
        let checksums = self.kinds[index(kind)].iter().flatten();
        checksums.map(move |checksum| ObjectId::new(kind, *checksum))
    }

    fn slot(&self, checksum: &Checksum) -> usize {
        // Truncation is meant: any bits of the hash will do.
        self.hasher.hash_one(checksum) as usize % ARRAYS
    }
}

const fn index(kind: ObjectKind) -> usize {
    match kind {
        ObjectKind::File => 0,
        ObjectKind::Dirtree => 1,
        ObjectKind::Dirmeta => 2,
        ObjectKind::Commit => 3,
    }
}

/// At a million ids an array has a thousand, so that an insertion moves 16 KiB.
const ARRAYS: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(ids in proptest::collection::vec((1u8..=4, any::<u8>(), any::<u8>()), 0..500)) {
            let mut set = IdSet::default();
            let mut model = HashSet::new();
            for (kind, first, last) in ids {
                let mut digest = [0; 32];
                digest[0] = first;
                digest[31] = last % 4;
                let kind = ObjectKind::from_wire(kind).unwrap();
                let id = ObjectId::new(kind, Checksum::new(digest));
                prop_assert_eq!(set.contains(&id), model.contains(&id));
                prop_assert_eq!(set.insert(id), model.insert(id));
                prop_assert!(set.contains(&id));
            }
            let all: HashSet<_> =
                ObjectKind::ALL.into_iter().flat_map(|kind| set.of_kind(kind)).collect();
            prop_assert_eq!(all, model);
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
            .iter()
            .map(|array| array.capacity() * 32 + 24)
            .sum();
        assert!(room < 40_000_000, "{room}");
    }
}
