//! The updates of a push into a bucket, compared with the refs there.

use artifact_formats::{Checksum, RefName};

use crate::bucket::records::refs::Held;
use crate::bucket::requests::seam::Key;
use crate::update::{self, Value, lost_race};

/// One ref of a push; its place is its key, unless its name is too long for one.
pub(crate) type Update = update::Update<Option<Key>, Held>;
/// All of them.
pub(crate) type Updates = update::Updates<Option<Key>, Held>;

impl Update {
    /// Compares the ref with the value the client was told; returns whether it still holds it. The
    /// wanted commit counts only with the announced detached metadata.
    pub(crate) fn confirm(&mut self, now: Held, detached: Option<Checksum>) -> bool {
        if now == self.held {
            return true;
        }
        let announced = self.wanted.detached;
        let is_wanted =
            now.commit() == Some(self.commit()) && (announced.is_none() || announced == detached);
        self.moved(now, is_wanted);
        false
    }

    /// Refuses an update that was up to date if its ref has changed since.
    pub(crate) fn confirm_unchanged(&mut self, now: &Held) {
        if self.is_up_to_date() && now.commit() != Some(self.commit()) {
            self.refuse(lost_race());
        }
    }

    /// Returns the name of a ref that does not exist yet.
    pub(crate) fn new_name(&self) -> Option<&RefName> {
        (self.held == Held::Nothing).then_some(&self.wanted.name)
    }
}
