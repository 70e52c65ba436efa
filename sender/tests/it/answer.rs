//! Answers to pulls, from random repositories against a model, and from those that the `ostree`
//! program made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use artifact_formats::{
    Attributes, Checksum, Commit, Dirmeta, Dirtree, ObjectId, ObjectKind, RefName, RefPattern,
    Xattrs,
};
use artifact_protocol::frame::{
    CloseCode, Extent, Frame, Held, Hello, PREAMBLE, Prefix, PullOptions, PullState, RefAnswer,
    RefRequest, RefusalCode, Request, Sent,
};
use artifact_protocol::limits::MAX_FRAME_LEN_MAX;
use artifact_protocol::session::ReceiverConfig;
use artifact_protocol::session::pull::{PullServer, PullServerOutput};
use artifact_protocol::{Features, Version};
use artifact_sender::{Answers, Repository, Terms, Text};
use bytes::{Bytes, BytesMut};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::subsequence;
use proptest::{prop_assert, prop_assert_eq, proptest};

use crate::fixture::{Fixture, commit, fill_awkward, object_path, objects, unpack};

/// What a client gets.
#[derive(Debug, Default)]
struct Got {
    refs: Vec<RefAnswer>,
    basis: Vec<Checksum>,
    extent: Option<Extent>,
    detached: BTreeMap<Checksum, Bytes>,
    objects: Vec<(ObjectId, Bytes)>,
    sent: Option<Sent>,
    close: Option<(CloseCode, String)>,
    wire_len: usize,
}

impl Got {
    fn ids(&self) -> BTreeSet<ObjectId> {
        self.objects.iter().map(|(id, _)| *id).collect()
    }

    fn promised(&self) -> BTreeMap<&str, Checksum> {
        let promised = self.refs.iter().filter_map(|answer| match answer.state {
            PullState::Promised { commit, .. } => Some((answer.name.as_str(), commit)),
            _ => None,
        });
        promised.collect()
    }
}

fn request(refs: &[&str]) -> Request {
    let wanted = refs.iter().map(|name| RefRequest {
        name: name.parse().unwrap(),
        current: None,
        detached: None,
    });
    Request {
        options: PullOptions::default(),
        history: 0,
        refs: wanted.collect(),
        patterns: Vec::new(),
        held: Vec::new(),
        more: false,
        extensions: Default::default(),
    }
}

/// Has a request answered, as a server does; `between` runs once the refs are answered.
fn pull_while(
    repo: &Path,
    terms: Terms,
    mut request: Request,
    held: &[Prefix],
    between: impl FnOnce(),
) -> Got {
    let mut between = Some(between);
    request.more = !held.is_empty();
    let hello = Hello {
        version_min: Version::OLDEST,
        version_max: Version::NEWEST,
        features: Features::SUPPORTED,
        agent: Text::new("a client by hand"),
        extensions: Default::default(),
    };
    let mut said = BytesMut::from(&PREAMBLE[..]);
    said.extend(Frame::Hello(hello).encode());
    said.extend(Frame::Request(request).encode());
    let mut chunks = held.chunks(1000).peekable();
    while let Some(objects) = chunks.next() {
        let (objects, more) = (objects.to_vec(), chunks.peek().is_some());
        said.extend(Frame::Held(Held { more, objects }).encode());
    }
    let (wake, woken) = channel();
    let repository = Arc::new(Repository::open(repo).unwrap());
    let mut answers = Answers::start(&repository, terms, move || {
        let _ = wake.send(());
    });
    let mut server = PullServer::new(ReceiverConfig::default());
    let mut heard = BytesMut::new();
    let mut failed = server.handle_bytes(&mut said).is_err();
    loop {
        while let Some(output) = server.poll_output() {
            match output {
                PullServerOutput::Transmit(bytes) => heard.extend_from_slice(&bytes),
                PullServerOutput::Answer(request) => answers.submit(request),
                PullServerOutput::Event(_) => {}
            }
        }
        if failed || server.is_finished() {
            break;
        }
        match answers.next_done() {
            Some(done) => {
                failed = server.handle_answer(done).is_err();
                if heard.len() > 100 {
                    between.take().into_iter().for_each(|between| between());
                }
            }
            None => woken.recv_timeout(Duration::from_secs(60)).unwrap(),
        }
    }
    hear(heard)
}

