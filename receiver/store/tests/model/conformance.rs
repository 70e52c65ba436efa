//! The model behaves as Linux does: the same operations, the same visible results.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use artifact_store::{FileKind, Fs, LockMode, RealFs, RepoPath};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::disk::{Machine, Node};
use crate::files::{ModelFs, Script};
use crate::world::cases;

#[derive(Clone, Debug)]
enum Op {
    Create(Vec<u8>, u32, Vec<u8>),
    Read(Vec<u8>),
    Rename(Vec<u8>, Vec<u8>),
    Link(Vec<u8>, Vec<u8>),
    Unlink(Vec<u8>),
    Mkdir(Vec<u8>),
    Rmdir(Vec<u8>),
    Stat(Vec<u8>),
    ReadDir(Vec<u8>),
    ReadLink(Vec<u8>),
    SyncDir(Vec<u8>),
    SyncAll,
    Lock(Vec<u8>, bool),
    LockThere(Vec<u8>),
    LockByte(Vec<u8>, Range<u64>),
    Unlock(usize),
}

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(0..4u8, 1..4)
}

fn any_op() -> impl Strategy<Value = Op> {
    let path = any_path;
    prop_oneof![
        4 => (path(), 0..2u32, proptest::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(path, bits, content)| Op::Create(path, 0o600 + 0o44 * bits, content)),
        2 => path().prop_map(Op::Read),
        4 => (path(), path()).prop_map(|(from, to)| Op::Rename(from, to)),
        2 => (path(), path()).prop_map(|(from, to)| Op::Link(from, to)),
        1 => path().prop_map(Op::Unlink),
        4 => path().prop_map(Op::Mkdir),
        1 => path().prop_map(Op::Rmdir),
        1 => path().prop_map(Op::Stat),
        1 => path().prop_map(Op::ReadDir),
        1 => path().prop_map(Op::ReadLink),
        1 => path().prop_map(Op::SyncDir),
        1 => Just(Op::SyncAll),
        2 => (path(), any::<bool>()).prop_map(|(path, shared)| Op::Lock(path, shared)),
        1 => path().prop_map(Op::LockThere),
        2 => (path(), 0..3u64, 1..4u64)
            .prop_map(|(path, from, len)| Op::LockByte(path, from..from + len)),
        1 => (0..3usize).prop_map(Op::Unlock),
    ]
}

/// One of the four names, in the root, is a symbolic link from the beginning; the real file system
/// keeps directories below another one open.
fn path(components: &[u8]) -> RepoPath {
    let names = ["a", "b", "objects", "link"];
    components
        .iter()
        .fold(RepoPath::default(), |path, component| {
            path.child(names[usize::from(*component)])
        })
}

/// Does an operation and returns its visible result.
fn act<F: Fs>(fs: &F, op: &Op, locks: &mut Vec<F::Lock>) -> Result<String, String> {
    let say = |error: io::Error| format!("{:?}", error.kind());
    let is_dir = |path: &RepoPath| fs.stat(path).is_ok_and(|stat| stat.kind == FileKind::Dir);
    match op {
        Op::Create(at, mode, content) => {
            let mut file = fs.create(&path(at), 0o600).map_err(say)?;
            file.write_all(content).map_err(say)?;
            fs.set_mode(&file, *mode).map_err(say)?;
            fs.sync_data(&file).map_err(say)?;
        }
        Op::Read(at) => {
            let mut content = Vec::new();
            fs.open(&path(at))
                .map_err(say)?
                .read_to_end(&mut content)
                .map_err(say)?;
            return Ok(format!("{content:?}"));
        }
        // The store never renames directories.
        Op::Rename(from, _) if is_dir(&path(from)) => {}
        Op::Rename(from, to) => fs.rename(&path(from), &path(to)).map_err(say)?,
        Op::Link(from, to) => fs.link(&path(from), &path(to)).map_err(say)?,
        Op::Unlink(at) => fs.unlink(&path(at)).map_err(say)?,
        Op::Mkdir(at) => fs.mkdir(&path(at), 0o755).map_err(say)?,
        Op::Rmdir(at) => fs.rmdir(&path(at)).map_err(say)?,
        Op::Stat(at) => {
            let stat = fs.stat(&path(at)).map_err(say)?;
            // The umask decides the other bits of a mode.
            let of_files = (stat.kind == FileKind::File).then_some((stat.mode == 0o600, stat.len));
            return Ok(format!("{:?} {of_files:?}", stat.kind));
        }
        Op::ReadDir(at) => {
            let entries = fs.read_dir(&path(at), usize::MAX).map_err(say)?;
            let names: BTreeMap<_, _> = entries
                .iter()
                .map(|e| (e.name.clone(), format!("{:?}", e.kind)))
                .collect();
            return Ok(format!("{names:?}"));
        }
        Op::ReadLink(at) => return fs.read_link(&path(at)).map_err(say),
        Op::SyncDir(at) => fs.sync_dir(&path(at)).map_err(say)?,
        Op::SyncAll => fs.sync_all().map_err(say)?,
        Op::Lock(at, shared) => {
            let mode = if *shared {
                LockMode::Shared
            } else {
                LockMode::Exclusive
            };
            let lock = fs.try_lock(&path(at), mode).map_err(say)?;
            let taken = lock.is_some();
            locks.extend(lock);
            return Ok(taken.to_string());
        }
        Op::LockThere(at) => {
            let lock = fs.try_lock_there(&path(at)).map_err(say)?;
            let taken = lock.is_some();
            locks.extend(lock);
            return Ok(taken.to_string());
        }
        Op::LockByte(at, bytes) => {
            let lock = fs.try_lock_byte(&path(at), bytes.clone()).map_err(say)?;
            let taken = lock.is_some();
            locks.extend(lock);
            return Ok(taken.to_string());
        }
        Op::Unlock(at) if *at < locks.len() => drop(locks.remove(*at)),
        Op::Unlock(_) => {}
    }
    Ok(String::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(200), ..ProptestConfig::default() })]

    #[test]
    fn the_model_and_linux_agree(ops in proptest::collection::vec(any_op(), 0..60)) {
        let dir = TempDir::new().unwrap();
        symlink("a", dir.path().join("link")).unwrap();
        let real = RealFs::open(dir.path()).unwrap();
        let mut machine = Machine::new();
        machine.make("link", Node::Symlink("a".to_owned())).unwrap();
        let model = ModelFs::alone(machine, Script::Nothing);
        let (mut locks, mut model_locks) = (Vec::new(), Vec::new());
        for op in &ops {
            // Syncing takes real time.
            let expected = match op {
                Op::SyncAll => Ok(String::new()),
                op => act(&real, op, &mut locks),
            };
            prop_assert_eq!(act(&model, op, &mut model_locks), expected, "{:?}", op);
        }
        drop(Arc::new(locks));
    }
}
