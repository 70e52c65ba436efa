//! The updates of a push into a repository on a disk, compared with the refs there.

use artifact_formats::Checksum;

use crate::error::Error;
use crate::local::disk::Fs;
use crate::local::disk::path::RepoPath;
use crate::local::repository::objects::{self, DetachedSums};
use crate::local::repository::refs::{self, Held};
use crate::update::{self, Value, lost_race};

/// One ref of a push; its place is its file.
pub(crate) type Update = update::Update<RepoPath, Held>;
/// All of them.
pub(crate) type Updates = update::Updates<RepoPath, Held>;

impl Value for Held {
    fn commit(&self) -> Option<Checksum> {
        Self::commit(*self)
    }
}

impl Update {
    /// Checks whether the ref still holds the value the client was told.
    pub(crate) fn confirm<F: Fs>(
        &mut self,
        fs: &F,
        sums: &mut DetachedSums,
    ) -> Result<bool, Error> {
        let held = refs::look(fs, &self.place)?;
        if held == self.held {
            return Ok(true);
        }
        let commit = self.wanted.commit;
        let is_wanted = held.commit() == Some(commit)
            && objects::is_whole(fs, commit)?
            && (self.wanted.detached.is_none() || sums.of(fs, commit)? == self.wanted.detached);
        self.moved(held, is_wanted);
        Ok(false)
    }

    /// Makes sure that a ref which was up to date still is.
    pub(crate) fn confirm_unchanged<F: Fs>(&mut self, fs: &F) -> Result<(), Error> {
        if self.is_up_to_date() && refs::look(fs, &self.place)? != self.held {
            self.refuse(lost_race());
        }
        Ok(())
    }

    /// Judges the detached metadata against the current ones; returns whether the update may go on.
    pub(crate) fn confirm_detached<F: Fs>(
        &mut self,
        fs: &F,
        sums: &mut DetachedSums,
    ) -> Result<bool, Error> {
        if self.signer.is_ok() {
            return Ok(true);
        }
        let there = sums.of(fs, self.wanted.commit)?;
        Ok(self.judge_detached(there))
    }
}
