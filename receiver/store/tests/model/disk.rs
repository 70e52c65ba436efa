//! A disk that keeps durable state apart from visible state, and crashes.
//!
//! It is the weakest disk POSIX allows: every write and every change of a directory that was not
//! synced is kept or lost on its own. A rename is two changes, each of them atomic. `fsync` of a
//! file does not cover its name, nor `fsync` of a directory the entries below it. A failed sync
//! marks its data as clean, and so loses them for ever.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use artifact_store::{FileKind, LockMode};
use nix::libc;

/// The content of an inode. Directories hold inodes by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    File(Arc<Vec<u8>>),
    Dir(BTreeMap<String, u64>),
    Symlink(String),
}

impl Node {
    pub(crate) fn kind(&self) -> FileKind {
        match self {
            Self::File(_) => FileKind::File,
            Self::Dir(_) => FileKind::Dir,
            Self::Symlink(_) => FileKind::Symlink,
        }
    }
}

/// Inodes by number; the root is 0. Beside them, the modes of the files that are not 0644.
#[derive(Clone, Debug)]
pub(crate) struct Disk(BTreeMap<u64, Node>, BTreeMap<u64, u32>);

/// A visible change that is not durable, made by operation `op`.
#[derive(Clone, Debug)]
struct Pending {
    op: u64,
    node: u64,
    change: Change,
}

#[derive(Clone, Debug)]
enum Change {
    Data(usize, Vec<u8>),
    Mode(u32),
    Entry(String, Option<u64>),
}

/// How everything ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Crash {
    /// The process is killed; the system goes on.
    Kill,
    /// The power is cut. Names are kept in the order they were made, up to some point; data in no
    /// order.
    Ordered(u64),
    /// The power is cut. Nothing is kept in order.
    Weakest(u64),
}

/// A disk, and the kernel's view of it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    visible: Disk,
    durable: Disk,
    pending: Vec<Pending>,
    locks: Vec<(u64, (u64, Option<u64>), LockMode)>,
    modified: BTreeMap<u64, i64>,
    /// Seconds since 1970.
    pub(crate) clock: i64,
    next: u64,
    mounts: u64,
    /// Counts changes.
    pub(crate) changes: u64,
    /// Syncs of everything, of a directory, of a file do nothing.
    pub(crate) lies: [bool; 3],
}

impl Machine {
    pub(crate) fn new() -> Self {
        let empty = Disk(
            BTreeMap::from([(0, Node::Dir(BTreeMap::new()))]),
            BTreeMap::new(),
        );
        Self {
            visible: empty.clone(),
            durable: empty,
            pending: Vec::new(),
            locks: Vec::new(),
            modified: BTreeMap::new(),
            clock: 1_000_000,
            next: 1,
            mounts: 0,
            changes: 0,
            lies: [false; 3],
        }
    }

    /// Returns the state after a crash.
    pub(crate) fn crash(&self, how: Crash) -> Self {
        let mut after = self.clone();
        after.locks.clear();
        let (seed, ordered) = match how {
            Crash::Kill => return after,
            Crash::Ordered(seed) => (seed, true),
            Crash::Weakest(seed) => (seed, false),
        };
        let mut random = Random(seed);
        let cut = match self.pending.as_slice() {
            [first, .., last] => first.op + random.below(last.op - first.op + 2),
            _ => random.below(2) * u64::MAX,
        };
        // Out of 8; seeds 0 and 1 keep no name and every name, and no data.
        let eagerness = [0, 8, 1, 4, 7, 8][usize::try_from(seed.min(2 + random.below(4))).unwrap()];
        let data = if seed < 2 {
            0
        } else {
            [0, 4, 8][usize::try_from(random.below(3)).unwrap()]
        };
        for pending in mem::take(&mut after.pending) {
            match pending.change {
                Change::Entry(..) => {
                    let kept = if ordered {
                        pending.op < cut
                    } else {
                        random.below(8) < eagerness
                    };
                    if kept {
                        after.durable.apply(&pending);
                    }
                }
                Change::Data(at, bytes) if random.below(8) < data => {
                    let torn = random.below(4) == 0;
                    let len = if torn {
                        random.below(bytes.len() as u64 + 1)
                    } else {
                        u64::MAX
                    };
                    let kept = bytes.len().min(usize::try_from(len).unwrap());
                    let change = Change::Data(at, bytes[..kept].to_vec());
                    after.durable.apply(&Pending { change, ..pending });
                }
                Change::Mode(..) if random.below(8) < data => after.durable.apply(&pending),
                Change::Data(..) | Change::Mode(..) => {}
            }
        }
        after.reboot();
        after
    }

