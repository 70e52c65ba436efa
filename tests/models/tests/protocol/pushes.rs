//! Both sessions against each other, in every order and with every break.

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_models::model::{Repository, Source, Store, commit_id};
use artifact_models::pair::{Pair, Split, Stuck, Weather, announce_all};
use artifact_protocol::dialect::Dialect;
use artifact_protocol::frame::{
    Base, CloseCode, Expect, PushOptions, RefOutcome, RefUpdate, RefusalCode, Verdict,
};
use artifact_protocol::session::{Announcement, Error, Violation};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::sample::Index;

const NO_OPTIONS: PushOptions = PushOptions(0);

/// Any graph of files and directories under one to four commits, which may share trees; some
/// objects are large enough to be streamed, some commits have detached metadata.
fn repository() -> impl Strategy<Value = Repository> {
    let files = vec(prop_oneof![8 => 0..200_usize, 1 => 200..2_000_usize], 1..12);
    let trees = vec(vec(any::<Index>(), 0..6), 0..10);
    let commits = vec((vec(any::<Index>(), 0..4), any::<bool>()), 1..5);
    (files, trees, commits).prop_map(|(files, trees, commits)| {
        let mut repository = Repository::default();
        let numbered = files.into_iter().zip(0_u8..);
        let mut ids: Vec<_> = numbered
            .map(|(len, number)| repository.add_file(&vec![number; len]))
            .collect();
        for picks in trees {
            let picked: Vec<_> = picks.iter().map(|pick| *pick.get(&ids)).collect();
            ids.push(repository.add(ObjectKind::Dirtree, &picked, b"t"));
        }
        for (number, (picks, detached)) in commits.iter().enumerate() {
            let picked: Vec<_> = picks.iter().map(|pick| *pick.get(&ids)).collect();
            let commit = repository.add_commit(&format!("project/element/{number}"), &picked);
            if *detached {
                repository
                    .detached
                    .insert(commit, Bytes::from_static(b"signature"));
            }
        }
        reachable(repository)
    })
}

/// Drops objects that no ref reaches, so that a server's copy can be compared with the repository.
fn reachable(mut repository: Repository) -> Repository {
    let roots = repository.refs.values();
    let kept = roots.flat_map(|commit| repository.closure(commit_id(*commit)).0);
    let kept: std::collections::BTreeSet<_> = kept.collect();
    repository.objects.retain(|id, _| kept.contains(id));
    repository
}

fn weather() -> impl Strategy<Value = Weather> {
    let split = prop_oneof![
        Just(Split::Whole),
        Just(Split::Every(1)),
        (1..50_usize).prop_map(Split::Every),
        (1..5_000_usize).prop_map(Split::UpTo),
    ];
    (any::<u64>(), split, any::<bool>()).prop_map(|(seed, split, early)| Weather {
        seed,
        split,
        early,
        ..Weather::default()
    })
}

fn pair(local: &Repository, remote: Store, weather: Weather) -> Pair {
    let announcement = announce_all(local, NO_OPTIONS);
    Pair::new(announcement, Source::new(local.clone()), remote, weather)
}

