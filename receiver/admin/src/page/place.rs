//! A directory that is written beside another one and replaces it at once.
//!
//! It contains a list of all files written into it, which tells the next run what it may remove. A
//! name enters the list before the file exists, so that the list also covers the files of a killed
//! run.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::Errno;

/// A directory being written.
#[derive(Debug)]
pub(super) struct Place {
    out: PathBuf,
    /// Beside `out`, on the same file system.
    new: PathBuf,
    list: File,
    // Locked as long as this lives, so that no other run mistakes the directory for an abandoned
    // one.
    _lock: File,
}

/// A directory that the command refuses to replace; the operator has to decide.
#[derive(Debug)]
pub(super) struct Refusal(PathBuf);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was not written by this command, and is not removed: name another directory, or \
             move it away",
            self.0.display()
        )
    }
}

impl Place {
    /// Makes a directory beside `out`, unless `out` contains something that must not be removed.
    pub(super) fn prepare(out: &Path) -> anyhow::Result<Result<Self, Refusal>> {
        // `a/` becomes `a`.
        let out: PathBuf = out.components().collect();
        let Some(name) = out.file_name() else {
            bail!(
                "{} has no name that could be given to another directory",
                out.display()
            );
        };
        if let Some(path) = foreign(&out).with_context(|| cannot("look into", &out))? {
            return Ok(Err(Refusal(path)));
        }
        let mut new_name = OsString::from(".");
        new_name.push(name);
        new_name.push(".new");
        let new = out.with_file_name(new_name);
        let lock = lock(&new)?;
        if let Some(path) = foreign(&new).with_context(|| cannot("look into", &new))? {
            return Ok(Err(Refusal(path)));
        }
        empty(&new).with_context(|| cannot("clear", &new))?;
        let list = File::create_new(new.join(LIST)).with_context(|| cannot("write to", &new))?;
        Ok(Ok(Self {
            out,
            new,
            list,
            _lock: lock,
        }))
    }

    /// Returns the path for a file of this name, after making its parent directories.
    pub(super) fn take(&mut self, name: &str) -> io::Result<PathBuf> {
        self.list.write_all(format!("{name}\n").as_bytes())?;
        let path = self.new.join(name);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        Ok(path)
    }

    /// Replaces the old directory with the new one at once, and removes the old one.
    pub(super) fn publish(self) -> anyhow::Result<()> {
        let Self { out, new, .. } = &self;
        // For a while the old directory has the name of a new one, so it is locked like one.
        let _old = if out.exists() { Some(lock(out)?) } else { None };
        match renameat_with(CWD, new, CWD, out, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::NOENT) => {
                return fs::rename(new, out).with_context(|| cannot("write", out));
            }
            // The file system cannot exchange directories: for a moment there is none.
            Err(Errno::INVAL | Errno::NOSYS) => {
                let mut old = new.clone().into_os_string();
                old.push(".old");
                fs::rename(out, &old).with_context(|| cannot("replace", out))?;
                fs::rename(new, out).with_context(|| cannot("write", out))?;
                fs::rename(&old, new).with_context(|| cannot("replace", out))?;
            }
            Err(error) => return Err(error).with_context(|| cannot("replace", out)),
        }
        empty(new)
            .and_then(|()| fs::remove_dir(new))
            .with_context(|| cannot("remove", new))
    }

    pub(super) fn shown(&self) -> impl fmt::Display {
        self.out.display()
    }
}

/// Makes a directory if it does not exist, and locks it.
fn lock(dir: &Path) -> anyhow::Result<File> {
    if let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
        fs::create_dir_all(above).with_context(|| cannot("make", above))?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| cannot("make", dir));
        }
        _ => {}
    }
    let file = File::open(dir).with_context(|| cannot("open", dir))?;
    let is_busy = || format!("another run is writing {}: try again later", dir.display());
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => bail!(is_busy()),
        locked => locked.with_context(|| cannot("lock", dir))?,
    }
    // Another run may have put it in place, or removed it, before it was locked.
    let named = fs::metadata(dir).with_context(is_busy)?;
    let opened = file.metadata().with_context(|| cannot("look at", dir))?;
    if (named.ino(), named.dev()) != (opened.ino(), opened.dev()) {
        bail!(is_busy());
    }
    Ok(file)
}

/// Returns a path in a directory that is not in its list, if any.
fn foreign(dir: &Path) -> io::Result<Option<PathBuf>> {
    let listed = listed(dir)?;
    let mut dirs = vec![PathBuf::new()];
    while let Some(below) = dirs.pop() {
        let entries = match fs::read_dir(dir.join(&below)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                // Paths are sorted by component: the paths below one come right after it.
                let next = listed.range(path.clone()..).next();
                let is_ours = next.is_some_and(|next| next.starts_with(&path));
                if !is_ours {
                    return Ok(Some(dir.join(path)));
                }
                dirs.push(path);
            } else if !listed.contains(&path) && path != Path::new(LIST) {
                return Ok(Some(dir.join(path)));
            }
        }
    }
    Ok(None)
}

