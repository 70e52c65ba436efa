//! A strict check of a whole repository: verifies every object as on receipt, and checks the
//! closure of every commit that is not partial, every ref, and the summary.
//!
//! Read-only, in bounded memory except for the ids of dirtrees. Stricter than `ostree fsck`, which
//! does not check how a file object is stored.

use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;

use artifact_formats::limits::MAX_TREE_DEPTH;
use artifact_formats::{Checksum, ObjectId, ObjectKind, RepoMode, Summary};
use parking_lot::Mutex;

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{FileKind, Fs, if_there, list_dir, read_file};
use crate::local::repository::listing::{self, Broken};
use crate::local::repository::objects::{self, Partial};
use crate::local::repository::stored::{self, Stored};
use crate::local::repository::{self, form};
use crate::local::upkeep::damage::{Damaged, Wrong, judge};
use crate::tree;
use crate::tree::descent::{Descent, Next};
use crate::tree::id_set::IdSet;
use crate::upkeep::{Checked, Finding, Weight};

/// Checks the repository of any mode at `path`, and reports each finding, from several threads.
///
/// Fails if the repository cannot be read. Objects larger than `object_len_max` are faults.
pub fn fsck(
    path: &Path,
    object_len_max: u64,
    report: &(dyn Fn(Finding) + Sync),
) -> Result<Checked, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    check(&fs, object_len_max, report).map(|(checked, _)| checked)
}

/// Like `fsck`; also returns the damaged files.
pub(crate) fn check<F: Fs>(
    fs: &F,
    object_len_max: u64,
    report: &(dyn Fn(Finding) + Sync),
) -> Result<(Checked, Vec<Damaged>), Error> {
    let check = Check {
        fs,
        mode: repository::read_config_of_any(fs)?.mode,
        object_len_max,
        report,
        next: AtomicU16::new(0),
        objects: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        faults: AtomicU64::new(0),
        remarks: AtomicU64::new(0),
        damaged: Mutex::default(),
    };
    let commits = check.all_objects()?;
    let whole = check.closures(&commits)?;
    let refs = check.refs()?;
    check.summary()?;
    let checked = Checked {
        objects: check.objects.into_inner(),
        bytes: check.bytes.into_inner(),
        commits: whole,
        refs,
        faults: check.faults.into_inner(),
        remarks: check.remarks.into_inner(),
    };
    Ok((checked, check.damaged.into_inner()))
}

struct Check<'a, F: Fs> {
    fs: &'a F,
    mode: RepoMode,
    object_len_max: u64,
    report: &'a (dyn Fn(Finding) + Sync),
    // The next of the 256 directories of objects.
    next: AtomicU16,
    objects: AtomicU64,
    bytes: AtomicU64,
    faults: AtomicU64,
    remarks: AtomicU64,
    damaged: Mutex<Vec<Damaged>>,
}

