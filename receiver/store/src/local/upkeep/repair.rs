//! Repairs a damaged repository so far that pushes can complete it again.
//!
//! Changes no more than necessary: it marks a commit that lacks objects as partial, as `ostree fsck
//! --delete` does, so that pushes accept it again; it moves a damaged object away, so that nobody
//! is served it; and it unmarks a commit that was marked for that reason and has all its objects
//! again. Refs stay as they are. Somebody who has the missing objects must push them.
//!
//! Reads everything without a lock. Then checks each finding again under the repository's lock,
//! held exclusively and briefly: a push may have healed it meanwhile.

use std::collections::{BTreeSet, HashSet};
use std::io::Write;
use std::path::Path;

use artifact_formats::{Checksum, LockTimeout, ObjectId, ObjectKind, RepoMode};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{Fs, LockMode, list_dir, lock, make_dir, sync_dirs};
use crate::local::repository::objects::{self, PARTIAL_FOUND, Partial};
use crate::local::repository::stored::{self, Stored};
use crate::local::repository::{self, listing};
use crate::local::upkeep::damage::{Damaged, judge};
use crate::local::upkeep::fsck;
use crate::tree;
use crate::tree::id_set::IdSet;
use crate::upkeep::{Checked, Finding};

/// The result of a repair, and what is left to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Damaged files, and where each was moved.
    pub moved: Vec<(String, String)>,
    /// Commits that lack objects and were marked partial.
    pub marked: Vec<Checksum>,
    /// Commits that were marked for that reason and have all their objects again.
    pub unmarked: Vec<Checksum>,
    /// Refs whose commits lack objects, sorted: somebody must push them again.
    pub refs: Vec<String>,
}

/// Checks the repository at `path` as [`fsck`](crate::fsck()) does, and repairs what it can.
pub fn repair(
    path: &Path,
    object_len_max: u64,
    report: &(dyn Fn(Finding) + Sync),
) -> Result<(Checked, Repaired), Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    let config = repository::read_config(&fs)?;
    repository::make_dirs(&fs)?;
    let (checked, damaged) = fsck::check(&fs, object_len_max, report)?;
    let exclusive = |timeout: LockTimeout| {
        lock::acquire(&fs, &RepoPath::repo_lock(), LockMode::Exclusive, timeout)
    };
    let held = config
        .locking
        .then(|| exclusive(config.lock_timeout))
        .transpose()?;
    let mut repair = Repair {
        fs: &fs,
        damaged: Vec::new(),
        bad: HashSet::new(),
        good: IdSet::default(),
        repaired: Repaired::default(),
    };
    for file in damaged {
        if judge(&fs, RepoMode::Archive, &file, object_len_max).is_err_and(|wrong| wrong.is_damaged)
        {
            repair.note(file);
        }
    }
    repair.mark()?;
    repair.put_aside()?;
    repair.name_refs()?;
    drop(held);
    Ok((checked, repair.repaired))
}

struct Repair<'a, F: Fs> {
    fs: &'a F,
    damaged: Vec<Damaged>,
    // Objects that will be gone, and commits whose detached metadata will.
    bad: HashSet<ObjectId>,
    // Dirtrees with everything below them.
    good: IdSet,
    repaired: Repaired,
}

