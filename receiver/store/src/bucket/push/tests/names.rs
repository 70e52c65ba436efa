//! The names of refs, and their guards.

use artifact_formats::{Checksum, with_causes};
use artifact_protocol::frame::RefOutcome;

use super::world::*;
use crate::bucket::records::layout;
use crate::bucket::requests::memory::Memory;
use crate::bucket::upkeep;
use crate::seam::Store;

/// Pushes `p/d/y` while `p/d/x` is removed, which frees `p/d`, and `act` runs.
fn push_while_freed(act: impl FnOnce(&Memory, &Universe, Checksum)) -> (Memory, Done) {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    set(&memory, &all, "p/d/x", commit);
    let plan = Plan::one("p/d/y", commit);
    let store = store_of(memory.clone(), "mia");
    let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
    let sent = send(&mut push, &opened, &all, &plan).unwrap();
    let wanted = [("p/d/x".parse().unwrap(), None)];
    upkeep::remove_refs(&client_of(&memory), &wanted).unwrap();
    act(&memory, &all, commit);
    let done = finish(push, opened, &all, sent).unwrap();
    (memory, done)
}

#[test]
fn a_name_that_is_freed_and_taken_during_a_push_is_not_used_twice() {
    let (memory, done) = push_while_freed(|memory, all, commit| set(memory, all, "p/d", commit));
    assert!(
        matches!(done.outcomes[..], [RefOutcome::Refused(_)]),
        "{done:?}"
    );
    assert_eq!(refs(&memory).into_keys().collect::<Vec<_>>(), ["p/d"]);
}

#[test]
fn a_name_that_was_freed_during_a_push_is_guarded_again() {
    let (memory, done) = push_while_freed(|_, _, _| {});
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
    let guard = memory.objects()[&layout::guard("p/d").unwrap()]
        .content
        .clone();
    assert_eq!(guard, "dir\n");
}

#[test]
fn a_damaged_guard_is_named_with_advice() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let key = layout::guard("os").unwrap();
    memory.damage(&key, Some("?".into()));
    let (store, plan) = (store_of(memory.clone(), "mia"), Plan::one("os/a", commit));
    let failed = push(&store, &all, &plan);
    let text = with_causes(&failed.unwrap_err());
    assert!(
        text.contains(key.as_str()) && text.contains("delete it"),
        "{text}"
    );
    memory.damage(&key, None);
    let done = push(&store, &all, &plan).unwrap();
    assert_eq!(done.outcomes, [RefOutcome::Updated]);
}
