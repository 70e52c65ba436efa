//! Pulls over ssh's pipes and over https, with a client by hand: rights, limits, what prune does
//! beside them, and what stands in front.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::place::Place;
use artifact_formats::{Checksum, ObjectId, ObjectKind};
use artifact_protocol::frame::{
    CloseCode, Finalize, Frame, Offer, PREAMBLE, Pack, Prefix, PullState, Verdict,
};
use artifact_tests::exec::Failure;
use artifact_tests::hand::{Hand, announce};
use artifact_tests::programs;
use artifact_tests::pulled::{self, Pulled, request, said};
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::serving::{Authority, Serving};
use artifact_tests::tree::Tree;
use bytes::Bytes;
use tempfile::TempDir;

/// A cache with a public and a secret ref.
struct Scene {
    repo: Repo,
    tree: Tree,
    dir: TempDir,
}

const PUBLIC: &str = "public/greeting/k";
const SECRET: &str = "secret/greeting/k";

impl Scene {
    fn new() -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let tree = Tree::create(&dir.path().join("tree"))?;
        tree.all_kinds()?;
        let repo = Repo::init(&dir.path().join("artifacts"), Mode::Archive)?;
        repo.commit(PUBLIC, tree.root(), &[])?;
        fs::write(tree.root().join("more"), "secret").map_err(Failure::doing("write a file"))?;
        repo.commit(SECRET, tree.root(), &[])?;
        Ok(Self { repo, tree, dir })
    }

    /// What a ref reaches.
    fn closure(&self, name: &str) -> Result<BTreeSet<ObjectId>, Failure> {
        let alone = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let alone = Repo::init(&alone.path().join("alone"), Mode::Archive)?;
        alone.pull_path(self.repo.path(), &[name])?;
        all(&alone)
    }

    /// Pulls over the pipes that sshd makes, as an identity of a configuration if one is given.
    fn over_ssh(&self, identity: Option<(&str, &str)>, bytes: &[u8]) -> Result<Pulled, Failure> {
        Pulled::of(say_by(self.receiver(identity)?, bytes)?)
    }

    /// Returns the receiver, as sshd runs it for an identity of a configuration if one is given.
    fn receiver(&self, identity: Option<(&str, &str)>) -> Result<Command, Failure> {
        let mut receiver = Command::new(programs::receiver()?);
        if let Some((config, name)) = identity {
            let path = self.dir.path().join("config.toml");
            fs::write(&path, config).map_err(Failure::doing("write a configuration"))?;
            receiver.arg("--config").arg(path);
            receiver.args(["--identity", name]);
        }
        receiver.arg(self.repo.path());
        Ok(receiver)
    }
}

/// Says something to a receiver, and returns all that it says.
fn say_by(receiver: Command, bytes: &[u8]) -> Result<Vec<Frame>, Failure> {
    let mut hand = Hand::start_by(receiver)?;
    hand.write(bytes);
    let frames = hand.hear_out()?;
    hand.end()?;
    Ok(frames)
}

fn all(repo: &Repo) -> Result<BTreeSet<ObjectId>, Failure> {
    let mut all = BTreeSet::new();
    for kind in ObjectKind::ALL {
        all.extend(repo.objects(kind)?);
    }
    Ok(all)
}

#[test]
fn whoever_sshd_lets_in_pulls_everything_in_one_flight_without_a_configuration() {
    let scene = Scene::new().unwrap();
    let got = scene
        .over_ssh(None, &said(request(&[PUBLIC], &[]), &[]))
        .unwrap();
    assert_eq!(got.ids().unwrap(), scene.closure(PUBLIC).unwrap());
    // A second build is a difference, and nothing at all is one flight as well.
    let old = scene.repo.commit_of(PUBLIC).unwrap();
    let got = scene
        .over_ssh(None, &said(request(&[SECRET], &[old]), &[]))
        .unwrap();
    assert_eq!(got.basis, [old]);
    let mut missing = scene.closure(SECRET).unwrap();
    let before = scene.closure(PUBLIC).unwrap();
    missing.retain(|id| !before.contains(id));
    assert_eq!(got.ids().unwrap(), missing);
    let mut asked = request(&[PUBLIC], &[old]);
    asked.refs[0].current = Some(old);
    let got = scene.over_ssh(None, &said(asked, &[])).unwrap();
    assert_eq!(got.refs[0].state, PullState::UpToDate);
    assert!(got.ids().unwrap().is_empty());
}

