//! Hostile clients, frame by frame: the receiver tells each the reason, ends with the exit code
//! that says whose fault it is, and leaves the repository unchanged.

use artifact_formats::{Checksum, Dirtree, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    Basis, CloseCode, Detached, Finalize, Frame, FrameKind, ObjectBegin, ObjectChunk, ObjectEnd,
    PREAMBLE, Pack, RefOutcome,
};
use artifact_protocol::limits::{MAX_EARLY_FRAME_LEN, MAX_FINALIZE_ROUNDS};
use artifact_protocol::{Version, exit};
use artifact_tests::exec::Failure;
use artifact_tests::hand::{Artifact, Hand, announce, file, file_that_says, hello};
use artifact_tests::repo::{Mode, Repo};
use bytes::Bytes;

const NAME: &str = "project/element/key";

/// An empty repository, and a good artifact that it lacks.
struct Scene {
    _dir: tempfile::TempDir,
    repo: Repo,
    good: Artifact,
}

impl Scene {
    fn start() -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let repo = Repo::init(&dir.path().join("repo"), Mode::Archive)?;
        Ok(Self {
            _dir: dir,
            repo,
            good: artifact(b"good"),
        })
    }

    /// Pushes as a well-behaved client would.
    fn push(&self, name: &str, artifact: &Artifact) -> Result<(), Failure> {
        let mut hand = Hand::announced(self.repo.path(), name, artifact.commit)?;
        hand.send(&artifact.objects)?;
        hand.say(&Frame::Finalize(Finalize {}));
        hand.hang_up();
        let frames = hand.hear_out()?;
        let updated = frames
            .iter()
            .any(|frame| matches!(frame, Frame::Finalized(f) if f.refs == [RefOutcome::Updated]));
        match (updated, hand.end()?.code) {
            (true, Some(0)) => Ok(()),
            (_, code) => Err(Failure::new(format!("{code:?}: {frames:?}"))),
        }
    }

    /// Lets a client misbehave after it has announced the good artifact, and checks how the session
    /// ends.
    fn must_end(
        &self,
        close: CloseCode,
        code: u8,
        misbehave: impl FnOnce(&mut Hand),
    ) -> Result<(), Failure> {
        let mut hand = Hand::announced(self.repo.path(), NAME, self.good.commit)?;
        misbehave(&mut hand);
        self.must_have_ended(hand, close, code)
    }

    /// Sends a whole artifact with one fault, and checks that the receiver refuses it for that
    /// fault.
    fn must_refuse(&self, bad: &Artifact) -> Result<(), Failure> {
        let mut hand = Hand::announced(self.repo.path(), NAME, bad.commit)?;
        hand.send(&bad.objects)?;
        hand.say(&Frame::Finalize(Finalize {}));
        self.must_have_ended(hand, CloseCode::OBJECT_REFUSED, exit::REFUSED_OBJECT)
    }

    /// Checks that the receiver tells the client this, ends with this code and one line of
    /// explanation, and leaves the repository unchanged.
    fn must_have_ended(&self, mut hand: Hand, close: CloseCode, code: u8) -> Result<(), Failure> {
        let frames = hand.hear_out()?;
        let end = hand.end()?;
        let told = match frames.last() {
            Some(Frame::Close(last)) => {
                last.code == close
                    && !last
                        .text
                        .as_raw()
                        .contains(&*self.repo.path().to_string_lossy())
            }
            _ => false,
        };
        if !told || end.code != Some(code.into()) || end.said.lines().count() != 1 {
            return Err(Failure::new(format!(
                "not {close:?} and {code}: {frames:?} {end:?}"
            )));
        }
        let refs = self.repo.refs()?;
        if !refs.is_empty() {
            return Err(Failure::new(format!("refs have changed: {refs:?}")));
        }
        let staging = self.repo.path().join("extensions/artifact-cache/staging");
        let left = match std::fs::read_dir(staging) {
            Ok(left) => left.count(),
            // A session that announced nothing has made none.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
            Err(error) => return Err(Failure::doing("list staging")(error)),
        };
        // Verified objects are kept for the identity to take over, in a bounded number.
        if left > 4 {
            return Err(Failure::new("too much staging was left behind"));
        }
        self.repo.fsck()
    }
}

fn artifact(content: &[u8]) -> Artifact {
    let (checksum, stored) = file(content);
    Artifact::of(&[("file", checksum, stored)])
}

/// An artifact of one file, whose stored bytes are changed.
fn with_container(change: impl FnOnce(&mut Vec<u8>)) -> Artifact {
    let (checksum, mut stored) = file(&b"some content that can be compressed ".repeat(20));
    change(&mut stored);
    Artifact::of(&[("file", checksum, stored)])
}

