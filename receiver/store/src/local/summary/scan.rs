//! The contents of the directories from which a summary is made, so that only changed ones are read
//! again.
//!
//! A directory with the same inode number and change time has the same entries, and a file the same
//! content. That holds as far as the file system's clock distinguishes two moments: an entry that
//! changed shortly before the scan may change again with the same time. So such a time is not kept,
//! and the scan reads that directory or file again the next time. Of a file's two times this is
//! ctime, which no program can set, and which a rename changes as well.
//!
//! A file written in place is noticed only if its directory has changed as well; neither libostree
//! nor this program writes refs in place.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::time::Duration;
use std::{mem, thread};

use artifact_formats::Checksum;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs, Stat, if_there, is_symlink};
use crate::local::repository::listing;
use crate::summary::facts::Facts;

/// All files from which a summary is made, by directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scan {
    pub(crate) dirs: BTreeMap<RepoPath, Dir>,
    /// The directories of objects at the time the refs' commits were looked up, as far as every
    /// later change shows.
    pub(crate) objects: BTreeMap<u8, Stamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dir {
    /// `None` if the directory may change without a trace.
    pub(crate) stamp: Option<Stamp>,
    /// The names of its subdirectories, sorted.
    pub(crate) dirs: Vec<Box<str>>,
    /// Its files, sorted by name.
    pub(crate) files: Vec<File>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    /// The name in the directory.
    pub(crate) name: Box<str>,
    /// `None` if the value may change without a trace, as that of an alias does.
    pub(crate) stamp: Option<Stamp>,
    /// A ref's commit, or the SHA-256 of a static delta's superblock; `None` if it is broken.
    pub(crate) value: Option<Checksum>,
    /// The facts about the commit, if it exists and is complete.
    pub(crate) facts: Option<Facts>,
    /// Seconds since 1970 at the last modification that this scan saw; a record does not store it.
    #[serde(skip)]
    pub(crate) modified: Option<i64>,
}

/// Distinguishes one state of a file or directory from its other states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) inode: u64,
    pub(crate) changed: (i64, u64),
    pub(crate) len: u64,
}

/// A moment by the clock of the file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment(pub(crate) (i64, u64));

impl Scan {
    /// Brings everything up to date; returns whether something has changed. `now` must be a moment
    /// before the call.
    pub(crate) fn refresh<F: Fs>(&mut self, fs: &F, now: Moment) -> Result<bool, Error> {
        let tops = [RepoPath::heads(), RepoPath::mirrors(), RepoPath::deltas()];
        self.refresh_below(fs, now, tops)
    }

    /// The same, for entries below `tops` only.
    pub(crate) fn refresh_below<F: Fs>(
        &mut self,
        fs: &F,
        now: Moment,
        tops: impl IntoIterator<Item = RepoPath>,
    ) -> Result<bool, Error> {
        let mut before = mem::take(&mut self.dirs);
        let mut todo = Vec::new();
        for top in tops {
            let stat = there(fs.stat(&top)).map_err(Error::io("looking at", &top))?;
            todo.push((top, stat));
        }
        let mut changed = false;
        while let Some((path, stat)) = todo.pop() {
            let known = before.remove(&path);
            let was_there = known.is_some();
            let look = Look {
                fs,
                now,
                path: &path,
            };
            let Some((dir, differs)) = look.at_dir(known, stat)? else {
                changed |= was_there;
                continue;
            };
            changed |= differs;
            if !dir.dirs.is_empty() {
                let stats = there(fs.stat_each(&path, &dir.dirs));
                let stats = stats.map_err(Error::io("looking into", &path))?;
                let stats = stats.unwrap_or_default().into_iter();
                let children = dir.dirs.iter().map(|name| path.child(name));
                todo.extend(children.zip(stats));
            }
            self.dirs.insert(path, dir);
        }
        // The remaining directories lay below removed ones.
        Ok(changed || !before.is_empty())
    }

    /// Lets the clock tick if there is a large directory: recent changes in it then have settled,
    /// and it need not be listed twice.
    pub(crate) fn settle(&self) {
        if self.dirs.values().any(|dir| dir.files.len() > LARGE) {
            thread::sleep(TWO_TICKS);
        }
    }