impl<F: Fs> Check<'_, F> {
    fn fault(&self, what: &impl ToString, why: &impl ToString) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        self.report(Weight::Fault, what, why);
    }

    fn remark(&self, what: &impl ToString, why: &impl ToString) {
        self.remarks.fetch_add(1, Ordering::Relaxed);
        self.report(Weight::Remark, what, why);
    }

    fn report(&self, weight: Weight, what: &impl ToString, why: &impl ToString) {
        (self.report)(Finding {
            weight,
            what: what.to_string(),
            why: why.to_string(),
        });
    }

    /// Verifies every object, and returns the commits.
    fn all_objects(&self) -> Result<Vec<Checksum>, Error> {
        self.top_names()?;
        let results = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS)
                .map(|_| scope.spawn(|| self.some_objects()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join())
                .collect::<Vec<_>>()
        });
        let mut commits = Vec::new();
        for result in results {
            commits.extend(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(commits)
    }

    /// Checks for entries of `objects` that are not one of the 256 directories. Other programs
    /// ignore them, unless they have the name of one.
    fn top_names(&self) -> Result<(), Error> {
        let objects = RepoPath::objects();
        for (name, kind) in list_dir(self.fs, &objects)? {
            let path = objects.child(&name);
            let mut digits = name.bytes();
            let is_one = name.len() == 2 && digits.all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            match (is_one, kind) {
                (true, FileKind::Dir) => {}
                (true, _) => self.fault(
                    &path,
                    &"has the name of a directory of objects, but is not one",
                ),
                (false, _) => self.remark(&path, &LEFT),
            }
        }
        Ok(())
    }

    /// Verifies the objects of one directory after the other, until all are taken.
    fn some_objects(&self) -> Result<Vec<Checksum>, Error> {
        let mut commits = Vec::new();
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let Ok(first) = u8::try_from(next) else {
                return Ok(commits);
            };
            let dir = RepoPath::fan_out(first);
            let entries = match if_there(self.fs.read_dir(&dir, usize::MAX)) {
                Ok(entries) => entries.unwrap_or_default(),
                Err(error) => {
                    self.fault(&dir, &error);
                    continue;
                }
            };
            for entry in entries {
                let path = dir.child(&entry.name);
                let stored = stored::look(self.mode, first, &entry.name, entry.kind);
                match stored {
                    Stored::Foreign => self.remark(&path, &LEFT),
                    Stored::Companion => {}
                    Stored::Detached(commit) if !self.has(commit)? => {
                        self.remark(&path, &"belongs to a commit that does not exist");
                    }
                    Stored::Object(_) | Stored::Detached(_) | Stored::Misshapen(_) => {
                        if let Stored::Object(id) = stored {
                            self.objects.fetch_add(1, Ordering::Relaxed);
                            if id.kind == ObjectKind::Commit {
                                commits.push(id.checksum);
                            }
                        }
                        self.stored(Damaged { path, stored });
                    }
                }
            }
        }
    }

    fn stored(&self, looked_at: Damaged) {
        match judge(self.fs, self.mode, &looked_at, self.object_len_max) {
            Ok(len) => _ = self.bytes.fetch_add(len, Ordering::Relaxed),
            Err(Wrong { why, is_damaged }) => {
                self.fault(&looked_at.path, &why);
                if is_damaged {
                    self.damaged.lock().push(looked_at);
                }
            }
        }
    }

    /// Checks that commits which are not marked partial have their closure; returns how many there
    /// are.
    fn closures(&self, commits: &[Checksum]) -> Result<u64, Error> {
        let mut walked = IdSet::default();
        let mut whole = 0;
        for &commit in commits {
            if !objects::is_whole(self.fs, commit)? {
                // Also reported in a history that no ref reaches directly: stock ostree complains
                // about it.
                if objects::partial(self.fs, commit)? == Some(Partial::Found) {
                    self.fault(&format!("commit {commit}"), &"was found to lack objects");
                }
                continue;
            }
            whole += 1;
            self.closure(commit, &mut walked)?;
        }
        Ok(whole)
    }

    /// Checks the closure of a commit, except for parts already checked.
    fn closure(&self, commit: Checksum, walked: &mut IdSet) -> Result<(), Error> {
        let root = ObjectId::new(ObjectKind::Commit, commit);
        let mut too_many = false;
        let mut descent = Descent::new(usize::MAX);
        let mut next = Some(Next::Look(root));
        while let Some(step) = next {
            match step {
                Next::Look(id) => match walked.look(&id).flatten() {
                    Some(levels) => descent.settle(levels),
                    None => {
                        if descent.enter(id, self.children(id)?).is_err() {
                            self.fault(&root, &"names too many directories to check");
                            return Ok(());
                        }
                    }
                },
                Next::Done(id, levels) => {
                    too_many |= levels.are_too_many() && id != root;
                    walked.insert(id);
                    walked.mark(&id, levels);
                }
            }
            next = descent.next();
        }
        if too_many {
            let why = format!(
                "nests deeper than {MAX_TREE_DEPTH} levels, at which `ostree fsck` and `ostree \
                 prune` \
                 may crash: remove the refs that lead there"
            );
            self.fault(&root, &why);
        }
        Ok(())
    }

    /// Returns the existing objects that an object names.
    fn children(&self, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
        // A damaged or missing object has been reported at its own place, or where it is named.
        let Some(content) = objects::read_metadata(self.fs, id)? else {
            return Ok(Vec::new());
        };
        let mut there = Vec::new();
        for child in tree::children(id, &content).unwrap_or_default() {
            if form::has(self.fs, self.mode, &child)? {
                there.push(child);
            } else {
                self.fault(&id, &format!("names {child}, which is missing"));
            }
        }
        Ok(there)
    }

    /// Checks that refs are valid, and that their commits are here; returns how many there are.
    fn refs(&self) -> Result<u64, Error> {
        let all = listing::list(self.fs)?;
        for (path, broken) in &all.broken {
            match broken {
                Broken::NoChecksum => self.fault(path, &broken.why()),
                Broken::Leftover(commit) if !self.has(*commit)? => self.fault(path, &broken.why()),
                Broken::Foreign | Broken::Leftover(_) | Broken::Lost(_) => {
                    self.remark(path, &broken.why());
                }
            }
        }
        let mut count = 0;
        for (name, commit) in all.iter() {
            count += 1;
            let what = format!("ref {name}");
            if !self.has(commit)? {
                let id = ObjectId::new(ObjectKind::Commit, commit);
                self.fault(&what, &format!("names {id}, which is missing"));
                continue;
            }
            match objects::partial(self.fs, commit)? {
                None => {}
                Some(Partial::Found) => {
                    self.fault(
                        &what,
                        &format!("its commit {commit} was found to lack objects"),
                    );
                }
                Some(Partial::Pulled) => {
                    self.remark(&what, &format!("its commit {commit} was pulled in part"));
                }
            }
        }
        Ok(count)
    }

    fn has(&self, commit: Checksum) -> Result<bool, Error> {
        let id = ObjectId::new(ObjectKind::Commit, commit);
        objects::is_there(self.fs, &RepoPath::object(&id))
    }

    fn summary(&self) -> Result<(), Error> {
        let path = RepoPath::summary();
        let Some(content) =
            read_file(self.fs, &path, MAX_SUMMARY_LEN).map_err(Error::io("reading", &path))?
        else {
            return Ok(());
        };
        let summary = match Summary::parse(&content) {
            Ok(summary) => summary,
            Err(error) => {
                self.fault(&path, &error);
                return Ok(());
            }
        };
        let refs = summary
            .refs
            .iter()
            .chain(summary.collection_map.values().flatten());
        for (name, entry) in refs {
            if !objects::is_whole(self.fs, entry.commit)? {
                let why = format!(
                    "lists ref {name} with commit {}, which is missing",
                    entry.commit
                );
                self.fault(&path, &why);
            }
        }
        Ok(())
    }
}

const LEFT: &str = "was left by another program; OSTree ignores it";
const THREADS: usize = 2;
/// Longer than any summary that a client reads, in bytes.
const MAX_SUMMARY_LEN: usize = 128 * 1024 * 1024;
