//! Pulls by the real programs that are interrupted, and beside others in one repository.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use artifact_tests::exec::run;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use tempfile::TempDir;

use crate::extra;

const REF: &str = "alpha/large/k";

/// A cache with an artifact of many files.
struct Scene {
    dir: TempDir,
    server: Repo,
    tree: Tree,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::create(&dir.path().join("tree")).unwrap();
        tree.generated(600, 7).unwrap();
        let server = Repo::init(&dir.path().join("server"), Mode::Archive).unwrap();
        server.commit(REF, tree.root(), &[]).unwrap();
        Self { dir, server, tree }
    }

    /// Begins to pull through a shell's command in the place of ssh; `$receiver` is the receiver.
    fn pull(&self, to: &Path, instead_of_ssh: &str) -> Child {
        let script = self.dir.path().join("ssh.sh");
        let (receiver, repo) = (programs::receiver().unwrap(), self.server.path());
        let receiver = format!("{} {}", receiver.display(), repo.display());
        let text = instead_of_ssh.replace("$receiver", &receiver);
        fs::write(&script, format!("{text}\n")).unwrap();
        let mut pull = Command::new(programs::client().unwrap());
        pull.args([
            "pull",
            "--json",
            "--retries",
            "0",
            "--remote",
            "ssh://cache/artifacts",
        ]);
        pull.arg("--ssh").arg(format!("sh {}", script.display()));
        pull.arg("--repo").arg(to).arg(REF);
        pull.env("HOME", self.dir.path()).stdin(Stdio::null());
        pull.stdout(Stdio::null()).stderr(Stdio::null());
        pull.spawn().unwrap()
    }

    /// Pulls to the end, and returns how many bytes have come.
    fn pull_counted(&self, to: &Path) -> u64 {
        let count = self.dir.path().join("count");
        let through = format!("$receiver | tee {}", count.display());
        let ended = self.pull(to, &through).wait().unwrap();
        assert_eq!(ended.code(), Some(0));
        fs::metadata(count).unwrap().len()
    }
}

/// Counts what interrupted pulls have left.
fn staged(repo: &Path) -> usize {
    let Ok(dirs) = fs::read_dir(repo.join("extensions/artifact-cache/staging")) else {
        return 0;
    };
    let files = |dir: fs::DirEntry| fs::read_dir(dir.path()).map_or(0, Iterator::count);
    dirs.flatten().map(files).sum()
}

#[test]
fn a_pull_that_is_killed_goes_on_where_it_stopped() {
    let scene = Scene::new();
    let at = |name: &str| scene.dir.path().join(name);
    let all = scene.pull_counted(&at("whole"));
    for (mode, name) in [("archive", "one"), ("bare-user", "two")] {
        let repo = at(name);
        let init = ["init", &format!("--mode={mode}"), "--repo"];
        run(Command::new("ostree").args(init).arg(&repo))
            .unwrap()
            .success()
            .unwrap();
        // Two thirds come, and then nothing, as long as the client lives.
        let part = format!("$receiver | head -c {}; cat >/dev/null", all * 2 / 3);
        let mut killed = scene.pull(&repo, &part);
        let begun = Instant::now();
        let (mut before, mut since) = (0, Instant::now());
        // Until everything that came is staged.
        while before == 0 || since.elapsed() < Duration::from_millis(200) {
            assert!(begun.elapsed() < Duration::from_secs(60), "nothing comes");
            thread::sleep(Duration::from_millis(20));
            let now = staged(&repo);
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        killed.kill().unwrap();
        killed.wait().unwrap();
        assert!(Repo::at(&repo).refs().unwrap().is_empty());
        let rest = scene.pull_counted(&repo);
        // What lay in the last frame comes again.
        assert!(rest < all * 2 / 3, "{rest} of {all}");
        let head = scene.server.commit_of(REF).unwrap();
        assert_eq!(Repo::at(&repo).commit_of(REF).unwrap(), head);
        Repo::at(&repo).fsck().unwrap();
        assert_eq!(staged(&repo), 0);
    }
}

#[test]
fn pulls_beside_each_other_and_prune_and_commit_lose_nothing_and_end() {
    let (rounds, files) = if extra() { (25, 400) } else { (2, 40) };
    let scene = Scene::new();
    let mine = scene.dir.path().join("mine");
    let mine = Repo::init(&mine, Mode::BareUser).unwrap();
    let own = Tree::create(&scene.dir.path().join("own")).unwrap();
    own.generated(20, 3).unwrap();
    let own_commit = mine.commit("own/work/k", own.root(), &[]).unwrap();
    let is_over = AtomicBool::new(false);
    let repeat = |act: &dyn Fn()| {
        while !is_over.load(Ordering::Relaxed) {
            act();
        }
    };
    thread::scope(|scope| {
        // Others may find the repository locked; what they leave is what counts.
        scope.spawn(|| repeat(&|| drop(mine.ostree("prune", ["--refs-only", "--depth=0"]))));
        scope.spawn(|| repeat(&|| drop(mine.commit("own/other/k", own.root(), &[]))));
        for round in 0..rounds {
            fs::write(scene.tree.root().join("round"), round.to_string()).unwrap();
            scene.tree.generated(files, round).unwrap();
            let head = scene.server.commit(REF, scene.tree.root(), &[]).unwrap();
            let pulls = [(); 2].map(|()| scene.pull(mine.path(), "$receiver"));
            let codes = pulls.map(|mut pull| pull.wait().unwrap().code());
            // One may lose the race for the ref, and says so.
            assert!(codes.contains(&Some(0)), "{codes:?}");
            assert!(
                codes.iter().all(|code| matches!(code, Some(0 | 3))),
                "{codes:?}"
            );
            assert_eq!(mine.commit_of(REF).unwrap(), head);
        }
        is_over.store(true, Ordering::Relaxed);
    });
    mine.fsck().unwrap();
    assert_eq!(mine.commit_of("own/work/k").unwrap(), own_commit);
    mine.checkout(REF, &scene.dir.path().join("checkout"))
        .unwrap();
}
