//! The objects that a walk has met and not yet brought in.
//!
//! Remembers no more than those: an object that is staged is known to the store. Breadth first, so
//! that there is much to ask for at once; but once many files wait, no more directories are opened,
//! whatever the size of the tree. Pure.

use std::collections::{HashSet, VecDeque};

use artifact_formats::ObjectId;

#[derive(Debug, Default)]
pub(crate) struct Frontier {
    // Not looked up in the store yet.
    unasked: VecDeque<ObjectId>,
    // To be fetched.
    metadata: VecDeque<ObjectId>,
    files: VecDeque<ObjectId>,
    // Known to be large: few are fetched at once.
    large: VecDeque<ObjectId>,
    // All of these, those being looked up and those being fetched.
    pending: HashSet<ObjectId>,
    // Those of `pending` that nobody will stage: they are only counted.
    counted: usize,
}

impl Frontier {
    /// Takes objects that a parent names.
    pub(crate) fn meet(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        for id in ids {
            if self.pending.insert(id) {
                self.unasked.push_back(id);
            }
        }
    }

    /// Takes objects that must be fetched, whatever the store has.
    pub(crate) fn need(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        for id in ids {
            if self.pending.insert(id) {
                self.queue(id);
            }
        }
    }

    /// Returns objects to look up in the store.
    pub(crate) fn unasked(&mut self) -> Vec<ObjectId> {
        let count = self.unasked.len().min(ASKED_AT_ONCE);
        self.unasked.drain(..count).collect()
    }

    /// Takes the store's answer: whether it has each of them, with everything below.
    pub(crate) fn answered(&mut self, ids: Vec<ObjectId>, had: &[bool]) {
        for (id, had) in ids.into_iter().zip(had) {
            match had {
                true => drop(self.pending.remove(&id)),
                false => self.queue(id),
            }
        }
    }

    /// Returns the next object to fetch; a large one only if there is room for it.
    pub(crate) fn next(&mut self, room_for_large: bool) -> Option<ObjectId> {
        if room_for_large && let Some(id) = self.large.pop_front() {
            return Some(id);
        }
        if self.files.len() + self.unasked.len() >= MANY_FILES
            && let Some(id) = self.files.pop_front()
        {
            return Some(id);
        }
        self.metadata.pop_front().or_else(|| self.files.pop_front())
    }

    /// Puts an object back that turned out to be large.
    pub(crate) fn later(&mut self, id: ObjectId) {
        self.large.push_back(id);
    }

    /// Forgets an object that is staged.
    pub(crate) fn staged(&mut self, id: &ObjectId) {
        self.pending.remove(id);
    }

    /// Remembers an object that was counted, and will not be staged.
    pub(crate) fn counted(&mut self) {
        self.counted += 1;
    }

    /// Returns how many objects are known to be wanted.
    pub(crate) fn waiting(&self) -> usize {
        self.pending.len() - self.unasked.len() - self.counted
    }

    fn queue(&mut self, id: ObjectId) {
        match id.kind.is_metadata() {
            true => self.metadata.push_back(id),
            false => self.files.push_back(id),
        }
    }
}

/// Most objects to look up at once.
const ASKED_AT_ONCE: usize = 1024;
/// From then on, no directory is opened. 120 bytes each.
const MANY_FILES: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use artifact_formats::{Checksum, ObjectKind};

    use super::*;

    fn id(kind: ObjectKind, number: u16) -> ObjectId {
        let mut digest = [0; 32];
        digest[..2].copy_from_slice(&number.to_be_bytes());
        ObjectId::new(kind, Checksum::new(digest))
    }

    #[test]
    fn each_object_is_asked_and_fetched_once_while_it_is_on_its_way() {
        let mut frontier = Frontier::default();
        let (file, tree) = (id(ObjectKind::File, 1), id(ObjectKind::Dirtree, 1));
        frontier.meet([file, tree, file]);
        let asked = frontier.unasked();
        assert_eq!(asked, [file, tree]);
        frontier.meet([file, tree]);
        frontier.need([file]);
        assert!(frontier.unasked().is_empty(), "it is being asked");
        frontier.answered(asked, &[false, true]);
        assert_eq!(frontier.waiting(), 1);
        assert_eq!(frontier.next(true), Some(file));
        frontier.meet([file]);
        assert!(frontier.unasked().is_empty(), "it is being fetched");
        assert_eq!(frontier.next(true), None);
        frontier.staged(&file);
        // The store knows it now.
        frontier.meet([file, tree]);
        assert_eq!(frontier.unasked(), [file, tree]);
    }

    #[test]
    fn directories_go_first_until_many_files_wait() {
        let mut frontier = Frontier::default();
        let tree = id(ObjectKind::Dirtree, 0);
        let few = 10;
        frontier.need((0..few).map(|n| id(ObjectKind::File, n)));
        frontier.need([tree]);
        assert_eq!(frontier.next(true), Some(tree));
        frontier.staged(&tree);
        let many = u16::try_from(MANY_FILES).unwrap();
        frontier.need((few..many).map(|n| id(ObjectKind::File, n)));
        frontier.need([tree]);
        assert_eq!(frontier.next(true), Some(id(ObjectKind::File, 0)));
        assert_eq!(frontier.next(true), Some(tree));
    }

    #[test]
    fn large_objects_wait_for_room() {
        let mut frontier = Frontier::default();
        let (large, other) = (id(ObjectKind::File, 1), id(ObjectKind::File, 2));
        frontier.need([large, other]);
        assert_eq!(frontier.next(true), Some(large));
        frontier.later(large);
        assert_eq!(frontier.next(false), Some(other));
        assert_eq!(frontier.next(false), None);
        assert_eq!(frontier.waiting(), 2);
        assert_eq!(frontier.next(true), Some(large));
    }
}
