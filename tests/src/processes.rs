//! Processes as `/proc` shows them: to end all that a test started, and to prove that none is left.

use std::fs;
use std::path::Path;
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
                "still running after {within:?}:\n{}",
                left.join("\n")
            )));
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Returns the command lines, after their process ids, of those that name `path`.
pub fn naming(path: &Path) -> Vec<String> {
    let needle = path.to_string_lossy();
    all()
        .filter(|pid| *pid != std::process::id())
        .filter_map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(&*needle).then(|| format!("{pid} {line}"))
        })
        .collect()
}

/// Kills a process and all that descend from it, those in sessions of their own included.
pub fn kill_tree(root: u32) {
    // Found before the first is killed: orphans change their parent.
    let children = descendants(root);
    kill(root);
    children.into_iter().for_each(kill);
}

/// Kills all that descend from a process, but not the process.
pub fn kill_children(root: u32) {
    descendants(root).into_iter().for_each(kill);
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
        // It may have ended meanwhile, which is what is wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Reads the fourth field of `stat`; the second, the program's name, may hold spaces and brackets.
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
            std::thread::sleep(POLL_EVERY);
        }
        assert!(wait_gone(mark, Duration::from_millis(50)).is_err());
        kill_tree(child.id());
        child.wait().unwrap();
        wait_gone(mark, Duration::from_secs(10)).unwrap();
    }
}
