//! One's own repository, of each mode: pulled into by the store, and compared with what the real
//! `ostree` pulls.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use artifact_formats::{Checksum, ObjectId, ObjectKind, RepoMode};
use artifact_protocol::frame::{Base, Expect, PushOptions, RefOutcome, RefUpdate, RefusalCode};
use artifact_protocol::session::{Announcement, Published};
use artifact_store::{Error, Own, Ref, RefPlace, create};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::thread::{Gid, Uid, set_thread_res_gid, set_thread_res_uid};
use tempfile::TempDir;

use crate::session::Session;
use crate::support::{Pair, done, missing, open, ostree, update};

const MODES: [RepoMode; 4] = [
    RepoMode::Archive,
    RepoMode::Bare,
    RepoMode::BareUser,
    RepoMode::BareUserOnly,
];
const NAME: &str = "proj/app/1";

/// A source with commits, and a directory for repositories that pull.
struct Shop {
    pair: Pair,
    dir: TempDir,
}

impl Shop {
    fn new() -> Self {
        Self {
            pair: Pair::new(),
            dir: TempDir::new().unwrap(),
        }
    }

    /// Creates an empty repository of our making.
    fn repo(&self, mode: RepoMode) -> PathBuf {
        let path = self.dir.path().join(format!("own-{}", mode.as_str()));
        create(&path, mode).unwrap();
        path
    }

    /// Commits a tree with every kind of file; without what only mode bare-user-only cannot keep.
    fn commit_of_all_kinds(&self, mode: RepoMode) -> Checksum {
        let tree = self.dir.path().join("tree");
        if !tree.exists() {
            make_tree(&tree);
        }
        let tree = format!("--tree=dir={}", tree.display());
        let mut args = vec![
            "commit",
            "--orphan",
            "--no-bindings",
            "--subject=all",
            "--timestamp=2026-01-01 00:00:00 +0000",
            &tree,
        ];
        if mode == RepoMode::BareUserOnly {
            args.extend(["--canonical-permissions", "--no-xattrs"]);
        }
        ostree(&args, &self.pair.source()).trim().parse().unwrap()
    }

    /// Lets `ostree` pull a commit into a repository of this mode.
    fn pulled_by_ostree(&self, mode: RepoMode, commit: Checksum) -> PathBuf {
        let path = self.dir.path().join(format!("ostree-{}", mode.as_str()));
        ostree(&["init", &format!("--mode={}", mode.as_str())], &path);
        let from = self.pair.source();
        let args = ["pull-local", "--untrusted", from.to_str().unwrap()];
        ostree(&[&args[..], &[&commit.to_hex()]].concat(), &path);
        path
    }

    fn stage(&self, store: &Session, ids: &[ObjectId]) {
        for &id in ids {
            store.stage(id, &self.pair.stored(id)).unwrap();
        }
    }

    /// Pulls a whole commit, each object in pieces of `piece` bytes.
    fn pull(&self, repo: &Path, commit: Checksum, piece: Option<usize>) -> RefOutcome {
        let store = own(repo, RefPlace::heads());
        open(&store, PushOptions::default(), &[update(NAME, commit)]);
        for id in self.pair.closure(commit) {
            let stored = self.pair.stored(id);
            let Some(piece) = piece else {
                store.stage(id, &stored).unwrap();
                continue;
            };
            let mut stream = store.begin(id).unwrap();
            stored
                .chunks(piece)
                .for_each(|part| stream.append(part).unwrap());
            stream.finish().unwrap();
        }
        done(store.publish().unwrap()).remove(0)
    }
}

