//! Repositories made by the real `ostree`, objects read from them, and a file system that records
//! the operations it was asked for.

use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};

use crate::session::Session;
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind};
use artifact_protocol::frame::{Expect, PushOptions, RefOutcome, RefUpdate};
use artifact_protocol::session::{Announcement, Opened, Published};
use artifact_store::{
    DirEntry, Fs, LockMode, RealFs, RepoPath, Room, Stat, StoreConfig, Xattr, fsck,
};
use tempfile::TempDir;

/// A client's repository and the server's.
pub(crate) struct Pair {
    dir: PathBuf,
    // Removed on drop; `None` when the directory belongs to another process.
    _temporary: Option<TempDir>,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let temporary = TempDir::new().unwrap();
        let pair = Self {
            dir: temporary.path().to_owned(),
            _temporary: Some(temporary),
        };
        init(&pair.source(), "archive-z2", "fsync=false\n");
        init(&pair.target(), "archive-z2", "");
        pair
    }

    /// Returns the pair that another process made.
    #[allow(dead_code, reason = "only the receiver's test of its sandbox needs it")]
    pub(crate) fn of_another(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            _temporary: None,
        }
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.dir.join("source")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.dir.join("target")
    }

    /// Commits a tree in the source; each file holds its text, and a text `-> TARGET` makes a link.
    pub(crate) fn commit(&self, parent: Option<Checksum>, files: &[(&str, &str)]) -> Checksum {
        self.commit_with(parent, files, &["--no-bindings", "--branch=unused"])
    }

    pub(crate) fn commit_with(
        &self,
        parent: Option<Checksum>,
        files: &[(&str, &str)],
        options: &[&str],
    ) -> Checksum {
        let tree = self.dir.join("tree");
        fs::create_dir_all(&tree).unwrap();
        for (name, content) in files {
            let path = tree.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("->") {
                Some(target) => std::os::unix::fs::symlink(target, path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        let parent = parent.map_or("none".to_owned(), |parent| parent.to_hex());
        let parent = format!("--parent={parent}");
        let tree_option = format!("--tree=dir={}", tree.display());
        let mut args = vec![
            "commit",
            "--subject=test",
            "--timestamp=2026-01-01 00:00:00 +0000",
            &parent,
            &tree_option,
        ];
        args.extend(options);
        let commit = ostree(&args, &self.source()).trim().parse().unwrap();
        fs::remove_dir_all(tree).unwrap();
        commit
    }

    pub(crate) fn store(&self) -> Session {
        Session::at(&self.target(), StoreConfig::default()).unwrap()
    }

    pub(crate) fn store_of(&self, identity: &str) -> Session {
        let config = StoreConfig {
            identity: identity.to_owned(),
            ..StoreConfig::default()
        };
        Session::at(&self.target(), config).unwrap()
    }

    pub(crate) fn recorded(&self) -> (Session<Recorder>, Arc<Record>) {
        self.recorded_with(StoreConfig::default())
    }

    pub(crate) fn recorded_with(&self, config: StoreConfig) -> (Session<Recorder>, Arc<Record>) {
        let record = Arc::new(Record::default());
        let real = RealFs::open(&self.target()).unwrap();
        let fs = Recorder {
            real,
            record: Arc::clone(&record),
        };
        (Session::with_fs(fs, config).unwrap(), record)
    }

    /// Returns the stored bytes of an object of the source.
    pub(crate) fn stored(&self, id: ObjectId) -> Vec<u8> {
        fs::read(self.source().join("objects").join(id.archive_path())).unwrap()
    }

    /// Returns every object that a commit of the source reaches, itself first.
    pub(crate) fn closure(&self, commit: Checksum) -> Vec<ObjectId> {
        let root = ObjectId::new(ObjectKind::Commit, commit);
        let (mut seen, mut all, mut stack) = (BTreeSet::from([root]), Vec::new(), vec![root]);
        while let Some(id) = stack.pop() {
            all.push(id);
            let children = match id.kind {
                ObjectKind::Commit => {
                    let commit = Commit::parse(&self.stored(id)).unwrap();
                    vec![
                        ObjectId::new(ObjectKind::Dirtree, commit.tree),
                        ObjectId::new(ObjectKind::Dirmeta, commit.meta),
                    ]
                }
                ObjectKind::Dirtree => Dirtree::parse(&self.stored(id))
                    .unwrap()
                    .children()
                    .collect(),
                ObjectKind::File | ObjectKind::Dirmeta => Vec::new(),
            };
            stack.extend(children.into_iter().filter(|&child| seen.insert(child)));
        }
        all
    }

    /// Stages everything a commit reaches.
    pub(crate) fn stage_all(&self, store: &Session<impl Fs>, commit: Checksum) {
        for id in self.closure(commit) {
            store.stage(id, &self.stored(id)).unwrap();
        }
    }

    /// Pushes a whole commit, and returns the outcome of the ref.
    pub(crate) fn push(&self, name: &str, commit: Checksum) -> RefOutcome {
        self.push_with(name, commit, Expect::Any, PushOptions::default())
    }

    pub(crate) fn push_with(
        &self,
        name: &str,
        commit: Checksum,
        expect: Expect,
        options: PushOptions,
    ) -> RefOutcome {
        let store = self.store();
        let update = RefUpdate {
            expect,
            ..update(name, commit)
        };
        open(&store, options, &[update]);
        self.stage_all(&store, commit);
        done(store.publish().unwrap()).remove(0)
    }

    /// Returns the text of the file of a ref in `refs/heads` of the target.
    pub(crate) fn held(&self, name: &str) -> Option<String> {
        let path = self.target().join("refs/heads").join(name);
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    }

    /// Returns path and content of every file of the target except our own.
    pub(crate) fn snapshot(&self) -> BTreeSet<(PathBuf, Vec<u8>)> {
        let mut files = BTreeSet::new();
        let mut dirs = vec![self.target()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.ends_with("extensions/artifact-cache") {
                } else if path.is_dir() && !path.is_symlink() {
                    dirs.push(path);
                } else if !path.ends_with(".lock") {
                    let content = fs::read(&path).unwrap();
                    files.insert((path, content));
                }
            }
        }
        files
    }

    /// Checks the target with the real `ostree` and with our own check, and pulls a ref from it.
    pub(crate) fn assert_sound(&self, refs: &[&str]) {
        ostree(&["fsck", "-q"], &self.target());
        let faults = Mutex::new(Vec::new());
        let report = |fault| faults.lock().unwrap().push(fault);
        fsck(&self.target(), u64::MAX, &report).unwrap();
        assert_eq!(faults.into_inner().unwrap(), []);
        let puller = TempDir::new().unwrap();
        init(puller.path(), "bare-user", "");
        if !refs.is_empty() {
            let from = self.target();
            let pull = ["pull-local", "--untrusted", from.to_str().unwrap()];
            ostree(&[&pull, refs].concat(), puller.path());
        }
        ostree(&["fsck", "-q"], puller.path());
    }

    /// Has the last objects in all staging directories come so much earlier.
    pub(crate) fn age_staging(&self, age: Duration) {
        let staging = self.target().join("extensions/artifact-cache/staging");
        for dir in fs::read_dir(staging).into_iter().flatten() {
            let dir = fs::File::open(dir.unwrap().path()).unwrap();
            let modified = dir.metadata().unwrap().modified().unwrap();
            dir.set_modified(modified - age).unwrap();
        }
    }

    pub(crate) fn staging_dirs(&self) -> usize {
        let staging = self.target().join("extensions/artifact-cache/staging");
        fs::read_dir(staging).map_or(0, Iterator::count)
    }
}

/// Makes an empty repository as `ostree init` does, whose start takes longer than many a test.
pub(crate) fn init(repo: &Path, mode: &str, more: &str) {
    let dirs = ["refs/heads", "refs/mirrors", "refs/remotes", "tmp/cache"];
    for dir in dirs.iter().chain(&["extensions", "objects", "state"]) {
        fs::create_dir_all(repo.join(dir)).unwrap();
    }
    let config = format!("[core]\nrepo_version=1\nmode={mode}\n{more}");
    fs::write(repo.join("config"), config).unwrap();
}

/// Runs `ostree`, which must succeed.
pub(crate) fn ostree(args: &[&str], repo: &Path) -> String {
    let repo = format!("--repo={}", repo.display());
    let output = Command::new("ostree")
        .arg(args[0])
        .arg(repo)
        .args(&args[1..])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "ostree {args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn update(name: &str, commit: Checksum) -> RefUpdate {
    RefUpdate {
        name: name.parse().unwrap(),
        commit,
        detached: None,
        expect: Expect::Any,
    }
}

pub(crate) fn open(store: &Session<impl Fs>, options: PushOptions, refs: &[RefUpdate]) -> Opened {
    let refs = refs.to_vec();
    store
        .open(&Announcement {
            options,
            refs,
            bases: Vec::new(),
            history: 0,
        })
        .unwrap()
}

/// Returns the outcomes of a publication, which must be done.
pub(crate) fn done(published: Published) -> Vec<RefOutcome> {
    match published {
        Published::Done(outcomes) => outcomes,
        Published::Missing(missing) => panic!("missing: {missing:?}"),
    }
}

/// Returns the objects that a publication is missing.
pub(crate) fn missing(published: Published) -> Vec<ObjectId> {
    match published {
        Published::Missing(missing) => missing,
        Published::Done(outcomes) => panic!("done: {outcomes:?}"),
    }
}

/// An operation that changes the file system or makes a change durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Open(String),
    SyncAll,
    SyncDir(String),
    Name(String),
    Lock(String),
    Unlock(String),
}

