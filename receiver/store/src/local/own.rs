//! One's own repository: opened or created for pulls, and what a pull tells a server about it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use artifact_formats::{Checksum, Commit, ObjectId, ObjectKind, RefName, RepoMode};
use artifact_protocol::frame::Base;
use artifact_protocol::limits::Limits;

use crate::config::StoreConfig;
use crate::error::Error;
use crate::local::LocalStore;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{Fs, if_there};
use crate::local::push::glance::Glance;
use crate::local::repository::{Repo, leftovers, listing, make_dirs, objects, pulled, refs};
use crate::local::staging::abandoned;
use crate::local::terms::{self, RefPlace};
use crate::tree::id_set::IdSet;

/// How an own repository is opened.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Where pulls set refs.
    pub refs: RefPlace,
    /// The limits of a pull.
    pub limits: Limits,
    /// Threads that publish many objects; 0 means one.
    pub threads: usize,
}

/// The value of a ref.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ref {
    /// The commit.
    pub commit: Checksum,
    /// Whether everything that the commit reaches is here, as far as a glance can tell.
    pub is_complete: bool,
    /// SHA-256 of the commit's detached metadata, if it has some.
    pub detached: Option<Checksum>,
}

impl LocalStore {
    /// Opens the repository of any mode at `path` as the user's own.
    ///
    /// A push into it is a pull: its objects come in the form of an archive, whatever the mode. It
    /// has no summary, and [`summarize`](crate::Push::summarize) does nothing.
    pub fn open_own(path: &Path, own: Own) -> Result<Self, Error> {
        let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
        Self::own_with_fs(fs, own)
    }
}

impl<F: Fs> LocalStore<F> {
    /// Opens the repository of any mode that is the root of a file system as the user's own.
    pub fn own_with_fs(fs: F, own: Own) -> Result<Self, Error> {
        let Own {
            refs,
            limits,
            threads,
        } = own;
        Ok(Self {
            repo: Arc::new(Repo::open_any(fs)?),
            config: StoreConfig {
                identity: IDENTITY.to_owned(),
                limits,
                threads,
                // Reading one's own objects costs nobody else anything.
                reread_max: Some(u64::MAX),
                ..StoreConfig::default()
            },
            own: Some(refs),
        })
    }

    /// Returns the repository's mode.
    pub fn mode(&self) -> RepoMode {
        self.repo.config.mode
    }

    /// Returns the value of each of these refs that exists, in order.
    pub fn held(&self, names: &[RefName]) -> Result<Vec<Option<Ref>>, Error> {
        let fs = &*self.repo.fs;
        let mut glance = Glance::default();
        let held = names.iter().map(|name| {
            let Some(commit) = refs::look(fs, &self.place().path(name))?.commit() else {
                return Ok(None);
            };
            Ok(Some(Ref {
                commit,
                is_complete: self.is_complete(commit, &mut glance)?,
                detached: objects::detached_checksum(fs, commit)?,
            }))
        });
        held.collect()
    }

