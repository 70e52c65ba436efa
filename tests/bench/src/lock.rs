//! How long a push holds libostree's `.lock`, which stops others from pruning or writing a summary.
//!
//! Observed from outside: a thread asks the kernel repeatedly who holds it (`F_OFD_GETLK`), without
//! taking it.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use artifact_tests::exec::Failure;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::data::{count_objects, make_dir, remove};
use crate::timed;

/// How long a lock was held in total.
#[derive(Clone, Copy, Debug, Default)]
pub struct Held {
    /// Shared: it stops others from taking it exclusively.
    pub shared: Duration,
    /// Exclusive: it stops everybody.
    pub exclusive: Duration,
    /// The longest time between two looks, which bounds the error of the others.
    pub blind: Duration,
}

/// Pushes some 10,000 objects into new repositories in `dir`, `runs` times, and returns the number
/// of objects, and how long each push held `.lock`.
pub fn measure(dir: &Path, runs: usize) -> Result<(usize, Vec<Held>), Failure> {
    make_dir(dir)?;
    let tree = Tree::create(&dir.join("tree"))?;
    tree.generated(11_000, 10_000)?;
    let source = Repo::init(&dir.join("source"), Mode::Archive)?;
    source.commit(REF, tree.root(), &["--no-xattrs"])?;
    remove(tree.root())?;
    let mut objects = 0;
    let mut all = Vec::new();
    for run in 0..runs {
        let destination = Repo::at(&dir.join(format!("destination-{run}")));
        destination.ostree("init", ["--mode=archive-z2"])?;
        let path = destination.path().join(".lock");
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Failure::doing(format!("open {path:?}")))?;
        all.push(watch(&lock, || {
            timed::push(source.path(), destination.path(), &[REF.to_owned()])
        })?);
        objects = count_objects(destination.path())? as usize;
    }
    Ok((objects, all))
}

/// Watches a lock during an action.
fn watch<T>(lock: &File, done: impl FnOnce() -> Result<T, Failure>) -> Result<Held, Failure> {
    let stopping = AtomicBool::new(false);
    // Until the thread's first look, nobody looks.
    let mut last = Instant::now();
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut held = Held::default();
            loop {
                let is_last = stopping.load(Ordering::Acquire);
                let kind = holder(lock)?;
                let passed = last.elapsed();
                last += passed;
                match i32::from(kind) {
                    libc::F_RDLCK => held.shared += passed,
                    libc::F_WRLCK => held.exclusive += passed,
                    _ => {}
                }
                held.blind = held.blind.max(passed);
                if is_last {
                    return Ok(held);
                }
                thread::sleep(LOOK_EVERY);
            }
        });
        let result = done();
        stopping.store(true, Ordering::Release);
        let held = watcher
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        result.and(held)
    })
}

/// Returns the kind of lock that others hold, `F_UNLCK` if none.
fn holder(lock: &File) -> Result<libc::c_short, Failure> {
    let mut wanted = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(lock, FcntlArg::F_OFD_GETLK(&mut wanted))
        .map_err(|errno| Failure::doing("ask for a lock's holder")(errno.into()))?;
    Ok(wanted.l_type)
}

const REF: &str = "bench/lock/objects";
const LOOK_EVERY: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_for_as_long_as_it_is_held_and_by_its_kind() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .open(file.path())
                .unwrap()
        };
        let (looked_at, taken) = (open(), open());
        assert_eq!(holder(&looked_at).unwrap(), libc::F_UNLCK as libc::c_short);
        for kind in [libc::F_RDLCK, libc::F_WRLCK] {
            let lock = libc::flock {
                l_type: kind as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: 0,
                l_len: 0,
                l_pid: 0,
            };
            let held = watch(&looked_at, || {
                fcntl(&taken, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
                thread::sleep(Duration::from_millis(30));
                Ok(())
            })
            .unwrap();
            assert_eq!(holder(&looked_at).unwrap(), kind as libc::c_short);
            let (seen, other) = match kind {
                libc::F_RDLCK => (held.shared, held.exclusive),
                _ => (held.exclusive, held.shared),
            };
            // A busy machine sometimes lets nobody look; `blind` accounts for that.
            assert!(seen + held.blind >= Duration::from_millis(30), "{held:?}");
            assert!(other <= held.blind, "{held:?}");
        }
    }
}
