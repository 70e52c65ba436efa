//! Servers whose streamed answers lie: whatever one sends, nothing changes here, and the pull ends.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, serialize_signature};
use artifact_protocol::frame::{
    Answer, Basis, Close, CloseCode, Detached, Extensions, Extent, Finalize, Finalized, Frame,
    Hello, Missing, ObjectBegin, ObjectChunk, ObjectEnd, Offer, PREAMBLE, Pack, Ping, PullState,
    RefAnswer, RefOutcome, Refusal, RefusalCode, Sent, Staged, SummaryDone, Want, Welcome,
};
use artifact_protocol::limits::{Limits, MAX_BASES, MAX_REFS};
use artifact_protocol::{Features, Text, Version};
use artifact_puller::{Error, Holds, Outcome, Pull, Refusal as Left};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinSet;

use crate::cache::{Cache, Here, REF, filez, noise};
use crate::streamed::{Way, closure, pull};

type Object = (ObjectId, Bytes);

/// What a server has, and would answer if it were honest.
struct World {
    cache: Cache,
    /// What clients have.
    old: Checksum,
    new: Checksum,
    /// A commit that nobody asks for.
    other: Checksum,
}

impl World {
    fn new() -> Self {
        let mut cache = Cache::new();
        let old = cache.head();
        let (new, _) = cache.commit("two", Some(old));
        let (other, _) = cache.commit("other", None);
        cache.set(REF, old);
        Self {
            cache,
            old,
            new,
            other,
        }
    }

    fn objects(&self, commit: Checksum) -> Vec<Object> {
        let all = closure(&self.cache, commit).into_iter();
        let stored = |id| Bytes::copy_from_slice(self.cache.object(id));
        all.map(|id| (id, stored(id))).collect()
    }

    /// Makes a commit of a root directory.
    fn rooted(&mut self, tree: Checksum) -> Checksum {
        let meta = self.cache.meta();
        self.cache.add_commit(&Commit {
            parent: Some(self.old),
            timestamp: 1,
            ..Commit::new(tree, meta)
        })
    }
}

fn metadata() -> Vec<u8> {
    serialize_signature(&[7; 64])
}

fn welcome() -> Frame {
    Frame::Welcome(Welcome {
        version: Version::NEWEST,
        features: Features::PULL,
        limits: Limits::default(),
        agent: Text::new("a liar"),
        pull_url: None,
        identity: None,
        extensions: Extensions::default(),
    })
}

fn promised(commit: Checksum) -> PullState {
    PullState::Promised {
        commit,
        detached: None,
    }
}

fn answer(refs: Vec<(&str, PullState)>) -> Frame {
    answer_with(refs, Vec::new(), false)
}

fn answer_with(refs: Vec<(&str, PullState)>, basis: Vec<Checksum>, more: bool) -> Frame {
    let refs = refs.into_iter().map(|(name, state)| RefAnswer {
        name: name.parse().unwrap(),
        state,
    });
    let refs = refs.collect();
    Frame::Answer(Answer { refs, basis, more })
}

fn pack(objects: &[Object]) -> Frame {
    let objects = objects.to_vec();
    Frame::Pack(Pack { objects })
}

fn sent(objects: &[Object]) -> Frame {
    let bytes = objects.iter().map(|(_, stored)| stored.len() as u64).sum();
    let objects = objects.len() as u64;
    Frame::Sent(Sent { objects, bytes })
}

fn begin(stream: u8, id: ObjectId) -> Frame {
    Frame::ObjectBegin(ObjectBegin { stream, id })
}

fn chunk(stream: u8, bytes: impl Into<Bytes>) -> Frame {
    let bytes = bytes.into();
    Frame::ObjectChunk(ObjectChunk { stream, bytes })
}

fn end(stream: u8) -> Frame {
    Frame::ObjectEnd(ObjectEnd { stream })
}

/// A server: what it says once it has read the request, and whether it then says its last words
/// for ever.
struct Liar {
    name: String,
    says: Vec<u8>,
    is_endless: bool,
}

