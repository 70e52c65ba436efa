//! A push that is cut after any byte, in either direction, at the real receiver.
#![expect(
    clippy::unwrap_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use std::fs;
use std::path::Path;

use artifact_formats::{Checksum, ObjectId};
use artifact_protocol::Version;
use artifact_protocol::frame::{Finalize, Frame, Offer, PREAMBLE, Pack, RefOutcome};
use artifact_tests::hand::{Artifact, Hand, announce, file, hello};
use artifact_tests::repo::{Mode, Repo};

const NAME: &str = "project/element/key";

/// A client's bytes: before its offer is answered, and after.
struct Talk {
    commit: Checksum,
    first: Vec<u8>,
    second: Vec<u8>,
}

/// The result of a push that was cut.
struct Cut {
    /// The push ended before the cut.
    is_whole: bool,
    acknowledged: bool,
}

impl Talk {
    fn new() -> Self {
        let (checksum, stored) = file(b"a file");
        let Artifact { commit, objects } = Artifact::of(&[("file", checksum, stored)]);
        let ids: Vec<ObjectId> = objects.iter().map(|(id, _)| *id).collect();
        let first = [
            &PREAMBLE[..],
            &hello(Version::OLDEST, Version::NEWEST).encode(),
            &announce(NAME, commit, None).encode(),
            &Frame::Offer(Offer { ids }).encode(),
        ];
        let second = [
            Frame::Pack(Pack { objects }).encode(),
            Frame::Finalize(Finalize {}).encode(),
        ];
        Self {
            commit,
            first: first.concat(),
            second: second.concat(),
        }
    }

    /// Sends `count` bytes and no more.
    fn cut_to_the_server(&self, repo: &Path, count: usize) -> Cut {
        let mut hand = Hand::start(repo).unwrap();
        hand.write(&self.first[..count.min(self.first.len())]);
        if let Some(rest) = count.checked_sub(self.first.len()) {
            while let Some(frame) = hand.hear().unwrap()
                && !matches!(frame, Frame::Want(_))
            {}
            hand.write(&self.second[..rest.min(self.second.len())]);
        }
        hand.hang_up();
        let acknowledged = hand.hear_out().unwrap().iter().any(is_acknowledgement);
        hand.end().unwrap();
        Cut {
            is_whole: count >= self.first.len() + self.second.len(),
            acknowledged,
        }
    }

    /// Receives `count` bytes and no more, and then sends nothing either.
    fn cut_to_the_client(&self, repo: &Path, count: usize) -> Cut {
        let mut hand = Hand::start(repo).unwrap();
        hand.write(&self.first);
        let mut cut = Cut {
            is_whole: false,
            acknowledged: false,
        };
        for _ in 0..count {
            match hand.hear_byte().unwrap() {
                None => cut.is_whole = true,
                Some(Some(Frame::Want(_))) => hand.write(&self.second),
                Some(Some(frame)) => cut.acknowledged |= is_acknowledgement(&frame),
                Some(None) => {}
            }
        }
        hand.cut().unwrap();
        cut
    }
}

fn is_acknowledgement(frame: &Frame) -> bool {
    matches!(frame, Frame::Finalized(finalized) if finalized.refs == [RefOutcome::Updated])
}

/// Cuts a push after every `step` bytes, and checks the state that each cut leaves.
fn cut_everywhere(step: usize, cut: impl Fn(&Talk, &Path, usize) -> Cut) {
    let talk = Talk::new();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("repo");
    let mut repo = Repo::init(&path, Mode::Archive).unwrap();
    let mut published = 0;
    for count in (0..).step_by(step) {
        // The server would not want objects that an earlier cut left staged, and here all are sent.
        let _ = fs::remove_dir_all(path.join("extensions"));
        let Cut {
            is_whole,
            acknowledged,
        } = cut(&talk, repo.path(), count);
        let file = path.join("refs/heads").join(NAME);
        let commit = fs::read_to_string(&file).ok();
        let is_set = commit.is_some();
        assert!(is_set || !acknowledged, "acknowledged and lost: {count}");
        assert!(is_set || !is_whole, "said to its end and not done: {count}");
        if let Some(commit) = commit {
            published += 1;
            assert_eq!(commit.trim(), talk.commit.to_hex(), "{count}");
            repo.fsck().unwrap();
            fs::remove_dir_all(&path).unwrap();
            repo = Repo::init(&path, Mode::Archive).unwrap();
        } else if count % 64 == 0 {
            repo.fsck().unwrap();
        }
        if is_whole {
            break;
        }
    }
    assert!(published > 0);
}

/// Every 23rd byte, and with `ARTIFACT_CACHE_EXTRA=1` every byte.
fn step() -> usize {
    let is_extra = std::env::var_os("ARTIFACT_CACHE_EXTRA").is_some_and(|value| value == "1");
    if is_extra { 1 } else { 23 }
}

#[test]
fn a_push_cut_after_any_byte_to_the_server_leaves_the_ref_old_or_new() {
    cut_everywhere(step(), Talk::cut_to_the_server);
}

#[test]
fn a_push_cut_after_any_byte_to_the_client_leaves_the_ref_old_or_new() {
    cut_everywhere(step(), Talk::cut_to_the_client);
}
