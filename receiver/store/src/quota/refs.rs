//! The weight of an identity's refs.
//!
//! Every ref is in the summary, which all pullers read and each push makes again, and on a disk
//! each push scans the directories that lead to it. Moving a ref does not change its owner.

use std::collections::HashSet;

use artifact_protocol::frame::{Refusal, RefusalCode};

/// The weight of some refs.
#[derive(Debug, Default)]
pub(crate) struct RefsWeight {
    dirs: HashSet<Box<str>>,
    used: u64,
}

impl RefsWeight {
    /// Weighs refs.
    pub(crate) fn of(names: impl IntoIterator<Item: AsRef<str>>) -> Self {
        let mut weight = Self::default();
        let names = names.into_iter();
        names.for_each(|name| weight.add(name.as_ref()));
        weight
    }

    /// Returns the weight of all.
    pub(crate) const fn used(&self) -> u64 {
        self.used
    }

    /// Returns whether the weight stays within `max` with one ref more.
    pub(crate) fn has_room_for(&self, name: &str, max: u64) -> bool {
        self.used + self.price(name) <= max
    }

    /// Adds a ref.
    pub(crate) fn add(&mut self, name: &str) {
        self.used += self.price(name);
        let new: Vec<_> = self.new_dirs_of(name).map(Box::from).collect();
        self.dirs.extend(new);
    }

    /// Returns the weight that a ref of this name adds.
    fn price(&self, name: &str) -> u64 {
        let dirs = self.new_dirs_of(name).count() as u64;
        1 + name.len() as u64 / NAME_PART + dirs * DIR_PRICE
    }

    /// Returns the directories that lead to a ref and to no other yet, deepest first. Those above a
    /// known one are known as well, so that a neighbour of many refs costs one look-up.
    fn new_dirs_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        dirs_of(name).take_while(|dir| !self.dirs.contains(*dir))
    }
}

/// Refuses a new ref of an identity whose refs weigh `used` and may weigh `max`.
pub(crate) fn too_many_refs(used: u64, max: u64) -> Refusal {
    let text = format!(
        "too many refs: this identity's take {used} of {max}; ask the operator to remove some \
         (`artifact-cache-admin prune`), or to raise `refs-max` in the server's configuration"
    );
    Refusal::new(RefusalCode::NOT_PERMITTED, &text)
}

/// Returns the directories that lead to a ref, deepest first.
fn dirs_of(name: &str) -> impl Iterator<Item = &str> {
    name.rmatch_indices('/')
        .filter_map(|(end, _)| name.get(..end))
}

/// Bytes of a name that weigh as much as a ref.
const NAME_PART: u64 = 128;
/// The weight of a directory: a scan opens and lists it, while it only lists a ref.
const DIR_PRICE: u64 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_used_is_the_sum_of_names_and_of_directories_each_once(
            names in prop::collection::btree_set("[ab](/[abc]){0,5}(/d{0,200}e)?", 0..60),
        ) {
            let weight = RefsWeight::of(&names);
            let mut dirs = HashSet::new();
            let mut used = 0;
            for name in &names {
                used += 1 + name.len() as u64 / 128;
                let parts: Vec<_> = name.split('/').collect();
                dirs.extend((1..parts.len()).map(|depth| parts[..depth].join("/")));
            }
            prop_assert_eq!(weight.used(), used + 4 * dirs.len() as u64);
        }
    }
}