/// Collects liars.
#[derive(Default)]
struct Liars(Vec<Liar>);

impl Liars {
    /// A server that says these bytes.
    fn raw(&mut self, name: &str, says: Vec<u8>) {
        self.0.push(Liar {
            name: name.to_owned(),
            says,
            is_endless: false,
        });
    }

    /// A server that says these frames after its `Welcome`.
    fn says(&mut self, name: &str, frames: Vec<Frame>) {
        let mut bytes = PREAMBLE.to_vec();
        bytes.extend(welcome().encode());
        frames.iter().for_each(|frame| bytes.extend(frame.encode()));
        self.raw(name, bytes);
    }

    /// A server that promises a commit, and sends these objects for it.
    fn sends(&mut self, name: &str, commit: Checksum, objects: &[Object]) {
        let promise = answer(vec![(REF, promised(commit))]);
        self.says(name, vec![promise, pack(objects), sent(objects)]);
    }
}

/// Whatever comes out of place.
fn out_of_place(liars: &mut Liars, world: &World) {
    let all = world.objects(world.new);
    let promise = || answer(vec![(REF, promised(world.new))]);
    let file = all.last().unwrap().0;
    let others = || {
        let ids = vec![file];
        [
            (
                "Hello",
                Frame::Hello(Hello {
                    version_min: Version::OLDEST,
                    version_max: Version::NEWEST,
                    features: Features::PULL,
                    agent: Text::default(),
                    extensions: Extensions::default(),
                }),
            ),
            ("Welcome", welcome()),
            (
                "Basis",
                Frame::Basis(Basis {
                    commits: vec![world.new],
                }),
            ),
            ("Offer", Frame::Offer(Offer { ids: ids.clone() })),
            ("Want", Frame::Want(Want { wanted: vec![true] })),
            (
                "Staged",
                Frame::Staged(Staged {
                    objects: 1,
                    bytes: 1,
                }),
            ),
            ("Finalize", Frame::Finalize(Finalize {})),
            ("Missing", Frame::Missing(Missing { ids })),
            (
                "Finalized",
                Frame::Finalized(Finalized {
                    refs: vec![RefOutcome::Updated],
                }),
            ),
            ("SummaryDone", Frame::SummaryDone(SummaryDone::Current)),
        ]
    };
    for (kind, frame) in others() {
        liars.says(
            &format!("{kind} instead of an answer"),
            vec![frame, promise()],
        );
    }
    for (kind, frame) in others() {
        let name = format!("{kind} among objects");
        let frames = vec![
            promise(),
            pack(&all[..2]),
            frame,
            pack(&all[2..]),
            sent(&all),
        ];
        liars.says(&name, frames);
    }
    let early = [
        ("Pack", pack(&all)),
        ("ObjectBegin", begin(0, file)),
        ("ObjectChunk", chunk(0, &b"x"[..])),
        ("ObjectEnd", end(0)),
        ("Extent", Frame::Extent(Extent::default())),
        ("Sent", sent(&[])),
    ];
    for (kind, frame) in early {
        liars.says(&format!("{kind} before the answer"), vec![frame, promise()]);
    }
    liars.says(
        "a second answer",
        vec![promise(), promise(), pack(&all), sent(&all)],
    );
    let extent = || Frame::Extent(Extent::default());
    liars.says(
        "two extents",
        vec![promise(), extent(), extent(), pack(&all), sent(&all)],
    );
}

