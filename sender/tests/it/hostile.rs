//! A server that asks for objects that were not announced, and the client's answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Finalized, Frame, Missing, PREAMBLE, RefOutcome, RefState, RefStatus, SummaryDone, Verdict,
    Want, Welcome,
};
use artifact_protocol::limits::{Limits, MAX_FRAME_LEN_MAX};
use artifact_protocol::session::Error as SessionError;
use artifact_protocol::{Features, Version};
use artifact_sender::{Error, Plan, Push, Repository, Target};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::fixture::{Fixture, commit, objects};

/// Reports every offered object as *have*, then these as missing; returns the objects it was sent,
/// and the ones it was offered after that.
async fn miss(mut stream: DuplexStream, missing: Vec<ObjectId>) -> (Vec<ObjectId>, Vec<ObjectId>) {
    let (mut sent, mut offered) = (Vec::new(), Vec::new());
    let mut unread = BytesMut::new();
    while unread.len() < PREAMBLE.len() {
        stream.read_buf(&mut unread).await.unwrap();
    }
    assert_eq!(unread.split_to(PREAMBLE.len())[..], PREAMBLE);
    let mut rounds = 0;
    stream.write_all(&PREAMBLE).await.unwrap();
    loop {
        let Some(frame) = Frame::decode(&mut unread, MAX_FRAME_LEN_MAX).unwrap() else {
            match stream.read_buf(&mut unread).await {
                Ok(0) | Err(_) => return (sent, offered),
                Ok(_) => continue,
            }
        };
        let mut answers = Vec::new();
        match frame {
            Frame::Hello(_) => answers.push(welcome()),
            Frame::Announce(announce) => {
                let accepted = RefState {
                    current: None,
                    verdict: Verdict::Accepted,
                };
                answers.push(Frame::RefStatus(RefStatus {
                    refs: vec![accepted; announce.refs.len()],
                    complete: Vec::new(),
                }));
            }
            Frame::Offer(offer) => {
                let wanted = vec![false; offer.ids.len()];
                answers.push(Frame::Want(Want { wanted }));
                if rounds > 0 {
                    offered.extend(offer.ids);
                }
            }
            Frame::Finalize(_) if rounds == 0 => {
                rounds += 1;
                let ids = missing.clone();
                answers.push(Frame::Missing(Missing { ids }));
            }
            Frame::Finalize(_) => {
                let refs = vec![RefOutcome::Updated];
                answers.push(Frame::Finalized(Finalized { refs }));
                answers.push(Frame::SummaryDone(SummaryDone::Current));
            }
            Frame::Pack(pack) => sent.extend(pack.objects.iter().map(|(id, _)| *id)),
            Frame::ObjectBegin(begin) => sent.push(begin.id),
            Frame::Detached(detached) => {
                sent.push(ObjectId::new(ObjectKind::Commit, detached.commit));
            }
            Frame::Close(_) => return (sent, offered),
            _ => {}
        }
        for answer in answers {
            if stream.write_all(&answer.encode()).await.is_err() {
                return (sent, offered);
            }
        }
    }
}

fn welcome() -> Frame {
    Frame::Welcome(Welcome {
        version: Version::NEWEST,
        features: Features::SUPPORTED,
        limits: Limits::default(),
        agent: Default::default(),
        pull_url: None,
        identity: None,
        extensions: Default::default(),
    })
}

/// The objects of a repository that the client announced, and the others.
struct Scene {
    local: PathBuf,
    announced: Vec<ObjectId>,
    others: Vec<ObjectId>,
}