fn make_tree(tree: &Path) {
    let file = |name: &str, content: &[u8], mode: u32| {
        let path = tree.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    };
    let noise = |len: usize| -> Vec<u8> { (0..len).map(|at| (at * at / 7) as u8).collect() };
    file("plain", b"plain", 0o644);
    file("empty", b"", 0o644);
    file("bin/tool", b"#!/bin/sh\n", 0o755);
    file("bin/setuid", b"#!/bin/sh\n", 0o4755);
    file("group", b"writable", 0o664);
    file("everybody", b"writable", 0o666);
    file("unreadable", b"secret", 0o000);
    file("large", &noise(700_000), 0o640);
    file("zeros", &[0; 400_000], 0o644);
    let foreign = file("foreign", b"of somebody", 0o644);
    chown(foreign, Some(1234), Some(4321)).unwrap();
    let attributes = file("attributes", b"with attributes", 0o644);
    for (name, value) in [("user.b", &b"\0\xff"[..]), ("user.a", b"text")] {
        lsetxattr(&attributes, name, value, XattrFlags::empty()).unwrap();
    }
    symlink("plain", tree.join("link")).unwrap();
    symlink("../tool", tree.join("bin/up")).unwrap();
    lsetxattr(
        tree.join("link"),
        "trusted.link",
        b"of a link",
        XattrFlags::empty(),
    )
    .unwrap();
}

fn own(repo: &Path, refs: RefPlace) -> Session {
    let own = Own {
        refs,
        ..Own::default()
    };
    Session::own_at(repo, own).unwrap()
}

/// What `stat`, `readlink` and `getfattr` say of an object, and its content.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: Option<(i64, i64)>,
    content: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Returns everything in `objects` by its path.
fn objects(repo: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let objects = repo.join("objects");
    for dir in fs::read_dir(&objects).unwrap() {
        for entry in fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            // The content of bare repositories is dated; nothing else is, nor are links.
            let is_dated = path.extension().unwrap() == "file" && !stat.is_symlink();
            let content = match fs::read_link(&path) {
                Ok(target) => target.to_str().unwrap().into(),
                Err(_) => fs::read(&path).unwrap(),
            };
            let entry = Entry {
                mode: stat.mode(),
                owner: (stat.uid(), stat.gid()),
                modified: is_dated.then(|| (stat.mtime(), stat.mtime_nsec())),
                content,
                xattrs: xattrs(&path),
            };
            found.insert(path.strip_prefix(&objects).unwrap().to_owned(), entry);
        }
    }
    found
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut buffer = vec![0; 65_536];
    let len = llistxattr(path, &mut buffer[..]).unwrap();
    let names = buffer[..len].split(|byte| *byte == 0);
    let names = names.filter(|name| !name.is_empty());
    let pairs = names.map(|name| {
        let mut value = vec![0; 65_536];
        let len = lgetxattr(path, name, &mut value[..]).unwrap();
        (name.to_vec(), value[..len].to_vec())
    });
    pairs.collect()
}

fn is_sound(repo: &Path) {
    ostree(&["fsck", "-q"], repo);
}

#[test]
fn every_object_lies_in_every_mode_as_ostree_writes_it() {
    let shop = Shop::new();
    for mode in MODES {
        let commit = shop.commit_of_all_kinds(mode);
        let by_ostree = objects(&shop.pulled_by_ostree(mode, commit));
        for (piece, which) in [(None, "whole"), (Some(1_000), "pieces")] {
            let repo = shop.repo(mode);
            assert_eq!(shop.pull(&repo, commit, piece), RefOutcome::Updated);
            let ours = objects(&repo);
            for (path, entry) in &by_ostree {
                assert_eq!(ours.get(path), Some(entry), "{mode:?} {which} {path:?}");
            }
            assert_eq!(ours.len(), by_ostree.len());
            is_sound(&repo);
            let held = fs::read_to_string(repo.join("refs/heads").join(NAME)).unwrap();
            assert_eq!(held, format!("{commit}\n"));
            assert!(!repo.join("summary").exists());
            fs::rename(&repo, shop.dir.path().join(format!("{mode:?}-{which}"))).unwrap();
        }
    }
}

