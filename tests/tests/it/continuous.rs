//! The action for GitHub and the component for GitLab, run by stubs of their runners (`tests/ci`).
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use artifact_tests::cache::Cache;
use artifact_tests::exec::{Ran, run};
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;

use crate::source;

const REF: &str = "project/element/key";

/// A cache, a repository to push from, and a machine of a runner.
struct Job {
    cache: Cache,
}

impl Job {
    fn new() -> Self {
        let cache = Cache::start().unwrap();
        let tree = Tree::create(&cache.scratch("tree")).unwrap();
        tree.all_kinds().unwrap();
        let from = source(&cache, Mode::Archive).unwrap();
        from.commit(REF, tree.root(), &["--no-bindings"]).unwrap();
        Self { cache }
    }

    /// Runs a job with these inputs, where the client is installed.
    fn run(&self, runner: &str, inputs: &[&str]) -> Ran {
        let stub = root().join("tests/ci").join(runner);
        let client = programs::client().unwrap();
        let bin = self.cache.scratch("bin");
        if !bin.exists() {
            fs::create_dir(&bin).unwrap();
            symlink(&client, bin.join("artifact-cache")).unwrap();
            symlink(root().join("sender/ci/run"), bin.join("artifact-cache-ci")).unwrap();
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
        let mut job = Command::new(stub);
        job.args(inputs)
            .current_dir(self.cache.scratch(""))
            .env("PATH", path)
            .env("HOME", self.cache.scratch(""))
            .env("ARTIFACT_CACHE_SSH", self.cache.sshd().ssh_command())
            .env("GITHUB_STEP_SUMMARY", self.cache.scratch("summary.md"))
            .env("GITHUB_OUTPUT", self.cache.scratch("output"));
        run(&mut job).unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.cache.scratch(name)).unwrap()
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Returns the line of figures that a summary ends with.
fn figures(summary: &str) -> Vec<String> {
    let last = summary.lines().last().unwrap();
    let cells = last.trim_matches('|').split('|');
    cells.map(|cell| cell.trim().to_owned()).collect()
}

#[test]
fn a_job_pushes_then_reuses_and_its_summary_says_how_much_of_each() {
    let job = Job::new();
    let url = format!("url={}", job.cache.push_url());
    let refs = format!("refs={REF}");
    let push = ["command=push", &url, "repo=source", &refs];
    job.run("github", &push).success().unwrap();
    let first = figures(&job.read("summary.md"));
    assert_eq!(
        (&*first[0], &*first[1], &*first[5]),
        ("1", "0", "0"),
        "{first:?}"
    );
    assert!(!first[2].starts_with("0 objects"), "{first:?}");
    assert!(
        job.read("output").contains("\nseconds="),
        "{}",
        job.read("output")
    );

    job.run("github", &push).success().unwrap();
    let second = figures(&job.read("summary.md"));
    assert_eq!((&*second[0], &*second[1]), ("0", "1"), "{second:?}");
    assert!(second[2].starts_with("0 objects"), "{second:?}");
    assert_ne!(second[3], first[3], "nothing reused: {second:?}");

    let pull = ["command=pull", &url, "repo=pulled", &refs, "image=x"];
    job.run("gitlab", &pull).success().unwrap();
    let pulled = figures(&job.read("artifact-cache.md"));
    assert_eq!((&*pulled[0], &*pulled[5]), ("1", "0"), "{pulled:?}");
    let commit = Repo::at(&job.cache.scratch("pulled"))
        .commit_of(REF)
        .unwrap();
    assert_eq!(commit, job.cache.repo().commit_of(REF).unwrap());
}

#[test]
fn a_job_that_fails_has_the_exit_code_of_the_client_and_text_in_an_input_is_not_run() {
    let job = Job::new();
    let url = format!("url={}", job.cache.push_url());
    let missing = job.run(
        "github",
        &["command=push", &url, "repo=source", "refs=no/such/ref"],
    );
    assert_eq!(missing.code, Some(7), "{missing}");
    let evil = "refs=$(touch ran) `touch ran` ;touch ran *";
    for runner in ["github", "gitlab"] {
        let image = if runner == "gitlab" {
            "image=x"
        } else {
            "key="
        };
        let ran = job.run(runner, &["command=push", &url, "repo=source", evil, image]);
        assert_ne!(ran.code, Some(0), "{ran}");
        assert!(
            !job.cache.scratch("ran").exists(),
            "{runner} ran text of an input"
        );
    }
}

/// What the head of each file shows is what a user copies.
#[test]
fn using_the_action_or_the_component_takes_twelve_lines_at_most() {
    for file in ["github/action.yml", "gitlab/artifact-cache.yml"] {
        let text = fs::read_to_string(root().join("sender/ci").join(file)).unwrap();
        let head = text.lines().take_while(|line| line.starts_with('#'));
        let shown = head.filter(|line| line.starts_with("#   ")).count();
        assert!((5..=12).contains(&shown), "{file}: {shown} lines");
    }
}