#[test]
fn containers_that_libostree_would_take_and_nobody_could_pull_are_refused() {
    let scene = Scene::start().unwrap();
    let content = b"some content that can be compressed ".repeat(20);
    for len in [
        0,
        content.len() as u64 - 1,
        content.len() as u64 + 1,
        u64::MAX,
    ] {
        let (checksum, stored) = file_that_says(&content, len);
        scene
            .must_refuse(&Artifact::of(&[("file", checksum, stored)]))
            .unwrap();
    }
    scene
        .must_refuse(&with_container(|stored| stored.push(0)))
        .unwrap();
    scene
        .must_refuse(&with_container(|stored| stored.extend([0; 100_000])))
        .unwrap();
    scene
        .must_refuse(&with_container(|stored| stored[5] = 1))
        .unwrap();
    scene
        .must_refuse(&with_container(|stored| stored.truncate(stored.len() - 1)))
        .unwrap();
    scene.must_refuse(&with_container(Vec::clear)).unwrap();
    scene.push(NAME, &scene.good).unwrap();
}

#[test]
fn a_bomb_is_refused_for_what_it_states_not_for_what_it_unpacks_to() {
    let scene = Scene::start().unwrap();
    let (checksum, stored) = file_that_says(&vec![0; 64 << 20], 1000);
    assert!(stored.len() < 100_000);
    scene
        .must_refuse(&Artifact::of(&[("file", checksum, stored)]))
        .unwrap();
}

#[test]
fn metadata_that_is_malformed_is_refused_though_its_checksum_is_right() {
    let scene = Scene::start().unwrap();
    let (checksum, _) = file(b"good");
    let refused = |names: &[&str]| {
        let files = names.iter().map(|name| (*name, checksum));
        scene
            .must_refuse(&Artifact::of_dirtree(Dirtree::serialize(files, [])))
            .unwrap();
    };
    for name in ["", ".", "..", "a/b", "/etc/passwd"] {
        refused(&[name]);
    }
    refused(&["b", "a"]);
    refused(&["a", "a"]);
    let mut trailing = Dirtree::serialize([("file", checksum)], []);
    trailing.push(0);
    scene.must_refuse(&Artifact::of_dirtree(trailing)).unwrap();
    scene
        .must_refuse(&Artifact::of_dirtree(b"not a dirtree".to_vec()))
        .unwrap();
}

#[test]
fn bytes_under_another_objects_name_are_refused() {
    let scene = Scene::start().unwrap();
    for at in 0..scene.good.objects.len() {
        let mut bad = scene.good.clone();
        let (_, bytes) = artifact(b"other").objects[at].clone();
        bad.objects[at].1 = if at == 2 {
            Bytes::from_static(b"other")
        } else {
            bytes
        };
        scene.must_refuse(&bad).unwrap();
    }
}

#[test]
fn a_push_that_lacks_an_object_is_asked_for_it_and_never_published_without() {
    for left_out in 0..artifact(b"good").objects.len() {
        let scene = Scene::start().unwrap();
        let mut objects = scene.good.objects.clone();
        let (missing, _) = objects.remove(left_out);
        scene
            .must_end(CloseCode::INCOMPLETE, exit::REFUSED_OBJECT, |hand| {
                hand.send(&objects).unwrap();
                // The client insists, until the server has had enough.
                for _ in 0..MAX_FINALIZE_ROUNDS {
                    hand.say(&Frame::Finalize(Finalize {}));
                    let mut frames = std::iter::from_fn(|| hand.hear().unwrap());
                    let asked = frames.find_map(|frame| match frame {
                        Frame::Missing(asked) => Some(asked.ids),
                        _ => None,
                    });
                    assert_eq!(asked, Some(vec![missing]));
                }
                hand.say(&Frame::Finalize(Finalize {}));
            })
            .unwrap();
    }
}

// A cut session keeps its verified objects for its identity. These cases once shared a repository,
// and whether the server asked the last one for its object depended on how far an earlier one had
// got.
#[test]
fn objects_that_were_not_asked_for_are_refused() {
    let (id, stored) = artifact(b"good").objects[0].clone();
    let pack = Frame::Pack(Pack {
        objects: vec![(id, stored.clone())],
    });
    let violation = |misbehave: &dyn Fn(&mut Hand)| {
        Scene::start()
            .unwrap()
            .must_end(CloseCode::VIOLATION, exit::NOT_THE_PROTOCOL, misbehave)
            .unwrap();
    };
    violation(&|hand| hand.say(&pack));
    violation(&|hand| {
        hand.offer(vec![id]).unwrap();
        hand.say(&pack);
        hand.say(&pack);
    });
    violation(&|hand| hand.say(&Frame::ObjectBegin(ObjectBegin { stream: 0, id })));
    violation(&|hand| {
        let bytes = stored.clone();
        hand.say(&Frame::ObjectChunk(ObjectChunk { stream: 0, bytes }));
    });
    violation(&|hand| hand.say(&Frame::ObjectEnd(ObjectEnd { stream: 3 })));
}