#[test]
fn what_was_pulled_can_be_checked_out_and_pulled_on() {
    let shop = Shop::new();
    for mode in MODES {
        let commit = shop.commit_of_all_kinds(mode);
        let repo = shop.repo(mode);
        shop.pull(&repo, commit, None);
        let out = |name: &str| shop.dir.path().join(format!("{}-{name}", mode.as_str()));
        let ways: &[&[&str]] = match mode {
            RepoMode::Archive => &[&[], &["-U"]],
            RepoMode::Bare => &[&[], &["--require-hardlinks"]],
            RepoMode::BareUser | RepoMode::BareUserOnly => &[&["-U"], &["-U", "-H"]],
        };
        for (number, way) in ways.iter().enumerate() {
            let to = out(&number.to_string());
            let args = [&["checkout"], *way, &[NAME, to.to_str().unwrap()]].concat();
            ostree(&args, &repo);
            assert_eq!(fs::read(to.join("plain")).unwrap(), b"plain");
            assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("plain"));
            assert_eq!(fs::metadata(to.join("large")).unwrap().len(), 700_000);
        }
        let on = out("on");
        ostree(&["init", "--mode=bare-user"], &on);
        let from = repo.to_str().unwrap();
        ostree(&["pull-local", "--untrusted", from, NAME], &on);
        is_sound(&on);
    }
}

#[test]
fn mode_bare_user_only_refuses_what_it_would_lose() {
    let shop = Shop::new();
    let mut refused = 0;
    let repo = shop.repo(RepoMode::BareUserOnly);
    let commit = shop.commit_of_all_kinds(RepoMode::BareUser);
    let store = own(&repo, RefPlace::heads());
    open(&store, PushOptions::default(), &[update(NAME, commit)]);
    for id in shop.pair.closure(commit) {
        let stored = shop.pair.stored(id);
        let whole = store.stage(id, &stored);
        let mut stream = store.begin(id).unwrap();
        stream.append(&stored).unwrap();
        let pieces = stream.finish();
        if let Err(error) = whole {
            assert!(matches!(error, Error::NoPlace { .. }), "{error}");
            assert!(error.to_string().contains("bare-user-only"));
            assert!(matches!(pieces, Err(Error::NoPlace { .. })));
            refused += 1;
        }
    }
    // The foreign, the setuid and the world-writable file, those with attributes.
    assert_eq!(refused, 5);
    assert_eq!(missing(store.publish().unwrap()).len(), refused);
    assert_eq!(objects(&repo).len(), 0);
}

#[test]
fn what_another_program_pulled_in_part_is_completed() {
    let shop = Shop::new();
    for mode in MODES {
        let commit = shop.commit_of_all_kinds(mode);
        let repo = shop.pulled_by_ostree(mode, commit);
        let mark = repo.join(format!("state/{commit}.commitpartial"));
        fs::write(&mark, "").unwrap();
        let all: Vec<_> = shop.pair.closure(commit);
        let extension = |id: &ObjectId| match id.kind {
            ObjectKind::File if mode != RepoMode::Archive => "file",
            kind => kind.archive_extension(),
        };
        let path = |id: &ObjectId| repo.join("objects").join(id.loose_path(extension(id)));
        let files: Vec<_> = all
            .iter()
            .copied()
            .filter(|id| id.kind == ObjectKind::File)
            .collect();
        let (gone, damaged) = (&files[..2], files[2]);
        gone.iter()
            .for_each(|id| fs::remove_file(path(id)).unwrap());
        fs::remove_file(path(&damaged)).unwrap();
        fs::write(path(&damaged), "another content").unwrap();
        let store = own(&repo, RefPlace::heads());
        let left: BTreeSet<_> = store
            .store()
            .leftovers(1_000)
            .unwrap()
            .into_iter()
            .collect();
        let there: BTreeSet<_> = all
            .iter()
            .copied()
            .filter(|id| !gone.contains(id))
            .collect();
        assert_eq!(left, there, "{mode:?}");
        assert_eq!(store.store().leftovers(3).unwrap().len(), 3);
        open(&store, PushOptions::default(), &[update(NAME, commit)]);
        let lacks = missing(store.publish().unwrap());
        let expected: BTreeSet<_> = gone.iter().copied().chain([damaged]).collect();
        assert_eq!(lacks.iter().copied().collect::<BTreeSet<_>>(), expected);
        shop.stage(&store, &lacks);
        assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
        drop(store);
        assert!(!mark.exists());
        is_sound(&repo);
        let store = own(&repo, RefPlace::heads());
        assert_eq!(store.store().leftovers(1_000).unwrap(), []);
    }
}

