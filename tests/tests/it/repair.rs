//! Objects that are lost or damaged on the server, and the pushes that heal them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_tests::exec::run;
use artifact_tests::repo::{Mode, Repo};

use crate::place::Place;

/// A repository with a commit of every kind of object and another that shares some of them; and a
/// copy of it.
struct Damaging {
    place: Place,
    whole: PathBuf,
}

/// How an object is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Lost,
    Empty,
    Cut,
    Flipped,
    Link,
    Directory,
}

impl How {
    fn to(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Cut => bytes.truncate(bytes.len() - 1),
            Self::Flipped => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            }
            Self::Empty => bytes.clear(),
            Self::Lost | Self::Link | Self::Directory => {}
        }
        fs::remove_file(path).unwrap();
        match self {
            Self::Lost => {}
            Self::Cut | Self::Flipped | Self::Empty => fs::write(path, bytes).unwrap(),
            Self::Link => symlink("/etc/hostname", path).unwrap(),
            Self::Directory => fs::create_dir(path).unwrap(),
        }
    }
}

impl Damaging {
    fn new() -> Self {
        let place = Place::new();
        place.admin(&["init", "server"]).success().unwrap();
        let tree = place.dir.path().join("tree");
        fs::create_dir_all(tree.join("d/e")).unwrap();
        for (name, content) in [("f", "1"), ("d/g", "2"), ("d/e/h", "3")] {
            fs::write(tree.join(name), content.repeat(100)).unwrap();
        }
        symlink("f", tree.join("l")).unwrap();
        let signed = [
            "--no-bindings",
            "--add-detached-metadata-string=signed=by-me",
        ];
        place.source.commit("a/1", &tree, &signed).unwrap();
        fs::write(tree.join("f"), "another").unwrap();
        place
            .source
            .commit("a/2", &tree, &["--no-bindings"])
            .unwrap();
        place.push(&["a/1", "a/2"]).must_exit(0).unwrap();
        let whole = place.dir.path().join("whole");
        copy(place.server.path(), &whole);
        Self { place, whole }
    }

    fn restore(&self) {
        fs::remove_dir_all(self.place.server.path()).unwrap();
        copy(&self.whole, self.place.server.path());
    }

    /// Returns the paths of the objects in the repository: two of each kind at most.
    fn objects(&self) -> Vec<PathBuf> {
        let objects = Repo::at(&self.whole).listing(&[]).unwrap();
        let objects = objects.paths().map(Path::to_owned);
        let file = |path: &PathBuf| path.starts_with("objects") && path.extension().is_some();
        let mut of_kind: BTreeMap<_, usize> = BTreeMap::new();
        let mut few = |path: &PathBuf| {
            let count = of_kind
                .entry(path.extension().map(OsStr::to_owned))
                .or_default();
            *count += 1;
            *count <= 2
        };
        objects.filter(file).filter(|path| few(path)).collect()
    }

    fn damage(&self, path: &Path, how: How) {
        how.to(&self.place.server.path().join(path));
    }

    fn must_be_whole(&self, what: &str) {
        let ran = self.place.admin(&["fsck", "server"]);
        assert_eq!(ran.code, Some(0), "{what}: {ran}");
        self.place.server.fsck().expect(what);
        let user = self.place.dir.path().join("user");
        let user_repo = Repo::init(&user, Mode::BareUser).unwrap();
        user_repo
            .pull_path(self.place.server.path(), &["a/1", "a/2"])
            .expect(what);
        fs::remove_dir_all(user).unwrap();
        let marks = fs::read_dir(self.place.server.path().join("state")).unwrap();
        assert_eq!(marks.count(), 0, "{what}");
    }
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").args([from, to]))
        .unwrap()
        .success()
        .unwrap();
}

// Pushes once healed only files, dirmetas and commits: for a lost dirtree the server said "has
// every object", and pulls stayed broken.
#[test]
fn after_a_repair_a_push_heals_any_object_whatever_became_of_it() {
    let scene = Damaging::new();
    let all = [
        How::Lost,
        How::Empty,
        How::Cut,
        How::Flipped,
        How::Link,
        How::Directory,
    ];
    for path in scene.objects() {
        for how in all {
            let what = format!("{how:?} {path:?}");
            let detached = path.extension().unwrap() == "commitmeta";
            scene.restore();
            scene.damage(&path, how);
            let before = scene
                .place
                .server
                .listing(&["objects", "state", "extensions"])
                .unwrap();
            let ran = scene.place.admin(&["fsck", "--repair", "server"]);
            let after = scene
                .place
                .server
                .listing(&["objects", "state", "extensions"])
                .unwrap();
            before.must_equal(&after).unwrap();
            // Detached metadata have no known checksum.
            if !(detached && matches!(how, How::Lost | How::Empty | How::Flipped)) {
                assert_eq!(ran.code, Some(9), "{what}: {ran}");
                assert!(ran.stdout.contains("artifact-cache push"), "{what}: {ran}");
            }
            let quarantine = scene
                .place
                .server
                .path()
                .join("extensions/artifact-cache/quarantine");
            let moved = fs::read_dir(quarantine).map_or(0, Iterator::count);
            assert!(moved <= 1, "{what}");
            scene.place.push(&["a/1", "a/2"]).must_exit(0).expect(&what);
            scene.must_be_whole(&what);
        }
    }
}

