//! Pushes after a check has found objects missing, and records that must not hide that.

use artifact_formats::{ObjectId, ObjectKind};
use artifact_protocol::frame::{RefOutcome, Verdict};

use super::world::*;
use crate::bucket::records::closures::INCOMPLETE;
use crate::bucket::records::layout;
use crate::bucket::requests::memory::Memory;
use crate::bucket::upkeep;
use crate::seam::Store;

/// Returns a commit that mia has pushed, one of its files, and the journal of her earlier attempt.
fn pushed_at_the_second_attempt(memory: &Memory, all: &mut Universe) -> (Plan, ObjectId) {
    let commit = all.commit(None, &[("bin/a", "1"), ("c", "3")]);
    let plan = Plan::one("os/a", commit);
    let store = store_of(memory.clone(), "mia");
    let (opened, mut broken) = store.begin(&plan.announcement()).unwrap();
    send(&mut broken, &opened, all, &plan).unwrap();
    drop(broken);
    push(&store, all, &plan).unwrap();
    let is_file = |id: &ObjectId| id.kind == ObjectKind::File;
    let file = all.closure(commit).into_iter().find(is_file).unwrap();
    (plan, file)
}

fn journals(memory: &Memory) -> usize {
    let objects = memory.objects().into_keys();
    objects
        .filter(|key| key.as_str().starts_with(layout::JOURNALS))
        .count()
}

#[test]
fn no_journal_hides_that_an_object_is_lost() {
    let (memory, mut all) = (empty(), Universe::default());
    let (plan, file) = pushed_at_the_second_attempt(&memory, &mut all);
    assert!(journals(&memory) > 0);
    memory.damage(&layout::object(&file), None);
    let marked = memory.fork();
    let commit = plan.refs[0].1;
    let mark = Some(INCOMPLETE.into());
    marked.damage(&layout::closure(commit), mark);
    // A push that heals relies on no journal.
    let healed = push(&store_of(marked.clone(), "mia"), &all, &plan).unwrap();
    assert_eq!(healed.outcomes, [RefOutcome::Updated]);
    assert_whole(&marked, &all);
    // A repair leaves no journal for other pushes.
    upkeep::repair(&client_of(&memory), u64::MAX, &|_| {}).unwrap();
    assert_eq!(journals(&memory), 0);
    let other = all.commit(None, &[("bin/b", "1"), ("d", "3")]);
    let done = push(
        &store_of(memory.clone(), "mia"),
        &all,
        &Plan::one("os/b", other),
    )
    .unwrap();
    assert!(done.sent.contains(&file));
}

#[test]
fn a_push_does_not_remove_the_mark_that_a_check_has_made_since_it_began() {
    let (memory, mut all) = (empty(), Universe::default());
    let files: Vec<_> = (0..400)
        .map(|n| (format!("d/{n}"), n.to_string()))
        .collect();
    let tree = all.tree(&files);
    let old = all.commit_of(None, tree, None);
    set(&memory, &all, "os/a", old);
    let list = memory.objects()[&layout::closure(old)].content.clone();
    let lost = ObjectId::new(ObjectKind::File, all.file("7"));
    // The list is long, or missing, when the push begins.
    for list in [Some(list), None] {
        let memory = memory.fork();
        memory.damage(&layout::closure(old), list);
        let new = all.commit_of(Some(old), tree, None);
        let plan = Plan {
            bases: vec![("os/a", old)],
            ..Plan::one("os/b", new)
        };
        let store = store_of(memory.clone(), "mia");
        let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
        assert_eq!(opened.refs[0].verdict, Verdict::Accepted);
        memory.damage(&layout::object(&lost), None);
        upkeep::repair(&client_of(&memory), u64::MAX, &|_| {}).unwrap();
        let sent = send(&mut push, &opened, &all, &plan).unwrap();
        assert!(sent.contains(&lost));
        finish(push, opened, &all, sent).unwrap();
        let mark = memory.objects()[&layout::closure(old)].content.clone();
        assert_eq!(mark, INCOMPLETE);
        assert!(refs(&memory).contains_key("os/b"));
    }
}