#[test]
fn an_interrupted_pull_goes_on_where_it_stopped_and_takes_nothing_half_written() {
    let shop = Shop::new();
    for mode in MODES {
        let commit = shop.commit_of_all_kinds(mode);
        let repo = shop.repo(mode);
        let all: Vec<_> = shop.pair.closure(commit);
        let (sent, unsent) = all.split_at(all.len() / 2);
        let store = own(&repo, RefPlace::heads());
        open(&store, PushOptions::default(), &[update(NAME, commit)]);
        shop.stage(&store, sent);
        drop(store);
        // As a session leaves it that is killed before it finishes the file.
        let half = sent.iter().find(|id| id.kind == ObjectKind::File).unwrap();
        let staging = repo.join("extensions/artifact-cache/staging");
        let staging = fs::read_dir(staging).unwrap().next().unwrap().unwrap();
        let name = fs::read_dir(staging.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .find(|entry| {
                let name = entry.file_name();
                name.to_str().unwrap().starts_with(&half.checksum.to_hex())
            })
            .unwrap();
        let is_link = name.file_type().unwrap().is_symlink();
        if !is_link {
            let file = fs::File::options().append(true).open(name.path()).unwrap();
            file.set_modified(std::time::SystemTime::now()).unwrap();
            let permissions = Permissions::from_mode(0o600);
            fs::set_permissions(name.path(), permissions).unwrap();
        }
        let store = own(&repo, RefPlace::heads());
        let left: BTreeSet<_> = store
            .store()
            .leftovers(1_000)
            .unwrap()
            .into_iter()
            .collect();
        assert_eq!(left, sent.iter().copied().collect());
        open(&store, PushOptions::default(), &[update(NAME, commit)]);
        shop.stage(&store, unsent);
        match store.publish().unwrap() {
            Published::Missing(lacks) => {
                assert_eq!(lacks, [*half], "{mode:?}");
                assert!(!is_link);
                shop.stage(&store, &lacks);
                assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
            }
            Published::Done(_) => assert!(is_link, "{mode:?}: half a file was taken"),
        }
        is_sound(&repo);
    }
}

#[test]
fn a_ref_of_ones_own_moves_forward_or_from_where_a_pull_set_it_or_by_force() {
    let shop = Shop::new();
    let repo = shop.repo(RepoMode::BareUser);
    let first = shop.pair.commit(None, &[("a", "1")]);
    let second = shop.pair.commit(Some(first), &[("a", "2")]);
    let unrelated = shop.pair.commit(None, &[("a", "3")]);
    let pull = |commit, options, expect| {
        let store = own(&repo, RefPlace::heads());
        let wanted = RefUpdate {
            expect,
            ..update(NAME, commit)
        };
        open(&store, options, &[wanted]);
        shop.stage(&store, &shop.pair.closure(commit));
        done(store.publish().unwrap()).remove(0)
    };
    let plain = PushOptions::default();
    let code = |outcome| match outcome {
        RefOutcome::Refused(refusal) => refusal.code,
        other => panic!("{other:?}"),
    };
    let held = || fs::read_to_string(repo.join("refs/heads").join(NAME)).unwrap();
    // By the user.
    let local = shop.pair.source();
    let from = local.to_str().unwrap();
    ostree(&["pull-local", from, &first.to_hex()], &repo);
    ostree(
        &["refs", &format!("--create={NAME}"), &first.to_hex()],
        &repo,
    );
    let refused = pull(unrelated, plain, Expect::Any);
    assert_eq!(code(refused), RefusalCode::NOT_FAST_FORWARD);
    assert_eq!(held().trim(), first.to_hex());
    assert_eq!(pull(second, plain, Expect::Any), RefOutcome::Updated);
    // A pull has set it, so that nothing of the user's is lost.
    assert_eq!(pull(unrelated, plain, Expect::Any), RefOutcome::Updated);
    ostree(
        &["commit", "--branch=other", "--tree=ref=proj/app/1"],
        &repo,
    );
    ostree(&["reset", NAME, "other"], &repo);
    assert_eq!(
        code(pull(first, plain, Expect::Any)),
        RefusalCode::NOT_FAST_FORWARD
    );
    let forced = |expect| pull(first, PushOptions::FORCE, expect);
    assert_eq!(forced(Expect::Any), RefOutcome::Updated);
    is_sound(&repo);
}

#[test]
fn refs_of_a_remote_follow_it_and_touch_nothing_else() {
    let shop = Shop::new();
    let repo = shop.repo(RepoMode::BareUser);
    assert!(RefPlace::remote("../x").is_none() && RefPlace::remote("").is_none());
    let place = || RefPlace::remote("origin").unwrap();
    let first = shop.pair.commit(None, &[("a", "1")]);
    let unrelated = shop.pair.commit(None, &[("a", "2")]);
    for commit in [first, unrelated] {
        let store = own(&repo, place());
        open(&store, PushOptions::default(), &[update(NAME, commit)]);
        shop.stage(&store, &shop.pair.closure(commit));
        assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
        let said = ostree(&["rev-parse", &format!("origin:{NAME}")], &repo);
        assert_eq!(said.trim(), commit.to_hex());
    }
    assert_eq!(
        ostree(&["refs", "--list"], &repo),
        format!("origin:{NAME}\n")
    );
    is_sound(&repo);
}

#[test]
fn a_pull_is_told_what_the_repository_holds_and_relies_on_it_in_any_place() {
    let shop = Shop::new();
    let old = shop.pair.commit(None, &[("a", "1"), ("shared/b", "2")]);
    let new = shop
        .pair
        .commit(Some(old), &[("a", "3"), ("shared/b", "2")]);
    for mode in MODES {
        let repo = shop.repo(mode);
        let store = own(&repo, RefPlace::remote("origin").unwrap());
        open(&store, PushOptions::default(), &[update("p/e/old", old)]);
        shop.stage(&store, &shop.pair.closure(old));
        done(store.publish().unwrap());
        drop(store);
        let store = own(&repo, RefPlace::heads());
        let names = ["p/e/new", "p/e/old"].map(|name| name.parse().unwrap());
        assert_eq!(store.store().held(&names).unwrap(), [None, None]);
        let base = Base {
            name: "p/e/old".parse().unwrap(),
            commit: old,
        };
        assert_eq!(
            store.store().bases(&names[..1], 16).unwrap(),
            std::slice::from_ref(&base)
        );
        assert_eq!(store.store().bases(&names[..1], 0).unwrap(), []);
        assert_eq!(store.store().commit(old).unwrap().unwrap().parent, None);
        let opened = store
            .open(&Announcement {
                refs: vec![update("p/e/new", new)],
                bases: vec![base],
                ..Announcement::default()
            })
            .unwrap();
        assert_eq!(opened.complete, [old]);
        store.rely(&[old]).unwrap();
        let shared: BTreeSet<_> = shop.pair.closure(old).into_iter().collect();
        let all = shop.pair.closure(new);
        let differing: Vec<_> = all.into_iter().filter(|id| !shared.contains(id)).collect();
        shop.stage(&store, &differing);
        assert_eq!(done(store.publish().unwrap()), [RefOutcome::Updated]);
        is_sound(&repo);
        let held = store.store().held(&names).unwrap();
        let expected = Ref {
            commit: new,
            is_complete: true,
            detached: None,
        };
        assert_eq!(held, [Some(expected), None]);
        let lost = *differing.last().unwrap();
        let extension = match (lost.kind, mode) {
            (ObjectKind::File, RepoMode::Archive) => "filez",
            (ObjectKind::File, _) => "file",
            (kind, _) => kind.archive_extension(),
        };
        fs::remove_file(repo.join("objects").join(lost.loose_path(extension))).unwrap();
        let held = store.store().held(&names).unwrap()[0].unwrap();
        assert!(!held.is_complete, "{mode:?}");
    }
}

#[test]
fn a_created_repository_is_one_to_ostree_and_is_created_once() {
    let dir = TempDir::new().unwrap();
    for mode in MODES {
        let path = dir.path().join(mode.as_str());
        create(&path, mode).unwrap();
        let made = ostree(&["config", "get", "core.mode"], &path);
        assert_eq!(made.trim(), mode.as_str());
        is_sound(&path);
        ostree(&["prune", "--refs-only"], &path);
        assert!(!create(&path, mode).unwrap(), "it is created twice");
    }
}

#[test]
fn whoever_may_not_write_a_bare_repository_is_told_what_to_do() {
    let shop = Shop::new();
    let repo = shop.repo(RepoMode::Bare);
    let commit = shop.commit_of_all_kinds(RepoMode::Bare);
    let owned = Command::new("chown")
        .args(["-R", "65534:65534"])
        .args([&repo, &shop.pair.source()])
        .status()
        .unwrap();
    assert!(owned.success());
    for dir in [shop.dir.path(), &shop.pair.source().join("..")] {
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
    }
    let objects = shop.pair.closure(commit).into_iter();
    let objects: Vec<_> = objects.map(|id| (id, shop.pair.stored(id))).collect();
    // Only this thread becomes somebody else.
    let refused = thread::spawn(move || {
        let (uid, gid) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
        set_thread_res_gid(gid, gid, gid).unwrap();
        set_thread_res_uid(uid, uid, uid).unwrap();
        let store = own(&repo, RefPlace::heads());
        open(&store, PushOptions::default(), &[update(NAME, commit)]);
        let staged = objects
            .into_iter()
            .map(|(id, stored)| store.stage(id, &stored));
        staged.filter_map(Result::err).collect::<Vec<_>>()
    })
    .join()
    .unwrap();
    assert!(!refused.is_empty());
    for error in refused {
        assert!(matches!(error, Error::NeedsRoot { .. }), "{error}");
        assert!(error.to_string().contains("--mode=bare-user"));
    }
}

#[test]
fn pulls_beside_prune_commit_and_each_other_lose_nothing_and_end() {
    let shop = Shop::new();
    let shared = ("shared", "in both");
    let first = shop.pair.commit(None, &[("a", "1"), shared]);
    let second = shop.pair.commit(None, &[("a", "2"), shared]);
    for mode in [RepoMode::Archive, RepoMode::BareUser] {
        let repo = shop.repo(mode);
        let is_over = AtomicBool::new(false);
        let repeat = |act: &dyn Fn()| {
            while !is_over.load(Ordering::Relaxed) {
                act();
            }
        };
        let tree = shop.dir.path().join(format!("local-{}", mode.as_str()));
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "of the user").unwrap();
        let tree = format!("--tree=dir={}", tree.display());
        thread::scope(|scope| {
            scope.spawn(|| repeat(&|| drop(ostree(&["prune", "--refs-only"], &repo))));
            scope.spawn(|| repeat(&|| drop(ostree(&["commit", "-b", "own", &tree], &repo))));
            let pulls = [[first, second], [second, first]].map(|commits| {
                let (shop, repo) = (&shop, &repo);
                scope.spawn(move || {
                    let turns = commits.into_iter().cycle().take(8);
                    turns.for_each(|commit| pull_what_is_not_here(shop, repo, commit));
                })
            });
            let ended = pulls.map(thread::ScopedJoinHandle::join);
            is_over.store(true, Ordering::Relaxed);
            ended.into_iter().for_each(Result::unwrap);
        });
        is_sound(&repo);
        let held = ostree(&["rev-parse", NAME], &repo);
        assert!(
            [first, second]
                .map(|c| c.to_hex())
                .contains(&held.trim().to_owned())
        );
        ostree(&["rev-parse", "own"], &repo);
    }
}