    /// Returns every state that a power cut may leave, as far as names outside `ignored` matter,
    /// before or after; whole writes only. `None` if there are more than 2 to the power `most`.
    pub(crate) fn every_crash(&self, ignored: &str, most: usize) -> Option<Vec<Self>> {
        let mut unclear: Vec<_> = self.pending.iter().collect();
        let [mut below, removed] = [&self.visible, &self.durable].map(|disk| disk.below(ignored));
        below.extend(removed);
        unclear.retain(|pending| {
            !below.contains(&pending.node) || matches!(pending.change, Change::Data(..))
        });
        if unclear.len() > most {
            return None;
        }
        let states = (0..1u64 << unclear.len()).map(|subset| {
            let mut after = self.clone();
            let kept = unclear.iter().enumerate();
            for (_, pending) in kept.filter(|(bit, _)| subset >> bit & 1 == 1) {
                after.durable.apply(pending);
            }
            after.pending.clear();
            after.reboot();
            after
        });
        Some(states.collect())
    }

    fn reboot(&mut self) {
        self.locks.clear();
        self.visible = self.durable.clone();
        self.mounts += 1;
    }

    /// Distinguishes this mount from others.
    pub(crate) fn mount_id(&self) -> String {
        format!("mount-{}", self.mounts)
    }

    /// Returns the visible inode of a path, without following links.
    pub(crate) fn resolve(&self, path: &str) -> Result<u64, i32> {
        self.visible.resolve(path)
    }

    pub(crate) fn node(&self, node: u64) -> &Node {
        &self.visible.0[&node]
    }

    /// Returns the permissions of a file.
    pub(crate) fn mode(&self, node: u64) -> u32 {
        self.visible.1.get(&node).copied().unwrap_or(0o644)
    }

    pub(crate) fn modified(&self, node: u64) -> i64 {
        self.modified.get(&node).copied().unwrap_or(0)
    }

    /// Returns the entries of a directory.
    pub(crate) fn entries(&self, node: u64) -> Result<&BTreeMap<String, u64>, i32> {
        self.visible.entries(node)
    }

