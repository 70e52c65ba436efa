//! Mirrors of repositories in buckets: killed anywhere, beside pushes and each other, they leave
//! every ref whole, and only what is missing travels.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Pair, init, ostree};
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, Summary};
use artifact_store::bucket::collect::{Gc, Nonce, Phase};
use artifact_store::bucket::{
    Answer, Client, Clock, Counts, Fate, Faulty, Key, ManualClock, Memory, Request, upkeep,
};
use artifact_store::mirror::{MirrorEvent, MirrorOptions, Mirrored, mirror};
use artifact_store::verify::{Scratch, verify};
use artifact_store::{Checked, Error, Finding, Removal, fsck};

/// A way to the bucket that counts, and may break.
fn way(memory: &Memory) -> Faulty {
    Faulty::new(Arc::new(memory.clone()))
}

fn client(way: &Faulty) -> Client {
    Client::new(Arc::new(way.clone()), Arc::new(ManualClock::default()))
}

/// Mirrors a repository, and remembers nothing of earlier times unless `address` is the same.
fn mirror_by(way: &Faulty, repo: &Path, address: &str) -> Result<Mirrored, Error> {
    mirror(repo, &client(way), &options(address), &|_| {})
}

fn options(address: &str) -> MirrorOptions {
    MirrorOptions {
        address: address.to_owned(),
        dry_run: false,
        delete: false,
        allow_remove_all: false,
        object_len_max: u64::MAX,
    }
}

/// Makes a repository with two elements, a history, detached metadata and a summary.
fn cache() -> Pair {
    let pair = Pair::new();
    let of = |name: &str| format!("--branch={name}");
    let shared = "s".repeat(3000);
    let first = pair.commit_with(
        None,
        &[("bin/tool", &shared), ("lib/a", "a"), ("lib/link", "->a")],
        &[&of("p/tool/1")],
    );
    pair.commit_with(
        Some(first),
        &[("bin/tool", &shared), ("lib/a", "b")],
        &[&of("p/tool/2"), "--add-detached-metadata-string=signed=yes"],
    );
    pair.commit_with(
        None,
        &[("etc/other", "o"), ("bin/tool", &shared)],
        &[&of("p/other/1")],
    );
    ostree(&["summary", "-u"], &pair.source());
    pair
}

/// Returns the refs of a repository.
fn refs_of(repo: &Path) -> BTreeMap<String, String> {
    let names = ostree(&["refs"], repo);
    let value = |name: &str| ostree(&["rev-parse", name], repo).trim().to_owned();
    names
        .lines()
        .map(|name| (name.to_owned(), value(name)))
        .collect()
}

/// Returns the refs of a bucket, of which everything they reach is there, undamaged, and every
/// commit that the summary names.
fn whole(memory: &Memory) -> BTreeMap<String, String> {
    let objects = memory.objects();
    let mut scratch = Scratch::default();
    for (key, stored) in &objects {
        if let Some(id) = object_of(key) {
            verify(id, &stored.content, u64::MAX, &mut scratch).unwrap();
        }
    }
    let mut refs = BTreeMap::new();
    for (key, stored) in &objects {
        if let Some(name) = key.as_str().strip_prefix("refs/heads/") {
            let commit = String::from_utf8(stored.content.to_vec()).unwrap();
            refs.insert(name.to_owned(), commit.trim().to_owned());
        }
    }
    let mut commits: BTreeSet<String> = refs.values().cloned().collect();
    let summary = Key::new("summary").unwrap();
    if let Some(summary) = objects.get(&summary) {
        let summary = Summary::parse(&summary.content).unwrap();
        commits.extend(summary.refs.values().map(|entry| entry.commit.to_hex()));
    }
    for commit in commits {
        for id in beneath(&objects_by_key(memory), commit.parse().unwrap()) {
            assert!(objects.contains_key(&key_of(id)), "{id} is missing");
        }
    }
    refs
}

fn objects_by_key(memory: &Memory) -> BTreeMap<Key, Vec<u8>> {
    let objects = memory.objects().into_iter();
    objects
        .map(|(key, stored)| (key, stored.content.to_vec()))
        .collect()
}

