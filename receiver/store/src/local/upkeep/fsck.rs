//! A strict check of a whole repository: every object verified as on receipt, every whole commit
//! with all it reaches, every ref and the summary naming what is there.
//!
//! Read-only, in bounded memory but for the ids of dirtrees. Stricter than `ostree fsck`, which
//! does not look at how a file object is stored.

use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::thread;

use artifact_formats::limits::{MAX_METADATA_LEN, MAX_TREE_DEPTH};
use artifact_formats::{Checksum, ObjectId, ObjectKind, Summary, check_detached};

use crate::error::Error;
use crate::local::disk::path::{DETACHED, RepoPath};
use crate::local::disk::{FileKind, Fs, RealFs, if_there, read_file};
use crate::local::repository::descent::{Descent, Next};
use crate::local::repository::id_set::IdSet;
use crate::local::repository::{self, objects, refs};

/// Something in a repository that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where: a path in the repository, a ref, or an object.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Objects.
    pub objects: u64,
    /// Bytes of them, as stored.
    pub bytes: u64,
    /// Commits that are not marked as partial.
    pub commits: u64,
    /// Refs.
    pub refs: u64,
    /// Faults that were reported.
    pub faults: u64,
}

/// Checks the repository at `path`, and reports each fault; from several threads.
///
/// Fails when the repository cannot be read. Objects larger than `object_len_max` are faults.
pub fn fsck(
    path: &Path,
    object_len_max: u64,
    report: &(dyn Fn(Fault) + Sync),
) -> Result<Checked, Error> {
    let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
    repository::read_config(&fs)?;
    let check = Check {
        fs: &fs,
        object_len_max,
        report,
        next: AtomicU16::new(0),
        objects: AtomicU64::new(0),
        bytes: AtomicU64::new(0),
        faults: AtomicU64::new(0),
    };
    let commits = check.all_objects()?;
    let whole = check.closures(&commits)?;
    let refs = check.refs()?;
    check.summary()?;
    Ok(Checked {
        objects: check.objects.into_inner(),
        bytes: check.bytes.into_inner(),
        commits: whole,
        refs,
        faults: check.faults.into_inner(),
    })
}

struct Check<'a, F: Fs> {
    fs: &'a F,
    object_len_max: u64,
    report: &'a (dyn Fn(Fault) + Sync),
    // The next of the 256 directories of objects.
    next: AtomicU16,
    objects: AtomicU64,
    bytes: AtomicU64,
    faults: AtomicU64,
}