#[test]
fn an_identity_pulls_what_its_list_says_and_a_stranger_nothing() {
    let scene = Scene::new().unwrap();
    let audit = scene.dir.path().join("audit.jsonl");
    fs::write(&audit, "").unwrap();
    let config = format!(
        "audit.file = '{}'\n\
         [[identity]]\nname = 'reader'\npull = ['public/**']\n\
         [[identity]]\nname = 'pusher'\npush = ['public/**']\n\
         [[identity]]\nname = 'writer'\npush = ['**']\npull = []\n\
         [[identity]]\nname = 'nobody'\n",
        audit.display()
    );
    let both = || said(request(&[PUBLIC, SECRET, "public/none/k"], &[]), &[]);
    let pull = |name| scene.over_ssh(Some((&config, name)), &both()).unwrap();
    let got = pull("reader");
    assert_eq!(got.promised(), [PUBLIC]);
    assert_eq!(got.ids().unwrap(), scene.closure(PUBLIC).unwrap());
    let [_, secret, none] = &got.refs[..] else {
        unreachable!("{got:?}")
    };
    assert_eq!(secret.state, none.state, "a secret looks like nothing");
    // That it holds a secret commit proves nothing: what is left out would tell what is in it.
    let held = scene.repo.commit_of(SECRET).unwrap();
    let claim = said(request(&[PUBLIC], &[held]), &[]);
    let got = scene.over_ssh(Some((&config, "reader")), &claim).unwrap();
    assert_eq!(got.basis, []);
    assert_eq!(got.ids().unwrap(), scene.closure(PUBLIC).unwrap());

    assert_eq!(pull("pusher").promised(), [PUBLIC, SECRET]);
    assert!(pull("writer").promised().is_empty());
    for stranger in ["nobody", "unknown"] {
        let (code, _) = pull(stranger).close.unwrap();
        assert_eq!(code, CloseCode::NOT_PERMITTED, "{stranger}");
    }
    let lines = fs::read_to_string(&audit).unwrap();
    let lines: Vec<serde_json::Value> = (lines.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    let first = &lines[0];
    assert_eq!(
        (&first["pull"], &first["identity"], &first["outcome"]),
        (&true.into(), &"reader".into(), &"refused".into())
    );
    assert_eq!(first["refs"][0]["outcome"], "sent");
    assert_eq!(first["objects"], scene.closure(PUBLIC).unwrap().len());
}

#[test]
fn a_reader_that_pushes_is_refused() {
    let scene = Scene::new().unwrap();
    let config = "[[identity]]\nname = 'reader'\npull = ['**']\n";
    let reader = || scene.receiver(Some((config, "reader"))).unwrap();
    let secret = scene.repo.commit_of(SECRET).unwrap();
    let before = scene.repo.refs().unwrap();
    let id = ObjectId::commit(Checksum::of(b"pushed"));
    let announcement = announce(PUBLIC, secret, None);
    let pull = said(request(&[PUBLIC], &[]), &[]);
    let push = [
        announcement.clone(),
        Frame::Offer(Offer { ids: vec![id] }),
        Frame::Pack(Pack {
            objects: vec![(id, Bytes::from_static(b"pushed"))],
        }),
        Frame::Finalize(Finalize {}),
    ];
    for frame in push {
        let frames = say_by(reader(), &[&pull[..], &frame.encode()].concat()).unwrap();
        let Some(Frame::Close(close)) = frames.last() else {
            panic!("{frames:?}");
        };
        assert_eq!(close.code, CloseCode::VIOLATION, "{frame:?}");
    }
    // It may not begin as a push either.
    let greeting = [&PREAMBLE[..], &pulled::hello().encode()].concat();
    let begun = [&greeting[..], &announcement.encode()].concat();
    let frames = say_by(reader(), &begun).unwrap();
    let refused = frames.iter().any(|frame| match frame {
        Frame::RefStatus(status) => matches!(status.refs[0].verdict, Verdict::Refused(_)),
        Frame::Close(close) => close.code == CloseCode::NOT_PERMITTED,
        _ => false,
    });
    assert!(refused, "{frames:?}");
    assert_eq!(scene.repo.refs().unwrap(), before);
}

#[test]
fn hostile_requests_are_refused_and_bounded() {
    let scene = Scene::new().unwrap();
    let over_ssh = |bytes: &[u8]| scene.over_ssh(None, bytes).unwrap();
    // A million objects held, none of which is here.
    let many: Vec<_> = (0..1_048_576_u64)
        .map(|n| Prefix::new((n << 8).to_be_bytes()))
        .collect();
    let got = over_ssh(&said(request(&[PUBLIC], &[]), &many));
    assert_eq!(got.ids().unwrap(), scene.closure(PUBLIC).unwrap());
    let mut more = many;
    more.push(Prefix::new([9; 8]));
    let (code, _) = over_ssh(&said(request(&[PUBLIC], &[]), &more))
        .close
        .unwrap();
    assert_eq!(code, CloseCode::LIMIT);

    let mut deep = request(&[PUBLIC], &[]);
    deep.history = u32::MAX;
    assert_eq!(
        over_ssh(&said(deep, &[])).ids().unwrap(),
        scene.closure(PUBLIC).unwrap()
    );

    let held: Vec<_> = (0..17).map(|n| Checksum::new([n; 32])).collect();
    let (code, _) = over_ssh(&said(request(&[PUBLIC], &held), &[]))
        .close
        .unwrap();
    assert_eq!(code, CloseCode::LIMIT);

    // Half a request, and then nothing.
    let whole = said(request(&[PUBLIC], &[]), &[]);
    let mut hand = Hand::start(scene.repo.path()).unwrap();
    hand.write(&whole[..whole.len() - 3]);
    hand.hang_up();
    let frames = hand.hear_out().unwrap();
    assert!(Pulled::of(frames).unwrap().sent.is_none());
}

#[test]
fn a_prune_beside_answers_ends_them_cleanly_or_not_at_all() {
    let scene = Scene::new().unwrap();
    scene.tree.generated(400, 3).unwrap();
    for round in 0..3 {
        fs::write(scene.tree.root().join("round"), round.to_string()).unwrap();
        scene
            .repo
            .commit("public/gone/k", scene.tree.root(), &[])
            .unwrap();
        thread::scope(|scope| {
            let pulls: Vec<_> = (0..3)
                .map(|_| {
                    let asked = said(request(&["public/gone/k"], &[]), &[]);
                    scope.spawn(|| {
                        let asked = asked;
                        scene.over_ssh(None, &asked).unwrap()
                    })
                })
                .collect();
            scene
                .repo
                .ostree("refs", ["--delete", "public/gone"])
                .unwrap();
            scene
                .repo
                .ostree("prune", ["--refs-only", "--depth=0"])
                .unwrap();
            for pull in pulls {
                let got = pull.join().unwrap();
                for (id, stored) in &got.objects {
                    let is_whole = !id.kind.is_metadata() || Checksum::of(stored) == id.checksum;
                    assert!(is_whole, "{id}");
                }
                match got.close {
                    None => drop(got.ids().unwrap()),
                    Some((code, text)) => {
                        assert_eq!((code, got.sent), (CloseCode::BUSY, None), "{text}");
                    }
                }
            }
        });
    }
    scene.repo.fsck().unwrap();
}

/// Pulls by one POST, with curl.
fn post(curl: &mut Command, dir: &Path, url: &str, bytes: &[u8]) -> Result<Pulled, Failure> {
    let file = dir.join("request");
    fs::write(&file, bytes).map_err(Failure::doing("write a request"))?;
    curl.args(["--silent", "--show-error", "--fail", "--data-binary"]);
    curl.arg(format!("@{}", file.display()));
    curl.args([
        "--header",
        "Content-Type: application/vnd.artifact-cache.pull",
    ]);
    let output = curl.arg(url).stderr(Stdio::inherit()).output();
    let output = output.map_err(Failure::doing("run curl"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("curl: {}", output.status)));
    }
    pulled::heard(&output.stdout)
}