/// Pushes everything and expects it to succeed.
fn push(local: &Repository, remote: Store, weather: Weather) -> Pair {
    let mut pair = pair(local, remote, weather);
    assert_eq!(
        pair.drive(),
        Ok(()),
        "{:?} {:?}",
        pair.sender_error,
        pair.receiver_error
    );
    assert!(pair.sender_error.is_none(), "{:?}", pair.sender_error);
    assert!(pair.receiver_error.is_none(), "{:?}", pair.receiver_error);
    pair
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_push_sets_the_refs_and_brings_all_they_reach(
        local in repository(), waits in any::<bool>(), weather in weather(),
    ) {
        let mut pair = pair(&local, Store::default(), weather);
        pair.source.waits = waits;
        prop_assert_eq!(pair.drive(), Ok(()));
        prop_assert!(pair.receiver_error.is_none(), "{:?}", pair.receiver_error);
        prop_assert_eq!(&pair.store.repository, &local);
        prop_assert_eq!(pair.store.summaries, 1);
        let outcomes = vec![RefOutcome::Updated; local.refs.len()];
        prop_assert_eq!(pair.outcomes(), Some(&outcomes[..]));
        prop_assert_eq!(pair.objects_sent(), local.objects.len() as u64, "each object once");
    }

    #[test]
    fn a_second_push_offers_nothing_and_sends_nothing(
        local in repository(), weather in weather(),
    ) {
        let mut first = push(&local, Store::default(), weather);
        first.store.reopen();
        let second = push(&local, first.store, weather);
        prop_assert_eq!(&second.source.offered, &[]);
        prop_assert_eq!(second.objects_sent(), 0);
        prop_assert_eq!(second.store.summaries, 0);
        let outcomes = vec![RefOutcome::Unchanged; local.refs.len()];
        prop_assert_eq!(second.outcomes(), Some(&outcomes[..]));
    }

    #[test]
    fn nothing_beneath_a_basis_is_offered(
        old in repository(), picks in vec(any::<Index>(), 1..5), weather in weather(),
    ) {
        let remote = push(&old, Store::default(), weather).store.repository;
        let mut new = old.clone();
        let ids: Vec<_> = old.objects.keys().filter(|id| id.kind != ObjectKind::Commit).collect();
        let mut picked: Vec<_> = picks.iter().map(|pick| **pick.get(&ids)).collect();
        picked.push(new.add_file(b"what is new"));
        new.add_commit("project/element/new", &picked);
        let second = push(&new, Store::new(remote), weather);
        for id in &second.source.offered {
            prop_assert!(!old.objects.contains_key(id), "{id} is beneath a basis");
        }
        prop_assert_eq!(&second.store.repository, &new);
    }

    #[test]
    fn a_push_cut_at_any_byte_leaves_every_ref_old_or_new_and_a_retry_succeeds(
        old in repository(), new in repository(), weather in weather(),
        at in any::<Index>(), towards_receiver in any::<bool>(),
    ) {
        let before = push(&old, Store::default(), weather).store.repository;
        let whole = push(&new, Store::new(before.clone()), weather);
        let (to_receiver, to_sender) = whole.delivered();
        let cut = if towards_receiver {
            Weather { cut_to_receiver: Some(at.index(to_receiver)), ..weather }
        } else {
            Weather { cut_to_sender: Some(at.index(to_sender)), ..weather }
        };
        let mut broken = pair(&new, Store::new(before.clone()), cut);
        prop_assert_eq!(broken.drive(), Ok(()));
        let between = &broken.store.repository;
        prop_assert!(between.is_whole());
        for (name, commit) in &between.refs {
            let values = [before.refs.get(name), new.refs.get(name)];
            prop_assert!(values.contains(&Some(commit)));
        }
        if broken.outcomes().is_some_and(|o| o.contains(&RefOutcome::Updated)) {
            prop_assert_eq!(&between.refs, &whole.store.repository.refs, "acknowledged");
        }
        let alone = [ObjectKind::File, ObjectKind::Dirmeta];
        let whole_already = |id: &&ObjectId| alone.contains(&id.kind);
        let staged = broken.store.staged.keys().filter(whole_already).count() as u64;
        broken.store.reopen();
        let retry = push(&new, broken.store, weather);
        prop_assert_eq!(&retry.store.repository.refs, &whole.store.repository.refs);
        prop_assert!(retry.store.repository.is_whole());
        prop_assert!(retry.objects_sent() + staged <= whole.objects_sent());
    }

    #[test]
    fn what_vanishes_before_publication_is_asked_for_again(
        local in repository(), victims in vec(any::<Index>(), 1..4), rounds in 1..=3_usize,
        weather in weather(),
    ) {
        let mut pair = pair(&local, Store::default(), weather);
        let all: Vec<_> = local.objects.keys().copied().collect();
        let vanish: Vec<_> = victims.iter().map(|victim| *victim.get(&all)).collect();
        pair.store.vanish.extend(vec![vanish; rounds]);
        prop_assert_eq!(pair.drive(), Ok(()));
        prop_assert!(pair.sender_error.is_none(), "{:?}", pair.sender_error);
        prop_assert_eq!(&pair.store.repository, &local);
    }

    #[test]
    fn a_dry_run_changes_nothing_and_foretells_the_outcomes(
        old in repository(), new in repository(), weather in weather(),
    ) {
        let store = || Store::new(old.clone());
        let mut new = new;
        let commit = *new.refs.values().next().unwrap();
        new.refs.insert("forbidden/ref".parse().unwrap(), commit);
        let announcement = announce_all(&new, PushOptions::DRY_RUN);
        let mut dry = Pair::new(announcement, Source::new(new.clone()), store(), weather);
        prop_assert_eq!(dry.drive(), Ok(()));
        prop_assert_eq!(&dry.store.repository, &old);
        prop_assert!(dry.store.staged.is_empty());
        prop_assert_eq!(dry.objects_sent(), 0);
        let real = push(&new, store(), weather);
        let foretold: Vec<_> = real.outcomes().unwrap().iter().map(|outcome| match outcome {
            RefOutcome::Updated => RefOutcome::WouldUpdate,
            other => other.clone(),
        }).collect();
        // If nothing would be updated, the session ends before the cut matters.
        prop_assert_eq!(dry.outcomes(), Some(&foretold[..]));
    }
}

