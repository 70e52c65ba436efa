//! The set of staged objects: which of them are new, and which of them a walk from the commits of a
//! push has reached.

use std::panic::resume_unwind;
use std::thread;

use artifact_formats::{ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::staging::{OBJECTS_OF_A_THREAD, Staging};
use crate::tree::descent::Levels;

impl<F: Fs> Staging<F> {
    pub(crate) fn len(&self) -> usize {
        self.objects().len()
    }

    pub(crate) fn holds(&self, id: &ObjectId) -> bool {
        self.objects().contains(id)
    }

    /// Notes that a staged object was in the repository before.
    pub(crate) fn was_here(&self, id: &ObjectId) {
        self.objects().flag(id);
    }

    /// Returns whether an object is staged that was not in the repository.
    pub(crate) fn holds_new(&self, id: &ObjectId) -> bool {
        self.objects().flagged(id) == Some(false)
    }

    /// Returns whether `is_so` is true of any staged object that was not in the repository.
    pub(crate) fn any_new(&self, is_so: impl Fn(&ObjectId) -> bool) -> bool {
        self.objects().unflagged().any(|id| is_so(&id))
    }

    /// Begins a walk, which has reached no object yet.
    pub(crate) fn begin_walk(&self) {
        self.objects().unmark_all();
    }

    /// Notes that a walk has finished an object, which has these levels of directories below it.
    pub(crate) fn reach(&self, id: &ObjectId, levels: Levels) {
        self.objects().mark(id, levels);
    }

    /// Returns a walk's note about an object; `None` if it is not staged.
    pub(crate) fn reached(&self, id: &ObjectId) -> Option<Option<Levels>> {
        self.objects().look(id)
    }

    /// Runs an action on each object of some kinds that the last walk has reached. Several threads
    /// share many objects, each with its own value from `begin`; returns these values.
    pub(crate) fn each_reached<T: Send>(
        &self,
        kinds: &[ObjectKind],
        begin: impl Fn() -> T + Sync,
        act: impl Fn(&mut T, ObjectId) -> Result<(), Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let objects = &*self.objects();
        let threads = self.threads.min(1 + objects.len() / OBJECTS_OF_A_THREAD);
        let work = |part| {
            let mut own = begin();
            for kind in kinds {
                let mut ids = objects.marked_of_kind(*kind, part, threads);
                ids.try_for_each(|id| act(&mut own, id))?;
            }
            Ok(own)
        };
        if threads == 1 {
            return Ok(vec![work(0)?]);
        }
        thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> = (0..threads)
                .map(|part| scope.spawn(move || work(part)))
                .collect();
            let done = started.into_iter().map(|thread| thread.join());
            done.map(|done| done.unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    }
}