fn pull(repo: &Path, terms: Terms, request: Request, held: &[Prefix]) -> Got {
    pull_while(repo, terms, request, held, || ())
}

/// Takes apart what the server has said.
fn hear(mut heard: BytesMut) -> Got {
    let mut got = Got {
        wire_len: heard.len(),
        ..Got::default()
    };
    assert_eq!(heard.split_to(PREAMBLE.len())[..], PREAMBLE);
    let mut streams: BTreeMap<u8, (ObjectId, Vec<u8>)> = BTreeMap::new();
    while let Some(frame) = Frame::decode(&mut heard, MAX_FRAME_LEN_MAX).unwrap() {
        match frame {
            Frame::Welcome(_) | Frame::Ping(_) => {}
            Frame::Answer(answer) => {
                got.refs.extend(answer.refs);
                got.basis.extend(answer.basis);
            }
            Frame::Extent(extent) => got.extent = Some(extent),
            Frame::Detached(detached) => {
                got.detached.insert(detached.commit, detached.metadata);
            }
            Frame::Pack(pack) => got.objects.extend(pack.objects),
            Frame::ObjectBegin(begin) => {
                streams.insert(begin.stream, (begin.id, Vec::new()));
            }
            Frame::ObjectChunk(chunk) => {
                let (_, stored) = streams.get_mut(&chunk.stream).unwrap();
                stored.extend_from_slice(&chunk.bytes);
            }
            Frame::ObjectEnd(end) => {
                let (id, stored) = streams.remove(&end.stream).unwrap();
                got.objects.push((id, stored.into()));
            }
            Frame::Sent(sent) => got.sent = Some(sent),
            Frame::Close(close) => {
                got.close = Some((close.code, close.text.as_raw().to_owned()));
            }
            frame => unreachable!("{frame:?}"),
        }
    }
    got
}

/// A commit of the model: two levels of directories of files, which are numbers.
#[derive(Clone, Debug)]
struct Build {
    dirs: BTreeMap<String, BTreeSet<u8>>,
    parent: Option<usize>, // an earlier one
    is_bound: bool,
    is_partial: bool,
}

#[derive(Clone, Debug)]
struct Case {
    builds: Vec<Build>,
    refs: BTreeMap<String, usize>,
    readable: Option<Vec<&'static str>>,
    wanted: Vec<(String, Option<usize>)>,
    patterns: Vec<&'static str>,
    held: Vec<usize>,
    objects: Vec<u8>,
    history: u32,
}

const NAMES: [&str; 7] = ["a/x/1", "a/x/2", "a/y/1", "a/y/2", "b/x/1", "b/y/1", "top"];
const PATTERNS: [&str; 6] = ["**", "a/**", "a/x/*", "*/x/1", "b/y/1", "none/**"];

fn cases() -> impl Strategy<Value = Case> {
    let dirs = || {
        btree_map(
            "[a-e]",
            proptest::collection::btree_set(0..30u8, 0..4),
            0..5,
        )
    };
    let build = (dirs(), any::<Option<usize>>(), any::<bool>(), 0..8u8);
    let refs = btree_map(proptest::sample::select(&NAMES[..]), any::<usize>(), 1..7);
    let readable = prop_oneof![
        Just(None),
        subsequence(&PATTERNS[..], 0..4).prop_map(Some),
        subsequence(&PATTERNS[2..], 1..3).prop_map(Some),
    ];
    let wanted = btree_map(
        proptest::sample::select(&NAMES[..]),
        any::<Option<usize>>(),
        0..4,
    );
    (
        (vec(build, 1..8), refs, readable),
        (wanted, subsequence(&PATTERNS[..], 0..3)),
        (vec(any::<usize>(), 0..4), vec(0..30u8, 0..6), 0..3u32),
    )
        .prop_map(
            |((builds, refs, readable), (wanted, patterns), (held, objects, history))| {
                let count = builds.len();
                let builds = builds.into_iter().enumerate();
                let builds = builds.map(|(number, (dirs, parent, is_bound, partial))| Build {
                    dirs,
                    parent: parent
                        .filter(|_| number > 0)
                        .map(|parent| parent % number.max(1)),
                    is_bound,
                    is_partial: partial == 0,
                });
                let named = |(name, n): (&str, usize)| (name.to_owned(), n % count);
                Case {
                    builds: builds.collect(),
                    refs: refs.into_iter().map(named).collect(),
                    readable,
                    wanted: (wanted.into_iter())
                        .map(|(name, n)| (name.to_owned(), n.map(|n| n % count)))
                        .collect(),
                    patterns,
                    held: held.into_iter().map(|n| n % count).collect(),
                    objects,
                    history,
                }
            },
        )
}

