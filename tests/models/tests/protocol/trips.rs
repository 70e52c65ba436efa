//! The round trips of a push on a link where nothing else takes time.
//!
//! Over ssh the first flight travels with the request to run the receiver, so `ssh HOST true` takes
//! the first of these as well.

use artifact_formats::ObjectKind;
use artifact_models::model::{Repository, Source, Store};
use artifact_models::pair::{Pair, Weather, announce_all};
use artifact_protocol::frame::{PushOptions, RefOutcome};

/// Pushes a whole repository, with an early offer, as a client does that finds it small.
fn push(local: &Repository, store: Store, options: PushOptions) -> (usize, Pair) {
    let weather = Weather {
        early: true,
        ..Weather::default()
    };
    let announcement = announce_all(local, options);
    let mut pair = Pair::new(announcement, Source::new(local.clone()), store, weather);
    let trips = pair.count_round_trips().unwrap();
    assert!(pair.sender_error.is_none(), "{:?}", pair.sender_error);
    assert!(pair.receiver_error.is_none(), "{:?}", pair.receiver_error);
    (trips, pair)
}

/// An artifact of this many files, in directories of 40.
fn artifact(files: u32) -> Repository {
    let mut repository = Repository::default();
    let files: Vec<_> = (0..files)
        .map(|n| repository.add_file(&n.to_le_bytes()))
        .collect();
    let below: Vec<_> = files
        .chunks(40)
        .map(|files| repository.add(ObjectKind::Dirtree, files, b"t"))
        .collect();
    repository.add_commit("project/element/key", &below);
    repository
}

const NO_OPTIONS: PushOptions = PushOptions(0);

#[test]
fn an_artifact_of_50_files_takes_two_round_trips_and_one_that_is_there_takes_one() {
    let local = artifact(50);
    let (trips, mut first) = push(&local, Store::default(), NO_OPTIONS);
    assert_eq!(trips, 2);
    assert_eq!(first.store.repository, local);
    assert_eq!(first.objects_sent(), local.objects.len() as u64);
    first.store.reopen();
    let (trips, second) = push(&local, first.store, NO_OPTIONS);
    assert_eq!(trips, 1);
    assert_eq!(second.outcomes(), Some(&[RefOutcome::Unchanged][..]));
    assert!(
        second.receiver.is_finished(),
        "it does not wait for a goodbye"
    );
}

#[test]
fn a_small_push_sends_nothing_that_is_there_though_it_offered_it_before_it_knew() {
    let old = artifact(50);
    let (_, first) = push(&old, Store::default(), NO_OPTIONS);
    let mut new = old.clone();
    new.refs.clear();
    let fresh = new.add_file(b"fresh");
    let commit = new.add_commit("project/element/new", &[fresh]);
    let (trips, second) = push(&new, Store::new(first.store.repository), NO_OPTIONS);
    assert_eq!(trips, 2);
    assert_eq!(second.store.repository.refs.values().last(), Some(&commit));
    assert_eq!(second.objects_sent(), 3, "commit, directory, file");
}

#[test]
fn a_larger_push_takes_three_round_trips() {
    let local = artifact(800);
    let (trips, pair) = push(&local, Store::default(), NO_OPTIONS);
    assert_eq!(trips, 3);
    assert_eq!(pair.store.repository, local);
}

#[test]
fn a_dry_run_of_a_small_push_takes_two_round_trips() {
    let local = artifact(50);
    let (trips, pair) = push(&local, Store::default(), PushOptions::DRY_RUN);
    assert_eq!(trips, 2);
    assert_eq!(pair.outcomes(), Some(&[RefOutcome::WouldUpdate][..]));
    assert_eq!(pair.store.repository, Repository::default());
}

#[test]
fn what_only_a_refused_ref_reaches_is_offered_early_and_not_sent() {
    let mut local = artifact(50);
    let own = local.add_file(b"only beneath the refused ref");
    let shared = *local
        .objects
        .keys()
        .find(|id| id.kind == ObjectKind::File)
        .unwrap();
    local.add_commit("forbidden/ref", &[own, shared]);
    let (trips, pair) = push(&local, Store::default(), NO_OPTIONS);
    assert_eq!(trips, 2);
    let accepted = artifact(50);
    assert_eq!(pair.objects_sent(), accepted.objects.len() as u64);
    assert_eq!(pair.store.repository, accepted);
    assert!(!pair.store.staged.contains_key(&own));
}

#[test]
fn a_push_whose_only_ref_is_refused_takes_one_round_trip_and_sends_nothing() {
    let mut local = Repository::default();
    let file = local.add_file(b"content");
    local.add_commit("forbidden/ref", &[file]);
    let (trips, pair) = push(&local, Store::default(), NO_OPTIONS);
    assert_eq!(trips, 1);
    assert_eq!(pair.objects_sent(), 0);
    assert!(matches!(pair.outcomes(), Some([RefOutcome::Refused(_)])));
}
