//! A whole team at once: twenty pushes, ten users who pull, and another process that runs `ostree
//! summary -u` over and over, all on one cache.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use artifact_formats::{Checksum, Summary};
use artifact_tests::cache::{Cache, Pushed};
use artifact_tests::exec::{Failure, run};
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;

#[test]
fn twenty_pushes_beside_ten_pullers_and_foreign_summaries_never_show_half_of_anything() {
    let cache = Cache::start().unwrap();
    let from = Repo::init(&cache.scratch("source"), Mode::Archive).unwrap();
    let names = commit_all(&cache, &from).unwrap();
    let start = cache.push(&from, &[FIRST]).unwrap();
    start.must_exit(0).unwrap();
    let pushing = AtomicBool::new(true);

    let (pulls, foreign_summaries) = thread::scope(|scope| {
        let pushers: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| push_and_look(&cache, &from, name)))
            .collect();
        let pullers: Vec<_> = (0..PULLERS)
            .map(|n| {
                let (cache, pushing) = (&cache, &pushing);
                scope.spawn(move || pull_over_and_over(cache, n, pushing))
            })
            .collect();
        let foreign = scope.spawn(|| summarise_over_and_over(&cache, &pushing));
        let pushed: Vec<_> = pushers.into_iter().map(|thread| thread.join()).collect();
        // Before the assertions, so that after a failure no thread goes on.
        pushing.store(false, Ordering::Release);
        for outcome in pushed {
            outcome.unwrap().unwrap();
        }
        let pulls = pullers.into_iter().map(|thread| thread.join().unwrap());
        let pulls: usize = pulls.map(Result::unwrap).sum();
        (pulls, foreign.join().unwrap().unwrap())
    });

    // Fewer pulls would prove nothing.
    assert!(pulls > 2 * PULLERS, "{pulls} pulls");
    assert!(foreign_summaries > 2, "{foreign_summaries} summaries");
    let refs = from.refs().unwrap();
    assert_eq!(refs.len(), names.len() + 1);
    assert_eq!(cache.repo().refs().unwrap(), refs);
    for n in 0..PULLERS {
        assert_eq!(puller(&cache, n).refs().unwrap(), refs);
    }
    cache.fsck().unwrap();
    cache.wait_idle().unwrap();
}

/// Commits the artifacts to push: most files are in every artifact, so that all pushes publish them
/// at once.
fn commit_all(cache: &Cache, from: &Repo) -> Result<Vec<String>, Failure> {
    let tree = Tree::create(&cache.scratch("tree"))?;
    from.commit(FIRST, tree.root(), &[])?;
    tree.generated(FILES, 7)?;
    (0..PUSHERS)
        .map(|n| {
            let name = format!("team{}/element{n}/key", n % 3);
            tree.file("own/name", name.as_bytes(), 0o644)?;
            from.commit(&name, tree.root(), &[])?;
            Ok(name)
        })
        .collect()
}

/// Pushes a ref, and fails unless the summary names its commit when the push has returned.
fn push_and_look(cache: &Cache, from: &Repo, name: &str) -> Result<(), Failure> {
    let commit = from.commit_of(name)?;
    let mut push = bounded(&cache.push_command(from, &[name])?);
    let pushed = Pushed::read(run(&mut push)?)?.must_exit(0)?;
    let named = in_summary(cache, name)?;
    if named == Some(commit) {
        return Ok(());
    }
    Err(Failure::new(format!(
        "the summary names {named:?} and not {commit} when this has returned: {}",
        pushed.ran
    )))
}

/// Returns the commit that the current summary names for a ref.
fn in_summary(cache: &Cache, name: &str) -> Result<Option<Checksum>, Failure> {
    let path = cache.repo().path().join("summary");
    let content = std::fs::read(&path).map_err(Failure::doing(format!("read {path:?}")))?;
    let summary = Summary::parse(&content)
        .map_err(|error| Failure::new(format!("the summary is damaged: {error}")))?;
    Ok(summary.refs.get(name).map(|entry| entry.commit))
}

/// Pulls every ref of the summary until no push runs, and once more; returns the number of rounds.
/// A pull checks every object, and fails for a missing one.
fn pull_over_and_over(cache: &Cache, n: usize, pushing: &AtomicBool) -> Result<usize, Failure> {
    let mode = [Mode::Archive, Mode::BareUser][n % 2];
    let user = Repo::init(puller(cache, n).path(), mode)?;
    let mut pulls = 0;
    loop {
        let last = !pushing.load(Ordering::Acquire);
        user.pull_http(&cache.pull_url(), &[])?;
        pulls += 1;
        if last {
            return Ok(pulls);
        }
    }
}

/// Writes the summary with ostree until no push runs; returns the number of times.
fn summarise_over_and_over(cache: &Cache, pushing: &AtomicBool) -> Result<usize, Failure> {
    let mut times = 0;
    while pushing.load(Ordering::Acquire) {
        let mut update = Command::new("ostree");
        update.args(["summary", "--update", "--repo"]);
        run(&mut bounded(update.arg(cache.repo().path())))?.success()?;
        times += 1;
    }
    Ok(times)
}

fn puller(cache: &Cache, n: usize) -> Repo {
    Repo::at(&cache.scratch(&format!("puller{n}")))
}

/// Runs a command with a time limit, so that a deadlock fails and shows where.
fn bounded(command: &Command) -> Command {
    let mut bounded = Command::new("timeout");
    bounded
        .arg(LIMIT_SECS)
        .arg(command.get_program())
        .args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bounded.env(key, value),
            None => bounded.env_remove(key),
        };
    }
    bounded
}

const PUSHERS: usize = 20;
const PULLERS: usize = 10;
const FILES: usize = 50;
const FIRST: &str = "team/first/key";
/// More than the slowest machine needs, less than the test runner waits.
const LIMIT_SECS: &str = "120";
