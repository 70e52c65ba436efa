//! Modification times by which readers tell two versions of a file apart.
//!
//! Web servers and proxies compare whole seconds and the length (`ETag` of nginx, `Last-Modified`):
//! they would miss the second of two replacements within a second. So each version is dated at
//! least a second after the previous one, ahead of the clock if necessary, but never by more than
//! [`AHEAD`]: a writer that makes versions faster for that long has to wait.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::Error;
use crate::local::disk::path::RepoPath;
use crate::local::disk::{Fs, if_there};

/// Returns the modification time of a file in seconds since 1970, if the file exists.
pub(crate) fn of<F: Fs>(fs: &F, path: &RepoPath) -> Result<Option<i64>, Error> {
    let stat = if_there(fs.stat(path)).map_err(Error::io("looking at", path))?;
    Ok(stat.map(|stat| stat.modified.0))
}

/// Dates a new file later than the others, which it will replace. If its date would be too far
/// ahead, leaves it alone.
pub(crate) fn later_than<F: Fs>(
    fs: &F,
    file: &RepoPath,
    others: &[Option<i64>],
) -> Result<i64, Error> {
    let now = of(fs, file)?.unwrap_or_default();
    let wanted = others.iter().flatten().max().map_or(now, |other| other + 1);
    if wanted <= now || wanted - now > AHEAD {
        return Ok(now);
    }
    set(fs, file, wanted)?;
    Ok(wanted)
}

/// Sets the modification time of a file.
pub(crate) fn set<F: Fs>(fs: &F, file: &RepoPath, seconds: i64) -> Result<(), Error> {
    fs.set_modified(file, seconds)
        .map_err(Error::io("dating", file))
}

/// Waits until the successor of a file may be dated later without being too far ahead. Call it
/// without holding a lock that others need.
pub(crate) fn pace<F: Fs>(fs: &F, path: &RepoPath) -> Result<(), Error> {
    let Some(before) = of(fs, path)? else {
        return Ok(());
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let wait = wait(before, now);
    if !wait.is_zero() {
        thread::sleep(wait);
    }
    Ok(())
}

fn wait(before: i64, now: Duration) -> Duration {
    let limit = now + Duration::from_secs(AHEAD.unsigned_abs());
    let wanted = Duration::from_secs(u64::try_from(before + 1).unwrap_or(0));
    let wait = wanted.saturating_sub(limit);
    // A date further ahead comes from a wrong clock: do not wait for it.
    if wait > Duration::from_secs(1) {
        Duration::ZERO
    } else {
        wait
    }
}

/// How far ahead of the clock a file may be dated, in seconds.
const AHEAD: i64 = 600;

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::local::disk::real::RealFs;

    #[test]
    fn each_version_is_dated_a_second_later_but_never_far_ahead() {
        let dir = TempDir::new().unwrap();
        let real = RealFs::open(dir.path()).unwrap();
        let file = RepoPath::summary();
        fs::write(dir.path().join("summary"), "").unwrap();
        let now = of(&real, &file).unwrap().unwrap();
        let date = |others: &[Option<i64>]| {
            set(&real, &file, now).unwrap();
            let said = later_than(&real, &file, others).unwrap();
            assert_eq!(of(&real, &file).unwrap(), Some(said));
            said - now
        };
        assert_eq!(date(&[None, None]), 0);
        assert_eq!(date(&[Some(now - 5), None]), 0);
        assert_eq!(date(&[Some(now), None]), 1);
        assert_eq!(date(&[Some(now), Some(now + 7)]), 8);
        assert_eq!(date(&[Some(now + AHEAD - 1)]), AHEAD);
        assert_eq!(date(&[Some(now + AHEAD)]), 0);
        assert_eq!(date(&[Some(now + 1_000_000)]), 0);
    }

    #[test]
    fn who_is_too_far_ahead_waits_and_who_has_a_wrong_clock_does_not() {
        let wait = |ahead: i64| wait(1_000 + ahead, Duration::from_millis(1_000_250)).as_millis();
        assert_eq!(wait(0), 0);
        assert_eq!(wait(AHEAD - 1), 0);
        assert_eq!(wait(AHEAD), 750);
        assert_eq!(wait(AHEAD + 1), 0);
        assert_eq!(wait(1_000_000), 0);
    }
}
