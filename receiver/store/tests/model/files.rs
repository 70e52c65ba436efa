//! The store's seam on a machine in memory, with a script for each session: record, fail, or let
//! another process act at an operation.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use artifact_store::{DirEntry, FileKind, Fs, LockMode, RepoPath, Room, Stat, Xattr};
use nix::libc;

use crate::disk::{Machine, Node};

/// One session's file system on a machine that others may use as well.
#[derive(Clone, Debug)]
pub(crate) struct ModelFs {
    machine: Arc<Mutex<Machine>>,
    session: Arc<Session>,
    mount: String,
}

/// The event at one of a session's operations; reads count as well.
pub(crate) enum Script {
    Nothing,
    /// The machine before each change, and at the end.
    Record(Vec<Machine>),
    /// `times` operations fail, from the `at`-th on.
    Fail {
        at: u64,
        times: u64,
        errno: i32,
    },
    /// Writes from the `at`-th operation on write one byte.
    Short {
        at: u64,
    },
    /// Another process acts before the `at`-th operation.
    Act(u64, Option<Box<dyn FnOnce() + Send>>),
}

impl Script {
    /// The `at`-th operation fails, and no other.
    pub(crate) const fn fail_once(at: u64, errno: i32) -> Self {
        let times = 1;
        Self::Fail { at, times, errno }
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

#[derive(Debug)]
struct Session {
    script: Mutex<Script>,
    count: AtomicU64,
    // Whether a ref was set.
    set_ref: AtomicBool,
    // The length of the record when the push was acknowledged.
    acknowledged: AtomicU64,
}

/// Kinds of operations that fail differently.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sync,
    Other,
}

impl ModelFs {
    pub(crate) fn new(machine: &Arc<Mutex<Machine>>, script: Script) -> Self {
        Self {
            machine: Arc::clone(machine),
            mount: machine.lock().unwrap().mount_id(),
            session: Arc::new(Session {
                script: Mutex::new(script),
                count: AtomicU64::new(0),
                set_ref: AtomicBool::new(false),
                acknowledged: AtomicU64::new(u64::MAX),
            }),
        }
    }

    /// A file system on a machine of its own.
    pub(crate) fn alone(machine: Machine, script: Script) -> Self {
        Self::new(&Arc::new(Mutex::new(machine)), script)
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap()
    }

    /// Returns the number of operations.
    pub(crate) fn count(&self) -> u64 {
        self.session.count.load(Ordering::Relaxed)
    }

    pub(crate) fn has_set_ref(&self) -> bool {
        self.session.set_ref.load(Ordering::Relaxed)
    }

    /// Notes that the client was told of success.
    pub(crate) fn acknowledge(&self) {
        if let Script::Record(machines) = &*self.session.script.lock().unwrap() {
            let recorded = machines.len() as u64;
            self.session.acknowledged.store(recorded, Ordering::Relaxed);
        }
    }

    /// Returns every recorded state, and whether the push was acknowledged by then.
    pub(crate) fn recorded(&self) -> Vec<(Machine, bool)> {
        let Script::Record(machines) = &mut *self.session.script.lock().unwrap() else {
            panic!("nothing is recorded");
        };
        machines.push(self.machine().clone());
        let acknowledged = self.session.acknowledged.load(Ordering::Relaxed);
        let numbered = (0..).zip(machines.drain(..));
        numbered
            .map(|(number, machine)| (machine, number >= acknowledged))
            .collect()
    }

    /// Opens a path as a directory, without checking that it is one.
    fn dir(machine: &Machine, path: &RepoPath) -> io::Result<u64> {
        let node = done(machine.resolve(path.as_str()))?;
        match machine.node(node) {
            Node::Dir(_) => Ok(node),
            Node::File(_) | Node::Symlink(_) => done(Err(libc::ENOTDIR)),
        }
    }

    fn describe(machine: &Machine, node: u64) -> Stat {
        let len = match machine.node(node) {
            Node::File(content) => content.len() as u64,
            Node::Dir(_) | Node::Symlink(_) => 0,
        };
        let changed = (machine.modified(node), 0);
        Stat {
            kind: machine.node(node).kind(),
            mode: machine.mode(node),
            owner: (0, 0),
            len,
            modified: changed,
            changed,
            inode: node,
        }
    }

