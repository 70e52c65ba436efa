//! The audit log's entries about pushes: who set a ref, the last pushes, how many failed lately.
//!
//! The log is read as it grows, a part at a time. A line that does not parse is skipped; without a
//! file, or the right to read it, the pages show nothing of it and no request fails.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use artifact_receiver::audit::Record;

/// The contents of an audit log.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    path: Option<PathBuf>,
    // The file that was read, and how far.
    inode: u64,
    offset: u64,
    is_readable: bool,
    setters: HashMap<String, Setter>,
    pushes: VecDeque<Push>,
    ends: VecDeque<End>,
}

/// Who set a ref to which commit.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setter {
    identity: String,
    commit: String,
}

/// A push that has set a ref.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Push {
    /// Seconds since 1970.
    pub(crate) time: i64,
    pub(crate) who: String,
    /// The first ref that it set.
    pub(crate) name: String,
    /// How many more refs it set, as far as the log lists them.
    pub(crate) more: usize,
    /// Stored bytes that the push sent.
    pub(crate) bytes: u64,
}

/// How a push ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    time: i64,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    Refused,
    Failed,
}

/// How many pushes ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) done: u64,
    pub(crate) refused: u64,
    pub(crate) failed: u64,
}

impl Trail {
    pub(crate) fn new(path: Option<&Path>) -> Self {
        Self {
            path: path.map(Path::to_owned),
            ..Self::default()
        }
    }

    /// Reads the lines written since the last time; returns whether there were any.
    pub(crate) fn refresh(&mut self) -> bool {
        let Some(path) = &self.path else {
            return false;
        };
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let Ok((metadata, mut file)) = opened else {
            return std::mem::replace(&mut self.is_readable, false);
        };
        let was_readable = std::mem::replace(&mut self.is_readable, metadata.is_file());
        let len = metadata.len();
        let mut skips_part = false;
        if metadata.ino() != self.inode || len < self.offset {
            // Another file, after a rotation: earlier entries are kept.
            self.inode = metadata.ino();
            self.offset = len.saturating_sub(MAX_READ);
            skips_part = self.offset > 0;
        }
        if !self.is_readable
            || len == self.offset
            || file.seek(SeekFrom::Start(self.offset)).is_err()
        {
            return was_readable != self.is_readable;
        }
        let mut lines = BufReader::new(file.take(len - self.offset));
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line);
            let whole = line.last() == Some(&b'\n');
            match read {
                // A line without an end is read the next time, unless it is too long to be a line.
                Ok(read) if whole || read as u64 == MAX_LINE => self.offset += read as u64,
                _ => break,
            }
            if let (false, Ok(record)) = (skips_part || !whole, serde_json::from_slice(&line)) {
                self.take(record);
            }
            skips_part = !whole;
        }
        true
    }

    fn take(&mut self, record: Record) {
        if record.pull {
            return;
        }
        let Ok(time) = humantime::parse_rfc3339(&record.time) else {
            return;
        };
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        let outcome = match record.outcome.as_str() {
            "done" => Outcome::Done,
            "refused" | "withdrawn" => Outcome::Refused,
            _ => Outcome::Failed,
        };
        push_bounded(&mut self.ends, End { time, outcome }, MAX_ENDS);
        let set = || record.refs.iter().filter(|r| r.outcome == "updated");
        for r in set() {
            let setter = Setter {
                identity: record.identity.clone(),
                commit: r.new.clone(),
            };
            self.setters.insert(r.name.clone(), setter);
        }
        if let Some(first) = set().next() {
            let push = Push {
                time,
                who: record.identity.clone(),
                name: first.name.clone(),
                more: set().count() - 1 + record.more_refs,
                bytes: record.bytes,
            };
            push_bounded(&mut self.pushes, push, MAX_PUSHES);
        }
    }

    /// Returns whether there is a readable audit log.
    pub(crate) const fn is_readable(&self) -> bool {
        self.is_readable
    }

    /// Returns who set a ref to a commit.
    pub(crate) fn setter(&self, name: &str, commit: &str) -> Option<&str> {
        let setter = self.setters.get(name)?;
        (setter.commit == commit).then_some(&*setter.identity)
    }

    /// Forgets who set refs that no longer exist.
    pub(crate) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.setters.retain(|name, _| is_there(name));
    }

    /// Returns the last pushes that set a ref, the newest first.
    pub(crate) fn pushes(&self) -> impl Iterator<Item = &Push> {
        self.pushes.iter().rev()
    }

    /// Returns how the pushes since a time ended, in seconds since 1970.
    pub(crate) fn ends_since(&self, time: i64) -> Ends {
        let mut ends = Ends::default();
        for end in self.ends.iter().filter(|end| end.time >= time) {
            match end.outcome {
                Outcome::Done => ends.done += 1,
                Outcome::Refused => ends.refused += 1,
                Outcome::Failed => ends.failed += 1,
            }
        }
        ends
    }
}