/// Answers that say what cannot be.
fn contradictions(liars: &mut Liars, world: &World) {
    let all = world.objects(world.new);
    let says = |liars: &mut Liars, name: &str, refs| {
        liars.says(name, vec![answer(refs), pack(&all), sent(&all)]);
    };
    let new = || promised(world.new);
    says(
        liars,
        "an answer about another ref",
        vec![("another/ref", new())],
    );
    says(
        liars,
        "an answer about a ref besides",
        vec![(REF, new()), ("another/ref", new())],
    );
    says(
        liars,
        "two answers about a ref",
        vec![(REF, new()), (REF, promised(world.other))],
    );
    says(liars, "an answer about nothing", vec![]);
    let other = PullState::Promised {
        commit: world.new,
        detached: Some(Checksum::of(b"x")),
    };
    says(
        liars,
        "two kinds of detached metadata",
        vec![(REF, new()), ("b/c/d", other)],
    );
    let with_basis = |liars: &mut Liars, name: &str, basis| {
        let promise = answer_with(vec![(REF, new())], basis, false);
        liars.says(name, vec![promise, sent(&[])]);
    };
    with_basis(liars, "a basis that is not held", vec![world.other]);
    with_basis(liars, "a basis that is the promise", vec![world.new]);
    with_basis(liars, "too large a basis", vec![world.old; MAX_BASES + 1]);
    let first = answer_with(vec![(REF, new())], Vec::new(), true);
    let second = answer_with(vec![("b/c/d", new())], vec![world.old], false);
    liars.says("a second basis", vec![first, second, sent(&[])]);
    let empty = || answer_with(Vec::new(), Vec::new(), true);
    liars.says("an answer without end", vec![empty(), empty(), empty()]);
    let name = |n: usize| RefAnswer {
        name: format!("many/refs/{n}").parse().unwrap(),
        state: PullState::UpToDate,
    };
    let many = |from: usize, more| {
        Frame::Answer(Answer {
            refs: (from..from + 1000).map(name).collect(),
            basis: Vec::new(),
            more,
        })
    };
    let many = (0..=MAX_REFS / 1000)
        .map(|n| many(n * 1000, true))
        .collect();
    liars.says("more refs than there can be", many);
    let refused = PullState::Refused(Refusal::new(RefusalCode::ABSENT, "no"));
    let frames = vec![answer(vec![(REF, refused)]), pack(&all), sent(&all)];
    liars.says("objects though nothing is promised", frames);
}

/// Objects that are not those of the promise, or not whole.
fn wrong_objects(liars: &mut Liars, world: &mut World) {
    let (new, all) = (world.new, world.objects(world.new));
    let others = world.objects(world.other);
    liars.sends("another commit's objects", new, &others);
    liars.sends("nothing at all", new, &[]);
    for (index, (id, stored)) in all.iter().enumerate() {
        let kind = id.kind;
        let with = |stored: Bytes| {
            let mut objects = all.clone();
            objects[index].1 = stored;
            objects
        };
        let mut flipped = stored.to_vec();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x20;
        let name = |what: &str| format!("{kind} {index}: {what}");
        liars.sends(&name("a bit flipped"), new, &with(flipped.into()));
        liars.sends(&name("half of it"), new, &with(stored.slice(..middle)));
        let longer = [&stored[..], b"x"].concat();
        liars.sends(&name("a byte more"), new, &with(longer.into()));
        let mut fewer = all.clone();
        fewer.remove(index);
        liars.sends(&name("left out"), new, &fewer);
        let mut twice = all.clone();
        twice.push((*id, stored.clone()));
        liars.sends(&name("twice"), new, &twice);
        let other = others.iter().find(|(other, _)| other.kind == kind);
        if let Some((_, stored)) = other.filter(|(other, _)| other != id) {
            liars.sends(&name("another one"), new, &with(stored.clone()));
        }
    }
    let mut children_first = all.clone();
    children_first.reverse();
    liars.sends("children before parents", new, &children_first);
    let mut besides = all.clone();
    besides.extend(others);
    liars.sends("what nobody asked for", new, &besides);
    let parent = world.objects(world.old);
    let besides: Vec<_> = all.iter().chain(&parent[..1]).cloned().collect();
    liars.sends("an ancestor that nobody asked for", new, &besides);

    let promise = || answer(vec![(REF, promised(new))]);
    let more = Frame::Sent(Sent {
        objects: all.len() as u64 + 1,
        bytes: u64::MAX,
    });
    liars.says("a wrong count", vec![promise(), pack(&all), more]);
    liars.says("no end", vec![promise(), pack(&all)]);
    let goodbye = Frame::Close(Close {
        code: CloseCode::DONE,
        text: Text::default(),
    });
    liars.says(
        "a farewell instead of an end",
        vec![promise(), pack(&all), goodbye],
    );
}

