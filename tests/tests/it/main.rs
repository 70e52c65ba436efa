//! Real pushes: the workspace's programs, a real sshd, and stock ostree as the judge.
//!
//! All tests are in one binary, so that it links once. `ARTIFACT_CACHE_EXTRA=1`, which `make
//! test-extra` sets, adds the tests that need much time or disk.

mod admin;
mod advice;
mod answers;
mod bucket;
mod chaos;
mod continuous;
mod crowd;
mod cuts;
mod doctor;
mod edges;
mod flatpak;
mod hostile;
mod join;
mod libostree;
mod manners;
mod manual;
mod metrics;
mod old_clients;
mod old_servers;
mod page;
mod pages;
mod place;
mod pulls;
mod reading;
mod receiver;
mod repair;
mod rights;
mod samples;
mod serve;
mod ssh;
mod summary;
mod threats;
mod trees;
mod upkeep;
mod user;
mod web_servers;
mod wire;

use artifact_tests::exec::Failure;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use artifact_tests::{cache::Cache, processes::MemoryWatch};

/// Makes the tree `tree` with one file of every kind.
fn every_kind(cache: &Cache) -> Result<Tree, Failure> {
    let tree = Tree::create(&cache.scratch("tree"))?;
    tree.all_kinds()?;
    Ok(tree)
}

/// Makes the repository `source`, as a build tool or a publisher would keep it.
fn source(cache: &Cache, mode: Mode) -> Result<Repo, Failure> {
    Repo::init(&cache.scratch("source"), mode)
}

/// Fails if either end of a push took more memory than the manual promises for any push.
fn must_be_modest(watch: MemoryWatch) -> Result<(), Failure> {
    let peaks = watch.stop()?;
    for program in ["bst-artifact-re", "artifact-cache"] {
        match peaks.get(program) {
            None => return Err(Failure::new(format!("{program} was not seen: {peaks:?}"))),
            Some(peak) if *peak > MAX_MEMORY => {
                return Err(Failure::new(format!(
                    "{program} took {peak} bytes of memory"
                )));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Returns whether the long tests are to run, and prints a note if they are not.
#[expect(clippy::print_stdout, reason = "a test that does nothing says why")]
fn extra() -> bool {
    let wanted = std::env::var_os("ARTIFACT_CACHE_EXTRA").is_some_and(|value| value == "1");
    if !wanted {
        println!("not run: set ARTIFACT_CACHE_EXTRA=1, or run `make test-extra`");
    }
    wanted
}

const MAX_MEMORY: u64 = 64 * 1024 * 1024;
