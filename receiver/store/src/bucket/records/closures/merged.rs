//! Merges lists of objects, one object at a time, so that only the result takes memory.

use std::iter;

use artifact_formats::ObjectId;

use crate::tree::descent::Levels;

/// Merges sorted lists of objects into one, which names each object once.
pub(crate) fn merged<I: Iterator<Item = (ObjectId, Levels)>>(
    lists: Vec<I>,
) -> impl Iterator<Item = (ObjectId, Levels)> {
    let mut lists: Vec<_> = lists.into_iter().map(Iterator::peekable).collect();
    iter::from_fn(move || {
        let firsts = lists.iter_mut().filter_map(|list| list.peek().copied());
        let next = firsts.min_by_key(|(id, _)| *id)?;
        for list in &mut lists {
            list.next_if(|(id, _)| *id == next.0);
        }
        Some(next)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use artifact_formats::{Checksum, ObjectKind};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn merged_lists_name_each_object_once_in_order(
            lists in proptest::collection::vec(
                proptest::collection::btree_set((1u8..=3, any::<u8>()), 0..40),
                0..4,
            ),
        ) {
            let id = |(kind, number): (u8, u8)| {
                let kind = ObjectKind::from_wire(kind).unwrap();
                ObjectId::new(kind, Checksum::of(&[number]))
            };
            let sorted = lists.into_iter().map(|list| list.into_iter().map(id).collect());
            let sorted: Vec<BTreeSet<_>> = sorted.collect();
            let all: BTreeSet<_> = sorted.iter().flatten().copied().collect();
            let plain = |list: BTreeSet<_>| list.into_iter().map(|id| (id, Levels::default()));
            let merged = merged(sorted.into_iter().map(plain).collect());
            prop_assert!(merged.map(|(id, _)| id).eq(all));
        }
    }
}