/// A branch with a history, of which the newest commit is announced; and another branch.
fn scene(fixture: &Fixture) -> Scene {
    let tree = fixture.tree("tree");
    let local = fixture.init("local", "archive");
    for round in 0..6 {
        let dir = tree.join(format!("dir-{round}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..8 {
            fs::write(dir.join(format!("file-{file}")), format!("{round} {file}")).unwrap();
        }
        // The other branch has files of its own, and some in common.
        commit(&local, "private/y", &tree);
        fs::remove_file(dir.join("file-0")).unwrap();
        commit(&local, "work/x", &tree);
        fs::write(dir.join("file-1"), format!("new {round}")).unwrap();
    }
    let announced: BTreeSet<_> = closure(&local).into_iter().collect();
    let others = objects(&local).difference(&announced).copied().collect();
    Scene {
        local,
        announced: announced.into_iter().collect(),
        others,
    }
}

fn closure(local: &Path) -> Vec<ObjectId> {
    let repository = Arc::new(Repository::open(local).unwrap());
    let commit = repository.resolve("work/x").unwrap();
    let target = Target {
        commit,
        current: None,
    };
    let mut plan = Plan::new(repository, &[target], &[], 0).unwrap();
    let mut all = Vec::new();
    while !plan.is_exhausted() {
        for id in plan.next(100).unwrap() {
            plan.answer(id, false);
            all.push(id);
        }
    }
    all
}

/// Pushes `work/x` to a server that misses these.
async fn push(local: &Path, missing: Vec<ObjectId>) -> (Result<(), Error>, Vec<ObjectId>, usize) {
    let (ours, theirs) = tokio::io::duplex(1024 * 1024);
    let push = Push::new(Repository::open(local).unwrap());
    let push = push.reference(&"work/x".parse().unwrap()).unwrap();
    let server = tokio::spawn(miss(theirs, missing));
    let result = push.over(ours, |_| {}).await.map(drop);
    let (sent, offered) = server.await.unwrap();
    (result, sent, offered.len())
}

/// Random numbers, the same each time.
fn numbers() -> impl FnMut(usize) -> usize {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 1).unwrap() % below
    }
}

#[tokio::test]
async fn a_server_that_misses_what_was_not_announced_is_sent_nothing() {
    let fixture = Fixture::new();
    let scene = scene(&fixture);
    let all: Vec<_> = scene
        .announced
        .iter()
        .chain(&scene.others)
        .copied()
        .collect();
    assert!(scene.announced.len() > 40 && scene.others.len() > 40);
    let mut number = numbers();
    let (mut asked, mut strange, mut given) = (0_usize, 0, 0);
    while asked < 10_000 {
        let mut ids = BTreeSet::new();
        let (count, from) = match number(4) {
            // Only announced objects.
            0 => (number(20) + 1, &scene.announced),
            1 => (1, &all),
            _ => (number(30) + 1, &all),
        };
        ids.extend((0..count).map(|_| from[number(from.len())]));
        if number(8) == 0 {
            // An object that exists nowhere.
            let nowhere = Checksum::of(&asked.to_le_bytes());
            ids.insert(ObjectId::new(ObjectKind::File, nowhere));
        }
        asked += ids.len();
        let is_fair = ids.iter().all(|id| scene.announced.contains(id));
        let (result, sent, offered) = push(&scene.local, ids.iter().copied().collect()).await;
        if is_fair {
            result.unwrap();
            assert_eq!(sent.into_iter().collect::<BTreeSet<_>>(), ids);
            given += 1;
        } else {
            let error = result.unwrap_err();
            let violated = matches!(&error, Error::Session(SessionError::Violation(_)));
            assert!(violated, "{error:?}");
            assert_eq!((sent, offered), (Vec::new(), 0), "asked for {ids:?}");
            strange += 1;
        }
    }
    assert!(strange > 50 && given > 50, "{strange} {given}");
}

#[tokio::test]
async fn ancestors_are_sent_as_deep_as_was_asked_for_and_no_deeper() {
    let fixture = Fixture::new();
    let scene = scene(&fixture);
    let repository = Repository::open(&scene.local).unwrap();
    let mut next = repository.resolve("work/x").ok();
    let mut history = Vec::new();
    while let Some(commit) = next {
        history.push(ObjectId::new(ObjectKind::Commit, commit));
        next = repository.commit(commit).unwrap().parent;
    }
    for (depth, id) in history.iter().enumerate() {
        for allowed in 0..history.len() {
            let (ours, theirs) = tokio::io::duplex(1024 * 1024);
            let push = Push::new(Repository::open(&scene.local).unwrap());
            let push = push.reference(&"work/x".parse().unwrap()).unwrap();
            let push = push.depth(allowed.try_into().unwrap());
            let server = tokio::spawn(miss(theirs, vec![*id]));
            let result = push.over(ours, |_| {}).await;
            let (sent, _) = server.await.unwrap();
            assert_eq!(result.is_ok(), depth <= allowed, "{depth} {allowed}");
            let expected = if depth <= allowed {
                vec![*id]
            } else {
                Vec::new()
            };
            assert_eq!(sent, expected);
        }
    }
}