    /// Returns the directory and name of a path, and the inode of that name.
    pub(crate) fn place<'p>(&self, path: &'p str) -> Result<(u64, &'p str, Option<u64>), i32> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.resolve(dir)?;
        Ok((dir, name, self.entries(dir)?.get(name).copied()))
    }

    /// Makes an inode under a free name.
    pub(crate) fn make(&mut self, path: &str, node: Node) -> Result<u64, i32> {
        let (dir, name, there) = self.place(path)?;
        if there.is_some() {
            return Err(libc::EEXIST);
        }
        let number = self.next;
        self.next += 1;
        // The inode is durable at once, and empty, but no durable name leads to it.
        let empty = match &node {
            Node::File(_) => Node::File(Arc::default()),
            Node::Dir(_) => Node::Dir(BTreeMap::new()),
            Node::Symlink(text) => Node::Symlink(text.clone()),
        };
        self.durable.0.insert(number, empty);
        self.visible.0.insert(number, node);
        self.modified.insert(number, self.clock);
        self.name(&[(dir, name, Some(number))]);
        Ok(number)
    }

    /// Changes several names in one operation.
    pub(crate) fn name(&mut self, entries: &[(u64, &str, Option<u64>)]) {
        self.changes += 1;
        for &(node, name, target) in entries {
            let change = Change::Entry(name.to_owned(), target);
            self.add(node, change);
        }
    }

    /// Gives a new file its first mode.
    pub(crate) fn begin_with_mode(&mut self, node: u64, mode: u32) {
        self.visible.1.insert(node, mode);
        self.durable.1.insert(node, mode);
    }

    /// Gives a file another mode.
    pub(crate) fn set_mode(&mut self, node: u64, mode: u32) {
        self.changes += 1;
        self.add(node, Change::Mode(mode));
    }

    /// Appends to a file.
    pub(crate) fn append(&mut self, node: u64, at: usize, bytes: &[u8]) {
        self.changes += 1;
        self.add(node, Change::Data(at, bytes.to_vec()));
    }

    fn add(&mut self, node: u64, change: Change) {
        let op = self.changes;
        self.modified.insert(node, self.clock);
        let pending = Pending { op, node, change };
        self.visible.apply(&pending);
        self.pending.push(pending);
    }

    /// Makes changes durable: all of them, or those of a directory or a file.
    pub(crate) fn sync(&mut self, node: Option<u64>) {
        let lie = match node.map(|node| self.node(node).kind()) {
            None => 0,
            Some(FileKind::Dir) => 1,
            Some(_) => 2,
        };
        if self.lies[lie] {
            return;
        }
        self.changes += 1;
        for pending in mem::take(&mut self.pending) {
            if node.is_none_or(|node| node == pending.node) {
                self.durable.apply(&pending);
            } else {
                self.pending.push(pending);
            }
        }
    }

    /// Loses all data that are not durable, as a failing sync does.
    pub(crate) fn fail_sync(&mut self) {
        self.changes += 1;
        self.pending
            .retain(|p| matches!(p.change, Change::Entry(..)));
    }

    /// Takes a lock on an inode, or on one byte of it; `None` if another lock conflicts.
    pub(crate) fn lock(&mut self, node: u64, byte: Option<u64>, mode: LockMode) -> Option<u64> {
        let shared = |held: LockMode| held == LockMode::Shared && mode == LockMode::Shared;
        let meets = |held: Option<u64>| held.is_none() || byte.is_none() || held == byte;
        let in_the_way = |&(_, (held, part), how): &(u64, (u64, Option<u64>), LockMode)| {
            held == node && meets(part) && !shared(how)
        };
        if self.locks.iter().any(in_the_way) {
            return None;
        }
        let token = self.next;
        self.next += 1;
        self.locks.push((token, (node, byte), mode));
        Some(token)
    }

    pub(crate) fn unlock(&mut self, token: u64) {
        self.locks.retain(|lock| lock.0 != token);
    }

    /// Returns every file below a directory, with its relative path.
    pub(crate) fn files_below(&self, path: &str) -> Vec<(String, Arc<Vec<u8>>)> {
        let (mut files, mut todo) = (Vec::new(), vec![(String::new(), self.resolve(path))]);
        while let Some((path, node)) = todo.pop() {
            let Ok(node) = node else { continue };
            match self.node(node) {
                Node::File(content) => files.push((path, Arc::clone(content))),
                Node::Dir(entries) => todo.extend(entries.iter().map(|(name, node)| {
                    let slash = if path.is_empty() { "" } else { "/" };
                    (format!("{path}{slash}{name}"), Ok(*node))
                })),
                Node::Symlink(_) => {}
            }
        }
        files
    }
}

impl Disk {
    fn resolve(&self, path: &str) -> Result<u64, i32> {
        let mut node = 0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            node = *self.entries(node)?.get(name).ok_or(libc::ENOENT)?;
        }
        Ok(node)
    }

    fn entries(&self, node: u64) -> Result<&BTreeMap<String, u64>, i32> {
        match &self.0[&node] {
            Node::Dir(entries) => Ok(entries),
            Node::File(_) => Err(libc::ENOTDIR),
            Node::Symlink(_) => Err(libc::ELOOP),
        }
    }

    /// Returns a path's inode and all inodes below it.
    fn below(&self, path: &str) -> Vec<u64> {
        let mut found: Vec<u64> = self.resolve(path).into_iter().collect();
        let mut next = 0;
        while let Some(&node) = found.get(next) {
            next += 1;
            if let Some(Node::Dir(entries)) = self.0.get(&node) {
                found.extend(entries.values());
            }
        }
        found
    }

    fn apply(&mut self, pending: &Pending) {
        match (self.0.get_mut(&pending.node), &pending.change) {
            (Some(Node::Dir(entries)), Change::Entry(name, Some(node))) => {
                entries.insert(name.clone(), *node);
            }
            (Some(Node::Dir(entries)), Change::Entry(name, None)) => {
                entries.remove(name);
            }
            (Some(Node::File(content)), Change::Data(at, bytes)) => {
                let content = Arc::make_mut(content);
                let end = at + bytes.len();
                // The range between that was not written is a hole.
                content.resize(content.len().max(end), 0);
                content[*at..end].copy_from_slice(bytes);
            }
            (Some(Node::File(_)), Change::Mode(mode)) => {
                self.1.insert(pending.node, *mode);
            }
            (node, change) => panic!("{change:?} of {node:?}"),
        }
    }
}

/// Random numbers from a seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Returns a number below `bound` (splitmix64).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % bound
    }
}