/// Commits and trees that are what their names say, and wrong all the same.
fn wrong_trees(liars: &mut Liars, world: &mut World) {
    let meta = world.cache.meta();
    let mut trees = Vec::new();
    let file = world.cache.file(b"x");
    for (what, name) in [
        ("a name that leads upwards", ".."),
        ("a name with a slash", "a/b"),
        ("an absolute name", "/etc/passwd"),
        ("an empty name", ""),
        ("a dot", "."),
    ] {
        trees.push((what, world.cache.tree([(name, file)], [])));
    }
    let disorder = world.cache.tree([("b", file), ("a", file)], []);
    trees.push(("names in disorder", disorder));
    trees.push((
        "one name twice",
        world.cache.tree([("a", file), ("a", file)], []),
    ));
    let both = world.cache.tree([], []);
    let both = world.cache.tree([("a", file)], [("a", both, meta)]);
    trees.push(("a file and a directory of one name", both));
    let junk = world
        .cache
        .add(ObjectKind::Dirtree, b"no directory".to_vec());
    trees.push(("a root that is no directory", junk));
    let mut deep = world.cache.tree([], []);
    for _ in 0..300 {
        deep = world.cache.tree([], [("d", deep, meta)]);
    }
    trees.push(("directories that nest too deep", deep));
    for (what, content, size) in [
        ("a bomb", vec![0; 2_000_000], 10),
        ("a size that is too large", b"content".to_vec(), 8),
        ("a size that is too small", b"content".to_vec(), 6),
        ("a size beyond all limits", b"content".to_vec(), u64::MAX),
    ] {
        let (checksum, stored) = filez(&content, size);
        let id = ObjectId::new(ObjectKind::File, checksum);
        world.cache.put(&crate::cache::path_of(id), &stored);
        trees.push((what, world.cache.tree([("file", checksum)], [])));
    }
    for (what, tree) in trees {
        let commit = world.rooted(tree);
        // What is malformed names nothing.
        let objects = match Dirtree::parse(world.cache.object(of_tree(tree))) {
            Ok(_) => world.objects(commit),
            Err(_) => [ObjectId::commit(commit), of_tree(tree), of_meta(meta)]
                .map(|id| (id, Bytes::copy_from_slice(world.cache.object(id))))
                .to_vec(),
        };
        liars.sends(what, commit, &objects);
    }
    let plain = world.cache.tree([("a", file)], []);
    let junk = world.cache.add(ObjectKind::Commit, b"no commit".to_vec());
    let stored = Bytes::from_static(b"no commit");
    liars.sends(
        "a commit that is none",
        junk,
        &[(ObjectId::commit(junk), stored)],
    );
    let bound = world.cache.add_commit(&Commit {
        parent: Some(world.old),
        timestamp: 2,
        ref_bindings: Some(vec!["another/ref".to_owned()]),
        ..Commit::new(plain, meta)
    });
    let objects = world.objects(bound);
    liars.sends("a commit of another ref", bound, &objects);
    let tree = Dirtree::serialize([("file", Checksum::of(b"nowhere"))], []);
    let tree = world.cache.add(ObjectKind::Dirtree, tree);
    let commit = world.rooted(tree);
    let ids = [ObjectId::commit(commit), of_tree(tree), of_meta(meta)];
    let objects = ids.map(|id| (id, Bytes::copy_from_slice(world.cache.object(id))));
    liars.sends("a file that is nowhere", commit, &objects);
}

fn of_tree(checksum: Checksum) -> ObjectId {
    ObjectId::new(ObjectKind::Dirtree, checksum)
}

fn of_meta(checksum: Checksum) -> ObjectId {
    ObjectId::new(ObjectKind::Dirmeta, checksum)
}