/// A repository of the model.
struct Model {
    _fixture: Fixture,
    repo: PathBuf,
    commits: Vec<Checksum>,
    /// What each commit reaches, itself included.
    closures: Vec<BTreeSet<ObjectId>>,
    below: BTreeMap<ObjectId, Vec<ObjectId>>,
}

fn store(repo: &Path, kind: ObjectKind, bytes: &[u8]) -> ObjectId {
    let id = ObjectId::new(kind, Checksum::of(bytes));
    let path = object_path(repo, id, kind.archive_extension());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    id
}

impl Model {
    fn make(case: &Case) -> Self {
        let fixture = Fixture::new();
        let repo = fixture.tree("server");
        let config = "[core]\nrepo_version=1\nmode=archive-z2\n";
        fs::write(repo.join("config"), config).unwrap();
        for dir in ["objects", "state", "refs/heads"] {
            fs::create_dir_all(repo.join(dir)).unwrap();
        }
        let meta = Dirmeta::new(Attributes {
            uid: 0,
            gid: 0,
            mode: 0o040_755,
            xattrs: Xattrs::default(),
        });
        let meta = store(&repo, ObjectKind::Dirmeta, &meta.unwrap().serialize());
        let mut model = Self {
            _fixture: fixture,
            repo,
            commits: Vec::new(),
            closures: Vec::new(),
            below: BTreeMap::from([(meta, Vec::new())]),
        };
        for (number, build) in case.builds.iter().enumerate() {
            let names = case
                .refs
                .iter()
                .filter(|(_, n)| **n == number && build.is_bound);
            let bound: Vec<_> = names.map(|(name, _)| name.clone()).collect();
            model.commit(build, meta, bound);
        }
        for (name, number) in &case.refs {
            let path = model.repo.join("refs/heads").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{}\n", model.commits[*number])).unwrap();
        }
        model
    }

    fn commit(&mut self, build: &Build, meta: ObjectId, bound: Vec<String>) {
        let mut dirs = Vec::new();
        let mut closure = BTreeSet::from([meta]);
        for (name, files) in &build.dirs {
            let files: Vec<_> = (files.iter())
                .map(|n| {
                    // Only clients look into it.
                    let id = store(&self.repo, ObjectKind::File, &[*n; 20]);
                    self.below.insert(id, Vec::new());
                    (format!("f{n:02}"), id)
                })
                .collect();
            let entries = files.iter().map(|(name, id)| (name.as_str(), id.checksum));
            let tree = Dirtree::serialize(entries, []);
            let tree = store(&self.repo, ObjectKind::Dirtree, &tree);
            let below: Vec<_> = files.iter().map(|(_, id)| *id).collect();
            closure.extend(&below);
            closure.insert(tree);
            self.below.insert(tree, below);
            dirs.push((name.as_str(), tree.checksum, meta.checksum));
        }
        let mut below: Vec<_> = (dirs.iter())
            .map(|(_, tree, _)| ObjectId::new(ObjectKind::Dirtree, *tree))
            .collect();
        below.push(meta);
        let root = store(
            &self.repo,
            ObjectKind::Dirtree,
            &Dirtree::serialize([], dirs),
        );
        self.below.insert(root, below);
        closure.insert(root);
        let commit = Commit {
            parent: build.parent.map(|parent| self.commits[parent]),
            timestamp: self.commits.len() as u64,
            ref_bindings: (!bound.is_empty()).then_some(bound),
            ..Commit::new(root.checksum, meta.checksum)
        };
        let id = store(&self.repo, ObjectKind::Commit, &commit.serialize());
        self.below.insert(id, vec![root, meta]);
        closure.insert(id);
        if build.is_partial {
            let mark = format!("state/{}.commitpartial", id.checksum);
            fs::write(self.repo.join(mark), "").unwrap();
        }
        self.commits.push(id.checksum);
        self.closures.push(closure);
    }

