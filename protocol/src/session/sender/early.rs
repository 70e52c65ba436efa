//! The early offer: all of a small push, sent along with the announcement (SPEC "Early offers").
//!
//! The client sends it before it knows the server's verdicts. Afterwards it does not send objects
//! that no accepted ref needs, even if the server wants them.

use std::collections::HashSet;

use artifact_formats::{Checksum, ObjectId};

use crate::frame::{Frame, Offer};
use crate::limits::MAX_EARLY_IDS;

/// An announced commit that reaches so few objects that the client can offer them at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallCommit {
    /// The commit.
    pub commit: Checksum,
    /// Its closure: each object once, a commit or dirtree before its children.
    pub closure: Vec<ObjectId>,
}

/// Commits that were offered before their refs were accepted.
#[derive(Debug)]
pub(super) struct Early {
    commits: Vec<SmallCommit>,
    /// The ids of their objects, as offered.
    ids: Vec<ObjectId>,
}

impl Early {
    /// Builds an early offer, unless there is nothing to offer or too much.
    pub(super) fn new(commits: Vec<SmallCommit>) -> Option<Self> {
        let mut seen = HashSet::new();
        let closures = commits.iter().flat_map(|small| &small.closure);
        let ids: Vec<_> = closures.copied().filter(|id| seen.insert(*id)).collect();
        (1..=MAX_EARLY_IDS)
            .contains(&ids.len())
            .then_some(Self { commits, ids })
    }

    pub(super) fn offer(&self) -> Frame {
        Frame::Offer(Offer {
            ids: self.ids.clone(),
        })
    }

    /// Returns the ids that were offered, in order.
    pub(super) fn ids(&self) -> &[ObjectId] {
        &self.ids
    }

    /// Returns the offered objects that no accepted commit reaches.
    pub(super) fn unneeded(&self, mut accepted: impl FnMut(Checksum) -> bool) -> HashSet<ObjectId> {
        let mut unneeded: HashSet<_> = self.ids.iter().copied().collect();
        for small in self.commits.iter().filter(|small| accepted(small.commit)) {
            for id in &small.closure {
                unneeded.remove(id);
            }
        }
        unneeded
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use artifact_formats::ObjectKind;

    fn id(number: usize) -> ObjectId {
        ObjectId::new(ObjectKind::File, Checksum::of(&number.to_le_bytes()))
    }

    fn small(number: u8, closure: std::ops::Range<usize>) -> SmallCommit {
        SmallCommit {
            commit: Checksum::new([number; 32]),
            closure: closure.map(id).collect(),
        }
    }

    #[test]
    fn a_push_is_offered_early_up_to_a_number_of_objects_and_not_one_above() {
        assert!(Early::new(Vec::new()).is_none());
        assert!(Early::new(vec![small(1, 0..MAX_EARLY_IDS)]).is_some());
        assert!(Early::new(vec![small(1, 0..MAX_EARLY_IDS + 1)]).is_none());
    }

    #[test]
    fn what_commits_share_is_offered_once_and_needed_while_one_of_them_is_accepted() {
        let early = Early::new(vec![small(1, 0..3), small(2, 2..5)]).unwrap();
        assert_eq!(early.ids(), (0..5).map(id).collect::<Vec<_>>());
        let second = |commit| commit == Checksum::new([2; 32]);
        assert_eq!(early.unneeded(second), HashSet::from([id(0), id(1)]));
        assert!(early.unneeded(|_| true).is_empty());
    }
}