/// Streams that break their rules.
fn wrong_streams(liars: &mut Liars, world: &World) {
    let all = world.objects(world.new);
    let large = |(id, stored): &&Object| id.kind == ObjectKind::File && stored.len() > 100_000;
    let (file, stored) = all.iter().find(large).unwrap().clone();
    let others: Vec<_> = all.iter().filter(|(id, _)| *id != file).cloned().collect();
    let mut says = |name: &str, frames: Vec<Frame>| {
        let mut all_frames = vec![answer(vec![(REF, promised(world.new))]), pack(&others)];
        all_frames.extend(frames);
        all_frames.push(sent(&all));
        liars.says(name, all_frames);
    };
    let middle = stored.len() / 2;
    let (head, tail) = (stored.slice(..middle), stored.slice(middle..));
    says(
        "a stream that is never ended",
        vec![begin(0, file), chunk(0, stored.clone())],
    );
    says(
        "a stream that was not begun",
        vec![chunk(0, stored.clone()), end(0)],
    );
    says("an end without a beginning", vec![end(3)]);
    says("a stream begun twice", vec![begin(0, file), begin(0, file)]);
    says(
        "a stream beyond the limit",
        vec![begin(200, file), chunk(200, stored.clone()), end(200)],
    );
    says(
        "a stream without its tail",
        vec![begin(0, file), chunk(0, head.clone()), end(0)],
    );
    let swapped = vec![
        begin(0, file),
        chunk(0, tail.clone()),
        chunk(0, head.clone()),
        end(0),
    ];
    says("a stream in disorder", swapped);
    let more = vec![
        begin(0, file),
        chunk(0, stored.clone()),
        chunk(0, &b"x"[..]),
        end(0),
    ];
    says("a stream with a byte more", more);
    says(
        "an object in two streams",
        vec![
            begin(0, file),
            begin(1, file),
            chunk(0, stored.clone()),
            end(0),
            end(1),
        ],
    );
    let (tree, _) = others
        .iter()
        .find(|(id, _)| id.kind == ObjectKind::Dirtree)
        .unwrap();
    says(
        "a directory that came already, in pieces",
        vec![begin(0, *tree), end(0)],
    );

    let id = ObjectId::commit(world.new);
    let mut frames = vec![answer(vec![(REF, promised(world.new))]), begin(0, id)];
    let block = Bytes::from(noise(1 << 20));
    frames.extend((0..=MAX_METADATA_LEN >> 20).map(|_| chunk(0, block.clone())));
    frames.push(end(0));
    liars.says("a commit longer than there can be", frames);
}

/// Detached metadata that were not promised, or are others.
fn wrong_metadata(liars: &mut Liars, world: &World) {
    let all = world.objects(world.new);
    let good = metadata();
    let detached = |commit, metadata: &[u8]| {
        let metadata = Bytes::copy_from_slice(metadata);
        Frame::Detached(Detached { commit, metadata })
    };
    let mut says = |name: &str, promise: Option<&[u8]>, frames: Vec<Frame>| {
        let promised = PullState::Promised {
            commit: world.new,
            detached: promise.map(Checksum::of),
        };
        let mut all_frames = vec![answer(vec![(REF, promised)])];
        all_frames.extend(frames);
        all_frames.extend([pack(&all), sent(&all)]);
        liars.says(name, all_frames);
    };
    let new = world.new;
    says(
        "metadata that were not promised",
        None,
        vec![detached(new, &good)],
    );
    says(
        "other metadata",
        Some(&good),
        vec![detached(new, &serialize_signature(&[8; 64]))],
    );
    says(
        "metadata of another commit",
        Some(&good),
        vec![detached(world.other, &good)],
    );
    says("metadata that never come", Some(&good), vec![]);
    let twice = vec![detached(new, &good), detached(new, &good)];
    says("metadata twice", Some(&good), twice);
    let junk = noise(100);
    says(
        "metadata that are none",
        Some(&junk),
        vec![detached(new, &junk)],
    );
    let long = noise(MAX_DETACHED_LEN + 1);
    says(
        "metadata longer than there can be",
        Some(&long),
        vec![detached(new, &long)],
    );
}