    fn number(&self, commit: Checksum) -> usize {
        self.commits.iter().position(|c| *c == commit).unwrap()
    }
}

impl Case {
    fn may_read(&self, name: &str) -> bool {
        let Some(patterns) = &self.readable else {
            return true;
        };
        patterns
            .iter()
            .any(|p| p.parse::<RefPattern>().unwrap().matches(name))
    }

    /// The complete commit of a readable ref.
    fn value(&self, name: &str) -> Option<usize> {
        let value = self.refs.get(name).filter(|_| self.may_read(name));
        value.copied().filter(|n| !self.builds[*n].is_partial)
    }

    /// A commit and its complete ancestors, newest first.
    fn history(&self, number: usize, depth: usize) -> Vec<usize> {
        let complete = |n: &usize| !self.builds[*n].is_partial;
        let next = |n: &usize| self.builds[*n].parent.filter(complete);
        std::iter::successors(Some(number).filter(complete), next)
            .take(depth + 1)
            .collect()
    }
}

fn matches(patterns: &[&str], name: &str) -> bool {
    patterns
        .iter()
        .any(|p| p.parse::<RefPattern>().unwrap().matches(name))
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(48))]

    #[test]
    fn a_client_gets_exactly_what_it_lacks_of_refs_that_it_may_read(case in cases()) {
        let model = Model::make(&case);
        let commit = |n: &usize| model.commits[*n];
        let mut asked = request(&[]);
        asked.refs = (case.wanted.iter())
            .map(|(name, current)| RefRequest {
                name: name.parse().unwrap(),
                current: current.as_ref().map(commit),
                detached: None,
            })
            .collect();
        asked.patterns = case.patterns.iter().map(|p| p.parse().unwrap()).collect();
        asked.held = case.held.iter().map(commit).collect();
        asked.history = case.history;
        let prefix = |n: &u8| Prefix::of(&Checksum::of(&[*n; 20]));
        let mut prefixes: Vec<_> = case.objects.iter().map(prefix).collect();
        if asked.refs.is_empty() && asked.patterns.is_empty() && asked.held.is_empty() {
            // Nothing may follow an empty request.
            prefixes.clear();
        }
        let readable = case.readable.as_ref();
        let terms = Terms {
            readable: readable.map(|r| r.iter().map(|p| p.parse().unwrap()).collect()),
            ..Terms::default()
        };
        let got = pull(&model.repo, terms, asked, &prefixes);
        prop_assert_eq!(&got.close, &None);

        // What becomes of each ref.
        let mut promised = BTreeSet::new();
        let mut unchanged = BTreeSet::new();
        let mut expected = BTreeMap::new();
        for (name, current) in &case.wanted {
            let state = match case.value(name) {
                None => "refused",
                Some(value) if current.map(|n| model.commits[n]) == Some(model.commits[value]) => {
                    unchanged.insert(value);
                    "up to date"
                }
                Some(value) => {
                    promised.insert(value);
                    "promised"
                }
            };
            expected.insert(name.as_str(), state);
        }
        for name in NAMES.iter().filter(|name| matches(&case.patterns, name)) {
            if let Some(value) = case.value(name)
                && !expected.contains_key(name)
            {
                promised.insert(value);
                expected.insert(name, "promised");
            }
        }
        let told: BTreeMap<_, _> = (got.refs.iter())
            .map(|answer| (answer.name.as_str(), match &answer.state {
                PullState::Promised { commit, .. } => {
                    let value = case.value(answer.name.as_str());
                    assert_eq!(value.map(|n| model.commits[n]), Some(*commit));
                    "promised"
                }
                PullState::UpToDate => "up to date",
                PullState::Refused(refusal) => {
                    assert_eq!(refusal.code, RefusalCode::ABSENT);
                    "refused"
                }
            }))
            .collect();
        prop_assert_eq!(told, expected);

        // The basis is what the client may know to be here.
        let known: BTreeSet<_> = (NAMES.iter())
            .filter_map(|name| case.value(name))
            .flat_map(|n| case.history(n, 100))
            .map(|n| model.commits[n])
            .collect();
        for commit in &got.basis {
            prop_assert!(known.contains(commit), "{commit} is none of the client's business");
            prop_assert!(case.held.iter().any(|n| model.commits[*n] == *commit));
        }
        for n in &case.held {
            if promised.union(&unchanged).any(|value| case.history(*value, 100).contains(n)) {
                prop_assert!(got.basis.contains(&model.commits[*n]));
            }
        }

        // The objects are those that it lacks, parents before children.
        let commits = promised.iter().flat_map(|n| case.history(*n, case.history as usize));
        let mut lacks: BTreeSet<_> = commits.flat_map(|n| model.closures[n].clone()).collect();
        let mut has = BTreeSet::new();
        for commit in &got.basis {
            has.extend(model.closures[model.number(*commit)].iter().copied());
        }
        lacks.retain(|id| !has.contains(id));
        let named = |id: &ObjectId| {
            id.kind == ObjectKind::Commit
                || model.below.iter().any(|(above, below)| {
                    below.contains(id) && (has.contains(above) || !lacks.contains(above))
                })
        };
        let mut justified: BTreeSet<_> = lacks.iter().copied().filter(named).collect();
        for (id, _) in &got.objects {
            prop_assert!(justified.contains(id), "{id} comes before an object that names it");
            justified.extend(model.below[id].iter());
        }
        lacks.retain(|id| !prefixes.contains(&Prefix::of(&id.checksum)));
        prop_assert_eq!(got.ids(), lacks.clone());
        prop_assert_eq!(got.objects.len(), lacks.len(), "each once");

        // What was said of it before is true.
        let sent = got.sent.unwrap();
        let len: usize = got.objects.iter().map(|(_, stored)| stored.len()).sum();
        prop_assert_eq!((sent.objects, sent.bytes), (lacks.len() as u64, len as u64));
        if let Some(extent) = got.extent {
            prop_assert_eq!((extent.objects, extent.bytes), (sent.objects, sent.bytes));
        }
    }
}

