//! Pushes that take longer, or make the server do more, than they may.

use std::sync::Arc;
use std::time::Duration;

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::frame::RefOutcome;
use artifact_protocol::limits::MAX_BUCKET_PUSH_SECS;

use super::world::*;
use crate::bucket::requests::clock::ManualClock;
use crate::bucket::requests::faulty::Faulty;
use crate::config::StoreConfig;
use crate::error::Error;
use crate::seam::{Push, Stager, Store};

#[test]
fn a_push_ends_once_it_has_lasted_as_long_as_it_may() {
    let (memory, mut all) = (empty(), Universe::default());
    let commit = all.commit(None, &[("a", "1")]);
    let clock = ManualClock::default();
    let store = store_with(memory.clone(), clock.clone(), StoreConfig::default());
    let plan = Plan::one("os/a", commit);
    let (_, mut push) = store.begin(&plan.announcement()).unwrap();
    let ids = [ObjectId::commit(commit)];
    clock.advance(Duration::from_secs(MAX_BUCKET_PUSH_SECS - 1));
    assert_eq!(push.have(&ids).unwrap(), [false]);
    clock.advance(Duration::from_secs(1));
    assert!(matches!(push.have(&ids), Err(Error::Fenced)));
}

/// Directories whose names a push does not keep, below many refs: each list of their commits takes
/// another reading of them. In `make test-extra` only: it takes half a minute.
#[test]
fn directories_are_not_read_again_for_each_of_many_refs() {
    if !is_extra() {
        return;
    }
    let (memory, mut all) = (empty(), Universe::default());
    let number = |at: usize| Checksum::of(&at.to_le_bytes());
    let fill: Vec<_> = (0..5)
        .map(|dir| all.wide(NAMES, |at| number(dir * NAMES + at)))
        .collect();
    let file = all.file("1");
    let large: Vec<_> = (0..3).map(|dir| all.wide(NAMES + dir, |_| file)).collect();
    let tree = all.above(&large);
    let names = (0..REFS).map(|number| &*format!("os/{number}").leak());
    let wanted = names.map(|name| (name, all.commit_of(None, tree, Some(name))));
    let plan = Plan {
        refs: wanted.collect(),
        ..Plan::one("", file)
    };
    let way = Faulty::new(Arc::new(memory.clone()));
    let store = store_of(way.clone(), "mia");
    let (opened, mut push) = store.begin(&plan.announcement()).unwrap();
    for id in fill {
        push.stager().stage(id, all.stored(id)).unwrap();
    }
    let sent = send(&mut push, &opened, &all, &plan).unwrap();
    let before = way.counts().gets;
    let done = finish(push, opened, &all, sent).unwrap();
    assert_eq!(done.outcomes, vec![RefOutcome::Updated; REFS]);
    let gets = way.counts().gets - before;
    assert!(gets < 55, "{gets} reads");
    assert_eq!(refs(&memory).len(), REFS);
}

/// As many names as a dirtree of 10 MiB has.
const NAMES: usize = 220_000;
const REFS: usize = 12;
