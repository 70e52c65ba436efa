//! The objects of one push, and the objects that they name. A closure walk needs little else, so it
//! rarely reads objects back from the bucket.
//!
//! An object takes 33 bytes for its id, about eight in the table, three for notes, and four each
//! time that a directory names it. After its first mention, a number stands for its id.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

use artifact_formats::ObjectId;

use crate::tree::descent::Levels;

/// Objects by number, in the order in which they were first named.
#[derive(Debug, Default)]
pub(crate) struct Known {
    // Keyed, so that no client can choose checksums that all collide.
    hasher: RandomState,
    // Blocks never move: a growing vector would need three times the memory for a moment.
    blocks: Vec<Vec<ObjectId>>,
    // Numbers plus one, by hash; 0 marks a free place. The length is a power of two.
    table: Vec<u32>,
    notes: Vec<Note>,
    named: HashMap<u32, Range<usize>>,
    names: Vec<u32>,
    here: usize,
    // The numbers of the objects that the last walk has reached.
    walked: Vec<u32>,
}

/// The notes about one object.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    here: bool,
    reached: bool,
    levels: Levels,
}

/// The objects that an object names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Below<'a> {
    /// The numbers of all objects that it names, each once.
    Names(&'a [u32]),
    /// They were too many to keep: read the object itself.
    Unknown,
}

impl Known {
    /// Returns the number of objects that are present.
    pub(crate) const fn here(&self) -> usize {
        self.here
    }

    /// Returns the number of an object, if it was named.
    pub(crate) fn find(&self, id: &ObjectId) -> Option<u32> {
        let number = *self.table.get(self.place(id)?)?;
        number.checked_sub(1)
    }

    /// Returns the number of an object, and gives it one if it has none.
    pub(crate) fn name(&mut self, id: ObjectId) -> u32 {
        if self.table.len() / 4 * 3 <= self.notes.len() {
            self.grow();
        }
        let place = self.place(&id).unwrap_or_default();
        if let Some(number) = self.table[place].checked_sub(1) {
            return number;
        }
        let number = u32::try_from(self.notes.len()).expect("a push has ten million objects");
        self.table[place] = number + 1;
        self.notes.push(Note::default());
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(id),
            _ => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(id);
                self.blocks.push(block);
            }
        }
        number
    }

    /// Returns the object of a number.
    pub(crate) fn id(&self, number: u32) -> ObjectId {
        let number = number as usize;
        self.blocks[number / BLOCK][number % BLOCK]
    }

    /// Notes that an object is present, and the objects that it names; returns whether that is new.
    pub(crate) fn take(&mut self, id: ObjectId, below: &[ObjectId]) -> bool {
        let number = self.name(id);
        let note = &mut self.notes[number as usize];
        if note.here {
            return false;
        }
        note.here = true;
        self.here += 1;
        if id.kind.has_children() && self.names.len() + below.len() <= self.names_max() {
            let from = self.names.len();
            for child in below {
                let child = self.name(*child);
                self.names.push(child);
            }
            let (_, added) = self.names.split_at_mut(from);
            added.sort_unstable();
            let mut kept = from;
            for at in from..self.names.len() {
                if kept == from || self.names[kept - 1] != self.names[at] {
                    self.names[kept] = self.names[at];
                    kept += 1;
                }
            }
            self.names.truncate(kept);
            self.named.insert(number, from..kept);
        }
        true
    }

    /// Returns whether an object is present.
    pub(crate) fn holds(&self, id: &ObjectId) -> bool {
        self.find(id)
            .is_some_and(|number| self.notes[number as usize].here)
    }

    /// Returns the objects that a directory or commit names.
    pub(crate) fn below(&self, number: u32) -> Below<'_> {
        match self.named.get(&number) {
            Some(names) => Below::Names(&self.names[names.clone()]),
            None => Below::Unknown,
        }
    }

    /// Begins a walk, which has reached no object yet.
    pub(crate) fn begin_walk(&mut self) {
        for number in self.walked.drain(..) {
            self.notes[number as usize].reached = false;
        }
    }

    /// Notes that a walk has finished an object, which has these levels of directories below it.
    pub(crate) fn reach(&mut self, id: &ObjectId, levels: Levels) {
        let number = self.name(*id);
        let note = &mut self.notes[number as usize];
        if !note.reached {
            self.walked.push(number);
        }
        note.reached = true;
        note.levels = levels;
    }

    /// Returns a walk's note about an object; `None` if the object is not present.
    pub(crate) fn reached(&self, id: &ObjectId) -> Option<Option<Levels>> {
        let note = self.notes[self.find(id)? as usize];
        note.here.then(|| note.reached.then_some(note.levels))
    }

    /// Returns the present objects that the last walk has reached, in ascending order, with the
    /// levels below each.
    pub(crate) fn all_reached(&self) -> impl Iterator<Item = (ObjectId, Levels)> {
        let here = |number: &&u32| self.notes[**number as usize].here;
        let mut numbers: Vec<u32> = self.walked.iter().filter(here).copied().collect();
        numbers.sort_unstable_by_key(|number| self.id(*number));
        let levels = |number: u32| self.notes[number as usize].levels;
        numbers
            .into_iter()
            .map(move |number| (self.id(number), levels(number)))
    }

    /// Returns the place of an object in the table, or the free place for it.
    fn place(&self, id: &ObjectId) -> Option<usize> {
        let mask = self.table.len().checked_sub(1)?;
        // Truncation is intended: any bits of the hash will do.
        let mut place = self.hasher.hash_one(id) as usize & mask;
        while let Some(number) = self.table[place].checked_sub(1) {
            if self.id(number) == *id {
                break;
            }
            place = (place + 1) & mask;
        }
        Some(place)
    }

    fn grow(&mut self) {
        let len = (self.table.len() * 2).max(TABLE_MIN);
        self.table = vec![0; len];
        for number in 0..self.notes.len() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            if let Some(place) = self.place(&self.id(number)) {
                self.table[place] = number + 1;
            }
        }
    }

    /// Returns how many names are kept: enough for most trees, however large the push is.
    const fn names_max(&self) -> usize {
        self.here.saturating_mul(NAMES_EACH).saturating_add(NAMES)
    }
}