#[test]
fn a_deep_tree_that_vanishes_whole_is_sent_again_in_one_round() {
    let mut local = Repository::default();
    let file = local.add_file(b"at the bottom");
    let deep = (0..20).fold(file, |below, level: u8| {
        local.add(ObjectKind::Dirtree, &[below], &[level])
    });
    local.add_commit("project/element/key", &[deep]);
    let mut pair = pair(&local, Store::default(), Weather::default());
    let all = local.objects.keys().copied().collect();
    pair.store.vanish.push_back(all);
    assert_eq!(pair.drive(), Ok(()));
    assert!(pair.sender_error.is_none(), "{:?}", pair.sender_error);
    assert_eq!(pair.store.repository, local);
}

#[test]
fn what_vanishes_a_fourth_time_ends_the_push_as_incomplete() {
    let local = small();
    let mut pair = pair(&local, Store::default(), Weather::default());
    let victim: Vec<_> = local.objects.keys().copied().take(1).collect();
    pair.store.vanish.extend(vec![victim; 4]);
    assert_eq!(pair.drive(), Ok(()));
    assert!(matches!(
        pair.sender_error,
        Some(Error::PeerClosed(close)) if close.code == CloseCode::INCOMPLETE
    ));
    assert!(pair.store.repository.refs.is_empty());
}

#[test]
fn a_have_on_a_directory_prunes_all_below_it_from_what_is_still_to_be_offered() {
    let mut old = Repository::default();
    let files: Vec<_> = (0..3_000_u32)
        .map(|n| old.add_file(&n.to_le_bytes()))
        .collect();
    let shared = old.add(ObjectKind::Dirtree, &files, b"shared");
    old.add_commit("other/project/key", &[shared]);
    let mut new = old.clone();
    new.refs.clear();
    let fresh = new.add_file(b"fresh");
    new.add_commit("project/element/key", &[shared, fresh]);
    let mut pair = pair(&new, Store::new(old), Weather::default());
    pair.source.waits = true;
    assert_eq!(pair.drive(), Ok(()));
    assert!(pair.source.offered.contains(&shared));
    assert!(files.iter().all(|file| !pair.source.offered.contains(file)));
    assert_eq!(
        pair.objects_sent(),
        3,
        "the commit, its directory, the fresh file"
    );
}

#[test]
fn several_refs_to_one_commit_are_all_set_and_its_objects_sent_once() {
    let mut local = small();
    let commit = local.refs["project/element/key".parse().as_ref().unwrap()];
    for number in 0..20 {
        local
            .refs
            .insert(format!("alias/{number}").parse().unwrap(), commit);
    }
    let pair = push(&local, Store::default(), Weather::default());
    assert_eq!(pair.store.repository, local);
    assert_eq!(pair.objects_sent(), local.objects.len() as u64);
}

