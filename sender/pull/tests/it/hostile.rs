//! Hostile and broken caches: whatever one sends, nothing changes here, and the pull ends.

use std::collections::BTreeMap;

use artifact_formats::{Checksum, Commit, Dirtree, ObjectId, ObjectKind, Summary, SummaryRef};
use artifact_puller::Pull;
use tokio::task::JoinSet;

use crate::cache::{Cache, Here, REF, filez, noise, origin, path_of};
use crate::server::{Answer, Server};

/// A way in which a cache is bad.
struct Case {
    name: String,
    cache: Cache,
    special: BTreeMap<String, Answer>,
    pull: fn(Pull) -> Pull,
}

fn by_name(pull: Pull) -> Pull {
    pull.reference(REF.parse().unwrap())
}

fn by_pattern(pull: Pull) -> Pull {
    pull.matching("**".parse().unwrap())
}

fn deep(pull: Pull) -> Pull {
    by_name(pull).depth(3)
}

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{rest}\r\n").into_bytes()
}

fn raw(rest: &str, body: &[u8]) -> Answer {
    Answer::Raw([&head(rest), body].concat())
}

/// Answers for a file that are wrong whatever the file is.
fn wrong_answers(good: &[u8]) -> Vec<(&'static str, Answer)> {
    let flipped = |at: usize| {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x40;
        Answer::File(bytes)
    };
    let half = good.len() / 2;
    vec![
        ("its first byte flipped", flipped(0)),
        ("its middle flipped", flipped(half)),
        ("its last byte flipped", flipped(good.len() - 1)),
        ("half of it", Answer::File(good[..half].to_vec())),
        ("nothing", Answer::File(Vec::new())),
        ("a byte more", Answer::File([good, b"x"].concat())),
        ("twice itself", Answer::File([good, good].concat())),
        ("404", Answer::status("404 Not Found")),
        ("403", Answer::status("403 Forbidden")),
        ("500", Answer::status("500 Internal Server Error")),
        (
            "204",
            Answer::Raw(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        ),
        ("an endless body", Answer::Endless(head(""), vec![0; 4096])),
        (
            "an endless text",
            Answer::Endless([&head(""), good].concat(), vec![b'a'; 4096]),
        ),
        (
            "a huge length",
            raw("Content-Length: 18446744073709551615\r\n", good),
        ),
        (
            "too large a length",
            raw("Content-Length: 99999999\r\n", good),
        ),
        (
            "two lengths",
            raw("Content-Length: 1\r\nContent-Length: 99\r\n", good),
        ),
        (
            "bad chunks",
            raw("Transfer-Encoding: chunked\r\n", b"zz\r\nabc"),
        ),
        ("silence", Answer::Silent(head("Content-Length: 500\r\n"))),
        ("a loop", Answer::redirect("")),
        (
            "a file of this machine",
            Answer::redirect("file:///etc/hostname"),
        ),
        ("another scheme", Answer::redirect("gopher://127.0.0.1/x")),
        ("no HTTP", Answer::Raw(b"SSH-2.0-OpenSSH\r\n\r\n".to_vec())),
        (
            "endless headers",
            Answer::Endless(b"HTTP/1.1 200 OK\r\n".to_vec(), b"A: b\r\n".to_vec()),
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, cache: &Cache, special, pull| {
        cases.push(Case {
            name,
            cache: cache.clone(),
            special,
            pull,
        });
    };
    let good = Cache::new();
    for extension in ["commit", "dirtree", "dirmeta", "filez"] {
        let path = good.some(extension);
        for (what, answer) in wrong_answers(&good.files[&path]) {
            let special = BTreeMap::from([(path.clone(), answer)]);
            add(format!("a {extension}: {what}"), &good, special, by_name);
        }
        // An object that is good, but another one.
        let mut swapped = good.clone();
        let (mut other, _) = (Cache::new(), ());
        other.commit("other", None);
        let mut others = other.files.keys().filter(|p| p.ends_with(extension));
        if let Some(another) = others.find(|other| **other != path) {
            swapped.put(&path, &other.files[another]);
            add(
                format!("another {extension}"),
                &swapped,
                BTreeMap::new(),
                by_name,
            );
        }
    }
    let head_file = format!("refs/heads/{REF}");
    for (file, pull) in [
        ("config", by_name as fn(Pull) -> Pull),
        (&head_file, by_name),
        ("summary", by_pattern),
    ] {
        for (what, answer) in wrong_answers(&good.files[file]) {
            // These are still good configurations or refs, or mean that there is nothing.
            let is_fine = match (file, what) {
                ("config", "twice itself" | "its last byte flipped") => true,
                (_, "404") => file != "config",
                (_, "a byte more") => file == "config",
                ("config", "half of it" | "too large a length") => true,
                // The name of another ref.
                ("summary", "its first byte flipped") => true,
                _ => false,
            };
            if !is_fine {
                let special = BTreeMap::from([(file.to_owned(), answer)]);
                add(format!("{file}: {what}"), &good, special, pull);
            }
        }
    }
    cases.extend(contradictions());
    cases
}

fn case(name: &str, cache: Cache, pull: fn(Pull) -> Pull) -> Case {
    Case {
        name: name.to_owned(),
        cache,
        special: BTreeMap::new(),
        pull,
    }
}

/// Caches whose files are what their names say, and wrong all the same.
fn contradictions() -> Vec<Case> {
    let mut cases = Vec::new();
    let with_root = |root: &dyn Fn(&mut Cache) -> Checksum| {
        let mut cache = Cache::new();
        let (tree, meta) = (root(&mut cache), cache.meta());
        let commit = Commit::new(tree, meta);
        let commit = cache.add_commit(&commit);
        cache.set(REF, commit);
        cache
    };
    for (what, name) in [
        ("a name that leads upwards", ".."),
        ("a name with a slash", "a/b"),
        ("an absolute name", "/etc/passwd"),
        ("an empty name", ""),
    ] {
        let cache = with_root(&|cache| {
            let file = cache.file(b"x");
            cache.tree([(name, file)], [])
        });
        cases.push(case(what, cache, by_name));
    }
    let cache = with_root(&|cache| {
        let file = cache.file(b"x");
        cache.tree([("b", file), ("a", file)], [])
    });
    cases.push(case("names in disorder", cache, by_name));
    // The size is outside of the checksum.
    for (what, content, size) in [
        ("a bomb", vec![0; 20_000_000], 10),
        ("a size that is too large", b"content".to_vec(), 8),
        ("a size that is too small", b"content".to_vec(), 6),
        ("a size beyond all limits", b"content".to_vec(), u64::MAX),
    ] {
        let cache = with_root(&|cache| {
            let (checksum, stored) = filez(&content, size);
            cache.put(&path_of(ObjectId::new(ObjectKind::File, checksum)), &stored);
            cache.tree([("file", checksum)], [])
        });
        cases.push(case(what, cache, by_name));
    }
    let cache = with_root(&|cache| cache.add(ObjectKind::Dirtree, b"no directory".to_vec()));
    cases.push(case("a root that is no directory", cache, by_name));
    let cache = with_root(&|cache| {
        let mut tree = cache.tree([], []);
        let meta = cache.meta();
        for _ in 0..300 {
            tree = cache.tree([], [("d", tree, meta)]);
        }
        tree
    });
    cases.push(case("directories that nest too deep", cache, by_name));
    let cache = with_root(&|cache| {
        let tree = Dirtree::serialize([("file", Checksum::of(b"nowhere"))], []);
        cache.add(ObjectKind::Dirtree, tree)
    });
    cases.push(case("a file that is nowhere", cache, by_name));
    let mut cache = Cache::new();
    let (tree, meta) = (cache.tree([], []), cache.meta());
    let bound = Commit {
        ref_bindings: Some(vec!["another/ref".to_owned()]),
        ..Commit::new(tree, meta)
    };
    let bound = cache.add_commit(&bound);
    cache.set(REF, bound);
    cases.push(case("a commit of another ref", cache, by_name));
    let mut cache = Cache::new();
    let junk = cache.add(ObjectKind::Commit, b"no commit".to_vec());
    cache.put(&format!("refs/heads/{REF}"), format!("{junk}\n").as_bytes());
    cases.push(case(
        "a ref to something else than a commit",
        cache,
        by_name,
    ));
    let mut cache = Cache::new();
    let parent = cache.add(ObjectKind::Commit, noise(500));
    let (commit, _) = cache.commit("child", Some(parent));
    cache.set(REF, commit);
    cases.push(case("a parent that is no commit", cache, deep));
    for (what, detached) in [
        ("detached metadata that are none", noise(100)),
        ("detached metadata without an end", noise(2_000_000)),
    ] {
        let mut cache = Cache::new();
        let id = ObjectId::commit(cache.head());
        cache.put(
            &format!("objects/{}", id.loose_path("commitmeta")),
            &detached,
        );
        cases.push(case(what, cache, by_name));
    }
    let mut cache = Cache::new();
    let mut summary = Summary::default();
    for name in [
        "../../../etc/x",
        "a//b",
        "a/../b",
        "/abs",
        "a\nb",
        "-dash",
        ".hidden",
        "deadbeef",
    ] {
        let entry = SummaryRef {
            commit: cache.head(),
            commit_len: 1,
            timestamp: None,
            version: None,
            size: None,
        };
        summary.refs.insert(name.to_owned(), entry);
    }
    cache.put("summary", &summary.serialize());
    cases.push(case("names of refs that lead elsewhere", cache, by_pattern));
    let mut cache = Cache::new();
    cache.put("config", b"[core]\nrepo_version=1\nmode=bare-user\n");
    cases.push(case("a mode that the web cannot serve", cache, by_name));
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_cache_changes_nothing_and_ends_the_pull() {
    let cases = cases();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut running = JoinSet::new();
    let mut cases = cases.into_iter();
    let mut bad = Vec::new();
    loop {
        while running.len() < 48
            && let Some(case) = cases.next()
        {
            running.spawn(async move {
                let result = tokio::time::timeout(std::time::Duration::from_secs(40), run(&case));
                (case.name.clone(), result.await)
            });
        }
        match running.join_next().await {
            None => break,
            Some(ended) => match ended.unwrap() {
                (_, Ok(Ok(()))) => {}
                (name, Ok(Err(why))) => bad.push(format!("{name}: {why}")),
                (name, Err(_)) => bad.push(format!("{name}: it does not end")),
            },
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

async fn run(case: &Case) -> Result<(), String> {
    let here = Here::new();
    let before = here.visible();
    let server = Server::start(case.cache.files.clone(), case.special.clone()).await;
    let pull = (case.pull)(here.pull());
    let result = pull.from(&origin(&server), |_| ()).await;
    let told = match &result {
        Err(_) => true,
        Ok(report) => {
            let mut refs = report.refs.iter();
            let failed = |r: &artifact_puller::PulledRef| {
                matches!(r.outcome, artifact_puller::Outcome::Failed(_))
            };
            !report.left_out.is_empty() || (!report.refs.is_empty() && refs.all(failed))
        }
    };
    if !told {
        return Err(format!("no word of it: {result:?}"));
    }
    match here.visible() == before {
        true => Ok(()),
        false => Err(format!("something changed: {:?}", here.visible().keys())),
    }
}