#[test]
fn a_whole_tree_arrives_as_it_is_from_a_repository_of_any_mode() {
    for mode in ["archive", "bare-user", "bare"] {
        let fixture = Fixture::new();
        let tree = fixture.tree("tree");
        fill_awkward(&tree);
        let server = fixture.init("server", mode);
        commit(&server, "a/b", &tree);
        let got = pull(&server, Terms::default(), request(&["a/b"]), &[]);
        assert_eq!(got.close, None);
        assert_eq!(got.ids(), objects(&server), "{mode}");
        for (id, stored) in &got.objects {
            unpack(*id, stored);
        }
        let mut dry = request(&["a/b"]);
        dry.options = PullOptions::DRY_RUN;
        let dry = pull(&server, Terms::default(), dry, &[]);
        let sent = got.sent.unwrap();
        let extent = dry.extent.unwrap();
        assert_eq!(extent.objects, sent.objects);
        assert!(mode != "archive" || extent.bytes == sent.bytes);
        assert!(dry.objects.is_empty() && dry.sent == Some(Sent::default()));
    }
}

#[test]
fn a_second_build_costs_little_more_than_what_is_missing() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    for n in 0..1000 {
        let dir = tree.join(format!("d{}", n % 20));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{n}")), crate::fixture::noise(300 + n)).unwrap();
    }
    let server = fixture.init("server", "archive");
    let old = commit(&server, "a/b", &tree);
    let before = objects(&server);
    for n in 0..10 {
        let path = tree.join(format!("d{}/f{}", n % 20, n * 20 + n));
        fs::write(path, crate::fixture::noise(5000 + n)).unwrap();
    }
    commit(&server, "a/b", &tree);
    let missing: BTreeSet<_> = objects(&server).difference(&before).copied().collect();
    let mut asked = request(&["a/b"]);
    asked.refs[0].current = Some(old);
    asked.held = vec![old];
    let got = pull(&server, Terms::default(), asked, &[]);
    assert_eq!(got.ids(), missing);
    let stored: usize = got.objects.iter().map(|(_, stored)| stored.len()).sum();
    let ratio = got.wire_len as f64 / stored as f64;
    assert!(ratio <= 1.05, "{ratio}");
}