    /// Returns the collections whose refs are mirrored here.
    pub(crate) fn collections(&self) -> impl Iterator<Item = &str> {
        let mirrors = self.dirs.get(&RepoPath::mirrors());
        mirrors
            .into_iter()
            .flat_map(|dir| dir.dirs.iter().map(|name| &**name))
    }

    /// Returns the files below a directory, with their relative names.
    pub(crate) fn files_below(&self, top: &RepoPath) -> impl Iterator<Item = (String, &File)> {
        let prefix = move |path: &RepoPath| match path.below(top) {
            Some(below) => Some(format!("{below}/")),
            None => (path == top).then(String::new),
        };
        let below = self.dirs.range(top.clone()..);
        below
            .filter_map(move |(path, dir)| Some((prefix(path)?, dir)))
            .flat_map(|(prefix, dir)| {
                let name = move |file: &File| format!("{prefix}{}", file.name);
                dir.files.iter().map(move |file| (name(file), file))
            })
    }

    /// Returns all refs, including those of collections.
    pub(crate) fn refs_mut(&mut self) -> impl Iterator<Item = (&RepoPath, &mut File)> {
        let refs = |(path, _): &(&RepoPath, &mut Dir)| is_of_refs(path);
        self.dirs
            .iter_mut()
            .filter(refs)
            .flat_map(|(path, dir)| dir.files.iter_mut().map(move |file| (path, file)))
    }
}

/// Returns the name of a ref from its directory below `refs/heads`, or below a collection's.
pub(crate) fn ref_name(dir: &RepoPath, file: &str) -> String {
    let mirrors = RepoPath::mirrors();
    let collection = dir
        .below(&mirrors)
        .and_then(|below| below.split('/').next());
    let top = collection.map_or(RepoPath::heads(), |collection| mirrors.child(collection));
    match dir.below(&top) {
        Some(dir) => format!("{dir}/{file}"),
        None => file.to_owned(),
    }
}

impl Stamp {
    pub(crate) const fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.inode,
            changed: stat.changed,
            len: stat.len,
        }
    }

    /// Returns a stamp of an entry looked at at this moment or later, if every change from then on
    /// will change the stamp.
    pub(crate) fn settled(stat: &Stat, now: Moment) -> Option<Self> {
        let nanos =
            |(secs, nanos): (i64, u64)| i128::from(secs) * 1_000_000_000 + i128::from(nanos);
        // A clock that counts whole seconds has no nanoseconds.
        let wait = if now.0.1 == 0 { COARSE } else { TWO_TICKS };
        let past = nanos(now.0) - nanos(stat.changed);
        let settled = u128::try_from(past).is_ok_and(|past| past > wait.as_nanos());
        settled.then(|| Self::of(stat))
    }
}

/// The scan of one directory.
struct Look<'a, F: Fs> {
    fs: &'a F,
    now: Moment,
    path: &'a RepoPath,
}