impl<F: Fs> Check<'_, F> {
    fn fault(&self, what: &impl ToString, why: &impl ToString) {
        self.faults.fetch_add(1, Ordering::Relaxed);
        (self.report)(Fault {
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

    /// Looks for what is in `objects` and not one of the 256 directories.
    fn top_names(&self) -> Result<(), Error> {
        let objects = RepoPath::objects();
        let entries = self
            .fs
            .read_dir(&objects, usize::MAX)
            .map_err(Error::io("listing", &objects))?;
        for entry in entries {
            let name = entry.name.as_bytes();
            let hex =
                name.len() == 2 && name.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if !hex || entry.kind != FileKind::Dir {
                self.fault(&objects.child(&entry.name), &"is no directory of objects");
            }
        }
        Ok(())
    }

    /// Verifies the objects of one directory after the other, until all were taken.
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
                let stored = parse_name(&format!("{first:02x}"), &entry.name);
                match stored.filter(|_| entry.kind == FileKind::File) {
                    None => self.fault(&path, &"has no name of an object, or is no file"),
                    Some(Stored::Tombstone) => {}
                    Some(Stored::Detached) => self.detached(&path),
                    Some(Stored::Object(id)) => {
                        if id.kind == ObjectKind::Commit {
                            commits.push(id.checksum);
                        }
                        self.object(&path, id);
                    }
                }
            }
        }
    }

    fn object(&self, path: &RepoPath, id: ObjectId) {
        self.objects.fetch_add(1, Ordering::Relaxed);
        match objects::verify_file(self.fs, path, id, self.object_len_max) {
            Ok(Ok(verified)) => {
                _ = self
                    .bytes
                    .fetch_add(verified.stored_len(), Ordering::Relaxed)
            }
            Ok(Err(rejection)) => self.fault(path, &crate::error::with_causes(&rejection)),
            Err(error) => self.fault(path, &error),
        }
    }

    fn detached(&self, path: &RepoPath) {
        match read_file(self.fs, path, MAX_METADATA_LEN) {
            Ok(content) => {
                if let Err(error) = check_detached(&content.unwrap_or_default()) {
                    self.fault(path, &error);
                }
            }
            Err(error) => self.fault(path, &error),
        }
    }

    /// Checks that commits which are not marked as partial have all they reach; returns how many.
    fn closures(&self, commits: &[Checksum]) -> Result<u64, Error> {
        let mut walked = IdSet::default();
        let mut whole = 0;
        for &commit in commits {
            if !objects::is_whole(self.fs, commit)? {
                continue;
            }
            whole += 1;
            self.closure(commit, &mut walked)?;
        }
        Ok(whole)
    }

    /// Checks that a commit has all it reaches, as far as that was not looked at.
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
                            self.fault(&root, &"names too many directories to be looked at");
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
                "nests deeper than {MAX_TREE_DEPTH} levels, where `ostree fsck` and `ostree prune` \
                 may crash: remove the refs that lead there"
            );
            self.fault(&root, &why);
        }
        Ok(())
    }

    /// Returns what an object names and what is there.
    fn children(&self, id: ObjectId) -> Result<Vec<ObjectId>, Error> {
        // One that is damaged or gone was reported where it lies, or where it is named.
        let Some(content) = objects::read_metadata(self.fs, id)? else {
            return Ok(Vec::new());
        };
        let mut there = Vec::new();
        for child in objects::children(id, &content).unwrap_or_default() {
            if objects::is_there(self.fs, &RepoPath::object(&child))? {
                there.push(child);
            } else {
                self.fault(&id, &format!("names {child}, which is not there"));
            }
        }
        Ok(there)
    }

    /// Checks that refs are refs, and their commits here; returns how many there are.
    fn refs(&self) -> Result<u64, Error> {
        let all = refs::list(self.fs)?;
        for (path, why) in &all.faults {
            self.fault(path, why);
        }
        let mut count = 0;
        for (name, &commit) in all.heads.iter().chain(all.mirrors.values().flatten()) {
            count += 1;
            let id = ObjectId::new(ObjectKind::Commit, commit);
            if !objects::is_there(self.fs, &RepoPath::object(&id))? {
                self.fault(
                    &format!("ref {name}"),
                    &format!("names {id}, which is not there"),
                );
            }
        }
        Ok(count)
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
                    "names ref {name} with commit {}, which is not there",
                    entry.commit
                );
                self.fault(&path, &why);
            }
        }
        Ok(())
    }
}

/// What a name in a directory of objects stands for.
enum Stored {
    Object(ObjectId),
    Detached,
    Tombstone,
}

fn parse_name(first: &str, rest: &str) -> Option<Stored> {
    let (digits, extension) = rest.split_once('.')?;
    let checksum: Checksum = format!("{first}{digits}").parse().ok()?;
    match extension {
        DETACHED => Some(Stored::Detached),
        "commit-tombstone" => Some(Stored::Tombstone),
        _ => ObjectKind::ALL
            .into_iter()
            .find(|kind| kind.archive_extension() == extension)
            .map(|kind| Stored::Object(ObjectId::new(kind, checksum))),
    }
}

const THREADS: usize = 2;
/// A summary longer than any client reads, in bytes.
const MAX_SUMMARY_LEN: usize = 128 * 1024 * 1024;
