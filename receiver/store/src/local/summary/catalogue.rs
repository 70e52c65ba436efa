//! All refs with the metadata of their commits, for programs that show a cache: a page, a monitor.
//!
//! The catalogue only reads, and needs no right beyond that. It reveals nothing that a push does
//! not: its facts about a commit are those from which the last summary was made. It does not read
//! unchanged data again: in a repository without changes, it looks at three files.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artifact_formats::limits::MAX_METADATA_LEN;
use artifact_formats::{Checksum, Summary};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::real::RealFs;
use crate::local::disk::{Fs, Room, Stat, if_there, read_file};
use crate::local::repository::{account, read_config};
use crate::local::summary::cache;
use crate::local::summary::scan::{File, Moment, Scan, Stamp};

/// The refs of a repository on this machine, with the metadata of their commits.
#[derive(Debug)]
pub struct Catalogue {
    fs: RealFs,
    scan: Scan,
    seen: Option<Seen>,
    known: HashMap<Checksum, Known>,
    owners: HashMap<Box<str>, String>,
    summary: Option<SummaryFile>,
}

/// One ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueRef {
    /// The name. Not every name could be pushed: other programs allow more.
    pub name: String,
    /// The ref's commit.
    pub commit: Checksum,
    /// Seconds since 1970 when it was set.
    pub set: i64,
    /// Seconds since 1970 when the commit was made.
    pub made: Option<u64>,
    /// Stored bytes of everything that the commit reaches.
    pub size: Option<u64>,
    /// The identity that made the ref, where refs are counted.
    pub owner: Option<String>,
}

/// The summary on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummaryFile {
    /// The length in bytes.
    pub len: u64,
    /// Seconds since 1970 when it was written.
    pub written: i64,
}

/// The metadata of a commit, as far as known.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    made: Option<u64>,
    size: Option<u64>,
}

/// The stamps of the files that change whenever a ref does: the root is touched after each change,
/// the summary and the record are replaced. A stamp whose file may change again without a trace is
/// `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen([Option<Stamp>; 3]);

impl Catalogue {
    /// Opens the repository at `path`, and reads all refs.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let fs = RealFs::open(path).map_err(Error::io("opening", &path.display()))?;
        read_config(&fs)?;
        let mut catalogue = Self {
            fs,
            scan: Scan::default(),
            seen: None,
            known: HashMap::new(),
            owners: HashMap::new(),
            summary: None,
        };
        catalogue.refresh()?;
        Ok(catalogue)
    }

    /// Brings everything up to date; returns whether anything may have changed.
    pub fn refresh(&mut self) -> Result<bool, Error> {
        let now = now();
        let paths = [
            RepoPath::root(),
            RepoPath::summary(),
            RepoPath::summary_record(),
        ];
        let mut stats = [None; 3];
        for (stat, path) in stats.iter_mut().zip(&paths) {
            *stat = self.look_at(path)?;
        }
        let seen = Seen(stats.map(|stat| stat.map(|stat| Stamp::of(&stat))));
        if self.seen == Some(seen) {
            return Ok(false);
        }
        self.scan
            .refresh_below(&self.fs, now, [RepoPath::heads()])?;
        self.owners = account::owners(&self.fs).unwrap_or_default();
        self.known = known(&self.fs)?;
        let [_, summary, _] = stats;
        self.summary = summary.map(|stat| SummaryFile {
            len: stat.len,
            written: stat.modified.0,
        });
        let settled = |stat: Option<Stat>| stat.is_none_or(|s| Stamp::settled(&s, now).is_some());
        self.seen = stats.into_iter().all(settled).then_some(seen);
        Ok(true)
    }

    /// Returns the refs, those of a directory after those in it.
    pub fn refs(&self) -> Vec<CatalogueRef> {
        let heads = RepoPath::heads();
        let files = self.scan.files_below(&heads);
        let of_ref = |(name, file): (String, &File)| {
            let commit = file.value?;
            let known = self.known.get(&commit).copied().unwrap_or_default();
            Some(CatalogueRef {
                owner: self.owners.get(&*name).cloned(),
                name,
                commit,
                set: file.modified.unwrap_or(0),
                made: known.made,
                size: known.size,
            })
        };
        files.filter_map(of_ref).collect()
    }

    /// Returns the names of files in the place of a ref that lead to no commit.
    pub fn broken(&self) -> Vec<String> {
        let heads = RepoPath::heads();
        let files = self.scan.files_below(&heads);
        let broken = files.filter(|(_, file)| file.value.is_none());
        broken.map(|(name, _)| name).collect()
    }

    /// Returns the length and time of the summary, if there is one.
    pub const fn summary(&self) -> Option<SummaryFile> {
        self.summary
    }

    /// Returns the free space on the disk.
    pub fn room(&self) -> Result<Room, Error> {
        let room = self.fs.room();
        room.map_err(Error::io("looking for room in", &RepoPath::root()))
    }

    fn look_at(&self, path: &RepoPath) -> Result<Option<Stat>, Error> {
        // The root has no name in itself.
        let stat = if *path == RepoPath::root() {
            self.fs.survey(path).map(|(itself, _)| Some(itself))
        } else {
            if_there(self.fs.stat(path))
        };
        stat.map_err(Error::io("looking at", path))
    }
}

/// Returns the facts from which the last summary was made, or, where that record is missing, the
/// summary's own.
fn known<F: Fs>(fs: &F) -> Result<HashMap<Checksum, Known>, Error> {
    let mut known: HashMap<Checksum, Known> = HashMap::new();
    let record = cache::load(fs).unwrap_or_default();
    if record.scan.dirs.is_empty() {
        let path = RepoPath::summary();
        let content = read_file(fs, &path, MAX_METADATA_LEN).ok().flatten();
        let summary = Summary::parse(&content.unwrap_or_default()).unwrap_or_default();
        for entry in summary.refs.values() {
            let (made, size) = (entry.timestamp, entry.size);
            known.insert(entry.commit, Known { made, size });
        }
    }
    for (commit, size) in record.sizes {
        known.entry(commit).or_default().size = Some(size);
    }
    for file in record.scan.dirs.into_values().flat_map(|dir| dir.files) {
        if let (Some(commit), Some(facts)) = (file.value, file.facts) {
            let (made, size) = (Some(facts.timestamp), facts.size);
            known.insert(commit, Known { made, size });
        }
    }
    Ok(known)
}

/// Returns the moment from which changes count as new. Nothing may be written here to read a file's
/// clock: that clock lags behind this one by a tick at most.
fn now() -> Moment {
    let now = SystemTime::now() - TICK;
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Moment((seconds, u64::from(since.subsec_nanos()).max(1)))
}

/// The longest tick of a clock that counts in less than seconds.
const TICK: Duration = Duration::from_millis(10);
