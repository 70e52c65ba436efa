//! `make bench-micro`: the parts of a push, each by itself and on one core.
//!
//! Measured on a tree of 2,000 files on the disk of temporary files; rates are of stored bytes, and
//! of objects.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_bench::codec::Stretch;
use artifact_bench::verify::Objects;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{Expect, RefUpdate};
use artifact_protocol::session::{Announcement, Published};
use artifact_sender::{Plan, Repository, Target};
use artifact_store::{LocalPush, LocalStore, Push, Stager, Store, StoreConfig};
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use tempfile::TempDir;

fn main() {
    divan::main();
}

#[divan::bench]
fn encode_frames(bencher: Bencher<'_, '_>) {
    let stretch = Stretch::new();
    bencher
        .counter(BytesCount::new(stretch.wire_len()))
        .bench(|| stretch.encode());
}

#[divan::bench]
fn decode_frames(bencher: Bencher<'_, '_>) {
    let stretch = Stretch::new();
    bencher
        .counter(BytesCount::new(stretch.wire_len()))
        .bench(|| stretch.decode());
}

#[divan::bench]
fn verify_objects(bencher: Bencher<'_, '_>) {
    let source = Source::new();
    let objects = Objects::read(&source.repo).expect("the repository is readable");
    bencher
        .counter(BytesCount::new(objects.stored_len()))
        .bench(|| objects.verify().expect("the objects are good"));
}

#[divan::bench]
fn inflate_and_hash_objects(bencher: Bencher<'_, '_>) {
    let source = Source::new();
    let objects = Objects::read(&source.repo).expect("the repository is readable");
    bencher
        .counter(BytesCount::new(objects.stored_len()))
        .bench(|| objects.inflate_and_hash().expect("the objects are good"));
}

/// The receiver's walk over a closure. It finds the last object missing and therefore publishes
/// nothing, however often it runs.
#[divan::bench]
fn walk_a_closure(bencher: Bencher<'_, '_>) {
    let source = Source::new();
    let (mut push, missing) = source.staged_but_one();
    bencher
        .counter(ItemsCount::new(source.ids.len()))
        .bench_local(|| {
            let published = push.publish().expect("the walk succeeds");
            assert_eq!(published, Published::Missing(vec![missing]));
        });
}

/// The receiver's answers to offers of objects that it has received.
#[divan::bench]
fn answer_offers(bencher: Bencher<'_, '_>) {
    let source = Source::new();
    let (mut push, _) = source.staged_but_one();
    bencher
        .counter(ItemsCount::new(source.ids.len()))
        .bench_local(|| push.have(&source.ids).expect("the store answers"));
}

/// The sender's offers to a server that has nothing.
#[divan::bench]
fn plan_offers(bencher: Bencher<'_, '_>) {
    let source = Source::new();
    let repository = Arc::new(Repository::open(&source.repo).expect("the repository is there"));
    let target = Target {
        commit: source.commit,
        current: None,
    };
    bencher
        .counter(ItemsCount::new(source.ids.len()))
        .bench_local(|| {
            let repository = Arc::clone(&repository);
            let mut plan = Plan::new(repository, &[target], &[], 0).expect("it can be planned");
            let mut offered = 0;
            while !plan.is_exhausted() {
                let ids = plan.next(1_024).expect("the repository is whole");
                offered += ids.len();
                ids.into_iter().for_each(|id| plan.answer(id, false));
            }
            assert_eq!(offered, source.ids.len());
        });
}

/// An archive repository with one commit.
struct Source {
    repo: PathBuf,
    commit: Checksum,
    ids: Vec<ObjectId>,
    dir: TempDir,
}

impl Source {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("there is room for a directory");
        let tree = Tree::create(&dir.path().join("tree")).expect("a tree can be made");
        tree.generated(2_000, 7).expect("a tree can be made");
        let repo = Repo::init(&dir.path().join("source"), Mode::Archive).expect("ostree works");
        let commit = repo
            .commit(REF, tree.root(), &["--no-xattrs"])
            .expect("ostree works");
        let ids = ObjectKind::ALL
            .into_iter()
            .flat_map(|kind| repo.objects(kind).expect("the repository is readable"))
            .collect();
        Self {
            repo: repo.path().to_owned(),
            commit,
            ids,
            dir,
        }
    }

    /// Returns a push of which everything is staged except one file, and that file.
    fn staged_but_one(&self) -> (LocalPush, ObjectId) {
        let target = Repo::at(&self.dir.path().join("target"));
        target
            .ostree("init", ["--mode=archive-z2"])
            .expect("ostree works");
        let store = LocalStore::open(target.path(), StoreConfig::default()).expect("it opens");
        let update = RefUpdate {
            name: REF.parse().expect("it is a name"),
            commit: self.commit,
            detached: None,
            expect: Expect::Any,
        };
        let announcement = Announcement {
            refs: vec![update],
            ..Announcement::default()
        };
        let (_, push) = store.begin(&announcement).expect("it may be pushed");
        let stager = push.stager();
        let mut ids = self.ids.clone();
        let last = ids.iter().rposition(|id| id.kind == ObjectKind::File);
        let missing = ids.remove(last.expect("there are files"));
        for id in ids {
            let stored = read(&self.repo, id);
            stager.stage(id, stored.into()).expect("it is good");
        }
        (push, missing)
    }
}

fn read(repo: &Path, id: ObjectId) -> Vec<u8> {
    std::fs::read(repo.join("objects").join(id.archive_path())).expect("it is there")
}

const REF: &str = "bench/micro/ref";