fn push_bounded<T>(queue: &mut VecDeque<T>, item: T, max: usize) {
    if queue.len() == max {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// Bytes at the end of an audit log that are read at first.
const MAX_READ: u64 = 32 * 1024 * 1024;
/// The longest line, in bytes: the receiver writes none of a MiB.
const MAX_LINE: u64 = 1024 * 1024;
/// Pushes kept to be shown.
const MAX_PUSHES: usize = 10;
/// Pushes whose ends are kept.
const MAX_ENDS: usize = 100_000;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use artifact_receiver::audit::RefRecord;

    use super::*;

    fn line(time: &str, who: &str, refs: &[(&str, &str)], outcome: &str) -> String {
        let refs = refs.iter().map(|(name, outcome)| RefRecord {
            name: (*name).to_owned(),
            new: "aa".to_owned(),
            outcome: (*outcome).to_owned(),
            ..RefRecord::default()
        });
        let record = Record {
            time: time.to_owned(),
            identity: who.to_owned(),
            outcome: outcome.to_owned(),
            refs: refs.collect(),
            bytes: 7,
            ..Record::default()
        };
        serde_json::to_string(&record).unwrap() + "\n"
    }

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn what_is_appended_is_read_once_and_a_half_line_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        let mut trail = Trail::new(Some(&path));
        assert!(!trail.refresh() && !trail.is_readable());
        let done = [
            ("p/e/1", "updated"),
            ("p/e/2", "updated"),
            ("p/e/3", "refused"),
        ];
        append(
            &path,
            &line("2026-01-01T00:00:00Z", "alice", &done, "refused"),
        );
        append(&path, "no json\n{}\n");
        let second = line(
            "2026-01-02T00:00:00Z",
            "bob",
            &[("p/e/1", "updated")],
            "done",
        );
        let (half, rest) = second.split_at(40);
        append(&path, half);
        assert!(trail.refresh() && trail.is_readable());
        assert_eq!(trail.setter("p/e/1", "aa"), Some("alice"));
        assert_eq!(trail.setter("p/e/1", "bb"), None);
        assert_eq!(trail.setter("p/e/3", "aa"), None);
        append(&path, rest);
        assert!(trail.refresh());
        assert!(!trail.refresh());
        assert_eq!(trail.setter("p/e/1", "aa"), Some("bob"));
        let pushes: Vec<_> = trail
            .pushes()
            .map(|push| (push.who.as_str(), push.more))
            .collect();
        assert_eq!(pushes, [("bob", 0), ("alice", 1)]);
        let ends = trail.ends_since(0);
        assert_eq!((ends.done, ends.refused, ends.failed), (1, 1, 0));
        assert_eq!(trail.ends_since(1_767_312_001), Ends::default());
        trail.retain(|name| name == "p/e/2");
        assert_eq!(trail.setter("p/e/1", "aa"), None);
    }

    #[test]
    fn after_a_rotation_the_new_file_is_read_from_its_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        append(
            &path,
            &line("2026-01-01T00:00:00Z", "alice", &[("a", "updated")], "done"),
        );
        let mut trail = Trail::new(Some(&path));
        trail.refresh();
        fs::rename(&path, dir.path().join("audit.1")).unwrap();
        append(
            &path,
            &line("2026-01-01T00:00:00Z", "bob", &[("b", "updated")], "failed"),
        );
        assert!(trail.refresh());
        assert_eq!(
            (trail.setter("a", "aa"), trail.setter("b", "aa")),
            (Some("alice"), Some("bob"))
        );
        assert_eq!(trail.ends_since(0).failed, 1);
    }

    #[test]
    fn a_line_without_end_stops_nothing_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit");
        append(&path, &"x".repeat(3 * 1024 * 1024));
        let mut trail = Trail::new(Some(&path));
        trail.refresh();
        append(&path, "\n");
        append(
            &path,
            &line("2026-01-01T00:00:00Z", "alice", &[("a", "updated")], "done"),
        );
        trail.refresh();
        assert_eq!(trail.setter("a", "aa"), Some("alice"));
    }
}