fn beneath(objects: &BTreeMap<Key, Vec<u8>>, commit: Checksum) -> BTreeSet<ObjectId> {
    let root = ObjectId::commit(commit);
    let (mut seen, mut stack) = (BTreeSet::from([root]), vec![root]);
    while let Some(id) = stack.pop() {
        let content = objects
            .get(&key_of(id))
            .unwrap_or_else(|| panic!("{id} is missing"));
        let children: Vec<ObjectId> = match id.kind {
            ObjectKind::Commit => {
                let commit = Commit::parse(content).unwrap();
                vec![
                    ObjectId::new(ObjectKind::Dirtree, commit.tree),
                    ObjectId::new(ObjectKind::Dirmeta, commit.meta),
                ]
            }
            ObjectKind::Dirtree => Dirtree::parse(content).unwrap().children().collect(),
            ObjectKind::File | ObjectKind::Dirmeta => Vec::new(),
        };
        stack.extend(children.into_iter().filter(|child| seen.insert(*child)));
    }
    seen
}

fn key_of(id: ObjectId) -> Key {
    Key::new(format!("objects/{}", id.archive_path())).unwrap()
}

fn object_of(key: &Key) -> Option<ObjectId> {
    let rest = key.as_str().strip_prefix("objects/")?;
    let (name, extension) = rest.split_once('.')?;
    let kind = ObjectKind::ALL
        .into_iter()
        .find(|kind| kind.archive_extension() == extension)?;
    Some(ObjectId::new(kind, name.replace('/', "").parse().ok()?))
}

/// Puts down the requests of a way to a bucket that store something readers see.
fn stored(way: &Faulty) -> Arc<Mutex<Vec<String>>> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&log);
    way.watch(move |_, request, _| {
        if let Request::Put { key, .. } = request {
            kept.lock().unwrap().push(key.as_str().to_owned());
        }
    });
    log
}

/// Returns whether a key is that of an object below a commit.
fn is_plain(key: &str) -> bool {
    key.starts_with("objects/") && !key.contains(".commit")
}

fn all(counts: Counts) -> u64 {
    let Counts {
        gets,
        puts,
        swaps,
        uploads,
        lists,
        deletes,
        ..
    } = counts;
    gets + puts + swaps + uploads + lists + deletes
}

/// Returns whether the long tests run.
fn is_extra() -> bool {
    std::env::var_os("ARTIFACT_CACHE_EXTRA").is_some_and(|value| value == "1")
}

#[test]
fn a_mirror_is_a_repository_that_stock_ostree_pulls_from() {
    let pair = cache();
    let memory = Memory::new();
    let done = mirror_by(&way(&memory), &pair.source(), "s3://b/first").unwrap();
    assert_eq!((done.refs_set, done.commits, done.faults), (3, 3, 0));
    assert_eq!(whole(&memory), refs_of(&pair.source()));
    let dir = tempfile::tempdir().unwrap();
    memory.export(dir.path()).unwrap();
    // Git and buckets know no empty directories.
    artifact_store::mend(dir.path()).unwrap();
    ostree(&["fsck", "-q"], dir.path());
    let faults = Mutex::new(Vec::new());
    fsck(dir.path(), u64::MAX, &|fault| {
        faults.lock().unwrap().push(fault)
    })
    .unwrap();
    assert_eq!(faults.into_inner().unwrap(), []);
    for name in ["summary", "objects"] {
        let (here, there) = (pair.source().join(name), dir.path().join(name));
        let diff = ["-r", here.to_str().unwrap(), there.to_str().unwrap()];
        let said = std::process::Command::new("diff")
            .args(diff)
            .output()
            .unwrap();
        assert!(
            said.status.success(),
            "{}",
            String::from_utf8_lossy(&said.stdout)
        );
    }
    let puller = tempfile::tempdir().unwrap();
    init(puller.path(), "bare-user", "");
    let refs = refs_of(&pair.source());
    let mut pull = vec!["pull-local", "--untrusted", dir.path().to_str().unwrap()];
    pull.extend(refs.keys().map(String::as_str));
    ostree(&pull, puller.path());
    ostree(&["fsck", "-q"], puller.path());
}

