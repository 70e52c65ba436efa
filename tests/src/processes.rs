//! Processes as `/proc` shows them: to end everything that a test started, and to prove that
//! nothing is left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::exec::Failure;

/// Waits until no process but this one names `path` on its command line.
pub fn wait_gone(path: &Path, within: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + within;
    loop {
        let left = naming(path);
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!(
                "still running after {within:?}: {left:#?}"
            )));
        }
        thread::sleep(POLL_EVERY);
    }
}

/// Returns the other processes that name `path` on their command lines, with these lines.
pub fn naming(path: &Path) -> BTreeMap<u32, String> {
    naming_among(all(), path)
}

fn naming_among(pids: impl Iterator<Item = u32>, path: &Path) -> BTreeMap<u32, String> {
    let needle = path.to_string_lossy();
    pids.filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&*needle).then_some((pid, line))
        })
        .collect()
}

/// Records the memory peaks of the processes that name a path.
#[derive(Debug)]
pub struct MemoryWatch {
    stopping: Arc<AtomicBool>,
    watcher: JoinHandle<BTreeMap<String, u64>>,
}

impl MemoryWatch {
    /// Starts to watch, by polling the peaks that the kernel keeps. It leaves out the processes of
    /// now that do not name the path: to read all of them each time takes a third of a processor.
    pub fn start(path: &Path) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let (path, stop) = (path.to_owned(), Arc::clone(&stopping));
        let known = naming(&path);
        let mut strangers: BTreeSet<u32> = all().filter(|pid| !known.contains_key(pid)).collect();
        let watcher = thread::spawn(move || {
            let mut peaks = BTreeMap::new();
            while !stop.load(Ordering::Acquire) {
                let now: BTreeSet<u32> = all().collect();
                // The number of one that has ended may be given to another.
                strangers.retain(|pid| now.contains(pid));
                let others = now.difference(&strangers).copied();
                for pid in naming_among(others, &path).into_keys() {
                    if let Some((program, peak)) = memory_peak(pid) {
                        let known: &mut u64 = peaks.entry(program).or_default();
                        *known = peak.max(*known);
                    }
                }
                thread::sleep(POLL_EVERY);
            }
            peaks
        });
        Self { stopping, watcher }
    }

    /// Returns the largest resident size in bytes for each program name, of which the kernel keeps
    /// 15 bytes.
    pub fn stop(self) -> Result<BTreeMap<String, u64>, Failure> {
        self.stopping.store(true, Ordering::Release);
        self.watcher
            .join()
            .map_err(|_| Failure::new("the watch over memory has panicked"))
    }
}

fn memory_peak(pid: u32) -> Option<(String, u64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().trim_end_matches(" kB").to_owned())
    };
    let kib: u64 = field("VmHWM:")?.parse().ok()?;
    Some((field("Name:")?, kib * 1024))
}

/// Kills a process and all its descendants, including those in sessions of their own.
pub fn kill_tree(root: u32) {
    // Found before the first is killed: orphans get another parent.
    let children = descendants(root);
    kill(root);
    children.into_iter().for_each(kill);
}

/// Kills all descendants of a process, but not the process.
pub fn kill_children(root: u32) {
    descendants(root).into_iter().for_each(kill);
}

/// Returns whether a process has children, including ended ones that it has not waited for.
pub fn has_children(pid: u32) -> bool {
    all().any(|child| parent(child) == Some(pid))
}

fn descendants(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = all().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&ancestor) = found.get(next) {
        let children = parents.iter().filter(|(_, parent)| *parent == ancestor);
        found.extend(children.map(|(pid, _)| pid));
        next += 1;
    }
    found.split_off(1)
}

fn kill(pid: u32) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile, which is fine.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Reads the fourth field of `stat`; the second, the program's name, may contain spaces and
/// brackets.
fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

const POLL_EVERY: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_seen_by_its_arguments_until_its_tree_is_killed() {
        let mark = Path::new("/artifact-tests-mark-of-this-very-test");
        let script = "setsid sh -c 'sleep 1000; : \"$0\"' \"$0\" & wait";
        let mut child = Command::new("sh")
            .args(["-c", script])
            .arg(mark)
            .spawn()
            .unwrap();
        while naming(mark).len() < 2 {
            thread::sleep(POLL_EVERY);
        }
        assert!(wait_gone(mark, Duration::from_millis(50)).is_err());
        kill_tree(child.id());
        child.wait().unwrap();
        wait_gone(mark, Duration::from_secs(10)).unwrap();
    }
}
