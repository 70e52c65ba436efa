//! Tests which commits a push may rely on, by their closure lists.

use artifact_formats::{Checksum, ObjectId, ObjectKind};

use super::world::*;
use crate::bucket::push::bases::Bases;
use crate::bucket::push::closure::Beneath;
use crate::bucket::records::closures::{ClosureList, Heading, INCOMPLETE};
use crate::bucket::records::layout;
use crate::bucket::requests::memory::Memory;
use crate::tree::descent::Levels;

fn commit(number: u16) -> Checksum {
    Checksum::of(&number.to_le_bytes())
}

/// Returns the file of this number on the list of a commit.
fn file(of: Checksum, number: u16) -> ObjectId {
    let content = [&of.as_bytes()[..], &number.to_le_bytes()].concat();
    ObjectId::new(ObjectKind::File, Checksum::of(&content))
}

/// Puts a list of this number of files, which the lists of these commits complete.
fn put_list(memory: &Memory, of: Checksum, files: u16, bases: &[Checksum]) {
    let heading = Heading {
        exact: bases.is_empty(),
        bases: bases.to_vec(),
        parents: Vec::new(),
    };
    let mut ids: Vec<_> = (0..files).map(|number| file(of, number)).collect();
    ids.sort_unstable();
    let objects = ids.into_iter().map(|id| (id, Levels::default()));
    let list = ClosureList::encode(of, &heading, objects);
    memory.damage(&layout::closure(of), Some(list));
}

fn outlined(memory: &Memory, commits: &[Checksum], room: u64) -> Bases {
    let mut bases = Bases::default();
    commits.iter().for_each(|commit| bases.add(*commit));
    bases.outline(&client_of(memory), room).unwrap();
    bases
}

#[test]
fn commits_whose_lists_have_no_room_are_not_called_complete() {
    let memory = empty();
    let [large, other, small, shared] = [0, 1, 2, 3].map(commit);
    put_list(&memory, shared, 1_000, &[]);
    put_list(&memory, large, 1_000, &[shared]);
    put_list(&memory, other, 1_000, &[]);
    put_list(&memory, small, 100, &[shared]);
    let all = [large, other, small];
    let told = |commits: &[_], room| outlined(&memory, commits, room).commits();
    assert_eq!(told(&all, 200_000), all);
    // The shared list counts once.
    assert_eq!(told(&all, 70_000), [large, small]);
    assert_eq!(told(&all, 1), [large]);
    let mut bases = outlined(&memory, &all, 70_000);
    assert!(bases.read(&client_of(&memory), false).unwrap());
    for of in [large, shared, small] {
        assert!(bases.cover(&file(of, 7)).is_some());
    }
    assert!(bases.cover(&file(other, 7)).is_none());
}

#[test]
fn of_commits_without_a_good_list_one_is_called_complete_and_incomplete_ones_are_not() {
    let memory = empty();
    let [incomplete, absent, another, broken, good] = [0, 1, 2, 3, 4].map(commit);
    memory.damage(&layout::closure(incomplete), Some(INCOMPLETE.into()));
    put_list(&memory, broken, 10, &[commit(99)]);
    put_list(&memory, good, 10, &[]);
    let all = [incomplete, absent, another, broken, good];
    let bases = outlined(&memory, &all, u64::MAX);
    assert_eq!(bases.commits(), [absent, good]);
}

#[test]
fn a_list_that_is_replaced_after_its_beginning_was_read_counts_only_with_what_completes_it() {
    let memory = empty();
    let [base, old, new] = [0, 1, 2].map(commit);
    put_list(&memory, old, 10, &[]);
    put_list(&memory, base, 500, &[old]);
    let mut bases = outlined(&memory, &[base], u64::MAX);
    put_list(&memory, new, 10, &[]);
    put_list(&memory, base, 500, &[new]);
    bases.read(&client_of(&memory), false).unwrap();
    // The commit itself is not there, so its list cannot be made again.
    assert!(bases.cover(&file(base, 7)).is_none());
    // An exact list needs no other.
    let mut bases = outlined(&memory, &[base], u64::MAX);
    put_list(&memory, base, 500, &[]);
    bases.read(&client_of(&memory), false).unwrap();
    assert!(bases.cover(&file(base, 7)).is_some());
}
