//! The two roles of a repository: a cache that many share, and one's own, into which one pulls.
//!
//! An own repository has no summary of ours, no rights, no quotas and no limits on sessions.

use artifact_formats::RefName;
use artifact_protocol::frame::{Base, PushOptions};

use crate::config::Places;
use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, list_dir};
use crate::local::repository::refs;
use crate::summary::config::SummaryConfig;

/// The role of a repository.
#[derive(Clone, Debug)]
pub(crate) enum Terms {
    /// A shared cache.
    Cache {
        summary: Box<SummaryConfig>,
        places: Places,
    },
    /// One's own repository.
    Own(RefPlace),
}

/// Where a pull sets refs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefPlace {
    remote: Option<Box<str>>,
}

impl RefPlace {
    /// Sets refs in `refs/heads`, among the user's own. A pull moves such a ref only forward, or
    /// from a commit that an earlier pull set, or by force.
    pub const fn heads() -> Self {
        Self { remote: None }
    }

    /// Sets refs in `refs/remotes/NAME`, where they follow the remote wherever it goes; `None` if
    /// that is no name of a remote.
    pub fn remote(name: &str) -> Option<Self> {
        refs::is_fragment(name).then(|| Self {
            remote: Some(name.into()),
        })
    }

    pub(crate) fn path(&self, name: &RefName) -> RepoPath {
        RepoPath::ref_in(&self.dir(), name)
    }

    pub(crate) fn dir(&self) -> RepoPath {
        match &self.remote {
            None => RepoPath::heads(),
            Some(remote) => RepoPath::remotes().child(remote),
        }
    }
}

impl Terms {
    pub(crate) const fn is_own(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// Returns the path of a ref that a push sets.
    pub(crate) fn place(&self, name: &RefName) -> RepoPath {
        match self {
            Self::Cache { .. } => RepoPath::head(name),
            Self::Own(place) => place.path(name),
        }
    }

    /// Returns the options of a push; refs of a remote move as the remote's do.
    pub(crate) fn options(&self, wanted: PushOptions) -> PushOptions {
        match self {
            Self::Own(RefPlace { remote: Some(_) }) => wanted.with(PushOptions::FORCE),
            Self::Own(RefPlace { remote: None }) | Self::Cache { .. } => wanted,
        }
    }

    /// Returns a ref that holds the commit of a base. In an own repository, it may be a ref of any
    /// remote.
    pub(crate) fn holder<F: Fs>(&self, fs: &F, base: &Base) -> Result<Option<RepoPath>, Error> {
        let holds = |path: &RepoPath| -> Result<bool, Error> {
            Ok(refs::look(fs, path)?.commit() == Some(base.commit))
        };
        let path = self.place(&base.name);
        if holds(&path)? {
            return Ok(Some(path));
        }
        if self.is_own() {
            for dir in dirs(fs)? {
                let path = RepoPath::ref_in(&dir, &base.name);
                if holds(&path)? {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }
}

/// Returns all directories whose entries are refs: of one's own, of remotes, of collections.
pub(crate) fn dirs<F: Fs>(fs: &F) -> Result<Vec<RepoPath>, Error> {
    let mut dirs = vec![RepoPath::heads()];
    for above in [RepoPath::remotes(), RepoPath::mirrors()] {
        let names = list_dir(fs, &above)?.into_iter().map(|(name, _)| name);
        let names = names.filter(|name| refs::is_fragment(name));
        dirs.extend(names.map(|name| above.child(&name)));
    }
    Ok(dirs)
}