#[test]
fn only_what_is_missing_travels_and_a_mirror_that_is_current_costs_a_handful_of_requests() {
    let pair = cache();
    let memory = Memory::new();
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    let before = memory.objects();

    let nothing = way(&memory);
    let log = stored(&nothing);
    let done = mirror_by(&nothing, &pair.source(), "s3://b/x").unwrap();
    assert_eq!(
        (done.refs_set, done.refs_unchanged, done.objects),
        (0, 3, 0)
    );
    assert!(!done.summary_replaced);
    let readers = |key: &&String| !key.starts_with("extensions/");
    assert_eq!(log.lock().unwrap().iter().filter(readers).count(), 0);
    assert!(all(nothing.counts()) <= 14, "{:?}", nothing.counts());

    pair.commit_with(
        None,
        &[("bin/tool", &"s".repeat(3000)), ("lib/a", "c")],
        &["--branch=p/tool/3"],
    );
    ostree(&["summary", "-u"], &pair.source());
    let one = way(&memory);
    let log = stored(&one);
    let done = mirror_by(&one, &pair.source(), "s3://b/x").unwrap();
    // A file, and the directories above it; the summary is not signed.
    assert_eq!((done.objects, done.commits, done.refs_set), (3, 1, 1));
    let put: BTreeSet<_> = log
        .lock()
        .unwrap()
        .iter()
        .filter(readers)
        .cloned()
        .collect();
    assert_eq!(put.len(), 3 + 1 + 1 + 1, "{put:?}");
    let again = put.iter().filter(|key| key.starts_with("objects/"));
    assert_eq!(
        again
            .filter(|key| before.contains_key(&Key::new(key.as_str()).unwrap()))
            .count(),
        0
    );
    assert_eq!(whole(&memory), refs_of(&pair.source()));
}

#[test]
fn a_lost_record_costs_reads_and_nothing_is_sent_again() {
    let pair = cache();
    let memory = Memory::new();
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    let other = way(&memory);
    let done = mirror_by(&other, &pair.source(), "s3://another/name").unwrap();
    assert_eq!(
        (done.refs_set, done.refs_unchanged, done.objects),
        (0, 3, 0)
    );
    assert!(!done.summary_replaced);
}

#[test]
fn a_mirror_killed_at_any_request_leaves_every_ref_old_or_new_and_the_next_one_completes() {
    let pair = cache();
    let source = pair.source();
    let memory = Memory::new();
    mirror_by(&way(&memory), &source, "s3://b/old").unwrap();
    let old = whole(&memory);
    pair.commit_with(
        None,
        &[("lib/a", "new"), ("new/file", "n")],
        &["--branch=p/tool/1"],
    );
    pair.commit_with(None, &[("lib/a", "newer")], &["--branch=q/new/1"]);
    ostree(&["summary", "-u"], &source);
    let new = refs_of(&source);
    let mut points = 0;
    for start in [Memory::new(), memory] {
        let total = {
            let way = way(&start.fork());
            mirror_by(&way, &source, &format!("s3://b/count{points}")).unwrap();
            all(way.counts())
        };
        let before = (0..total)
            .filter(|n| *n == 0 || is_extra())
            .map(|n| (n, Fate::DieBefore));
        for (number, fate) in before.chain((0..total).map(|n| (n, Fate::DieAfter))) {
            let bucket = start.fork();
            let broken = way(&bucket);
            broken.at(number, fate);
            let address = format!("s3://b/{points}/{number}{fate:?}");
            let result = mirror_by(&broken, &source, &address);
            let refs = whole(&bucket);
            for (name, commit) in &refs {
                let values = [old.get(name), new.get(name)];
                assert!(values.contains(&Some(commit)), "{name} at {number}");
            }
            assert!(result.is_err() || refs == new, "{number} {fate:?}");
            let left = bucket.objects();
            let rest = way(&bucket);
            let log = stored(&rest);
            mirror_by(&rest, &source, &address).unwrap();
            assert_eq!(whole(&bucket), new, "{number} {fate:?}");
            for key in log.lock().unwrap().iter() {
                let is_there = left.contains_key(&Key::new(key.as_str()).unwrap());
                assert!(!is_plain(key) || !is_there, "{key} was sent twice");
            }
            points += 1;
        }
    }
    assert!(points > 50, "{points}");
}

