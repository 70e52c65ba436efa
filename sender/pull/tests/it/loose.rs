//! Pulls of loose objects from a cache that is well.

use std::collections::BTreeMap;

use artifact_formats::{Checksum, ObjectId};
use artifact_puller::{Event, Fault, Outcome, Refusal, Report};

use crate::cache::{Cache, Here, REF, origin, path_of};
use crate::server::{Answer, Server};

async fn serve(cache: &Cache) -> Server {
    Server::start(cache.files.clone(), BTreeMap::new()).await
}

async fn pull(here: &Here, server: &Server) -> Report {
    let pull = here.pull().reference(REF.parse().unwrap());
    pull.from(&origin(server), |_| ()).await.unwrap()
}

fn outcome(report: &Report) -> &Outcome {
    let [pulled] = &report.refs[..] else {
        panic!("{report:?}");
    };
    &pulled.outcome
}

#[tokio::test]
async fn a_ref_arrives_with_every_object_that_it_reaches_and_each_is_fetched_once() {
    let (cache, here) = (Cache::new(), Here::new());
    let server = serve(&cache).await;
    let (mut found, mut wanted, mut fetched, mut published) = (0, 0, 0, false);
    let pull = here.pull().reference(REF.parse().unwrap());
    let origin = origin(&server);
    let report = pull.from(&origin, |event| match event {
        Event::Found { refs } => found = refs,
        Event::Wanted { objects } => wanted = objects,
        Event::Fetched { objects, .. } => fetched = objects,
        Event::Publishing => published = true,
        _ => {}
    });
    let report = report.await.unwrap();
    assert!(matches!(outcome(&report), Outcome::Pulled), "{report:?}");
    assert_eq!(here.held(REF), Some(cache.head()));
    let objects = cache
        .files
        .keys()
        .filter(|path| path.starts_with("objects/"));
    for path in objects {
        let stored = std::fs::read(here.path().join(path)).unwrap();
        assert_eq!(stored, cache.files[path], "{path}");
        assert_eq!(server.asked()[path], 1, "{path}");
    }
    // The commit itself comes with the refs.
    assert_eq!((found, wanted, fetched, published), (1, 5, 5, true));
    assert_eq!(report.objects, 5);
}

#[tokio::test]
async fn a_second_pull_fetches_nothing_and_a_changed_tree_only_what_is_new() {
    let (mut cache, here) = (Cache::new(), Here::new());
    pull(&here, &serve(&cache).await).await;
    let report = pull(&here, &serve(&cache).await).await;
    assert!(matches!(outcome(&report), Outcome::Unchanged), "{report:?}");
    assert_eq!(report.objects, 0);
    let old = cache.head();
    let (new, _) = cache.commit("two", Some(old));
    cache.set(REF, new);
    let server = serve(&cache).await;
    let report = pull(&here, &server).await;
    assert!(matches!(outcome(&report), Outcome::Pulled), "{report:?}");
    // One file, and two directories.
    assert_eq!(report.objects, 3, "{:?}", server.asked());
    assert_eq!(here.held(REF), Some(new));
    assert!(!here.path().join(path_of(ObjectId::commit(old))).exists() || old != new);
}

#[tokio::test]
async fn a_dry_run_says_how_much_there_is_and_changes_nothing() {
    let (cache, here) = (Cache::new(), Here::new());
    let (server, before) = (serve(&cache).await, here.visible());
    let pull = here.pull().reference(REF.parse().unwrap()).dry_run(true);
    let report = pull.from(&origin(&server), |_| ()).await.unwrap();
    assert!(matches!(outcome(&report), Outcome::WouldPull), "{report:?}");
    let stored = |path: &&String| path.starts_with("objects/") && !path.ends_with(".commit");
    let bytes: usize = cache
        .files
        .keys()
        .filter(stored)
        .map(|p| cache.files[p].len())
        .sum();
    assert_eq!((report.objects, report.bytes), (5, bytes as u64));
    assert_eq!(here.visible(), before);
}

#[tokio::test]
async fn ancestors_come_as_far_as_the_cache_has_them() {
    let (mut cache, here) = (Cache::new(), Here::new());
    let first = cache.head();
    let (second, _) = cache.commit("two", Some(first));
    let (third, _) = cache.commit("three", Some(second));
    cache.set(REF, third);
    let has = |commit: Checksum| here.path().join(path_of(ObjectId::commit(commit))).exists();
    pull(&here, &serve(&cache).await).await;
    assert!(has(third) && !has(second));
    let deep = |depth| here.pull().reference(REF.parse().unwrap()).depth(depth);
    let server = serve(&cache).await;
    deep(1).from(&origin(&server), |_| ()).await.unwrap();
    assert!(has(second) && !has(first));
    cache.files.remove(&path_of(ObjectId::commit(first)));
    let server = serve(&cache).await;
    deep(9).from(&origin(&server), |_| ()).await.unwrap();
    assert!(!has(first), "nobody has it");
}