/// The operations so far, and whether the next sync is to fail.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) ops: Mutex<Vec<Op>>,
    pub(crate) fail_sync: AtomicBool,
    /// How many files and directories were looked at, made, opened, named or removed so far.
    pub(crate) calls: AtomicUsize,
    /// The free space the file system claims to have, instead of its own.
    pub(crate) room: Mutex<Option<Room>>,
    meanwhile: Mutex<Option<(Op, Meanwhile)>>,
}

/// The action of another process.
struct Meanwhile(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl Record {
    fn call(&self, times: usize) {
        self.calls.fetch_add(times, Ordering::Relaxed);
    }

    fn add(&self, op: Op) {
        self.ops.lock().unwrap().push(op);
    }

    /// Runs an action of another process right before an operation.
    pub(crate) fn before(&self, op: Op, act: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().unwrap() = Some((op, Meanwhile(Box::new(act))));
    }

    fn about_to(&self, op: &Op) {
        let mut meanwhile = self.meanwhile.lock().unwrap();
        if meanwhile.as_ref().is_some_and(|(awaited, _)| awaited == op) {
            let (_, Meanwhile(act)) = meanwhile.take().unwrap();
            drop(meanwhile);
            act();
        }
    }
}

/// The real file system, with a record.
#[derive(Debug)]
pub(crate) struct Recorder {
    real: RealFs,
    record: Arc<Record>,
}

/// A lock that records its release.
#[derive(Debug)]
pub(crate) struct RecordedLock {
    path: String,
    record: Arc<Record>,
    _real: <RealFs as Fs>::Lock,
}

impl Drop for RecordedLock {
    fn drop(&mut self) {
        self.record.add(Op::Unlock(self.path.clone()));
    }
}

impl Fs for Recorder {
    type File = <RealFs as Fs>::File;
    type Lock = RecordedLock;

    fn create(&self, path: &RepoPath, mode: u32) -> io::Result<Self::File> {
        self.record.call(1);
        self.real.create(path, mode)
    }
    fn set_mode(&self, file: &Self::File, mode: u32) -> io::Result<()> {
        self.real.set_mode(file, mode)
    }
    fn open(&self, path: &RepoPath) -> io::Result<Self::File> {
        self.record.call(1);
        self.record.add(Op::Open(path.as_str().to_owned()));
        self.real.open(path)
    }
    fn sync_data(&self, file: &Self::File) -> io::Result<()> {
        self.real.sync_data(file)
    }
    fn sync_dir(&self, path: &RepoPath) -> io::Result<()> {
        self.real.sync_dir(path)?;
        self.record.add(Op::SyncDir(path.as_str().to_owned()));
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        if self.record.fail_sync.load(Ordering::Relaxed) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.real.sync_all()?;
        self.record.add(Op::SyncAll);
        Ok(())
    }
    fn rename(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()> {
        self.record.call(1);
        self.record.about_to(&Op::Name(to.as_str().to_owned()));
        self.real.rename(from, to)?;
        self.record.add(Op::Name(to.as_str().to_owned()));
        Ok(())
    }
    fn link(&self, from: &RepoPath, to: &RepoPath) -> io::Result<()> {
        self.record.call(1);
        self.real.link(from, to)?;
        self.record.add(Op::Name(to.as_str().to_owned()));
        Ok(())
    }
    fn unlink(&self, path: &RepoPath) -> io::Result<()> {
        self.record.call(1);
        self.real.unlink(path)
    }
    fn mkdir(&self, path: &RepoPath, mode: u32) -> io::Result<()> {
        self.record.call(1);
        self.real.mkdir(path, mode)
    }
    fn rmdir(&self, path: &RepoPath) -> io::Result<()> {
        self.record.call(1);
        self.real.rmdir(path)
    }
    fn stat(&self, path: &RepoPath) -> io::Result<Stat> {
        self.record.call(1);
        self.real.stat(path)
    }
    fn read_dir(&self, path: &RepoPath, max: usize) -> io::Result<Vec<DirEntry>> {
        self.real.read_dir(path, max)
    }
    fn survey(&self, path: &RepoPath) -> io::Result<(Stat, Vec<(String, Stat)>)> {
        self.real.survey(path)
    }
    fn each_entry(&self, path: &RepoPath, act: &mut dyn FnMut(&str, Stat)) -> io::Result<()> {
        self.real.each_entry(path, act)
    }
    fn stat_each(&self, path: &RepoPath, names: &[Box<str>]) -> io::Result<Vec<Option<Stat>>> {
        self.record.call(names.len());
        self.real.stat_each(path, names)
    }
    fn boot_id(&self) -> Option<&str> {
        self.real.boot_id()
    }
    fn symlink(&self, target: &str, path: &RepoPath) -> io::Result<()> {
        self.real.symlink(target, path)
    }
    fn set_owner(&self, path: &RepoPath, uid: u32, gid: u32) -> io::Result<()> {
        self.real.set_owner(path, uid, gid)
    }
    fn set_xattr(&self, file: &Self::File, name: &[u8], value: &[u8]) -> io::Result<()> {
        self.real.set_xattr(file, name, value)
    }
    fn set_link_xattr(&self, path: &RepoPath, name: &[u8], value: &[u8]) -> io::Result<()> {
        self.real.set_link_xattr(path, name, value)
    }
    fn xattr(&self, file: &Self::File, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.real.xattr(file, name)
    }
    fn xattrs(&self, path: &RepoPath) -> io::Result<Vec<Xattr>> {
        self.real.xattrs(path)
    }
    fn read_link(&self, path: &RepoPath) -> io::Result<String> {
        self.real.read_link(path)
    }
    fn room(&self) -> io::Result<Room> {
        match *self.record.room.lock().unwrap() {
            Some(room) => Ok(room),
            None => self.real.room(),
        }
    }

    fn set_modified(&self, path: &RepoPath, seconds: i64) -> io::Result<()> {
        self.real.set_modified(path, seconds)
    }
    fn touch_root(&self) -> io::Result<()> {
        self.real.touch_root()
    }
    fn try_lock(&self, path: &RepoPath, mode: LockMode) -> io::Result<Option<RecordedLock>> {
        self.record.about_to(&Op::Lock(path.as_str().to_owned()));
        Ok(self.locked(path, self.real.try_lock(path, mode)?))
    }
    fn try_lock_there(&self, path: &RepoPath) -> io::Result<Option<RecordedLock>> {
        Ok(self.locked(path, self.real.try_lock_there(path)?))
    }
    fn try_lock_byte(
        &self,
        path: &RepoPath,
        bytes: Range<u64>,
    ) -> io::Result<Option<RecordedLock>> {
        Ok(self.locked(path, self.real.try_lock_byte(path, bytes)?))
    }
}

impl Recorder {
    fn locked(&self, path: &RepoPath, real: Option<OwnedFd>) -> Option<RecordedLock> {
        let path = path.as_str().to_owned();
        real.map(|real| {
            self.record.add(Op::Lock(path.clone()));
            RecordedLock {
                path,
                record: Arc::clone(&self.record),
                _real: real,
            }
        })
    }
}

#[test]
fn an_empty_repository_is_the_one_that_ostree_makes() {
    let dir = TempDir::new().unwrap();
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    init(&ours, "archive-z2", "");
    ostree(&["init", "--mode=archive-z2"], &theirs);
    let compared = Command::new("diff").arg("-r").args([ours, theirs]).output();
    assert_eq!(compared.unwrap().stdout, b"");
}