    fn step(&self, kind: Kind) -> io::Result<MutexGuard<'_, Machine>> {
        let number = self.session.count.fetch_add(1, Ordering::Relaxed);
        let mut script = self.session.script.lock().unwrap();
        match &mut *script {
            Script::Record(machines) => {
                let machine = self.machine();
                if machines
                    .last()
                    .is_none_or(|last| last.changes != machine.changes)
                {
                    machines.push(machine.clone());
                }
            }
            Script::Fail { at, times, errno } if number >= *at && number - *at < *times => {
                if kind == Kind::Sync {
                    self.machine().fail_sync();
                }
                return Err(io::Error::from_raw_os_error(*errno));
            }
            Script::Act(at, act) if number == *at => {
                if let Some(act) = act.take() {
                    drop(script);
                    act();
                }
            }
            Script::Nothing | Script::Fail { .. } | Script::Short { .. } | Script::Act(..) => {}
        }
        Ok(self.machine())
    }

    fn is_short(&self) -> bool {
        let count = self.count();
        matches!(&*self.session.script.lock().unwrap(), Script::Short { at } if count > *at)
    }
}

fn done<T>(result: Result<T, i32>) -> io::Result<T> {
    result.map_err(io::Error::from_raw_os_error)
}

impl Fs for ModelFs {
    type File = ModelFile;
    type Lock = ModelLock;

    fn create(&self, path: &RepoPath, mode: u32) -> io::Result<ModelFile> {
        let mut machine = self.step(Kind::Other)?;
        let node = done(machine.make(path.as_str(), Node::File(Arc::default())))?;
        machine.begin_with_mode(node, mode);
        drop(machine);
        Ok(ModelFile {
            fs: self.clone(),
            node,
            at: 0,
        })
    }

    fn open(&self, path: &RepoPath) -> io::Result<ModelFile> {
        let machine = self.step(Kind::Other)?;
        let node = done(machine.resolve(path.as_str()))?;
        match machine.node(node) {
            Node::File(_) => {}
            Node::Dir(_) => return done(Err(libc::EISDIR)),
            Node::Symlink(_) => return done(Err(libc::ELOOP)),
        }
        drop(machine);
        Ok(ModelFile {
            fs: self.clone(),
            node,
            at: 0,
        })
    }

    fn set_mode(&self, file: &ModelFile, mode: u32) -> io::Result<()> {
        self.step(Kind::Other)?.set_mode(file.node, mode);
        Ok(())
    }

    fn sync_data(&self, file: &ModelFile) -> io::Result<()> {
        self.step(Kind::Sync)?.sync(Some(file.node));
        Ok(())
    }

    fn sync_dir(&self, path: &RepoPath) -> io::Result<()> {
        let mut machine = self.step(Kind::Sync)?;
        let node = Self::dir(&machine, path)?;
        machine.sync(Some(node));
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.step(Kind::Sync)?.sync(None);
        Ok(())
    }

