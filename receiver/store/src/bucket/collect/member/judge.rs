//! A session's judgement of objects: whether it may put one, and whether it may rely on one.

use super::{Known, Member, Step};
use crate::bucket::collect::record::Phase;

/// Whether a session may put an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It may.
    Free,
    /// It may after [`Member::spare`].
    Spare,
    /// It may once the sweep is over: [`Member::look`] again.
    Wait,
}

impl<I: Clone + Ord> Member<I> {
    /// Returns whether the session may put this object.
    pub fn judge(&self, id: &I) -> Fate {
        let Some(known) = self.known.as_ref().filter(|_| !self.is_new_to(id)) else {
            return Fate::Wait;
        };
        match known.gc.phase {
            Phase::Idle => Fate::Free,
            _ if !known.dooms(id) => Fate::Free,
            Phase::Condemned => Fate::Spare,
            Phase::Sweeping => Fate::Wait,
        }
    }

    /// Returns whether the session may rely on an object that it found while it kept to the last
    /// list: the object is not on that list, or was spared in time. Otherwise it may have been
    /// deleted since, even if that sweep is over. Of objects found under an earlier list, this says
    /// nothing (R25), except of those that the session has kept since.
    pub fn keeps(&self, id: &I) -> bool {
        let known = self.known.as_ref().filter(|_| !self.is_new_to(id));
        known.is_some_and(|known| !known.dooms(id))
    }

    /// Returns the objects that the session does not [keep](Self::keeps): first those that it may
    /// rely on after it has [spared](Member::spare) them, then those that it must not rely on.
    pub fn doubtful(&self, ids: impl Iterator<Item = I>) -> (Vec<I>, Vec<I>) {
        let (mut spare, mut gone) = (Vec::new(), Vec::new());
        for id in ids.filter(|id| !self.keeps(id)) {
            match self.judge(&id) {
                Fate::Spare => spare.push(id),
                // A finished sweep, too, may have deleted it.
                Fate::Free | Fate::Wait => gone.push(id),
            }
        }
        (spare, gone)
    }

    /// Returns whether an object is on a list that the session is about to acknowledge, and the
    /// session did not rely on it when it read that list.
    fn is_new_to(&self, id: &I) -> bool {
        match &self.step {
            Step::Sparing { new, relied } => new.has(id) && !relied.contains(id),
            Step::Renewing { new: Some(new), .. } | Step::Checking { new: Some(new), .. } => {
                new.dooms(id)
            }
            _ => false,
        }
    }

    /// Returns whether an object named by a journal of this epoch exists, and the session may [rely
    /// on it](Self::keeps).
    pub fn counts(&self, epoch: u64, id: &I) -> bool {
        let Some(known) = &self.known else {
            return false;
        };
        let is_last = epoch == known.gc.epoch;
        let is_before = epoch + 1 == known.gc.epoch && known.list.is_some();
        (is_last || is_before) && self.keeps(id)
    }
}

impl<I: Ord> Known<I> {
    /// Returns whether an object is on the list and was not spared in time.
    fn dooms(&self, id: &I) -> bool {
        self.has(id) && !self.spared.contains(id)
    }

    fn has(&self, id: &I) -> bool {
        let list = self.list.as_deref().unwrap_or_default();
        list.binary_search(id).is_ok()
    }
}
