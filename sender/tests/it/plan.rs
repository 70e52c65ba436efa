//! The objects offered from repositories that the `ostree` program made.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_sender::{Error, Plan, Repository, Target};

use crate::fixture::{Fixture, commit, fill_awkward, object_path, objects};

fn plan(repo: &Path, targets: &[Target], held: &[Checksum], depth: u32) -> Result<Plan, Error> {
    Plan::new(
        Arc::new(Repository::open(repo).unwrap()),
        targets,
        held,
        depth,
    )
}

const fn target(commit: Checksum, current: Option<Checksum>) -> Target {
    Target { commit, current }
}

/// Offers everything to a server that has nothing.
fn offered(plan: &mut Plan) -> BTreeSet<ObjectId> {
    let mut all = BTreeSet::new();
    while !plan.is_exhausted() {
        for id in plan.next(7).unwrap() {
            assert!(all.insert(id), "{id} is offered twice");
            plan.answer(id, false);
        }
    }
    assert!(plan.next(7).unwrap().is_empty());
    all
}

fn commits(ids: &BTreeSet<ObjectId>) -> BTreeSet<Checksum> {
    let commits = ids.iter().filter(|id| id.kind == ObjectKind::Commit);
    commits.map(|id| id.checksum).collect()
}

#[test]
fn a_plan_offers_exactly_the_closure_and_with_a_basis_exactly_the_difference() {
    for mode in ["archive", "bare-user"] {
        let fixture = Fixture::new();
        let tree = fixture.tree("tree");
        fill_awkward(&tree);
        let local = fixture.init("local", mode);
        let old = commit(&local, "old", &tree);
        let old_objects = objects(&local);
        fs::write(tree.join("sub/deep/er/new"), b"new").unwrap();
        fs::write(tree.join("sub/renamed"), b"1").unwrap();
        fs::remove_file(tree.join("empty")).unwrap();
        let new = commit(&local, "new", &tree);
        let new_objects: BTreeSet<_> = objects(&local).difference(&old_objects).copied().collect();
        // The commit, the new file, and the dirtrees from the root down to it.
        assert_eq!(new_objects.len(), 6);

        let mut full = plan(&local, &[target(old, None)], &[], 0).unwrap();
        assert_eq!(offered(&mut full), old_objects);
        for current in [None, Some(old)] {
            let mut incremental = plan(&local, &[target(new, current)], &[old], 0).unwrap();
            assert_eq!(incremental.basis(), [old]);
            assert_eq!(offered(&mut incremental), new_objects);
        }
        let both = [target(old, None), target(new, None), target(new, None)];
        assert_eq!(
            offered(&mut plan(&local, &both, &[], 0).unwrap()),
            objects(&local)
        );
        // A ref's current commit need not be complete on the server: a plan leaves out only commits
        // that the server calls complete.
        let mut doubtful = plan(&local, &[target(new, Some(old))], &[], 0).unwrap();
        assert_eq!(doubtful.basis(), []);
        assert!(offered(&mut doubtful).is_superset(&new_objects));
        for (current, held) in [(Some(new), vec![]), (None, vec![new])] {
            let nothing = plan(&local, &[target(new, current)], &held, 0).unwrap();
            assert!(nothing.is_exhausted());
        }
        let unknown = Checksum::new([9; 32]);
        let foreign = plan(&local, &[target(new, Some(unknown))], &[unknown], 0).unwrap();
        assert_eq!(foreign.basis(), []);
    }
}

/// Makes a branch of different commits, oldest first.
fn history(fixture: &Fixture, len: usize) -> (std::path::PathBuf, Vec<Checksum>) {
    let tree = fixture.tree("tree");
    let local = fixture.init("local", "archive");
    let commits = (0..len).map(|number| {
        fs::write(tree.join("number"), number.to_string()).unwrap();
        commit(&local, "main", &tree)
    });
    let commits = commits.collect();
    (local, commits)
}

