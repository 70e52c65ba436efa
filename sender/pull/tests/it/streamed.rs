//! Pulls of a streamed answer: from a server that is well, one that is cut off, and one that lies.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, serialize_signature};
use artifact_protocol::frame::{Extent, Prefix, PullState, RefAnswer, Refusal, RefusalCode};
use artifact_protocol::session::pull::{
    AnswerOp, AnswerOutcome, PullAnswer, PullServer, PullServerOutput,
};
use artifact_protocol::session::{Fetched, ReceiverConfig};
use artifact_puller::{Demands, Ed25519Keys, Error, Holds, Outcome, Pull, Report};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use ed25519_dalek::{Signer, SigningKey};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::cache::{Cache, Here, REF, noise, path_of};

/// What happens to the server's bytes on their way.
#[derive(Clone, Copy)]
pub(crate) enum Way {
    Good,
    CutAt(usize),
    FlippedAt(usize),
}

/// Answers one pull from a cache in memory.
async fn serve(cache: Cache, mut stream: DuplexStream, way: Way) -> usize {
    let mut server = PullServer::new(ReceiverConfig::default());
    let (mut input, mut sent, mut listed) = (BytesMut::new(), 0, VecDeque::new());
    loop {
        while let Some(output) = server.poll_output() {
            match output {
                PullServerOutput::Transmit(bytes) => {
                    let mut bytes = bytes.to_vec();
                    match way {
                        Way::CutAt(at) if sent + bytes.len() > at => {
                            let _ = stream.write_all(&bytes[..at - sent]).await;
                            return at;
                        }
                        Way::FlippedAt(at) if (sent..sent + bytes.len()).contains(&at) => {
                            bytes[at - sent] ^= 1;
                        }
                        Way::Good | Way::CutAt(_) | Way::FlippedAt(_) => {}
                    }
                    sent += bytes.len();
                    if stream.write_all(&bytes).await.is_err() {
                        return sent;
                    }
                }
                PullServerOutput::Answer(request) => {
                    let outcome = answer(&cache, request.op(), &mut listed);
                    server.handle_answer(request.complete(Ok(outcome))).unwrap();
                }
                PullServerOutput::Event(_) => {}
            }
        }
        if server.is_finished() || !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return sent;
        }
        if server.handle_bytes(&mut input).is_err() {
            return sent;
        }
    }
}

fn answer(cache: &Cache, op: &AnswerOp, listed: &mut VecDeque<ObjectId>) -> AnswerOutcome {
    let stored = |id: &ObjectId| Bytes::copy_from_slice(cache.object(*id));
    match op {
        AnswerOp::Judge(request) => {
            let refs = request.refs.iter().map(|wanted| {
                let head = (wanted.name.as_str() == REF).then(|| cache.head());
                let state = match head {
                    None => PullState::Refused(Refusal::new(RefusalCode::ABSENT, "not here")),
                    Some(head) if wanted.current == Some(head) => PullState::UpToDate,
                    Some(commit) => {
                        let is_held =
                            |id: &ObjectId| request.objects.contains(&Prefix::of(&id.checksum));
                        *listed = closure(cache, commit);
                        listed.retain(|id| !is_held(id));
                        let detached = detached(cache, commit);
                        let detached = detached.as_deref().map(Checksum::of);
                        PullState::Promised { commit, detached }
                    }
                };
                let name = wanted.name.clone();
                RefAnswer { name, state }
            });
            let refs = refs.collect();
            AnswerOutcome::Judged(PullAnswer {
                refs,
                basis: Vec::new(),
            })
        }
        AnswerOp::Measure => AnswerOutcome::Measured(Extent {
            objects: listed.len() as u64,
            bytes: listed.iter().map(|id| stored(id).len() as u64).sum(),
        }),
        AnswerOp::List { max } => {
            let count = listed.len().min(*max);
            let ids = listed.drain(..count).collect();
            AnswerOutcome::Listed {
                ids,
                exhausted: listed.is_empty(),
            }
        }
        AnswerOp::Detached(commit) => {
            AnswerOutcome::Detached(detached(cache, *commit).unwrap().into())
        }
        AnswerOp::Fetch(ids) => {
            AnswerOutcome::Fetched(ids.iter().map(|id| Fetched::Whole(stored(id))).collect())
        }
        AnswerOp::Next(_) => panic!("nothing comes in pieces"),
    }
}

