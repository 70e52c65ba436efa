//! All refs with what is known of them, for those who show a cache: a page, a monitor.
//!
//! It only reads, and asks for no right beyond that. It makes nothing known that a push does not:
//! what it says of a commit is what the last summary was made from. What is the same as the last
//! time is not read again: of a repository where nothing changed, three files are looked at.

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

/// The refs of a repository on this machine, and what is known of them.
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
    /// Its name. Not always one that could be pushed: other programs allow more.
    pub name: String,
    /// The commit it holds.
    pub commit: Checksum,
    /// Seconds since 1970 when it was set.
    pub set: i64,
    /// Seconds since 1970 when the commit was made.
    pub made: Option<u64>,
    /// Stored bytes of all that the commit reaches.
    pub size: Option<u64>,
    /// The identity that has made the ref, where refs are counted.
    pub owner: Option<String>,
}

/// The summary on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SummaryFile {
    /// Its length in bytes.
    pub len: u64,
    /// Seconds since 1970 when it was written.
    pub written: i64,
}

/// What is known of a commit.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    made: Option<u64>,
    size: Option<u64>,
}

/// What changes whenever a ref does: the root is touched after each, the summary and the record are
/// replaced. A part that may change again without a trace is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen([Option<Stamp>; 3]);

impl Catalogue {
    /// Opens the repository at `path`, and reads all there is.
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

    /// Returns the names of what has the place of a ref and leads to no commit.
    pub fn broken(&self) -> Vec<String> {
        let heads = RepoPath::heads();
        let files = self.scan.files_below(&heads);
        let broken = files.filter(|(_, file)| file.value.is_none());
        broken.map(|(name, _)| name).collect()
    }

    /// Returns what is known of the summary, if there is one.
    pub const fn summary(&self) -> Option<SummaryFile> {
        self.summary
    }

    /// Looks how much room there is on the disk.
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

/// Returns what the last summary was made from; what it said itself, where that is not to be had.
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

/// Returns a moment that marks what is looked at from now on. Nothing may be written here whose
/// time could be taken: the clock of files is behind this one by a tick at most.
fn now() -> Moment {
    let now = SystemTime::now() - TICK;
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    Moment((seconds, u64::from(since.subsec_nanos()).max(1)))
}

/// The longest tick of a clock that counts less than seconds.
const TICK: Duration = Duration::from_millis(10);