#[test]
fn any_one_answer_may_be_lost() {
    let pair = cache();
    let source = pair.source();
    let new = refs_of(&source);
    let total = {
        let way = way(&Memory::new());
        mirror_by(&way, &source, "s3://b/count").unwrap();
        all(way.counts())
    };
    let fates = [Fate::Unheard, Fate::Unsent, Fate::Busy, Fate::Conflict];
    let all = (0..total).flat_map(|n| fates.map(|fate| (n, fate)));
    // Each number, and each fate at a quarter of them.
    for (number, fate) in all.filter(|(n, fate)| is_extra() || fates[*n as usize % 4] == *fate) {
        let bucket = Memory::new();
        let broken = way(&bucket);
        broken.at(number, fate);
        let address = format!("s3://b/{number}{fate:?}");
        mirror_by(&broken, &source, &address).unwrap();
        assert_eq!(whole(&bucket), new, "{number} {fate:?}");
    }
}

#[test]
fn a_damaged_object_never_gets_to_the_bucket_and_only_what_needs_it_stays_behind() {
    let pair = cache();
    let source = pair.source();
    let commit = refs_of(&source)["p/other/1"].parse().unwrap();
    let others: BTreeSet<_> = ["p/tool/1", "p/tool/2"]
        .into_iter()
        .flat_map(|name| pair.closure(refs_of(&source)[name].parse().unwrap()))
        .collect();
    let only: Vec<_> = pair
        .closure(commit)
        .into_iter()
        .filter(|id| !others.contains(id) && id.kind != ObjectKind::Commit)
        .collect();
    assert!(only.len() > 1);
    for id in only {
        let path = source.join("objects").join(id.archive_path());
        let good = fs::read(&path).unwrap();
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        for bad in [Some(damaged), None] {
            match bad {
                Some(bad) => fs::write(&path, bad).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            let memory = Memory::new();
            let said = Mutex::new(Vec::new());
            let report = |event| {
                if let MirrorEvent::Fault { what, .. } = event {
                    said.lock().unwrap().push(what);
                }
            };
            let client = client(&way(&memory));
            let done = mirror(&source, &client, &options("s3://b/bad"), &report).unwrap();
            assert_eq!(done.refs_set, 2, "{id}");
            let refs = whole(&memory);
            assert_eq!(refs.len(), 2, "{id}");
            assert!(!memory.objects().contains_key(&key_of(id)), "{id}");
            let said = said.into_inner().unwrap();
            assert_eq!(said, ["ref p/other/1", "the summary"], "{id}");
            assert_eq!(done.faults, 2);
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn of_two_mirrors_the_slower_one_never_puts_an_older_value_back() {
    let pair = cache();
    let source = pair.source();
    let memory = Memory::new();
    let slow = way(&memory);
    slow.choose(|_, request| match request {
        Request::Put { key, .. } if key.as_str() == "refs/heads/p/tool/1" => Some(Fate::Held),
        _ => None,
    });
    std::thread::scope(|scope| {
        let slower = scope.spawn(|| mirror_by(&slow, &source, "s3://b/slow").unwrap());
        while slow.held().is_empty() {
            std::thread::yield_now();
        }
        pair.commit_with(None, &[("lib/a", "new")], &["--branch=p/tool/1"]);
        ostree(&["summary", "-u"], &source);
        mirror_by(&way(&memory), &source, "s3://b/quick").unwrap();
        slow.choose(|_, _| None);
        slow.watch(|_, request, answer| {
            if let (Request::Put { key, .. }, Ok(Answer::Stored(_))) = (request, answer) {
                assert_ne!(key.as_str(), "refs/heads/p/tool/1");
            }
        });
        slow.release_all();
        slower.join().unwrap();
    });
    assert_eq!(whole(&memory), refs_of(&source));
    let summary = memory.objects()[&Key::new("summary").unwrap()].clone();
    assert_eq!(summary.content, fs::read(source.join("summary")).unwrap());
}

#[test]
fn a_push_at_any_moment_of_a_mirror_leaves_the_bucket_whole_and_is_mirrored_too() {
    let pair = cache();
    let source = pair.source();
    let start = Memory::new();
    let total = {
        let way = way(&start.fork());
        mirror_by(&way, &source, "s3://b/count").unwrap();
        all(way.counts())
    };
    for number in (0..total).step_by(if is_extra() { 1 } else { 5 }) {
        let bucket = start.fork();
        let path = way(&bucket);
        path.at(number, Fate::Held);
        let address = format!("s3://b/{number}");
        std::thread::scope(|scope| {
            let mirrored = scope.spawn(|| mirror_by(&path, &source, &address).unwrap());
            while path.held().is_empty() {
                std::thread::yield_now();
            }
            let content = format!("at {number}");
            pair.commit_with(None, &[("lib/a", &content)], &["--branch=p/tool/1"]);
            if number % 2 == 0 {
                ostree(&["summary", "-u"], &source);
            }
            path.choose(|_, _| None);
            path.release_all();
            mirrored.join().unwrap();
        });
        assert_eq!(whole(&bucket), refs_of(&source), "{number}");
    }
}

#[test]
fn a_bucket_that_another_program_filled_is_listed_once_and_not_sent_again() {
    let pair = cache();
    let source = pair.source();
    let (memory, foreign) = (Memory::new(), Memory::new());
    mirror_by(&way(&memory), &source, "s3://b/x").unwrap();
    for (key, stored) in memory.objects() {
        if key.as_str().starts_with("objects/") {
            foreign.damage(&key, Some(stored.content));
        }
    }
    let way = way(&foreign);
    let log = stored(&way);
    let done = mirror_by(&way, &source, "s3://b/foreign").unwrap();
    assert_eq!(done.objects, 0);
    assert_eq!(
        log.lock()
            .unwrap()
            .iter()
            .filter(|key| is_plain(key))
            .count(),
        0
    );
    assert_eq!(whole(&foreign), refs_of(&source));
}

#[test]
fn a_dry_run_counts_what_a_mirror_then_does_and_stores_nothing() {
    let pair = cache();
    let memory = Memory::new();
    let dry = MirrorOptions {
        dry_run: true,
        ..options("s3://b/x")
    };
    let client = client(&way(&memory));
    let would = mirror(&pair.source(), &client, &dry, &|_| {}).unwrap();
    assert!(memory.objects().is_empty());
    let did = mirror(&pair.source(), &client, &options("s3://b/x"), &|_| {}).unwrap();
    assert_eq!(would, did);
}

#[test]
fn a_mirror_makes_way_for_a_collection_and_begins_anew_after_it() {
    let pair = cache();
    let source = pair.source();
    let memory = Memory::new();
    let gc = Key::new("extensions/artifact-cache/gc").unwrap();
    let idle = Gc::first(Nonce(1));
    let (condemned, over) = (
        idle.condemned(Nonce(1)),
        idle.condemned(Nonce(1)).moved(Phase::Idle, Nonce(1)),
    );
    let set = |memory: &Memory, record: Gc| memory.damage(&gc, Some(record.encode().into()));
    let path = way(&memory);
    let bucket = memory.clone();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let gc_of = gc.clone();
    path.watch(move |_, request, _| match request {
        Request::Put { key, .. }
            if key.as_str().ends_with(".filez") && log.lock().unwrap().is_empty() =>
        {
            bucket.damage(&gc_of, Some(condemned.encode().into()));
            log.lock().unwrap().push("condemned");
        }
        Request::Put { key, .. } if key.as_str().starts_with("refs/") => {
            log.lock().unwrap().push("ref");
        }
        Request::Delete { keys } if keys[0].as_str().contains("/sessions/") => {
            let mut log = log.lock().unwrap();
            log.push("ended");
            // The collector goes on when nobody is left to wait for, and then it is done.
            if log.iter().filter(|what| **what == "ended").count() == 2 {
                bucket.damage(&gc_of, Some(over.encode().into()));
            }
        }
        _ => {}
    });
    set(&memory, idle);
    mirror_by(&path, &source, "s3://b/x").unwrap();
    assert_eq!(whole(&memory), refs_of(&source));
    let seen = seen.lock().unwrap();
    // Once when it was disturbed, once when it found that the collection goes on, and in the end.
    assert_eq!(
        *seen,
        ["condemned", "ended", "ended", "ref", "ref", "ref", "ended"]
    );
    let left = memory.objects();
    assert!(!left.keys().any(|key| key.as_str().contains("/sessions/")));
}

#[test]
fn what_an_interrupted_mirror_left_is_forgotten_when_its_lease_is_over() {
    let pair = cache();
    let memory = Memory::new();
    let broken = way(&memory);
    broken.at(12, Fate::DieAfter);
    mirror_by(&broken, &pair.source(), "s3://b/x").unwrap_err();
    let sessions = || {
        let objects = memory.objects();
        let keys = objects
            .keys()
            .filter(|key| key.as_str().contains("/sessions/"));
        keys.count()
    };
    assert_eq!(sessions(), 1);
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    // It may go on still.
    assert_eq!(sessions(), 1);
    memory.advance(31 * 60);
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    assert_eq!(sessions(), 0);
}

#[test]
fn refs_that_the_repository_has_not_go_on_demand_and_never_most_of_them() {
    let pair = cache();
    let source = pair.source();
    let memory = Memory::new();
    mirror_by(&way(&memory), &source, "s3://b/x").unwrap();
    ostree(&["refs", "--delete", "p/tool/1"], &source);
    ostree(&["summary", "-u"], &source);
    let delete = |allow_remove_all| {
        let options = MirrorOptions {
            delete: true,
            allow_remove_all,
            ..options("s3://b/x")
        };
        let said = Mutex::new(Vec::new());
        let report = |event| said.lock().unwrap().push(event);
        let done = mirror(&source, &client(&way(&memory)), &options, &report).unwrap();
        (done.refs_removed, said.into_inner().unwrap())
    };
    mirror_by(&way(&memory), &source, "s3://b/x").unwrap();
    assert_eq!(whole(&memory).len(), 3);
    assert_eq!(delete(false).0, 1);
    assert_eq!(whole(&memory), refs_of(&source));
    ostree(&["refs", "--delete", "p"], &source);
    ostree(&["summary", "-u"], &source);
    let (removed, said) = delete(false);
    assert_eq!((removed, whole(&memory).len()), (0, 2));
    assert!(
        matches!(said[..], [MirrorEvent::Refused { .. }]),
        "{said:?}"
    );
    assert_eq!(delete(true).0, 2);
    assert_eq!(whole(&memory).len(), 0);
    // The names are free for any use.
    pair.commit_with(None, &[("a", "a")], &["--branch=p/tool/1/below"]);
    pair.commit_with(None, &[("a", "a")], &["--branch=p/other"]);
    ostree(&["summary", "-u"], &source);
    mirror_by(&way(&memory), &source, "s3://b/x").unwrap();
    assert_eq!(whole(&memory), refs_of(&source));
    assert_eq!(whole(&memory).len(), 2);
}

/// Returns what a check of a bucket finds.
fn findings(memory: &Memory, contents: bool) -> (Checked, Vec<Finding>) {
    let found = Mutex::new(Vec::new());
    let report = |finding| found.lock().unwrap().push(finding);
    let checked = upkeep::fsck(&client(&way(memory)), contents, u64::MAX, &report).unwrap();
    (checked, found.into_inner().unwrap())
}

#[test]
fn a_check_finds_whatever_is_missing_or_damaged_in_a_bucket() {
    let pair = cache();
    let memory = Memory::new();
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    let (checked, found) = findings(&memory, true);
    assert_eq!(
        (checked.faults, checked.remarks, checked.refs),
        (0, 0, 3),
        "{found:?}"
    );
    for (key, stored) in memory.objects() {
        let name = key.as_str();
        let is_own = name.starts_with("extensions/");
        if !is_plain(name) && !name.ends_with(".commit") && !name.starts_with("refs/") && !is_own {
            continue;
        }
        // A name without a guard is looked for among the refs.
        if name.contains("/guard/") {
            continue;
        }
        let broken = memory.fork();
        broken.damage(&key, None);
        let (checked, found) = findings(&broken, false);
        let expected = if name.starts_with("refs/") || is_own {
            0
        } else {
            1
        };
        assert!(checked.faults >= expected, "{name}: {found:?}");
        assert!(!found.is_empty(), "{name}");
        let mut content = stored.content.to_vec();
        let last = content.len() - 1;
        content[last] ^= 1;
        broken.damage(&key, Some(content.into()));
        assert!(findings(&broken, true).0.faults > 0, "{name}");
    }
}

#[test]
fn a_bucket_is_begun_looked_at_and_freed_of_refs() {
    let pair = cache();
    let memory = Memory::new();
    let client = client(&way(&memory));
    assert!(upkeep::status(&client).is_err());
    assert!(upkeep::init(&client).unwrap());
    assert!(!upkeep::init(&client).unwrap());
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    let status = upkeep::status(&client).unwrap();
    assert_eq!(
        (status.refs.len(), status.lists.files, status.sessions),
        (3, 3, 0)
    );
    assert_eq!(
        status.objects.files as usize,
        findings(&memory, false).0.objects as usize
    );
    let commit = status.refs[0].commit;
    let name = |text: &str| text.parse().unwrap();
    let wanted = [
        (name("p/other/1"), Some(commit)),
        (name("p/tool/1"), Some(commit)),
        (name("p/tool/2"), None),
        (name("p/none/1"), None),
    ];
    let removed = upkeep::remove_refs(&client, &wanted).unwrap();
    let expected = [
        Removal::Removed(commit),
        Removal::Kept,
        Removal::Removed(status.refs[2].commit),
        Removal::NotThere,
    ];
    assert_eq!(removed, expected);
    assert_eq!(whole(&memory).into_keys().collect::<Vec<_>>(), ["p/tool/1"]);
    let foreign = Memory::new();
    foreign.damage(&Key::new("holiday.jpg").unwrap(), Some("x".into()));
    assert!(upkeep::init(&self::client(&way(&foreign))).is_err());
}

#[test]
fn a_late_put_of_a_mirror_never_undoes_what_others_have_set_since() {
    let pair = cache();
    let (memory, repo) = (Memory::new(), pair.source());
    let old = refs_of(&repo)["p/tool/1"].clone();
    mirror_by(&way(&memory), &repo, "s3://b/x").unwrap();
    pair.commit_with(None, &[("a", "new")], &["--branch=p/tool/1"]);
    let slow = way(&memory);
    let mut is_first = true;
    slow.choose(move |_, request| {
        let is_ref = matches!(request, Request::Put { key, .. }
            if key.as_str() == "refs/heads/p/tool/1");
        (is_ref && std::mem::take(&mut is_first)).then_some(Fate::Late)
    });
    mirror_by(&slow, &repo, "s3://b/x").unwrap();
    assert_ne!(whole(&memory)["p/tool/1"], old);
    // The ref holds again what the late put replaces.
    ostree(&["reset", "p/tool/1", &old], &repo);
    mirror_by(&way(&memory), &repo, "s3://b/x").unwrap();
    assert_eq!(whole(&memory)["p/tool/1"], old);
    slow.release_all();
    assert_eq!(whole(&memory)["p/tool/1"], old);
}

/// What receiver/OBJECT-STORAGE.md says of the costs.
#[test]
fn a_mirror_costs_as_many_requests_as_the_manual_says() {
    let pair = cache();
    let memory = Memory::new();
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    let cost = |counts: Counts| {
        let stored = counts.puts + counts.swaps + counts.lists + counts.uploads;
        (stored, counts.gets)
    };
    let nothing = way(&memory);
    mirror_by(&nothing, &pair.source(), "s3://b/x").unwrap();
    assert_eq!(cost(nothing.counts()), (NOTHING, READS_OF_NOTHING));

    let files: Vec<_> = (0..48)
        .map(|n| (format!("share/{n}"), format!("file {n}")))
        .collect();
    let files: Vec<_> = files
        .iter()
        .map(|(name, text)| (&**name, &**text))
        .collect();
    pair.commit_with(None, &files, &["--branch=p/tool/3"]);
    ostree(&["summary", "-u"], &pair.source());
    let artifact = way(&memory);
    let done = mirror_by(&artifact, &pair.source(), "s3://b/x").unwrap();
    // 48 files and the two directories.
    assert_eq!(done.objects, 50);
    assert_eq!(cost(artifact.counts()), (50 + BEYOND_OBJECTS, READS));
    let manual = include_str!("../../../OBJECT-STORAGE.md");
    for row in [
        format!("| nothing | {NOTHING} | {READS_OF_NOTHING} |"),
        format!("| an artifact of 50 new files | 50 and {BEYOND_OBJECTS} more | {READS} |"),
    ] {
        assert!(manual.contains(&row), "{row}");
    }
}

const NOTHING: u64 = 4;
const READS_OF_NOTHING: u64 = 4;
const BEYOND_OBJECTS: u64 = 12;
const READS: u64 = 7;

#[test]
fn a_closure_list_without_its_commit_counts_for_nothing() {
    let pair = cache();
    let full = Memory::new();
    mirror_by(&way(&full), &pair.source(), "s3://b/full").unwrap();
    // What an interrupted push has left.
    let memory = Memory::new();
    for (key, stored) in full.objects() {
        if key.as_str().contains("/closures/") {
            memory.damage(&key, Some(stored.content));
        }
    }
    mirror_by(&way(&memory), &pair.source(), "s3://b/x").unwrap();
    assert_eq!(whole(&memory), refs_of(&pair.source()));
}

#[test]
fn a_mirror_that_lost_the_answer_to_a_commit_or_ref_leaves_its_lease() {
    let pair = cache();
    for (part, leases) in [(".commit", 1), ("refs/heads/", 1), (".filez", 0)] {
        let memory = Memory::new();
        let path = way(&memory);
        let mut is_first = true;
        path.choose(move |_, request| {
            let is_it = match request {
                Request::Put { key, .. } => {
                    key.as_str().contains(part) && !key.as_str().ends_with("meta")
                }
                _ => false,
            };
            (is_it && std::mem::take(&mut is_first)).then_some(Fate::Late)
        });
        mirror_by(&path, &pair.source(), "s3://b/x").unwrap();
        assert_eq!(whole(&memory), refs_of(&pair.source()), "{part}");
        let objects = memory.objects();
        let sessions = objects
            .keys()
            .filter(|key| key.as_str().contains("/sessions/"));
        assert_eq!(sessions.count(), leases, "{part}");
    }
}

#[test]
fn a_mirror_puts_no_commit_or_ref_while_its_lease_is_old() {
    let pair = cache();
    for part in [".commit", "refs/heads/"] {
        let memory = Memory::new();
        let (path, clock) = (way(&memory), ManualClock::default());
        let client = Client::new(Arc::new(path.clone()), Arc::new(clock.clone()));
        let (mut is_first, mut renewed) = (true, Duration::ZERO);
        let old = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&old);
        path.choose(move |_, request| {
            let Request::Put { key, .. } = request else {
                return None;
            };
            if key.as_str().contains("/sessions/") {
                renewed = clock.now();
            }
            if !key.as_str().contains(part) || key.as_str().ends_with("meta") {
                return None;
            }
            if clock.now() - renewed >= Duration::from_secs(15 * 60) {
                seen.lock().unwrap().push(key.to_string());
            }
            std::mem::take(&mut is_first).then(|| {
                clock.advance(Duration::from_secs(16 * 60));
                Fate::Busy
            })
        });
        mirror(&pair.source(), &client, &options("s3://b/x"), &|_| {}).unwrap();
        assert_eq!(*old.lock().unwrap(), Vec::<String>::new());
        assert_eq!(whole(&memory), refs_of(&pair.source()));
    }
}

#[test]
fn a_mirror_guards_the_names_of_its_refs_and_keeps_to_the_guards_of_others() {
    let pair = cache();
    let memory = Memory::new();
    let guard = |name: &str| Key::new(format!("extensions/artifact-cache/guard/{name}=")).unwrap();
    memory.damage(&guard("p/other"), Some("ref\n".into()));
    let said = Mutex::new(Vec::new());
    let report = |event| said.lock().unwrap().push(event);
    let client = client(&way(&memory));
    let done = mirror(&pair.source(), &client, &options("s3://b/x"), &report).unwrap();
    assert_eq!((done.refs_set, done.faults), (2, 1), "{said:?}");
    let objects = memory.objects();
    for (name, taken) in [("p", "dir\n"), ("p/tool", "dir\n"), ("p/tool/1", "ref\n")] {
        assert_eq!(objects[&guard(name)].content, taken, "{name}");
    }
    let mut refs = refs_of(&pair.source());
    refs.remove("p/other/1");
    assert_eq!(whole(&memory), refs);
}