/// Ids in a block.
const BLOCK: usize = 4096;
const TABLE_MIN: usize = 1024;
/// Names of objects that are kept for any push: 4 MiB.
const NAMES: usize = 1024 * 1024;
/// Further names that are kept for each object.
const NAMES_EACH: usize = 2;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use artifact_formats::{Checksum, ObjectKind};
    use proptest::prelude::*;

    use super::*;

    fn id(kind: u8, number: u16) -> ObjectId {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_le_bytes());
        ObjectId::new(ObjectKind::from_wire(kind).unwrap(), Checksum::new(digest))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_knows_what_was_taken_and_what_that_names(
            taken in proptest::collection::vec(
                ((1u8..=4, 0u16..300), proptest::collection::vec((1u8..=3, 0u16..300), 0..20)),
                0..200,
            ),
        ) {
            let mut known = Known::default();
            let mut model: BTreeMap<ObjectId, Vec<ObjectId>> = BTreeMap::new();
            for ((kind, number), below) in taken {
                let id = id(kind, number);
                let mut below: Vec<_> = below.into_iter().map(|(k, n)| self::id(k, n)).collect();
                if !id.kind.has_children() {
                    below.clear();
                }
                let is_new = !model.contains_key(&id);
                prop_assert_eq!(known.take(id, &below), is_new);
                below.sort_unstable();
                below.dedup();
                model.entry(id).or_insert(below);
            }
            prop_assert_eq!(known.here(), model.len());
            for kind in 1..=4 {
                for number in 0..300 {
                    let id = id(kind, number);
                    prop_assert_eq!(known.holds(&id), model.contains_key(&id));
                }
            }
            known.begin_walk();
            for (id, below) in &model {
                prop_assert_eq!(known.reached(id), Some(None));
                let number = known.find(id).unwrap();
                prop_assert_eq!(known.id(number), *id);
                if id.kind.has_children() {
                    let Below::Names(names) = known.below(number) else { panic!("{id}") };
                    let mut names: Vec<_> = names.iter().map(|name| known.id(*name)).collect();
                    names.sort_unstable();
                    prop_assert_eq!(&names, below);
                }
                known.reach(id, Levels::of_byte(1));
            }
            let reached: Vec<_> = known.all_reached().map(|(id, _)| id).collect();
            prop_assert_eq!(reached, model.keys().copied().collect::<Vec<_>>());
            known.begin_walk();
            prop_assert_eq!(known.all_reached().count(), 0);
        }
    }

    #[test]
    fn names_beyond_what_most_trees_need_are_not_kept() {
        let mut known = Known::default();
        let many: Vec<_> = (0..=u16::MAX).map(|number| id(1, number)).collect();
        for number in 0..40 {
            known.take(id(2, number), &many);
        }
        assert!(known.names.len() <= NAMES + NAMES_EACH * 40);
        let unknown = known.find(&id(2, 39)).unwrap();
        assert_eq!(known.below(unknown), Below::Unknown);
    }
}