#[test]
fn what_was_never_said_to_be_complete_cannot_be_relied_on() {
    let scene = Scene::start().unwrap();
    scene
        .must_end(CloseCode::VIOLATION, exit::NOT_THE_PROTOCOL, |hand| {
            hand.say(&Frame::Basis(Basis {
                commits: vec![Checksum::new([7; 32])],
            }));
            hand.say(&Frame::Finalize(Finalize {}));
        })
        .unwrap();
}

#[test]
fn detached_metadata_is_taken_only_as_announced_and_well_formed() {
    let scene = Scene::start().unwrap();
    let commit = scene.good.commit;
    let metadata = Bytes::from_static(b"no variant");
    scene
        .must_end(CloseCode::VIOLATION, exit::NOT_THE_PROTOCOL, |hand| {
            let metadata = metadata.clone();
            hand.say(&Frame::Detached(Detached { commit, metadata }));
        })
        .unwrap();
    let mut hand = Hand::start(scene.repo.path()).unwrap();
    hand.write(&PREAMBLE);
    hand.say(&hello(Version::OLDEST, Version::NEWEST));
    hand.say(&announce(NAME, commit, Some(Checksum::of(&metadata))));
    hand.say(&Frame::Detached(Detached { commit, metadata }));
    scene
        .must_have_ended(hand, CloseCode::OBJECT_REFUSED, exit::REFUSED_OBJECT)
        .unwrap();
}

#[test]
fn a_client_that_hangs_up_in_the_middle_leaves_nothing() {
    let scene = Scene::start().unwrap();
    let mut hand = Hand::announced(scene.repo.path(), NAME, scene.good.commit).unwrap();
    hand.send(&scene.good.objects).unwrap();
    let end = hand.end().unwrap();
    assert_eq!(end.code, Some(exit::CONNECTION.into()), "{end:?}");
    assert_eq!(end.said.lines().count(), 1, "{end:?}");
    assert!(scene.repo.refs().unwrap().is_empty());
    scene.repo.fsck().unwrap();
}

#[test]
fn what_is_no_frame_and_what_comes_too_early_ends_the_session() {
    let scene = Scene::start().unwrap();
    let spoken = |bytes: &[u8], close, code| {
        let mut hand = Hand::start(scene.repo.path()).unwrap();
        hand.write(bytes);
        scene.must_have_ended(hand, close, code).unwrap();
    };
    let after_preamble = |frame: &[u8]| [&PREAMBLE, frame].concat();
    let protocol = exit::NOT_THE_PROTOCOL;
    spoken(
        b"m\x01\x00\x21\x00 no old client",
        CloseCode::NOT_THE_PROTOCOL,
        protocol,
    );
    spoken(
        b"GET / HTTP/1.1\r\n\r\n",
        CloseCode::NOT_THE_PROTOCOL,
        protocol,
    );
    let foreign = hello(Version(3), Version(9)).encode();
    spoken(&after_preamble(&foreign), CloseCode::UNSUPPORTED, protocol);
    let early = announce(NAME, scene.good.commit, None).encode();
    spoken(&after_preamble(&early), CloseCode::VIOLATION, protocol);
    let mut head = Vec::from(FrameKind::HELLO.0.to_le_bytes());
    head.extend([0, 0]);
    head.extend((MAX_EARLY_FRAME_LEN + 1).to_le_bytes());
    spoken(&after_preamble(&head), CloseCode::LIMIT, protocol);
    let unknown = [0xff, 0xff, 0, 0, 0, 0, 0, 0];
    spoken(&after_preamble(&unknown), CloseCode::BAD_FRAME, protocol);
}

#[test]
fn a_ref_name_outside_the_grammar_is_no_frame() {
    let scene = Scene::start().unwrap();
    let good = announce("xaaaaaaaaaaa", scene.good.commit, None).encode();
    let at = good
        .windows(12)
        .position(|window| window == b"xaaaaaaaaaaa")
        .unwrap();
    for bad in [
        "../../../etc",
        "aaaa//aaaaaa",
        "aaaaaaaaaaa\n",
        "-aaaaaaaaaaa",
        ".aaaaaaaaaaa",
    ] {
        let mut bytes = good.to_vec();
        bytes[at..at + 12].copy_from_slice(bad.as_bytes());
        let mut hand = Hand::start(scene.repo.path()).unwrap();
        hand.write(&PREAMBLE);
        hand.say(&hello(Version::OLDEST, Version::NEWEST));
        hand.write(&bytes);
        scene
            .must_have_ended(hand, CloseCode::BAD_FRAME, exit::NOT_THE_PROTOCOL)
            .unwrap();
    }
}

#[test]
fn a_commit_of_another_kind_of_object_is_refused() {
    let scene = Scene::start().unwrap();
    let (_, stored) = scene.good.objects[1].clone();
    let commit = Checksum::of(&stored);
    let mut hand = Hand::announced(scene.repo.path(), NAME, commit).unwrap();
    hand.send(&[(ObjectId::new(ObjectKind::Commit, commit), stored)])
        .unwrap();
    scene
        .must_have_ended(hand, CloseCode::OBJECT_REFUSED, exit::REFUSED_OBJECT)
        .unwrap();
}