#[test]
fn an_object_that_vanishes_ends_the_answer_so_that_the_client_tries_again() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    fs::create_dir(tree.join("d")).unwrap();
    fs::write(tree.join("d/f"), "one").unwrap();
    let server = fixture.init("server", "archive");
    for kind in ["filez", "dirtree", "dirmeta"] {
        commit(&server, "a/b", &tree);
        let vanish = || {
            let all = objects(&server).into_iter();
            for id in all.filter(|id| id.kind.archive_extension() == kind) {
                fs::remove_file(object_path(&server, id, kind)).unwrap();
            }
        };
        let got = pull_while(&server, Terms::default(), request(&["a/b"]), &[], vanish);
        // Whoever is fast enough has it all.
        match got.close {
            Some((code, text)) => {
                assert_eq!((code, got.sent), (CloseCode::BUSY, None), "{text}");
            }
            None => assert_eq!(got.sent.unwrap().objects, got.objects.len() as u64),
        }
        let got = pull(&server, Terms::default(), request(&["a/b"]), &[]);
        assert_eq!(got.close.unwrap().0, CloseCode::BUSY, "{kind}");
    }
}

#[test]
fn a_request_for_more_than_the_server_does_at_once_is_refused_and_says_so() {
    let fixture = Fixture::new();
    let tree = fixture.tree("tree");
    fill_awkward(&tree);
    let server = fixture.init("server", "archive");
    commit(&server, "a/b", &tree);
    let count = objects(&server).len() as u64;
    let limit = |terms: Terms| pull(&server, terms, request(&["a/b"]), &[]).close;
    let objects_max = |objects_max| Terms {
        objects_max,
        ..Terms::default()
    };
    assert_eq!(limit(objects_max(count)), None);
    let (code, text) = limit(objects_max(count - 1)).unwrap();
    assert_eq!(code, CloseCode::LIMIT);
    assert!(text.contains(&(count - 1).to_string()), "{text}");
    let (code, _) = limit(Terms {
        planning_max: Duration::ZERO,
        ..Terms::default()
    })
    .unwrap();
    assert_eq!(code, CloseCode::LIMIT);
}

#[test]
fn links_and_pipes_in_the_place_of_refs_and_metadata_are_not_followed() {
    use std::os::unix::fs::symlink;
    let fixture = Fixture::new();
    let server = fixture.init("server", "archive");
    let tree = fixture.tree("tree");
    let secret = commit(&server, "secret", &tree);
    fs::write(fixture.path("outside"), "secret").unwrap();
    symlink("secret", server.join("refs/heads/alias")).unwrap();
    symlink("../heads", server.join("refs/heads/up")).unwrap();
    fs::write(server.join("refs/heads/broken"), "no checksum\n").unwrap();
    let terms = || Terms {
        readable: Some(vec!["alias".parse().unwrap(), "up/*".parse().unwrap()]),
        ..Terms::default()
    };
    let mut asked = request(&["alias", "up/secret", "secret", "broken", "none"]);
    asked.patterns = vec!["**".parse().unwrap()];
    let got = pull(&server, terms(), asked, &[]);
    assert!(got.promised().is_empty() && got.objects.is_empty());
    let refusals: BTreeSet<_> = got.refs.iter().map(|a| format!("{:?}", a.state)).collect();
    assert_eq!((refusals.len(), got.refs.len()), (1, 5), "{refusals:?}");

    let detached = object_path(&server, ObjectId::commit(secret), "commitmeta");
    symlink(fixture.path("outside"), detached).unwrap();
    let got = pull(&server, Terms::default(), request(&["secret"]), &[]);
    assert!(got.detached.is_empty(), "{got:?}");
}