impl<F: Fs> Repair<'_, F> {
    fn note(&mut self, file: Damaged) {
        match file.stored {
            Stored::Object(id) | Stored::Misshapen(id) => self.bad.insert(id),
            Stored::Detached(commit) => self.bad.insert(ObjectId::new(ObjectKind::Commit, commit)),
            Stored::Companion | Stored::Foreign => return,
        };
        self.damaged.push(file);
    }

    /// Marks commits that lack objects as partial, durably, and unmarks those that no longer do.
    fn mark(&mut self) -> Result<(), Error> {
        let mut changed = false;
        for first in 0..=u8::MAX {
            for (name, kind) in list_dir(self.fs, &RepoPath::fan_out(first))? {
                let Stored::Object(id) = stored::look(RepoMode::Archive, first, &name, kind) else {
                    continue;
                };
                if id.kind != ObjectKind::Commit {
                    continue;
                }
                let commit = id.checksum;
                let mark = RepoPath::partial(commit);
                match (objects::partial(self.fs, commit)?, self.is_whole(id)?) {
                    (None, false) => {
                        let marked = self.fs.create(&mark, 0o644).and_then(|mut file| {
                            file.write_all(PARTIAL_FOUND)?;
                            self.fs.sync_data(&file)
                        });
                        marked.map_err(Error::io("marking", &mark))?;
                        self.repaired.marked.push(commit);
                    }
                    (Some(Partial::Found), true) => {
                        let unmarked = self.fs.unlink(&mark);
                        unmarked.map_err(Error::io("removing", &mark))?;
                        self.repaired.unmarked.push(commit);
                    }
                    (None, true) | (Some(_), _) => continue,
                }
                changed = true;
            }
        }
        if changed {
            let state = RepoPath::state();
            let synced = self.fs.sync_dir(&state);
            synced.map_err(Error::io("syncing", &state))?;
        }
        Ok(())
    }

    /// Returns whether everything that a commit reaches is there and undamaged.
    fn is_whole(&mut self, commit: ObjectId) -> Result<bool, Error> {
        let mut seen = vec![commit];
        let mut known: HashSet<ObjectId> = HashSet::from([commit]);
        let mut next = 0;
        while let Some(&id) = seen.get(next) {
            next += 1;
            if self.bad.contains(&id) {
                return Ok(false);
            }
            if matches!(id.kind, ObjectKind::File | ObjectKind::Dirmeta) {
                if !objects::is_there(self.fs, &RepoPath::object(&id))? {
                    return Ok(false);
                }
                continue;
            }
            let Some(content) = objects::read_metadata(self.fs, id)? else {
                return Ok(false);
            };
            for child in tree::children(id, &content).unwrap_or_default() {
                if !self.good.contains(&child) && known.insert(child) {
                    seen.push(child);
                }
            }
        }
        for id in seen {
            self.good.insert(id);
        }
        Ok(true)
    }

    /// Moves damaged objects where nobody looks for objects.
    fn put_aside(&mut self) -> Result<(), Error> {
        if self.damaged.is_empty() {
            return Ok(());
        }
        let quarantine = RepoPath::quarantine();
        for (dir, mode) in [(RepoPath::own(), 0o775), (quarantine.clone(), 0o700)] {
            make_dir(self.fs, &dir, mode).map_err(Error::io("making", &dir))?;
        }
        let taken: HashSet<_> = list_dir(self.fs, &quarantine)?
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        let mut dirs = BTreeSet::from([RepoPath::own(), quarantine.clone()]);
        for Damaged { path, .. } in &self.damaged {
            let parent = path.parent();
            let name = format!("{}{}", parent.split().1, path.split().1);
            let names = (1..).map(|number| format!("{name}.{number}"));
            let mut names = std::iter::once(name.clone()).chain(names);
            let free = names.find(|name| !taken.contains(name)).unwrap_or(name);
            let to = quarantine.child(&free);
            self.fs
                .rename(path, &to)
                .map_err(Error::io("putting aside", path))?;
            self.repaired.moved.push((path.to_string(), to.to_string()));
            dirs.insert(parent);
        }
        sync_dirs(self.fs, &dirs)
    }

    fn name_refs(&mut self) -> Result<(), Error> {
        let mut found = BTreeSet::new();
        for (name, commit) in listing::list(self.fs)?.iter() {
            if !objects::is_whole(self.fs, commit)? {
                found.insert(name.to_owned());
            }
        }
        self.repaired.refs = found.into_iter().collect();
        Ok(())
    }
}