fn detached(cache: &Cache, commit: Checksum) -> Option<Vec<u8>> {
    let id = ObjectId::commit(commit);
    let path = format!("objects/{}", id.loose_path("commitmeta"));
    cache.files.get(&path).cloned()
}

/// Everything below a commit, parents first.
pub(crate) fn closure(cache: &Cache, commit: Checksum) -> VecDeque<ObjectId> {
    let (mut found, mut seen) = (VecDeque::new(), BTreeSet::new());
    let mut queue = VecDeque::from([ObjectId::commit(commit)]);
    while let Some(id) = queue.pop_front() {
        if !seen.insert(id) {
            continue;
        }
        found.push_back(id);
        match id.kind {
            ObjectKind::Commit => {
                let commit = Commit::parse(cache.object(id)).unwrap();
                queue.push_back(ObjectId::new(ObjectKind::Dirtree, commit.tree));
                queue.push_back(ObjectId::new(ObjectKind::Dirmeta, commit.meta));
            }
            ObjectKind::Dirtree => {
                queue.extend(Dirtree::parse(cache.object(id)).unwrap().children());
            }
            ObjectKind::Dirmeta | ObjectKind::File => {}
        }
    }
    found
}

/// Pulls over a stream; returns the result, and how many bytes the server has sent.
pub(crate) async fn pull(pull: Pull, cache: &Cache, way: Way) -> (Result<Report, Error>, usize) {
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let server = tokio::spawn(serve(cache.clone(), theirs, way));
    let pulled = pull.over(ours, Holds::Something, |_| ()).await;
    (pulled.map(Option::unwrap), server.await.unwrap())
}

fn one(here: &Here) -> Pull {
    here.pull().reference(REF.parse().unwrap())
}

#[tokio::test]
async fn an_answer_is_taken_in_whole_and_a_second_one_is_empty() {
    let (cache, here) = (Cache::new(), Here::new());
    let absent = "no/such/ref".parse().unwrap();
    let wanted = one(&here).reference(absent);
    let (report, _) = pull(wanted.clone(), &cache, Way::Good).await;
    let report = report.unwrap();
    assert_eq!(report.refs.len(), 1, "what is not there is left out");
    assert!(
        matches!(report.refs[0].outcome, Outcome::Pulled),
        "{report:?}"
    );
    assert_eq!(report.objects, 6);
    assert_eq!(here.held(REF), Some(cache.head()));
    for path in cache
        .files
        .keys()
        .filter(|path| path.starts_with("objects/"))
    {
        let stored = std::fs::read(here.path().join(path)).unwrap();
        assert_eq!(stored, cache.files[path], "{path}");
    }
    let (report, sent) = pull(wanted, &cache, Way::Good).await;
    let report = report.unwrap();
    assert!(
        matches!(report.refs[0].outcome, Outcome::Unchanged),
        "{report:?}"
    );
    assert!(sent < 1000, "{sent}");
}