#[test]
fn detached_metadata_travel_when_they_differ_and_alone_if_nothing_else_does() {
    let fixture = Fixture::new();
    let server = fixture.init("server", "archive");
    let tree = fixture.tree("tree");
    let id = commit(&server, "a/b", &tree);
    let path = object_path(&server, ObjectId::commit(id), "commitmeta");
    fs::write(path, b"signature").unwrap();
    let pull = |current, detached| {
        let mut asked = request(&["a/b"]);
        asked.refs[0].current = current;
        asked.refs[0].detached = detached;
        pull(&server, Terms::default(), asked, &[])
    };
    let signature = Checksum::of(b"signature");
    let got = pull(None, None);
    assert_eq!(got.detached[&id][..], b"signature"[..]);
    assert_eq!(got.objects.len(), 3);
    let got = pull(Some(id), None);
    assert_eq!(got.detached[&id][..], b"signature"[..]);
    assert!(got.objects.is_empty());
    assert_eq!(
        pull(Some(id), Some(signature)).refs[0].state,
        PullState::UpToDate
    );
    let name: RefName = "a/b".parse().unwrap();
    assert_eq!(got.refs[0].name, name);
}

/// A server with a line of commits, of which all refs hold the last, and whose metadata is long.
fn shared_history(commits: u64, refs: usize) -> (Fixture, PathBuf) {
    let fixture = Fixture::new();
    let server = fixture.tree("server");
    let config = "[core]\nrepo_version=1\nmode=archive-z2\n";
    fs::write(server.join("config"), config).unwrap();
    fs::create_dir_all(server.join("refs/heads/a")).unwrap();
    let meta = Dirmeta::new(Attributes {
        uid: 0,
        gid: 0,
        mode: 0o040_755,
        xattrs: Xattrs::default(),
    });
    let meta = store(&server, ObjectKind::Dirmeta, &meta.unwrap().serialize()).checksum;
    let tree = store(&server, ObjectKind::Dirtree, &Dirtree::serialize([], [])).checksum;
    let mut last = None;
    for timestamp in 0..commits {
        let commit = Commit {
            parent: last,
            timestamp,
            ..Commit::new(tree, meta)
        };
        last = Some(store(&server, ObjectKind::Commit, &commit.serialize()).checksum);
    }
    let last = last.unwrap();
    let detached = object_path(&server, ObjectId::commit(last), "commitmeta");
    fs::write(detached, vec![7; 1 << 20]).unwrap();
    for number in 0..refs {
        let path = server.join(format!("refs/heads/a/{number}"));
        fs::write(path, format!("{last}\n")).unwrap();
    }
    (fixture, server)
}

// Each ref of a pull once had the whole history of its commit followed, and its metadata hashed:
// 200 bytes from a stranger cost minutes of a core.
#[test]
fn a_history_and_metadata_that_many_refs_share_cost_a_pull_once() {
    let (_fixture, server) = shared_history(2_000, 600);
    let took = |names: &[&str], patterns: &[&str]| {
        let mut asked = request(names);
        asked.options = PullOptions::DRY_RUN;
        asked.history = 5_000;
        asked.patterns = patterns.iter().map(|p| p.parse().unwrap()).collect();
        let begun = Instant::now();
        let got = pull(&server, Terms::default(), asked, &[]);
        assert_eq!(got.extent.unwrap().objects, 2_002);
        (got.refs.len(), begun.elapsed())
    };
    let (one, first) = took(&["a/1"], &[]);
    let (all, second) = took(&[], &["**"]);
    assert_eq!((one, all), (1, 600));
    assert!(
        second < 2 * first + Duration::from_millis(150),
        "{first:?} {second:?}"
    );
}