#[test]
fn one_post_pulls_over_either_http_from_behind_a_certificate_too() {
    let scene = Scene::new().unwrap();
    scene.tree.generated(300, 5).unwrap();
    fs::write(scene.tree.root().join("large"), vec![7; 3_000_000]).unwrap();
    scene.repo.commit(PUBLIC, scene.tree.root(), &[]).unwrap();
    let expected = scene.closure(PUBLIC).unwrap();
    let asked = said(request(&[PUBLIC], &[]), &[]);
    let serving = Serving::start_private(scene.repo.path(), &["--log", "json"]).unwrap();
    let url = format!("{}/pull", serving.url());
    let (certificate, key) = serving.authority().certify("alice").unwrap();
    for http in ["--http1.1", "--http2"] {
        let mut curl = Command::new("curl");
        curl.arg(http)
            .arg("--cacert")
            .arg(serving.authority().certificate());
        curl.arg("--cert").arg(&certificate).arg("--key").arg(&key);
        let got = post(&mut curl, scene.dir.path(), &url, &asked).unwrap();
        assert_eq!(got.ids().unwrap(), expected, "{http}");
    }
    let mut curl = Command::new("curl");
    curl.arg("--cacert").arg(serving.authority().certificate());
    assert!(post(&mut curl, scene.dir.path(), &url, &asked).is_err());
    let other = Authority::create(scene.dir.path()).unwrap();
    let (certificate, key) = other.certify("mallory").unwrap();
    let mut curl = Command::new("curl");
    curl.arg("--cacert").arg(serving.authority().certificate());
    curl.arg("--cert").arg(&certificate).arg("--key").arg(&key);
    assert!(post(&mut curl, scene.dir.path(), &url, &asked).is_err());
    let log = serving.log().unwrap();
    let lines: Vec<_> = log
        .lines()
        .filter(|l| l.contains(r#""kind":"pull""#))
        .collect();
    assert_eq!(lines.len(), 2, "{log}");
    assert!(
        lines.iter().all(|l| l.contains(r#""complete":true"#)),
        "{log}"
    );
}

#[test]
fn the_config_says_whether_pulls_are_answered() {
    let scene = Scene::new().unwrap();
    for (arguments, answers) in [(&[][..], true), (&["--no-pulls"], false)] {
        let serving = Serving::start(scene.repo.path(), arguments).unwrap();
        let head = serving.curl("/artifacts/config", &["--head"]).unwrap();
        let says = head.to_lowercase().contains("artifact-cache-pull: 2");
        assert_eq!(says, answers, "{head}");
        let mut curl = Command::new("curl");
        curl.arg("--cacert").arg(serving.authority().certificate());
        let url = format!("{}/pull", serving.url());
        let asked = said(request(&[PUBLIC], &[]), &[]);
        let got = post(&mut curl, scene.dir.path(), &url, &asked);
        assert_eq!(got.is_ok(), answers);
    }
}

#[test]
fn a_repository_whose_parent_is_gone_takes_pushes_all_the_same() {
    let place = Place::new();
    place.admin(&["init", "server"]).success().unwrap();
    let parent = ["set", "core.parent", "/nowhere"];
    place.server.ostree("config", parent).unwrap();
    place.commit("alpha/a/k", "a");
    place.push(&["alpha/a/k"]).must_exit(0).unwrap();
}