/// A stream that counts its reads.
struct Counted {
    stream: DuplexStream,
    reads: Arc<AtomicUsize>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn an_answer_is_read_in_large_pieces() {
    let (cache, here) = (Cache::new(), Here::new());
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let reads = Arc::default();
    let counted = Counted {
        stream: ours,
        reads: Arc::clone(&reads),
    };
    let server = tokio::spawn(serve(cache.clone(), theirs, Way::Good));
    let pulled = one(&here).over(counted, Holds::Something, |_| ()).await;
    assert!(matches!(
        pulled.unwrap().unwrap().refs[0].outcome,
        Outcome::Pulled
    ));
    let (sent, reads) = (server.await.unwrap(), reads.load(Ordering::Relaxed));
    assert!(
        sent > 300_000 && reads <= 4,
        "{reads} reads of {sent} bytes"
    );
}

#[tokio::test]
async fn a_dry_run_of_an_answer_changes_nothing() {
    let (cache, here) = (Cache::new(), Here::new());
    let before = here.visible();
    let (report, _) = pull(one(&here).dry_run(true), &cache, Way::Good).await;
    let report = report.unwrap();
    assert!(
        matches!(report.refs[0].outcome, Outcome::WouldPull),
        "{report:?}"
    );
    assert_eq!(report.objects, 6);
    assert_eq!(here.visible(), before);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_or_damaged_anywhere_changes_nothing() {
    let (cache, here) = (Cache::new(), Here::new());
    let before = here.visible();
    let (_, all) = pull(one(&Here::new()), &cache, Way::Good).await;
    let places = (0..400).step_by(13).chain((400..all).step_by(all / 20));
    for at in places {
        let (report, _) = pull(one(&here), &cache, Way::CutAt(at)).await;
        assert!(report.is_err(), "cut at {at}: {report:?}");
        assert_eq!(here.visible(), before, "cut at {at}");
        let other = Here::new();
        let (report, _) = pull(one(&other), &cache, Way::FlippedAt(at)).await;
        // A bit of a text for people, or of a promise, may be another good one.
        if report.is_ok() {
            assert!(
                other.held(REF).is_none_or(|held| held == cache.head()),
                "flipped at {at}"
            );
        }
    }
    let (report, _) = pull(one(&here), &cache, Way::Good).await;
    assert!(matches!(report.unwrap().refs[0].outcome, Outcome::Pulled));
}

#[tokio::test]
async fn a_ref_moves_only_to_a_commit_that_is_signed_as_demanded() {
    let (mut cache, here) = (Cache::new(), Here::new());
    let (alice, mallory) = (
        SigningKey::from_bytes(&[1; 32]),
        SigningKey::from_bytes(&[2; 32]),
    );
    let mut keys = Ed25519Keys::default();
    keys.add(&STANDARD.encode(alice.verifying_key().as_bytes()))
        .unwrap();
    let demanding = one(&here).demand(Demands {
        by: "a test".to_owned(),
        ed25519: Some(keys),
        ..Demands::default()
    });
    let before = here.visible();
    let id = ObjectId::commit(cache.head());
    let path = format!("objects/{}", id.loose_path("commitmeta"));
    let content = cache.files[&path_of(id)].clone();
    let sign = |key: &SigningKey| serialize_signature(&key.sign(&content).to_bytes());
    for bad in [None, Some(sign(&mallory))] {
        if let Some(bad) = bad {
            cache.put(&path, &bad);
        }
        let (report, _) = pull(demanding.clone(), &cache, Way::Good).await;
        assert!(matches!(report, Err(Error::Unverified(_))), "{report:?}");
        assert_eq!(here.visible(), before);
    }
    cache.put(&path, &sign(&alice));
    let (report, _) = pull(demanding, &cache, Way::Good).await;
    assert!(matches!(report.unwrap().refs[0].outcome, Outcome::Pulled));
    assert_eq!(here.held(REF), Some(cache.head()));
}

#[tokio::test]
async fn an_interrupted_pull_goes_on_where_it_stopped() {
    let (mut cache, here) = (Cache::new(), Here::new());
    let meta = cache.meta();
    let contents = noise(300 * 10_000);
    let mut contents = contents.chunks(10_000);
    let dirs: Vec<_> = (0..10)
        .map(|dir| {
            let files = contents.by_ref().take(30).enumerate();
            let files: Vec<_> = files
                .map(|(n, content)| (format!("f{n:02}"), cache.file(content)))
                .collect();
            let entries = files.iter().map(|(name, file)| (name.as_str(), *file));
            (format!("d{dir}"), cache.tree(entries, []))
        })
        .collect();
    let entries = dirs.iter().map(|(name, tree)| (name.as_str(), *tree, meta));
    let root = cache.tree([], entries);
    let commit = cache.add_commit(&Commit::new(root, meta));
    cache.set(REF, commit);
    let (_, all) = pull(one(&Here::new()), &cache, Way::Good).await;
    let mut left = all;
    // Each time half of what is left.
    for _ in 0..2 {
        let (report, _) = pull(one(&here), &cache, Way::CutAt(left / 2)).await;
        assert!(report.is_err(), "{report:?}");
        assert_eq!(here.held(REF), None);
        left -= left / 2;
    }
    let (report, sent) = pull(one(&here), &cache, Way::Good).await;
    assert!(matches!(report.unwrap().refs[0].outcome, Outcome::Pulled));
    assert_eq!(here.held(REF), Some(commit));
    // What was on its way when the stream broke off comes again.
    assert!(sent < left + all / 10, "{sent} of {left}, and {all} in all");
}