#[tokio::test]
async fn what_fails_once_is_asked_for_again_and_what_had_come_is_not() {
    let (cache, here) = (Cache::new(), Here::new());
    for extension in ["commit", "dirtree", "dirmeta", "filez"] {
        let here = Here::new();
        let path = cache.some(extension);
        let good = Answer::File(cache.files[&path].clone());
        let mut bad = cache.files[&path].clone();
        bad[7] ^= 1;
        let cut = &cache.files[&path][..10];
        let cut = [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n"[..],
            cut,
        ]
        .concat();
        let firsts = [
            Answer::status("503 Service Unavailable"),
            Answer::Raw(Vec::new()),
            Answer::Raw(cut),
            Answer::Silent(Vec::new()),
            Answer::File(bad),
        ];
        for first in firsts {
            // Commits are checked before the store sees them.
            if extension == "commit" && matches!(first, Answer::File(_)) {
                continue;
            }
            let answer = Answer::Then(Box::new(first.clone()), Box::new(good.clone()));
            let special = BTreeMap::from([(path.clone(), answer)]);
            let server = Server::start(cache.files.clone(), special).await;
            let report = pull(&here, &server).await;
            let is_here = matches!(outcome(&report), Outcome::Pulled | Outcome::Unchanged);
            assert!(is_here, "{extension} {first:?}: {report:?}");
        }
    }
    // An object is missing: the pull fails, and the next one goes on where it stopped.
    let path = cache.some("filez");
    let mut files = cache.files.clone();
    let away = files.remove(&path);
    let server = Server::start(files.clone(), BTreeMap::new()).await;
    let report = pull(&here, &server).await;
    assert!(matches!(outcome(&report), Outcome::Failed(_)), "{report:?}");
    assert_eq!(here.held(REF), None);
    files.insert(path.clone(), away.unwrap());
    let server = Server::start(files, BTreeMap::new()).await;
    let report = pull(&here, &server).await;
    assert!(matches!(outcome(&report), Outcome::Pulled), "{report:?}");
    // The directory above it is read again: its presence says nothing of what lies below.
    assert_eq!(report.objects, 2, "{:?}", server.asked());
    assert_eq!(here.held(REF), Some(cache.head()));
}

#[tokio::test]
async fn redirects_lead_to_the_files() {
    let (cache, here) = (Cache::new(), Here::new());
    let real = serve(&cache).await;
    let mut special = BTreeMap::new();
    for path in cache.files.keys() {
        let to = format!("{}/{path}", real.url());
        special.insert(path.clone(), Answer::redirect(&to));
    }
    let server = Server::start(BTreeMap::new(), special).await;
    let report = pull(&here, &server).await;
    assert!(matches!(outcome(&report), Outcome::Pulled), "{report:?}");
}

#[tokio::test]
async fn a_ref_that_holds_the_users_work_is_left_alone_unless_forced() {
    let (mut cache, here) = (Cache::new(), Here::new());
    pull(&here, &serve(&cache).await).await;
    let theirs = cache.head();
    let (unrelated, _) = cache.commit("other", None);
    let file = here.path().join("refs/heads").join(REF);
    // A commit that no pull has set it to, as `ostree commit` would.
    let (own, _) = cache.commit("own", None);
    cache.set("project/element/own", own);
    let fetched = here
        .pull()
        .reference("project/element/own".parse().unwrap());
    let from = serve(&cache).await;
    fetched.from(&origin(&from), |_| ()).await.unwrap();
    std::fs::write(&file, format!("{own}\n")).unwrap();
    // It stays the user's although a cache lists it as well: a hostile one could list any commit.
    cache.set(REF, own);
    let report = pull(&here, &serve(&cache).await).await;
    assert!(matches!(outcome(&report), Outcome::Unchanged), "{report:?}");
    cache.set(REF, unrelated);
    let server = serve(&cache).await;
    let report = pull(&here, &server).await;
    let Outcome::Refused(Refusal::HoldsWork { held }) = outcome(&report) else {
        panic!("{report:?}");
    };
    assert_eq!((*held, here.held(REF)), (own, Some(own)));
    let forced = here.pull().reference(REF.parse().unwrap()).force(true);
    forced.from(&origin(&server), |_| ()).await.unwrap();
    assert_eq!(here.held(REF), Some(unrelated));
    // That one was pulled, and so is not the user's.
    cache.set(REF, theirs);
    let report = pull(&here, &serve(&cache).await).await;
    assert!(matches!(outcome(&report), Outcome::Pulled), "{report:?}");
}

#[tokio::test]
async fn many_refs_and_patterns_come_from_the_summary() {
    let (mut cache, here) = (Cache::new(), Here::new());
    for number in 0..12 {
        let (commit, _) = cache.commit(&format!("n{number}"), None);
        cache.set(&format!("many/n{number}"), commit);
    }
    let server = serve(&cache).await;
    let pull = here.pull().matching("many/*".parse().unwrap());
    let report = pull.from(&origin(&server), |_| ()).await.unwrap();
    assert_eq!(report.refs.len(), 12);
    assert!(
        report
            .refs
            .iter()
            .all(|r| matches!(r.outcome, Outcome::Pulled))
    );
    assert_eq!(here.held(REF), None);
    assert!(!server.asked().keys().any(|path| path.starts_with("refs/")));
    let rest = here.pull().matching("**".parse().unwrap());
    let rest = rest.except(report.refs.into_iter().map(|pulled| pulled.name));
    let report = rest.from(&origin(&server), |_| ()).await.unwrap();
    assert_eq!(report.refs.len(), 1);
}

#[tokio::test]
async fn an_absent_ref_is_not_reported_and_an_absent_cache_is_an_error() {
    let (cache, here) = (Cache::new(), Here::new());
    let server = serve(&cache).await;
    let absent = here.pull().reference("no/such/ref".parse().unwrap());
    let report = absent.from(&origin(&server), |_| ()).await.unwrap();
    assert!(report.refs.is_empty());
    let server = Server::start(BTreeMap::new(), BTreeMap::new()).await;
    let error = absent.from(&origin(&server), |_| ()).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Cache);
    let there = origin(&server);
    drop(server);
    tokio::task::yield_now().await;
    let error = absent.from(&there, |_| ()).await.unwrap_err();
    assert_eq!(error.fault(), Fault::Connection, "{error}");
}