#[test]
fn ten_thousand_refs_are_announced_answered_and_set_and_one_more_is_refused() {
    let mut local = small();
    let commit = local.refs["project/element/key".parse().as_ref().unwrap()];
    for number in 1..10_000 {
        let name = format!("project/{}/{number}", "long".repeat(40));
        local.refs.insert(name.parse().unwrap(), commit);
    }
    assert_eq!(local.refs.len(), 10_000);
    let pair = push(&local, Store::default(), Weather::default());
    assert_eq!(pair.store.repository, local);

    local.refs.insert("one/more".parse().unwrap(), commit);
    let mut pair = self::pair(&local, Store::default(), Weather::default());
    assert_eq!(pair.drive(), Ok(()));
    assert!(matches!(
        pair.receiver_error,
        Some(Error::Violation(Violation::Limit {
            limit: 10_000,
            got: 10_001,
            ..
        }))
    ));
}

/// More objects than may be unsettled, of a few bytes each.
fn many() -> Repository {
    let mut local = Repository::default();
    let trees: Vec<_> = (0..140_u32)
        .map(|tree| {
            let numbers = tree * 500..(tree + 1) * 500;
            let files: Vec<_> = numbers.map(|n| local.add_file(&n.to_le_bytes())).collect();
            local.add(ObjectKind::Dirtree, &files, b"t")
        })
        .collect();
    local.add_commit("project/element/many", &trees);
    local
}

#[test]
fn a_push_of_more_objects_than_may_be_unsettled_keeps_within_that_limit() {
    let local = many();
    for slow_source in [false, true] {
        let weather = Weather {
            slow_source,
            ..Weather::default()
        };
        let mut source = Source::new(local.clone());
        source.whole_len_max = 64 * 1024;
        let announcement = announce_all(&local, NO_OPTIONS);
        let mut pair = Pair::new(announcement, source, Store::default(), weather);
        assert_eq!(pair.drive(), Ok(()));
        assert!(pair.receiver_error.is_none(), "{:?}", pair.receiver_error);
        assert_eq!(pair.store.repository, local);
    }
}

#[test]
fn a_dry_run_may_find_any_number_of_objects_missing() {
    let local = many();
    let announcement = announce_all(&local, PushOptions::DRY_RUN);
    let source = Source::new(local);
    let mut pair = Pair::new(announcement, source, Store::default(), Weather::default());
    assert_eq!(pair.drive(), Ok(()));
    assert!(pair.receiver_error.is_none(), "{:?}", pair.receiver_error);
    assert_eq!(pair.outcomes(), Some(&[RefOutcome::WouldUpdate][..]));
}

#[test]
fn detached_metadata_is_carried_and_refused_when_other_than_announced() {
    let mut local = small();
    let commit = *local.refs.values().next().unwrap();
    let plain = push(&local, Store::default(), Weather::default());
    local
        .detached
        .insert(commit, Bytes::from_static(b"signature"));
    let mut store = plain.store;
    store.reopen();
    let signed = push(&local, store, Weather::default());
    assert_eq!(signed.store.repository.detached, local.detached);
    assert_eq!(signed.objects_sent(), 0, "the objects are there already");

    let mut announcement = announce_all(&local, NO_OPTIONS);
    announcement.refs[0].detached = Some(Checksum::of(b"another"));
    let source = Source::new(local);
    let mut pair = Pair::new(announcement, source, Store::default(), Weather::default());
    assert_eq!(pair.drive(), Ok(()));
    assert!(matches!(
        pair.receiver_error,
        Some(Error::Violation(Violation::Rule(
            "detached metadata differs from the announced checksum"
        )))
    ));
    assert!(pair.store.repository.refs.is_empty());
}

#[test]
fn a_ref_that_is_refused_leaves_the_others_alone_and_sends_nothing_of_its_own() {
    let mut local = small();
    let own = local.add_file(b"only beneath the refused ref");
    local.add_commit("forbidden/ref", &[own]);
    let pair = push(&local, Store::default(), Weather::default());
    assert!(!pair.source.offered.contains(&own));
    let refused = |outcome: &RefOutcome| {
        matches!(
            outcome,
            RefOutcome::Refused(refusal) if refusal.code == RefusalCode::NOT_PERMITTED
        )
    };
    let outcomes = pair.outcomes().unwrap();
    assert!(refused(&outcomes[0]), "refs are in the order announced");
    assert_eq!(outcomes[1], RefOutcome::Updated);
    assert!(matches!(
        pair.ref_states().unwrap()[0].verdict,
        Verdict::Refused(_)
    ));
}