/// Removes all listed files of a directory, and the directories that contained them.
fn empty(dir: &Path) -> io::Result<()> {
    let listed = listed(dir)?;
    let mut dirs = BTreeSet::new();
    for path in &listed {
        if_there(fs::remove_file(dir.join(path)))?;
        dirs.extend(
            path.ancestors()
                .skip(1)
                .filter(|above| !above.as_os_str().is_empty()),
        );
    }
    // Children come after their directory.
    for below in dirs.iter().rev() {
        if_there(fs::remove_dir(dir.join(below)))?;
    }
    if_there(fs::remove_file(dir.join(LIST)))
}

/// Returns the files in a directory's list, except names that lead out of the directory.
fn listed(dir: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let text = match fs::read_to_string(dir.join(LIST)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(BTreeSet::new());
        }
        text => text?,
    };
    let is_below = |path: &PathBuf| {
        path.components()
            .all(|part| matches!(part, std::path::Component::Normal(_)))
    };
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(PathBuf::from)
        .filter(is_below)
        .collect())
}

fn if_there(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn cannot(what: &str, path: &Path) -> String {
    format!("cannot {what} {}", path.display())
}

/// The list of written files, in the directory itself.
const LIST: &str = ".artifact-cache-page";

#[cfg(test)]
mod tests {
    use super::*;

    fn write(out: &Path, files: &[&str]) -> anyhow::Result<Result<(), Refusal>> {
        let mut place = match Place::prepare(out)? {
            Ok(place) => place,
            Err(refusal) => return Ok(Err(refusal)),
        };
        for name in files {
            fs::write(place.take(name)?, name)?;
        }
        place.publish().map(Ok)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(next) = dirs.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    found.push(path.strip_prefix(dir).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_later_run_leaves_nothing_of_an_earlier_one() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("page");
        write(&out, &["index.html", "p/a/index.html", "p/a/b/index.html"])
            .unwrap()
            .unwrap();
        write(&out.join(""), &["index.html", "p/c/index.html"])
            .unwrap()
            .unwrap();
        assert_eq!(names(&out), [LIST, "index.html", "p/c/index.html"]);
        assert_eq!(names(dir.path()).len(), 3);
    }

    #[test]
    fn what_others_have_put_there_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("page");
        write(&out, &["index.html", "p/a/index.html"])
            .unwrap()
            .unwrap();
        for name in ["robots.txt", "p/a/mine", "p/a/b/c"] {
            let theirs = out.join(name);
            fs::create_dir_all(theirs.parent().unwrap()).unwrap();
            fs::write(&theirs, "").unwrap();
            let before = names(dir.path());
            let refusal = write(&out, &["index.html"]).unwrap().unwrap_err();
            assert!(theirs.starts_with(&refusal.0), "{refusal}");
            assert_eq!(names(dir.path()), before);
            fs::remove_file(&theirs).unwrap();
        }
        fs::remove_dir(out.join("p/a/b")).unwrap();
        // A list that somebody has changed leads to no file outside.
        fs::write(dir.path().join("mine"), "").unwrap();
        fs::write(
            out.join(LIST),
            format!(
                "index.html\np/a/index.html\n../mine\n{}\n",
                dir.path().join("mine").display()
            ),
        )
        .unwrap();
        write(&out, &["index.html"]).unwrap().unwrap();
        assert_eq!(
            names(dir.path()),
            ["mine", &format!("page/{LIST}"), "page/index.html"]
        );
        // A directory with an unknown file is not ours; an empty one is.
        fs::create_dir(dir.path().join("other")).unwrap();
        write(&dir.path().join("other"), &["index.html"])
            .unwrap()
            .unwrap();
        assert!(write(dir.path(), &["index.html"]).unwrap().is_err());
    }

    #[test]
    fn a_run_that_was_killed_is_in_nobodys_way_and_one_that_lives_is() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("page");
        write(&out, &["index.html"]).unwrap().unwrap();
        let mut first = Place::prepare(&out).unwrap().unwrap();
        fs::write(first.take("p/half.html").unwrap(), "").unwrap();
        assert!(Place::prepare(&out).is_err());
        assert_eq!(names(&out), [LIST, "index.html"]);
        drop(first);
        write(&out, &["p/whole.html"]).unwrap().unwrap();
        assert_eq!(
            names(dir.path()),
            [format!("page/{LIST}"), "page/p/whole.html".to_owned()]
        );
    }
}