#[test]
fn a_push_of_a_ref_that_lacks_something_heals_it_without_being_told() {
    let scene = Damaging::new();
    for path in scene.objects() {
        for how in [How::Lost, How::Empty, How::Cut, How::Flipped] {
            let extension = path.extension().unwrap();
            // Only a check finds damage to a file that leaves its length alone.
            if extension == "filez" && matches!(how, How::Cut | How::Flipped) {
                continue;
            }
            let what = format!("{how:?} {path:?}");
            scene.restore();
            scene.damage(&path, how);
            let mut sent = 0;
            for name in ["a/1", "a/2"] {
                let pushed = scene.place.push(&[name]).must_exit(0).expect(&what);
                sent += pushed.objects_sent.unwrap();
            }
            assert!(sent > 0 || extension == "commitmeta", "{what}");
            scene.must_be_whole(&what);
        }
    }
}

#[test]
fn what_two_commits_lack_is_healed_by_the_push_of_one_and_found_whole() {
    let scene = Damaging::new();
    for path in scene.objects() {
        scene.restore();
        scene.damage(&path, How::Lost);
        let ran = scene.place.admin(&["fsck", "--repair", "server"]);
        if !(ran.stdout.contains("  a/1\n") && ran.stdout.contains("  a/2\n")) {
            continue;
        }
        scene.place.push(&["a/1"]).must_exit(0).unwrap();
        let ran = scene.place.admin(&["fsck", "--repair", "server"]);
        assert!(ran.stdout.contains("is complete again"), "{path:?}: {ran}");
        scene.must_be_whole(&format!("{path:?}"));
    }
}

#[test]
fn a_prune_of_what_is_not_whole_removes_nothing_and_says_how_to_mend_it() {
    let scene = Damaging::new();
    let dirtree = |path: &&PathBuf| path.extension().unwrap() == "dirtree";
    for path in scene.objects().iter().filter(dirtree) {
        scene.restore();
        scene.damage(path, How::Lost);
        let before = scene.place.server.listing(&["extensions"]).unwrap();
        let ran = scene.place.admin(&["prune", "server"]);
        assert_eq!(ran.code, Some(9), "{ran}");
        assert!(ran.stderr.contains("fsck --repair server"), "{ran}");
        before
            .must_equal(&scene.place.server.listing(&["extensions"]).unwrap())
            .unwrap();
        assert_eq!(
            scene.place.admin(&["fsck", "--repair", "server"]).code,
            Some(9)
        );
        scene.place.admin(&["prune", "server"]).success().unwrap();
        scene.place.push(&["a/1", "a/2"]).must_exit(0).unwrap();
        scene.must_be_whole(&format!("{path:?}"));
    }
}

// A commit once relied on an object that it shared with a damaged one, and was published without
// it.
#[test]
fn a_new_ref_does_not_rely_on_a_commit_that_lost_what_it_shares() {
    let scene = Damaging::new();
    let tree = scene.place.dir.path().join("tree");
    fs::write(tree.join("f"), "a third").unwrap();
    scene
        .place
        .source
        .commit("a/3", &tree, &["--no-bindings"])
        .unwrap();
    for path in scene.objects() {
        if path.extension().unwrap() == "commitmeta" {
            continue;
        }
        scene.restore();
        scene.damage(&path, How::Lost);
        scene.place.push(&["a/3"]).must_exit(0).unwrap();
        let user = scene.place.dir.path().join("user");
        let user_repo = Repo::init(&user, Mode::BareUser).unwrap();
        let pulled = user_repo.pull_path(scene.place.server.path(), &["a/3"]);
        pulled.unwrap_or_else(|failure| panic!("{path:?}: {failure}"));
        fs::remove_dir_all(user).unwrap();
    }
}

#[test]
fn a_commit_of_a_history_that_is_not_whole_is_a_fault_until_it_is() {
    let scene = Damaging::new();
    let place = &scene.place;
    let parent = place.source.commit_of("a/2").unwrap();
    let tree = place.dir.path().join("tree");
    fs::remove_dir_all(tree.join("d")).unwrap();
    let parent = format!("--parent={parent}");
    place
        .source
        .commit("a/2", &tree, &["--no-bindings", &parent])
        .unwrap();
    place.push(&["a/2"]).must_exit(0).unwrap();
    let marked = format!("state/{}.commitpartial", &parent["--parent=".len()..]);
    fs::write(place.server.path().join(marked), "f").unwrap();
    let ran = place.admin(&["fsck", "server"]);
    assert!(
        ran.code == Some(9) && ran.stdout.contains("was found to lack objects"),
        "{ran}"
    );
    assert!(place.server.fsck().is_err());
    place.admin(&["fsck", "--repair", "server"]);
    scene.place.admin(&["fsck", "server"]).success().unwrap();
    place.server.fsck().unwrap();
}