#[test]
fn an_object_with_another_checksum_ends_the_push_and_is_never_published() {
    let mut local = small();
    let victim = *local
        .objects
        .keys()
        .find(|id| id.kind == ObjectKind::File)
        .unwrap();
    local
        .objects
        .insert(victim, Bytes::from_static(b"not what it says"));
    let mut pair = pair(&local, Store::default(), Weather::default());
    assert_eq!(pair.drive(), Ok(()));
    assert!(matches!(
        pair.sender_error,
        Some(Error::PeerClosed(close)) if close.code == CloseCode::OBJECT_REFUSED
    ));
    assert_eq!(pair.store.repository, Repository::default());
}

#[test]
fn a_proposed_base_is_used_where_the_server_holds_it() {
    let old = small();
    let (name, commit) = old.refs.iter().next().unwrap();
    let base = Base {
        name: name.clone(),
        commit: *commit,
    };
    let mut new = old.clone();
    new.refs.clear();
    let fresh = new.add_file(b"fresh");
    let target = new.add_commit("elsewhere/entirely", &[fresh]);
    let announcement = Announcement {
        options: NO_OPTIONS,
        refs: vec![RefUpdate {
            name: "elsewhere/entirely".parse().unwrap(),
            commit: target,
            detached: None,
            expect: Expect::Absent,
        }],
        bases: vec![base],
        history: 0,
    };
    let mut pair = Pair::new(
        announcement,
        Source::new(new),
        Store::new(old.clone()),
        Weather::default(),
    );
    assert_eq!(pair.drive(), Ok(()));
    assert_eq!(pair.outcomes(), Some(&[RefOutcome::Updated][..]));
    let offered: &[ObjectId] = &pair.source.offered;
    assert!(offered.iter().all(|id| !old.objects.contains_key(id)));
}

#[test]
fn the_harness_reports_a_push_that_cannot_go_on() {
    let mut pair = pair(&small(), Store::default(), Weather::default());
    assert_eq!(pair.drive_bounded(3), Err(Stuck::Livelock(3)));
}

fn small() -> Repository {
    let mut repository = Repository::default();
    let small = repository.add_file(b"small");
    let large = repository.add_file(&[7; 2_000]);
    let tree = repository.add(ObjectKind::Dirtree, &[small, large], b"below");
    repository.add_commit("project/element/key", &[tree, small]);
    repository
}

proptest! {
    #[test]
    fn the_same_push_in_version_0_1_or_2_gives_the_same_repository(
        source in repository(),
        seeds in any::<[u64; 3]>(),
        step in 1usize..600,
        whole_len_max in 1usize..900,
        hides_lengths in any::<bool>(),
    ) {
        let mut results = Vec::new();
        for (seed, dialect) in seeds.into_iter().zip([None, Some(Dialect::V0), Some(Dialect::V1)]) {
            let announcement = announce_all(&source, PushOptions::default());
            let weather = Weather { seed, split: Split::UpTo(step), dialect, ..Weather::default() };
            let mut sending = Source::new(source.clone());
            sending.whole_len_max = whole_len_max;
            sending.hides_lengths = hides_lengths;
            let mut pair = Pair::new(announcement, sending, Store::default(), weather);
            prop_assert_eq!(pair.drive(), Ok(()));
            prop_assert!(pair.sender_error.is_none() && pair.receiver_error.is_none());
            let outcomes = pair.outcomes().unwrap_or_default();
            let updated = outcomes.iter().all(|outcome| *outcome == RefOutcome::Updated);
            prop_assert!(updated && outcomes.len() == source.refs.len());
            prop_assert_eq!(pair.store.summaries, 1);
            results.push(pair.store.repository);
        }
        prop_assert_eq!(&results[0], &source);
        prop_assert_eq!(&results[0], &results[1]);
        prop_assert_eq!(&results[0], &results[2]);
    }
}