    fn rename(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()> {
        let mut machine = self.step(Kind::Other)?;
        let (from_dir, from_name, source) = done(machine.place(from.as_str()))?;
        let (to_dir, to_name, target) = done(machine.place(to.as_str()))?;
        let source = done(source.ok_or(libc::ENOENT))?;
        let is_dir = |node| machine.node(node).kind() == FileKind::Dir;
        assert!(!is_dir(source), "the store renames no directory");
        if target.is_some_and(is_dir) {
            let is_above = from.as_str().starts_with(&format!("{to}/"));
            return done(Err(if is_above {
                libc::ENOTEMPTY
            } else {
                libc::EISDIR
            }));
        }
        // POSIX: when both names are of one file, rename does nothing.
        if target != Some(source) {
            let set = (to_dir, to_name, Some(source));
            machine.name(&[set, (from_dir, from_name, None)]);
        }
        if to.as_str().starts_with("refs/heads/") {
            self.session.set_ref.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn link(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()> {
        let mut machine = self.step(Kind::Other)?;
        let (_, _, source) = done(machine.place(from.as_str()))?;
        let (dir, name, target) = done(machine.place(to.as_str()))?;
        let source = done(source.ok_or(libc::ENOENT))?;
        if target.is_some() {
            return done(Err(libc::EEXIST));
        }
        if machine.node(source).kind() == FileKind::Dir {
            return done(Err(libc::EPERM));
        }
        machine.name(&[(dir, name, Some(source))]);
        Ok(())
    }

    fn unlink(&self, path: &RepoPath) -> io::Result<()> {
        let mut machine = self.step(Kind::Other)?;
        let (dir, name, there) = done(machine.place(path.as_str()))?;
        let there = done(there.ok_or(libc::ENOENT))?;
        if machine.node(there).kind() == FileKind::Dir {
            return done(Err(libc::EISDIR));
        }
        machine.name(&[(dir, name, None)]);
        Ok(())
    }

    fn mkdir(&self, path: &RepoPath, _mode: u32) -> io::Result<()> {
        let mut machine = self.step(Kind::Other)?;
        done(
            machine
                .make(path.as_str(), Node::Dir(BTreeMap::new()))
                .map(|_| ()),
        )
    }

    fn rmdir(&self, path: &RepoPath) -> io::Result<()> {
        let mut machine = self.step(Kind::Other)?;
        let (dir, name, there) = done(machine.place(path.as_str()))?;
        match machine.node(done(there.ok_or(libc::ENOENT))?) {
            Node::Dir(entries) if entries.is_empty() => {}
            Node::Dir(_) => return done(Err(libc::ENOTEMPTY)),
            Node::File(_) | Node::Symlink(_) => return done(Err(libc::ENOTDIR)),
        }
        machine.name(&[(dir, name, None)]);
        Ok(())
    }

    fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        let machine = self.step(Kind::Other)?;
        let (_, _, there) = done(machine.place(path.as_str()))?;
        let node = done(there.ok_or(libc::ENOENT))?;
        Ok(Self::describe(&machine, node))
    }

    fn survey(&self, path: &RepoPath) -> io::Result<(Stat, Vec<(String, Stat)>)> {
        let machine = self.step(Kind::Other)?;
        let node = Self::dir(&machine, path)?;
        let entries = done(machine.entries(node))?.iter();
        let stats = entries.map(|(name, node)| (name.clone(), Self::describe(&machine, *node)));
        Ok((Self::describe(&machine, node), stats.collect()))
    }

    fn each_entry(&self, path: &RepoPath, act: &mut dyn FnMut(&str, Stat)) -> io::Result<()> {
        let (_, entries) = self.survey(path)?;
        entries
            .into_iter()
            .for_each(|(name, stat)| act(&name, stat));
        Ok(())
    }

    fn stat_each(&self, path: &RepoPath, names: &[Box<str>]) -> io::Result<Vec<Option<Stat>>> {
        let machine = self.step(Kind::Other)?;
        let entries = done(machine.entries(Self::dir(&machine, path)?))?;
        let nodes = names.iter().map(|name| entries.get(&**name));
        let stats = nodes.map(|node| node.map(|node| Self::describe(&machine, *node)));
        Ok(stats.collect())
    }

    fn boot_id(&self) -> Option<&str> {
        Some(&self.mount)
    }

    fn read_dir(&self, path: &RepoPath, max: usize) -> io::Result<Vec<DirEntry>> {
        let machine = self.step(Kind::Other)?;
        let node = Self::dir(&machine, path)?;
        let entries = done(machine.entries(node))?.iter().take(max);
        let entry = |(name, node): (&String, &u64)| DirEntry {
            name: name.clone(),
            kind: machine.node(*node).kind(),
        };
        Ok(entries.map(entry).collect())
    }

    fn symlink(&self, target: &str, path: &RepoPath) -> io::Result<()> {
        let mut machine = self.step(Kind::Other)?;
        let link = Node::Symlink(target.to_owned());
        done(machine.make(path.as_str(), link).map(drop))
    }

    // Every file belongs to root, and no file system has to support attributes.

    fn set_owner(&self, path: &RepoPath, _uid: u32, _gid: u32) -> io::Result<()> {
        let machine = self.step(Kind::Other)?;
        done(machine.place(path.as_str())).map(drop)
    }

    fn set_xattr(&self, _file: &ModelFile, _name: &[u8], _value: &[u8]) -> io::Result<()> {
        let _machine = self.step(Kind::Other)?;
        done(Err(libc::ENOTSUP))
    }

    fn set_link_xattr(&self, _path: &RepoPath, _name: &[u8], _value: &[u8]) -> io::Result<()> {
        let _machine = self.step(Kind::Other)?;
        done(Err(libc::ENOTSUP))
    }

    fn xattr(&self, _file: &ModelFile, _name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.step(Kind::Other).map(|_| None)
    }

    fn xattrs(&self, _path: &RepoPath) -> io::Result<Vec<Xattr>> {
        self.step(Kind::Other).map(|_| Vec::new())
    }

    fn read_link(&self, path: &RepoPath) -> io::Result<String> {
        let machine = self.step(Kind::Other)?;
        let (_, _, there) = done(machine.place(path.as_str()))?;
        match machine.node(done(there.ok_or(libc::ENOENT))?) {
            Node::Symlink(text) => Ok(text.clone()),
            Node::File(_) | Node::Dir(_) => done(Err(libc::EINVAL)),
        }
    }

    fn room(&self) -> io::Result<Room> {
        Ok(Room {
            bytes: u64::MAX,
            bytes_free: u64::MAX,
            inodes_free: None,
        })
    }

    fn set_modified(&self, path: &RepoPath, _seconds: i64) -> io::Result<()> {
        // No test asks for the modification time of a name given here.
        let machine = self.step(Kind::Other)?;
        done(machine.place(path.as_str())).map(drop)
    }

    fn touch_root(&self) -> io::Result<()> {
        self.step(Kind::Other).map(|_| ())
    }

    fn try_lock(&self, path: &RepoPath, mode: LockMode) -> io::Result<Option<ModelLock>> {
        self.lock(path, true, &[None], mode)
    }

    fn try_lock_there(&self, path: &RepoPath) -> io::Result<Option<ModelLock>> {
        self.lock(path, false, &[None], LockMode::Exclusive)
    }

    fn try_lock_byte(&self, path: &RepoPath, bytes: Range<u64>) -> io::Result<Option<ModelLock>> {
        let bytes: Vec<_> = bytes.map(Some).collect();
        self.lock(path, true, &bytes, LockMode::Exclusive)
    }
}

impl ModelFs {
    /// Locks the first of these parts of a file that is free; `None` is the whole file.
    fn lock(
        &self,
        path: &RepoPath,
        make: bool,
        parts: &[Option<u64>],
        mode: LockMode,
    ) -> io::Result<Option<ModelLock>> {
        let mut machine = self.step(Kind::Other)?;
        let (_, _, there) = done(machine.place(path.as_str()))?;
        let node = match there {
            Some(node) => node,
            None if make => done(machine.make(path.as_str(), Node::File(Arc::default())))?,
            None => return done(Err(libc::ENOENT)),
        };
        match machine.node(node).kind() {
            FileKind::File => {}
            FileKind::Dir => return done(Err(libc::EISDIR)),
            FileKind::Symlink | FileKind::Other => return done(Err(libc::ELOOP)),
        }
        let mut parts = parts.iter();
        let token = parts.find_map(|part| machine.lock(node, *part, mode));
        let machine = Arc::clone(&self.machine);
        Ok(token.map(|token| ModelLock { machine, token }))
    }
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub(crate) struct ModelLock {
    machine: Arc<Mutex<Machine>>,
    token: u64,
}

impl Drop for ModelLock {
    fn drop(&mut self) {
        self.machine.lock().unwrap().unlock(self.token);
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct ModelFile {
    fs: ModelFs,
    node: u64,
    at: usize,
}

impl Read for ModelFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let machine = self.fs.step(Kind::Other)?;
        let Node::File(content) = machine.node(self.node) else {
            panic!("opened as a file");
        };
        let rest = &content[self.at.min(content.len())..];
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        self.at += read;
        Ok(read)
    }
}

impl Write for ModelFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut machine = self.fs.step(Kind::Other)?;
        let written = if self.fs.is_short() {
            bytes.len().min(1)
        } else {
            bytes.len()
        };
        machine.append(self.node, self.at, &bytes[..written]);
        self.at += written;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