impl<F: Fs> Look<'_, F> {
    /// Returns the current contents, and whether they differ; `None` if there is no directory.
    fn at_dir(&self, known: Option<Dir>, stat: Option<Stat>) -> Result<Option<(Dir, bool)>, Error> {
        let Some(stat) = stat.filter(|stat| stat.kind == FileKind::Dir) else {
            return Ok(None);
        };
        match known {
            Some(mut dir) if dir.stamp == Some(Stamp::of(&stat)) => {
                let changed = self.at_doubtful(&mut dir)?;
                Ok(Some((dir, changed)))
            }
            known => self.at_changed(known),
        }
    }

    /// Reads again the files that may have changed although their directory has not.
    fn at_doubtful(&self, dir: &mut Dir) -> Result<bool, Error> {
        let mut changed = false;
        for file in dir.files.iter_mut().filter(|file| file.stamp.is_none()) {
            let path = self.path.child(&file.name);
            let stat = there(self.fs.stat(&path)).map_err(Error::io("looking at", &path))?;
            let Some(stat) = stat else {
                // Removed since the directory was looked at: that changes its stamp.
                changed |= file.take(None, None);
                continue;
            };
            changed |= file.take(self.stamp(&stat), self.read(&path, stat.kind)?);
            file.modified = Some(stat.modified.0);
        }
        Ok(changed)
    }

    fn at_changed(&self, known: Option<Dir>) -> Result<Option<(Dir, bool)>, Error> {
        let surveyed = there(self.fs.survey(self.path)).map_err(Error::io("listing", self.path))?;
        let Some((itself, mut entries)) = surveyed else {
            return Ok(None);
        };
        entries.retain(|(name, stat)| self.is_wanted(name, stat.kind));
        entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut changed = known.is_none();
        let mut before = known.unwrap_or_default();
        let mut dir = Dir {
            stamp: Stamp::settled(&itself, self.now),
            ..Dir::default()
        };
        for (name, stat) in entries {
            let name = name.into_boxed_str();
            if stat.kind == FileKind::Dir {
                dir.dirs.push(name);
                continue;
            }
            let mut file = match before.files.binary_search_by(|file| file.name.cmp(&name)) {
                Ok(index) => mem::replace(&mut before.files[index], File::unknown(name)),
                Err(_) => {
                    changed = true;
                    File::unknown(name)
                }
            };
            if file.stamp != Some(Stamp::of(&stat)) {
                let value = self.read(&self.path.child(&file.name), stat.kind)?;
                changed |= file.take(self.stamp(&stat), value);
            }
            file.modified = Some(stat.modified.0);
            dir.files.push(file);
        }
        changed |= before.files.len() != dir.files.len() || before.dirs != dir.dirs;
        Ok(Some((dir, changed)))
    }

    fn stamp(&self, stat: &Stat) -> Option<Stamp> {
        // An alias's target changes without the alias.
        let own = stat.kind == FileKind::File;
        own.then(|| Stamp::settled(stat, self.now)).flatten()
    }

    fn is_wanted(&self, name: &str, kind: FileKind) -> bool {
        if is_of_refs(self.path) {
            let in_collection = *self.path != RepoPath::mirrors();
            return listing::is_name(name) && (in_collection || kind == FileKind::Dir);
        }
        let depth = self.path.as_str().split('/').count();
        match kind {
            FileKind::Dir => depth < DELTA_DEPTH,
            _ => depth == DELTA_DEPTH && name == SUPERBLOCK,
        }
    }

    fn read(&self, path: &RepoPath, kind: FileKind) -> Result<Option<Checksum>, Error> {
        if !is_of_refs(path) {
            return file_checksum(self.fs, path);
        }
        match listing::value(self.fs, path, kind)? {
            Ok(value) => Ok(value),
            Err(why) => {
                tracing::warn!(%path, "left out of the summary: it {}", why.why());
                Ok(None)
            }
        }
    }
}

impl File {
    const fn unknown(name: Box<str>) -> Self {
        Self {
            name,
            stamp: None,
            value: None,
            facts: None,
            modified: None,
        }
    }

    /// Stores a new value; returns whether it differs from the old one.
    fn take(&mut self, stamp: Option<Stamp>, value: Option<Checksum>) -> bool {
        self.stamp = stamp;
        let changed = self.value != value;
        if changed {
            self.value = value;
            self.facts = None;
        }
        changed
    }
}

/// Returns whether a directory holds refs, not static deltas.
fn is_of_refs(path: &RepoPath) -> bool {
    path.below(&RepoPath::refs()).is_some()
}

/// Returns `None` if the entry no longer exists, or a component above it is no longer a directory.
pub(crate) fn there<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match if_there(result) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory || is_symlink(&error) => {
            Ok(None)
        }
        other => other,
    }
}

fn file_checksum<F: Fs>(fs: &F, path: &RepoPath) -> Result<Option<Checksum>, Error> {
    let Some(mut file) = if_there(fs.open(path)).map_err(Error::io("opening", path))? else {
        return Ok(None);
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(Checksum::new(hasher.finalize().into()))),
            Ok(read) => hasher.update(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("reading", path)(error)),
        }
    }
}

/// Clocks with fractions of seconds tick at least every ten milliseconds. Any earlier time would
/// do; two ticks are on the safe side.
const TWO_TICKS: Duration = Duration::from_millis(20);
/// The coarsest clock of a file system that holds repositories ticks every second or two.
const COARSE: Duration = Duration::from_secs(2);
/// From this number of files, a directory is worth the wait.
const LARGE: usize = 2_000;
/// The part of a static delta whose checksum a summary contains.
const SUPERBLOCK: &str = "superblock";
/// `deltas/XX/YYYY`
const DELTA_DEPTH: usize = 3;
