//! Checks that the commits which a summary is to list still exist.
//!
//! The data about a commit is carried over as long as a ref holds it, but nobody promises that the
//! commit object stays in place. Checking each would cost too much if there are many. Removing a
//! file changes its directory, so only commits in changed directories are checked.

use std::collections::{BTreeMap, HashSet};

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{FileKind, Fs};
use crate::local::summary::scan::{Moment, Scan, Stamp, there};

/// Forgets the data about missing commits (INV-8). `now` must be from before the call.
pub(crate) fn confirm<F: Fs>(fs: &F, scan: &mut Scan, now: Moment) -> Result<(), Error> {
    let changed = changed(fs, scan, now)?;
    let mut doubtful: BTreeMap<u8, HashSet<Checksum>> = BTreeMap::new();
    for (_, file) in scan.refs_mut() {
        if let (Some(commit), true) = (file.value, file.facts.is_some()) {
            let [first, ..] = *commit.as_bytes();
            if changed[usize::from(first)] {
                doubtful.entry(first).or_default().insert(commit);
            }
        }
    }
    let mut gone = HashSet::new();
    for (first, commits) in doubtful {
        let dir = RepoPath::fan_out(first);
        let commits: Vec<_> = commits.into_iter().collect();
        let name = |commit: &Checksum| {
            let path = RepoPath::object(&ObjectId::new(ObjectKind::Commit, *commit));
            Box::from(path.split().1)
        };
        let names: Vec<_> = commits.iter().map(name).collect();
        let stats = there(fs.stat_each(&dir, &names)).map_err(Error::io("looking into", &dir))?;
        let mut stats = stats.unwrap_or_default().into_iter();
        let is_gone = |_: &Checksum| {
            let stat = stats.next().flatten();
            stat.is_none_or(|stat| stat.kind != FileKind::File)
        };
        gone.extend(commits.into_iter().filter(is_gone));
    }
    if !gone.is_empty() {
        for (_, file) in scan.refs_mut() {
            if file.value.is_some_and(|commit| gone.contains(&commit)) {
                file.facts = None;
            }
        }
    }
    Ok(())
}

/// Returns for each directory of objects whether it may have changed since the scan was recorded,
/// and records its current state in the scan.
fn changed<F: Fs>(fs: &F, scan: &mut Scan, now: Moment) -> Result<[bool; 256], Error> {
    let objects = RepoPath::objects();
    let names = (0..=u8::MAX).map(|first| Box::from(RepoPath::fan_out(first).split().1));
    let names: Vec<_> = names.collect();
    let stats = there(fs.stat_each(&objects, &names));
    let stats = stats.map_err(Error::io("looking into", &objects))?;
    let before = std::mem::take(&mut scan.objects);
    let mut changed = [true; 256];
    for (first, stat) in (0..=u8::MAX).zip(stats.unwrap_or_default()) {
        let Some(stat) = stat else { continue };
        changed[usize::from(first)] = before.get(&first) != Some(&Stamp::of(&stat));
        if let Some(stamp) = Stamp::settled(&stat, now) {
            scan.objects.insert(first, stamp);
        }
    }
    Ok(changed)
}