/// Pulls as a client does that asks what is here; what is pruned meanwhile it sends again.
fn pull_what_is_not_here(shop: &Shop, repo: &Path, commit: Checksum) {
    let store = own(repo, RefPlace::heads());
    open(&store, PushOptions::FORCE, &[update(NAME, commit)]);
    let all = shop.pair.closure(commit);
    let have = store.have(&all).unwrap();
    let lacking = all.into_iter().zip(have).filter(|(_, have)| !have);
    shop.stage(&store, &lacking.map(|(id, _)| id).collect::<Vec<_>>());
    loop {
        match store.publish().unwrap() {
            Published::Missing(ids) => shop.stage(&store, &ids),
            Published::Done(outcomes) => {
                let lost = |outcome: &RefOutcome| match outcome {
                    RefOutcome::Refused(refusal) => refusal.code == RefusalCode::LOST_RACE,
                    RefOutcome::Updated | RefOutcome::Unchanged => true,
                    RefOutcome::WouldUpdate => false,
                };
                assert!(outcomes.iter().all(lost), "{outcomes:?}");
                return;
            }
        }
    }
}

#[test]
fn files_have_the_permissions_that_ostree_gives_them_whatever_the_umask() {
    let shop = Shop::new();
    let commit = shop.commit_of_all_kinds(RepoMode::BareUser);
    for mode in [RepoMode::Archive, RepoMode::BareUser] {
        let repo = shop.repo(mode);
        let outcome = thread::scope(|scope| {
            let pulling = scope.spawn(|| {
                // Only this thread gets another umask.
                unshare(CloneFlags::CLONE_FS).unwrap();
                rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
                shop.pull(&repo, commit, Some(1_000))
            });
            pulling.join().unwrap()
        });
        assert_eq!(outcome, RefOutcome::Updated);
        let permissions = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(permissions(&repo.join("refs/heads").join(NAME)), 0o644);
        for (path, entry) in objects(&repo) {
            if path.extension().unwrap() != "file" {
                assert_eq!(entry.mode & 0o7777, 0o644, "{path:?}");
            }
        }
    }
}

#[test]
fn where_no_attributes_are_kept_a_user_is_told_what_to_do() {
    let shop = Shop::new();
    let commit = shop.commit_of_all_kinds(RepoMode::BareUser);
    let mounted = Mounted::new(shop.dir.path().join("mount"), "ramfs");
    let repo = mounted.0.join("repo");
    create(&repo, RepoMode::BareUser).unwrap();
    let store = own(&repo, RefPlace::heads());
    open(&store, PushOptions::default(), &[update(NAME, commit)]);
    for id in shop.pair.closure(commit) {
        let staged = store.stage(id, &shop.pair.stored(id));
        match id.kind {
            ObjectKind::File => assert!(matches!(staged, Err(Error::NoXattrs))),
            ObjectKind::Dirtree | ObjectKind::Dirmeta | ObjectKind::Commit => staged.unwrap(),
        }
    }
}

/// A file system in memory, unmounted when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf, kind: &str) -> Self {
        fs::create_dir(&at).unwrap();
        let none = None::<&str>;
        mount(none, &at, Some(kind), MsFlags::empty(), none).unwrap();
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Whoever still uses it keeps it until then.
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}
