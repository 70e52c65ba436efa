//! Trees of the sizes that users have.

use artifact_tests::cache::Cache;
use artifact_tests::exec::Failure;
use artifact_tests::processes::MemoryWatch;
use artifact_tests::repo::Mode;

use crate::{every_kind, extra, must_be_modest, source};

fn many_files(files: usize, mode: Mode) -> Result<(), Failure> {
    let cache = Cache::start()?;
    let (tree, from) = (every_kind(&cache)?, source(&cache, mode)?);
    tree.generated(files, 42)?;
    from.commit("project/big/key", tree.root(), &[])?;
    let watch = MemoryWatch::start(&cache.scratch(""));
    let pushed = cache.push(&from, &["project/big/key"])?.must_exit(0)?;
    must_be_modest(watch)?;
    let most = u64::try_from(files * 9 / 10).ok();
    assert!(pushed.objects_sent > most, "{pushed:?}");
    cache.fsck()?;
    cache.must_give("project/big/key", &from, tree.root())?;
    let again = cache.push(&from, &["project/big/key"])?.must_exit(0)?;
    assert_eq!(again.objects_sent, Some(0));
    cache.wait_idle()
}

#[test]
fn many_files_of_an_archive_repository() {
    let files = if extra() { 10_000 } else { 2_000 };
    many_files(files, Mode::Archive).unwrap();
}

#[test]
fn many_files_of_a_build_tools_repository() {
    let files = if extra() { 10_000 } else { 1_200 };
    many_files(files, Mode::BareUser).unwrap();
}

#[test]
fn a_tree_of_nothing_but_its_root() {
    let cache = Cache::start().unwrap();
    let tree = artifact_tests::tree::Tree::create(&cache.scratch("tree")).unwrap();
    let from = source(&cache, Mode::Archive).unwrap();
    from.commit("p/empty/k", tree.root(), &[]).unwrap();
    let pushed = cache
        .push(&from, &["p/empty/k"])
        .unwrap()
        .must_exit(0)
        .unwrap();
    assert_eq!(pushed.objects_sent, Some(3), "{pushed:?}");
    cache.fsck().unwrap();
    cache.must_give("p/empty/k", &from, tree.root()).unwrap();
}

fn a_file_larger_than_memory(mode: Mode) -> Result<(), Failure> {
    let cache = Cache::start()?;
    let (tree, from) = (every_kind(&cache)?, source(&cache, mode)?);
    tree.large("large", 2 << 30, 3)?;
    from.commit("project/large/key", tree.root(), &[])?;
    let watch = MemoryWatch::start(&cache.scratch(""));
    cache.push(&from, &["project/large/key"])?.must_exit(0)?;
    must_be_modest(watch)?;
    cache.fsck()?;
    cache.must_give("project/large/key", &from, tree.root())
}

/// Runs in `make test-extra` only: it writes some 10 GiB and takes minutes.
#[test]
fn a_file_of_2_gib_passes_in_64_mib_of_memory() {
    if extra() {
        a_file_larger_than_memory(Mode::Archive).unwrap();
        a_file_larger_than_memory(Mode::BareUser).unwrap();
    }
}
