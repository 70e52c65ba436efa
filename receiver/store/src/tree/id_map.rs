//! A map from object ids to small notes that takes little more than the 32 bytes of each checksum.
//!
//! A hash map of a million ids needs twice that, and briefly three times while it grows. This one
//! consists of small sorted arrays, each of which grows by itself and by little. A map of few ids
//! is one array, because a push needs many.

use std::hash::{BuildHasher, RandomState};

use artifact_formats::{Checksum, ObjectId, ObjectKind};

/// A map from object ids to notes.
#[derive(Debug)]
pub(crate) struct IdMap<N> {
    // Keyed, so that nobody can choose checksums that all fall into one array.
    hasher: RandomState,
    // In the order of `ObjectKind::ALL`.
    kinds: [Members<N>; ObjectKind::ALL.len()],
}

impl<N> Default for IdMap<N> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            kinds: Default::default(),
        }
    }
}

/// The members of one kind.
#[derive(Debug)]
struct Members<N> {
    // No arrays, or a power of two of them: the low bits of a member's hash choose its array.
    arrays: Vec<Vec<(Checksum, N)>>,
    len: usize,
}

impl<N> Default for Members<N> {
    fn default() -> Self {
        Self {
            arrays: Vec::new(),
            len: 0,
        }
    }
}

impl<N> Members<N> {
    /// Returns the array that holds a member, and the member's place in it.
    fn find(&self, hash: usize, checksum: &Checksum) -> Option<(usize, usize)> {
        let slot = hash.checked_rem(self.arrays.len())?;
        Some((slot, find(&self.arrays[slot], checksum).ok()?))
    }

    fn insert(&mut self, hash: usize, checksum: Checksum, note: N) -> bool {
        let slot = hash % self.arrays.len();
        let array = &mut self.arrays[slot];
        let Err(place) = find(array, &checksum) else {
            return false;
        };
        if array.len() == array.capacity() {
            array.reserve_exact(array.len() / 32 + 4);
        }
        array.insert(place, (checksum, note));
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
                let leaves = |(checksum, _): &mut (Checksum, N)| hash(checksum) & old != 0;
                leave.extend(stay.extract_if(.., leaves));
                leave.shrink_to_fit();
                stay.shrink_to_fit();
            }
        }
    }
}

impl<N> IdMap<N> {
    /// Adds an id with a note, unless the map contains the id; returns whether it is new.
    pub(crate) fn insert(&mut self, id: ObjectId, note: N) -> bool {
        let members = &mut self.kinds[index(id.kind)];
        members.grow(|checksum| hash(&self.hasher, checksum));
        members.insert(hash(&self.hasher, &id.checksum), id.checksum, note)
    }

    /// Returns the number of ids.
    pub(crate) fn len(&self) -> usize {
        self.kinds.iter().map(|kind| kind.len).sum()
    }

    /// Returns the note of an id.
    pub(crate) fn get(&self, id: &ObjectId) -> Option<&N> {
        let members = &self.kinds[index(id.kind)];
        let (slot, place) = members.find(hash(&self.hasher, &id.checksum), &id.checksum)?;
        Some(&members.arrays[slot][place].1)
    }

    /// Returns the note of an id.
    pub(crate) fn get_mut(&mut self, id: &ObjectId) -> Option<&mut N> {
        let members = &mut self.kinds[index(id.kind)];
        let (slot, place) = members.find(hash(&self.hasher, &id.checksum), &id.checksum)?;
        Some(&mut members.arrays[slot][place].1)
    }

    /// Returns all notes, in no order.
    pub(crate) fn notes_mut(&mut self) -> impl Iterator<Item = &mut N> {
        let arrays = self.kinds.iter_mut().flat_map(|kind| &mut kind.arrays);
        arrays.flatten().map(|(_, note)| note)
    }

    /// Returns one of `parts` roughly equal parts of the ids of one kind, with their notes, in no
    /// order.
    pub(crate) fn of_kind(
        &self,
        kind: ObjectKind,
        part: usize,
        parts: usize,
    ) -> impl Iterator<Item = (ObjectId, &N)> {
        let arrays = self.kinds[index(kind)].arrays.iter();
        let members = arrays.skip(part).step_by(parts).flatten();
        members.map(move |(checksum, note)| (ObjectId::new(kind, *checksum), note))
    }
}

fn hash(hasher: &RandomState, checksum: &Checksum) -> usize {
    // Truncation is intended: any bits of the hash will do.
    hasher.hash_one(checksum) as usize
}

fn find<N>(array: &[(Checksum, N)], checksum: &Checksum) -> Result<usize, usize> {
    array.binary_search_by(|(member, _)| member.cmp(checksum))
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
    use super::*;

    #[test]
    fn a_million_ids_take_less_than_40_bytes_each() {
        let mut map = IdMap::default();
        for number in 0..1_000_000u32 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_le_bytes());
            map.insert(
                ObjectId::new(ObjectKind::File, Checksum::new(digest)),
                [0u8; 3],
            );
        }
        let room: usize = map.kinds[0]
            .arrays
            .iter()
            .map(|array| array.capacity() * size_of::<(Checksum, [u8; 3])>() + 24)
            .sum();
        assert!(room < 40_000_000, "{room}");
    }
}
