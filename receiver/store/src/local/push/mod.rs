//! One push into a repository on this machine.
//!
//! [`announce`] judges the client's updates; the objects that it then offers and sends pass through
//! [`bases`], [`resume`] and the [`stager`] into [`staging`](super::staging); [`publish`] makes
//! them visible, in the only order that is safe at every instant.

mod adopt;
mod ancestors;
mod announce;
mod bases;
mod closure;
pub(crate) mod glance;
mod history;
mod publish;
mod pullable;
pub(crate) mod pusher;
mod rereads;
mod resume;
pub(crate) mod session_limit;
mod stager;
mod state;
mod update;
pub(crate) mod workspace;

use std::sync::Arc;

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, ObjectId, check_detached};
use artifact_protocol::Text;
use artifact_protocol::frame::{PushOptions, RefOutcome, SummaryDone};
use artifact_protocol::session::{Announcement, Opened, Published};

use crate::error::Error;
use crate::local::disk::real::RealFs;
use crate::local::disk::{Fs, read_file};
use crate::local::push::pusher::Pusher;
use crate::local::push::state::PushState;
use crate::local::push::workspace::Workspace;
use crate::local::repository::objects;
use crate::local::summary::{self, Maker};
use crate::local::terms::Terms;
use crate::seam::Push;

pub use self::stager::{LocalStager, LocalStream};

/// A push into a repository on this machine.
#[derive(Debug)]
pub struct LocalPush<F: Fs = RealFs> {
    work: Arc<Workspace<F>>,
    state: PushState,
    // Held as long as this lives, if any update was accepted.
    _place: Vec<F::Lock>,
}

impl<F: Fs> LocalPush<F> {
    /// Begins a push, and returns the state of its refs.
    pub(crate) fn begin(
        work: Workspace<F>,
        terms: Terms,
        pusher: Pusher<'_>,
        announcement: &Announcement,
    ) -> Result<(Opened, Self), Error> {
        let identity = pusher.identity;
        let state = announce::announce(&work, terms, pusher, announcement)?;
        let opened = state.opened();
        let accepts = state.updates.accepted().next().is_some();
        // A client without an accepted update leaves now, and takes nobody's place.
        let place = match &state.terms {
            Terms::Cache { places, .. } if accepts => {
                session_limit::take(work.fs(), identity, *places)?
            }
            Terms::Cache { .. } | Terms::Own(_) => Vec::new(),
        };
        let push = Self {
            work: Arc::new(work),
            state,
            _place: place,
        };
        if !push.is_dry_run() {
            if accepts {
                push.work.check_room()?;
            } else {
                // The client will leave now.
                push.mend_summary();
            }
        }
        Ok((opened, push))
    }

    /// Reads a commit or directory that an interrupted session of this identity has left; `None`
    /// if there is none, or only a damaged one. Takes nothing over.
    pub fn leftover(&self, id: ObjectId) -> Result<Option<Vec<u8>>, Error> {
        let (work, mode) = (&self.work, self.work.repo.config.mode);
        for sibling in work.staging.siblings() {
            let path = sibling.path(&id, mode);
            // It may be gone by now; another has it, or the server sends it.
            if let Ok(Some(content)) = read_file(work.fs(), &path, MAX_METADATA_LEN)
                && Checksum::of(&content) == id.checksum
            {
                return Ok(Some(content));
            }
        }
        objects::read_metadata(work.fs(), id)
    }

    fn is_dry_run(&self) -> bool {
        self.state.options.contains(PushOptions::DRY_RUN)
    }

    /// Returns the maker of the summary; an own repository has none.
    fn maker(&self) -> Option<Maker<'_, F>> {
        let config = match &self.state.terms {
            Terms::Cache { summary, .. } => summary,
            Terms::Own(_) => return None,
        };
        Some(Maker {
            repo: &self.work.repo,
            config,
            scratch: &self.work.staging,
        })
    }

    /// Brings a summary up to date that lacks a ref's current commit: the session that set the ref
    /// died before its summary. A failure here does not fail the push.
    fn mend_summary(&self) {
        let Some(maker) = self.maker() else {
            return;
        };
        let mended = summary::is_named(maker, self.state.current_refs()).and_then(|named| {
            if named {
                Ok(())
            } else {
                summary::update(maker, self.state.current_refs())
            }
        });
        if let Err(error) = mended {
            tracing::warn!(%error, "the summary could not be brought up to date");
        }
    }
}

impl<F: Fs> Push for LocalPush<F> {
    type Stager = LocalStager<F>;

    fn stager(&self) -> LocalStager<F> {
        LocalStager::new(&self.work)
    }

    fn rely(&mut self, commits: &[Checksum]) -> Result<(), Error> {
        self.state.rely(&self.work.repo, commits)
    }

    fn have(&mut self, ids: &[ObjectId]) -> Result<Vec<bool>, Error> {
        self.state.bases.offered(ids.len());
        ids.iter()
            .map(|&id| self.state.have(&self.work, id))
            .collect()
    }

    fn stage_detached(&mut self, commit: Checksum, metadata: &[u8]) -> Result<(), Error> {
        check_detached(metadata).map_err(|source| Error::DetachedMalformed { commit, source })?;
        let checksum = Checksum::of(metadata);
        if self.state.updates.announce_other_detached(commit, checksum) {
            return Err(Error::DetachedDiffers { commit });
        }
        self.work.receive(metadata.len(), 1)?;
        let staging = &self.work.staging;
        let file = staging.put_temporary(metadata)?;
        staging.name(&file, &staging.dir().staged_detached(commit))?;
        self.state.learn_detached(&self.work, commit, checksum)
    }

    fn lack(&mut self, ids: &[ObjectId]) -> Result<(), Error> {
        self.state.bases.lack(ids.iter().copied());
        Ok(())
    }

    fn publish(&mut self) -> Result<Published, Error> {
        let published = publish::publish(&self.work, &mut self.state)?;
        if let Published::Done(outcomes) = &published
            && !outcomes.contains(&RefOutcome::Updated)
            && !self.is_dry_run()
        {
            // Other sessions did everything, and the client will leave now.
            self.mend_summary();
        }
        Ok(published)
    }

    fn summarize(&mut self) -> SummaryDone {
        let Some(maker) = self.maker() else {
            return SummaryDone::Current;
        };
        summary::count(maker, self.state.objects, self.state.set_commits());
        match summary::update(maker, self.state.current_refs()) {
            Ok(()) => SummaryDone::Current,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "the summary could not be brought up to date");
                SummaryDone::Failed(Text::new(&error.to_fault().text))
            }
        }
    }
}