/// Bytes that are no frames.
fn no_frames(liars: &mut Liars, world: &World) {
    let all = world.objects(world.new);
    let mut good = Liars::default();
    good.sends("", world.new, &all);
    let good = good.0.remove(0).says;
    liars.raw("silence and an end", Vec::new());
    liars.raw("a web page", b"<html>404</html>\r\n".to_vec());
    liars.raw("a shell", b"Last login: yesterday\n$ ".to_vec());
    liars.raw(
        "another preamble",
        [b"\x89BCD\r\n\x1a\n", &good[8..]].concat(),
    );
    let head = PREAMBLE.len();
    for (what, at, byte) in [
        ("a kind that is unknown", head + 1, 0x7f),
        ("flags that are unknown", head + 3, 0x40),
        ("a length without end", head + 7, 0xff),
    ] {
        let mut bytes = good.clone();
        bytes[at] = byte;
        liars.raw(what, bytes);
    }
    for part in 1..16 {
        let cut = good.len() * part / 16;
        liars.raw(&format!("cut off at {cut}"), good[..cut].to_vec());
    }
    let mut old = PREAMBLE.to_vec();
    old.extend(
        Frame::Welcome(Welcome {
            version: Version(99),
            features: Features::PULL,
            limits: Limits::default(),
            agent: Text::default(),
            pull_url: None,
            identity: None,
            extensions: Extensions::default(),
        })
        .encode(),
    );
    liars.raw("a version that was not offered", old);
    let mut pings = PREAMBLE.to_vec();
    pings.extend(welcome().encode());
    let ping = Frame::Ping(Ping {}).encode();
    (0..10_000).for_each(|_| pings.extend(&ping));
    liars.raw("nothing but signs of life", pings);
    // More of an object than this client takes.
    let mut endless = Liars::default();
    let promise = answer(vec![(REF, promised(world.new))]);
    let file = all
        .iter()
        .find(|(id, _)| id.kind == ObjectKind::File)
        .unwrap()
        .0;
    let metadata: Vec<_> = all
        .iter()
        .filter(|(id, _)| id.kind != ObjectKind::File)
        .cloned()
        .collect();
    let endless_chunk = chunk(0, vec![0; 64 * 1024]);
    endless.says(
        "a file without end",
        vec![promise, pack(&metadata), begin(0, file), endless_chunk],
    );
    liars.0.extend(endless.0.into_iter().map(|liar| Liar {
        is_endless: true,
        ..liar
    }));
}

fn liars() -> (World, Vec<Liar>) {
    let mut world = World::new();
    let mut liars = Liars::default();
    out_of_place(&mut liars, &world);
    contradictions(&mut liars, &world);
    wrong_streams(&mut liars, &world);
    wrong_metadata(&mut liars, &world);
    no_frames(&mut liars, &world);
    wrong_objects(&mut liars, &mut world);
    wrong_trees(&mut liars, &mut world);
    (world, liars.0)
}

/// Reads the request, and says what a liar says.
async fn lie(mut stream: DuplexStream, liar: Liar) {
    let mut request = vec![0; 64 * 1024];
    let _ = stream.read(&mut request).await;
    if stream.write_all(&liar.says).await.is_err() {
        return;
    }
    if liar.is_endless {
        let last = chunk(0, vec![0; 64 * 1024]).encode();
        while stream.write_all(&last).await.is_ok() {}
    }
}

