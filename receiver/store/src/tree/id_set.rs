//! A set of object ids that can be marked and flagged.

use std::mem;

use artifact_formats::{ObjectId, ObjectKind};

use crate::tree::descent::Levels;
use crate::tree::id_map::IdMap;

/// A set of object ids. Each can be marked, with the levels of directories below it, and flagged.
#[derive(Debug, Default)]
pub(crate) struct IdSet {
    ids: IdMap<Note>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Note {
    marked: bool,
    flagged: bool,
    levels: Levels,
}

impl IdSet {
    /// Adds an id; returns whether it is new.
    pub(crate) fn insert(&mut self, id: ObjectId) -> bool {
        self.ids.insert(id, Note::default())
    }

    /// Returns whether the set contains an id.
    pub(crate) fn contains(&self, id: &ObjectId) -> bool {
        self.ids.get(id).is_some()
    }

    /// Marks an id; returns whether it was marked already, and `None` if the set lacks it.
    pub(crate) fn mark(&mut self, id: &ObjectId, levels: Levels) -> Option<bool> {
        let note = self.ids.get_mut(id)?;
        note.levels = levels;
        Some(mem::replace(&mut note.marked, true))
    }

    /// Returns the mark of an id, and `None` if the set lacks it.
    pub(crate) fn look(&self, id: &ObjectId) -> Option<Option<Levels>> {
        let note = self.ids.get(id)?;
        Some(note.marked.then_some(note.levels))
    }

    /// Removes every mark.
    pub(crate) fn unmark_all(&mut self) {
        self.ids.notes_mut().for_each(|note| note.marked = false);
    }

    /// Returns the number of ids.
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Flags an id, if the set contains it.
    pub(crate) fn flag(&mut self, id: &ObjectId) {
        if let Some(note) = self.ids.get_mut(id) {
            note.flagged = true;
        }
    }

    /// Returns whether an id is flagged, and `None` if the set lacks it.
    pub(crate) fn flagged(&self, id: &ObjectId) -> Option<bool> {
        Some(self.ids.get(id)?.flagged)
    }

    /// Returns the ids that are not flagged, in no order.
    pub(crate) fn unflagged(&self) -> impl Iterator<Item = ObjectId> {
        let kinds = ObjectKind::ALL.into_iter();
        let all = kinds.flat_map(|kind| self.ids.of_kind(kind, 0, 1));
        all.filter(|(_, note)| !note.flagged).map(|(id, _)| id)
    }

    /// Returns one of `parts` roughly equal parts of the marked ids of one kind, in no order.
    pub(crate) fn marked_of_kind(
        &self,
        kind: ObjectKind,
        part: usize,
        parts: usize,
    ) -> impl Iterator<Item = ObjectId> {
        let all = self.ids.of_kind(kind, part, parts);
        all.filter(|(_, note)| note.marked).map(|(id, _)| id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use artifact_formats::Checksum;
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
}