    /// Returns complete commits whose objects those of these refs may share, at most `most`: what
    /// the refs hold, in any place, and then the newest refs beside them.
    pub fn bases(&self, names: &[RefName], most: usize) -> Result<Vec<Base>, Error> {
        let fs = &*self.repo.fs;
        let dirs = terms::dirs(fs)?;
        let mut bases: Vec<Base> = Vec::new();
        let mut glance = Glance::default();
        let mut add = |dir: &RepoPath, name: &RefName| -> Result<bool, Error> {
            if bases.len() < most
                && let Some(base) = self.base(dir, name, &mut glance)?
                && !bases.iter().any(|known| known.commit == base.commit)
            {
                bases.push(base);
            }
            Ok(bases.len() < most)
        };
        for name in names {
            for dir in &dirs {
                add(dir, name)?;
            }
        }
        let parents: BTreeSet<_> = names.iter().filter_map(RefName::parent).collect();
        'all: for parent in parents {
            for dir in &dirs {
                for name in listing::newest_in(fs, dir, parent, most)? {
                    if !add(dir, &name)? {
                        break 'all;
                    }
                }
            }
        }
        Ok(bases)
    }

    /// Returns what a ref holds, if that is complete.
    fn base(
        &self,
        dir: &RepoPath,
        name: &RefName,
        glance: &mut Glance,
    ) -> Result<Option<Base>, Error> {
        let held = refs::look(&*self.repo.fs, &RepoPath::ref_in(dir, name))?;
        let Some(commit) = held.commit() else {
            return Ok(None);
        };
        let name = name.clone();
        let is_complete = self.is_complete(commit, glance)?;
        Ok(is_complete.then_some(Base { name, commit }))
    }

    /// Returns at most `most` objects that an interrupted pull has left: those it staged, and those
    /// of commits that are marked partial, whichever program pulled them.
    ///
    /// They are verified only when a later pull uses them. A damaged one then counts as missing.
    pub fn leftovers(&self, most: usize) -> Result<Vec<ObjectId>, Error> {
        let mut found = IdSet::default();
        let staged = abandoned::staged(&*self.repo.fs, IDENTITY, self.mode(), most)?;
        let mut all: Vec<_> = staged.into_iter().filter(|&id| found.insert(id)).collect();
        leftovers::add_partial(&self.repo, most, &mut found, &mut all)?;
        Ok(all)
    }

    /// Reads a commit, whether complete or not; `None` if it is missing or damaged.
    pub fn commit(&self, commit: Checksum) -> Result<Option<Commit>, Error> {
        let id = ObjectId::new(ObjectKind::Commit, commit);
        let content = objects::read_metadata(&*self.repo.fs, id)?;
        Ok(content.and_then(|content| Commit::parse(&content).ok()))
    }

    /// Returns the commit to which the last pull set a ref: nobody made it here.
    pub fn pulled(&self, name: &RefName) -> Result<Option<Checksum>, Error> {
        pulled::last(&*self.repo.fs, name)
    }

    fn place(&self) -> RefPlace {
        self.own.clone().unwrap_or_default()
    }

    fn is_complete(&self, commit: Checksum, glance: &mut Glance) -> Result<bool, Error> {
        Ok(objects::is_whole(&*self.repo.fs, commit)?
            && glance.lacks(&self.repo, commit)?.is_none())
    }
}

/// Creates an empty repository in a directory, and the directory if it is missing. Returns `false`
/// if another program has created one there first, of whatever mode.
///
/// If it is killed before the repository has its configuration, it leaves at most one file, which
/// [`is_unfinished`] recognizes.
pub fn create(path: &Path, mode: RepoMode) -> Result<bool, Error> {
    let fs = RealFs::open_or_make(path).map_err(Error::io("opening", &path.display()))?;
    let config = RepoPath::config();
    let random = getrandom::u64()
        .map_err(|error| Error::io("choosing a name for", &"a new file")(error.into()))?;
    let new = RepoPath::root().child(&format!("{UNFINISHED}{random:016x}"));
    let mut file = fs.create(&new, 0o644).map_err(Error::io("making", &new))?;
    let text = format!("[core]\nrepo_version=1\nmode={}\n", mode.as_str());
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| fs.sync_data(&file))
        .and_then(|()| match fs.link(&new, &config) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            linked => linked.map(|()| true),
        });
    if_there(fs.unlink(&new)).map_err(Error::io("removing", &new))?;
    let is_new = written.map_err(Error::io("writing", &config))?;
    make_dirs(&fs)?;
    fs.sync_dir(&RepoPath::root())
        .map_err(Error::io("writing", &config))?;
    Ok(is_new)
}

/// Returns whether a file of this name is a configuration that [`create`] has begun to write.
pub fn is_unfinished(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
}

/// The beginning of the names of configurations that are being written.
const UNFINISHED: &str = "config.new.";
/// All pulls into a repository take over what each other has staged.
const IDENTITY: &str = "pull";