/// Returns what is wrong with the way in which a client takes a lie.
async fn take(here: Arc<Here>, liar: Liar) -> Option<String> {
    let name = liar.name.clone();
    let before = here.visible();
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let lying = tokio::spawn(lie(theirs, liar));
    let pull = here.pull().reference(REF.parse().unwrap());
    let pulled = pull.over(ours, Holds::Something, |_| ());
    let Ok(result) = tokio::time::timeout(Duration::from_secs(60), pulled).await else {
        return Some(format!("{name}: it does not end"));
    };
    lying.abort();
    let mut wrong = String::new();
    let is_told = match &result {
        Err(_) => true,
        // It asks once more, and says that it holds nothing.
        Ok(None) => false,
        Ok(Some(report)) => report.refs.iter().all(|pulled| match &pulled.outcome {
            Outcome::Failed(_) | Outcome::Refused(Left::Store(_)) => true,
            Outcome::Refused(_) | Outcome::Pulled | Outcome::Unchanged | Outcome::WouldPull => {
                false
            }
        }),
    };
    if !is_told {
        let _ = write!(wrong, "{name}: no word of it: {result:?}");
    }
    if here.visible() != before {
        let _ = write!(wrong, "{name}: something has changed");
    }
    Some(wrong).filter(|wrong| !wrong.is_empty())
}

/// Returns what stock ostree finds wrong with a repository.
fn fsck(repo: &Path) -> Option<String> {
    let mut ostree = Command::new("ostree");
    ostree
        .arg("fsck")
        .arg("--quiet")
        .arg(format!("--repo={}", repo.display()));
    let ran = ostree.output().expect("ostree runs");
    let said = || String::from_utf8_lossy(&ran.stderr).into_owned();
    (!ran.status.success()).then(said)
}

/// A repository that has a complete commit, which the server's descends from.
async fn here(world: &World) -> Arc<Here> {
    let here = Arc::new(Here::new());
    let one: Pull = here.pull().reference(REF.parse().unwrap());
    let (report, _) = pull(one, &world.cache, Way::Good).await;
    assert!(matches!(report.unwrap().refs[0].outcome, Outcome::Pulled));
    assert_eq!(here.held(REF), Some(world.old));
    here
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_lies_changes_nothing_and_is_told() {
    let (world, liars) = liars();
    assert!(liars.len() >= 100, "{} liars", liars.len());
    let mut running = JoinSet::new();
    let mut wrong = Vec::new();
    let mut liars = liars.into_iter();
    let mut last = here(&world).await;
    loop {
        while running.len() < 8
            && let Some(liar) = liars.next()
        {
            last = here(&world).await;
            running.spawn(take(Arc::clone(&last), liar));
        }
        match running.join_next().await {
            Some(taken) => wrong.extend(taken.unwrap()),
            None => break,
        }
    }
    // All others have the same files.
    wrong.extend(fsck(&last.path()));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn the_same_answer_without_a_lie_is_taken() {
    let world = World::new();
    let here = here(&world).await;
    let mut honest = Liars::default();
    honest.sends("", world.new, &world.objects(world.new));
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let server = tokio::spawn(lie(theirs, honest.0.remove(0)));
    let one = here.pull().reference(REF.parse().unwrap());
    let report = one.over(ours, Holds::Something, |_| ()).await;
    assert!(matches!(
        report.unwrap().unwrap().refs[0].outcome,
        Outcome::Pulled
    ));
    assert_eq!(here.held(REF), Some(world.new));
    server.await.unwrap();
}

#[tokio::test]
async fn a_server_that_answers_no_pulls_says_where_its_files_are() {
    let here = Here::new();
    let url = Text::new("https://cache.example.com/artifacts");
    let Frame::Welcome(mut welcome) = welcome() else {
        unreachable!("it is one");
    };
    (welcome.features, welcome.pull_url) = (Features::default(), Some(url.clone()));
    let mut liars = Liars::default();
    let says = [&PREAMBLE[..], &Frame::Welcome(welcome).encode()].concat();
    liars.raw("", says);
    let (ours, theirs) = tokio::io::duplex(256 * 1024);
    let server = tokio::spawn(lie(theirs, liars.0.remove(0)));
    let one = here.pull().reference(REF.parse().unwrap());
    let result = one.over(ours, Holds::Something, |_| ()).await;
    let Err(Error::NotServed { pull_url }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(pull_url, Some(url));
    server.await.unwrap();
}