#[test]
fn commits_between_current_and_target_go_along_and_so_do_ancestors_as_deep_as_asked() {
    let fixture = Fixture::new();
    let (local, history) = history(&fixture, 6);
    let set = |range: &[Checksum]| range.iter().copied().collect::<BTreeSet<_>>();
    let elsewhere = Checksum::new([9; 32]);
    for (current, depth, expected) in [
        (None, 0, &history[5..]),
        (None, 2, &history[3..]),
        (None, u32::MAX, &history[..]),
        (Some(history[4]), 0, &history[5..]),
        (Some(history[2]), 0, &history[3..]),
        (Some(history[2]), 1, &history[3..]),
        (Some(elsewhere), 0, &history[5..]),
        (Some(elsewhere), 3, &history[2..]),
        (Some(history[5]), 0, &[]),
        (Some(history[5]), 2, &history[3..5]),
        (Some(history[5]), u32::MAX, &history[..5]),
    ] {
        let mut plan = plan(&local, &[target(history[5], current)], &[], depth).unwrap();
        let all = offered(&mut plan);
        assert_eq!(commits(&all), set(expected), "{current:?} {depth}");
        let files = all.iter().filter(|id| id.kind == ObjectKind::File).count();
        assert_eq!(files, expected.len(), "each commit comes with its tree");
    }
    // Deeper than the current commit: the plan skips that one and offers the earlier ones.
    let targets = [target(history[5], Some(history[3]))];
    let mut deep = plan(&local, &targets, &[history[3]], 4).unwrap();
    let expected = set(&[history[1], history[2], history[4], history[5]]);
    assert_eq!(commits(&offered(&mut deep)), expected);
}

#[test]
fn history_ends_at_a_partial_or_missing_ancestor_but_the_current_commit_need_not_be_here() {
    let fixture = Fixture::new();
    let (local, history) = history(&fixture, 5);
    let count = |current, depth| {
        let mut plan = plan(&local, &[target(history[4], current)], &[], depth).unwrap();
        commits(&offered(&mut plan)).len()
    };
    fs::write(
        local.join(format!("state/{}.commitpartial", history[2])),
        b"",
    )
    .unwrap();
    assert_eq!(count(None, 4), 2);
    assert_eq!(count(Some(history[0]), 0), 1);
    assert_eq!(count(Some(history[2]), 0), 2);
    let id = ObjectId::new(ObjectKind::Commit, history[2]);
    fs::remove_file(object_path(&local, id, "commit")).unwrap();
    assert_eq!(count(None, 4), 2);
    assert_eq!(count(Some(history[2]), 0), 2);
}

#[test]
fn what_neither_side_has_is_named() {
    let fixture = Fixture::new();
    let (local, history) = history(&fixture, 1);
    let head = history[0];
    let absent = Checksum::new([9; 32]);
    let error = plan(&local, &[target(absent, None)], &[], 0).unwrap_err();
    assert!(
        matches!(error, Error::NoSuchCommit { commit } if commit == absent),
        "{error}"
    );
    let trees = objects(&local);
    let root = *trees
        .iter()
        .find(|id| id.kind == ObjectKind::Dirtree)
        .unwrap();
    fs::remove_file(object_path(&local, root, "dirtree")).unwrap();
    let mut broken = plan(&local, &[target(head, None)], &[], 0).unwrap();
    // The server may have it.
    assert!(broken.next(100).unwrap().contains(&root));
    assert!(!broken.is_exhausted());
    broken.answer(root, false);
    let error = broken.next(100).unwrap_err();
    assert!(
        matches!(error, Error::MissingObject { id, .. } if id == root),
        "{error}"
    );
}

#[test]
fn damage_in_a_commit_only_the_server_needs_does_not_stop_a_push() {
    let fixture = Fixture::new();
    let (local, history) = history(&fixture, 2);
    let repository = Repository::open(&local).unwrap();
    let root = ObjectId::new(
        ObjectKind::Dirtree,
        repository.commit(history[0]).unwrap().tree,
    );
    fs::remove_file(object_path(&local, root, "dirtree")).unwrap();
    let mut plan = plan(&local, &[target(history[1], None)], &[history[0]], 0).unwrap();
    assert_eq!(plan.basis(), []);
    // The server is known to have the root directory's dirmeta, one of the commit's four objects.
    assert_eq!(offered(&mut plan).len(), 3);
}

#[test]
fn of_a_commit_that_is_partial_the_server_may_have_what_is_not_here() {
    let fixture = Fixture::new();
    let (local, history) = history(&fixture, 2);
    let all = objects(&local);
    let (old, new) = (history[0], history[1]);
    for gone in all.iter().filter(|id| id.kind != ObjectKind::Commit) {
        let extension = gone.kind.archive_extension();
        let (path, away) = (object_path(&local, *gone, extension), fixture.path("away"));
        fs::rename(&path, &away).unwrap();
        let marker = local.join(format!("state/{old}.commitpartial"));
        fs::write(&marker, b"").unwrap();
        // The old commit is complete on the server, but no basis, because it is incomplete here.
        let mut plan = plan(&local, &[target(new, Some(old))], &[old], 0).unwrap();
        assert_eq!(plan.basis(), []);
        while !plan.is_exhausted() {
            for id in plan.next(7).unwrap() {
                plan.answer(id, id == *gone);
            }
        }
        fs::remove_file(marker).unwrap();
        fs::rename(away, path).unwrap();
    }
}
