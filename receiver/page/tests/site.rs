//! Pages of real repositories, as clients receive them.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use artifact_page::{Options, Page, Site};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// Makes a repository of mode archive with these refs, whose commits do not exist: a page does not
/// look at them.
fn repo(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let put = |path: &str, content: &str| {
        let path = dir.path().join("repo").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    };
    put("config", "[core]\nrepo_version=1\nmode=archive-z2\n");
    put("objects/00/x", "");
    put("refs/heads/.none", "");
    for name in names {
        put(
            &format!("refs/heads/{name}"),
            &format!("{}\n", "ab".repeat(32)),
        );
    }
    dir
}

fn site(dir: &TempDir, audit: Option<&Path>) -> Site {
    let options = Options {
        at: "/artifacts".to_owned(),
        audit: audit.map(Path::to_owned),
        ..Options::default()
    };
    Site::open(&dir.path().join("repo"), options).unwrap()
}

fn ask(site: &Site, target: &str) -> Option<Page> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    site.answer(path, Some(query), "cache.example.com")
}

fn text(page: &Page) -> &str {
    std::str::from_utf8(&page.body).unwrap()
}

/// Returns the targets of the links of a page, resolved against its own address.
fn links(page: &str, address: &str) -> Vec<String> {
    let targets = page.split("href=\"").skip(1);
    let targets = targets.filter_map(|rest| rest.split('"').next());
    let own = targets.filter(|target| !target.contains(':') && !target.starts_with('#'));
    own.map(|target| {
        let target = target.replace("&#38;", "&").replace("&amp;", "&");
        let target = target.split('#').next().unwrap_or_default().to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut parts: Vec<&str> = address
            .split('?')
            .next()
            .unwrap_or_default()
            .split('/')
            .collect();
        parts.pop();
        for part in path.split('/') {
            match part {
                "." => {}
                ".." => assert!(
                    parts.pop().is_some_and(|up| !up.is_empty()),
                    "{target} of {address}"
                ),
                part => parts.push(part),
            }
        }
        let path = parts.join("/").replace("//", "/");
        if query.is_empty() {
            path
        } else {
            format!("{path}?{query}")
        }
    })
    .collect()
}

/// Returns the names of more elements and keys than a page shows.
fn many() -> Vec<String> {
    let keys = (0..230).map(|n| format!("alpha/greeting/k{n}"));
    let elements = (0..120).map(|n| format!("alpha/e{n}/x/k"));
    let projects = (0..110).map(|n| format!("p{n}/e/k"));
    let odd = [
        "main",
        "p0/k",
        "alpha/index.html/k",
        "alpha/index.html/x/index.html",
        "caf\u{e9}/\u{e9}/k",
    ];
    keys.chain(elements)
        .chain(projects)
        .chain(odd.map(str::to_owned))
        .collect()
}

#[test]
fn every_link_leads_to_a_page_and_every_ref_is_on_one() {
    let names = many();
    let dir = repo(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let site = site(&dir, None);
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    let mut todo = vec!["/".to_owned(), "/search?q=alpha+k".to_owned()];
    while let Some(target) = todo.pop() {
        if seen.contains_key(&target) {
            continue;
        }
        let page = ask(&site, &target).unwrap_or_else(|| panic!("nothing at {target}"));
        assert_eq!(page.status, 200, "{target}");
        todo.extend(links(text(&page), &target));
        seen.insert(target, text(&page).to_owned());
    }
    let pages = seen
        .iter()
        .filter(|(target, _)| !target.starts_with("/search"));
    let mut shown: BTreeMap<String, usize> = BTreeMap::new();
    for (_, page) in pages {
        for rest in page.split("https://cache.example.com/artifacts ").skip(1) {
            let name = rest.split("</code>").next().unwrap_or_default();
            *shown.entry(name.replace("&#39;", "")).or_default() += 1;
        }
    }
    for name in &names {
        assert_eq!(shown.get(name), Some(&1), "{name}");
    }
    // Three pages of keys, two of elements, two of projects, and four of search results.
    for (target, pages) in [
        ("/p/alpha/greeting/?page=", 2),
        ("/p/alpha/?page=", 1),
        ("/?page=", 1),
        ("/search?q=alpha%20k&page=", 3),
    ] {
        let found = seen
            .keys()
            .filter(|key| key.starts_with(target) && !key.ends_with("page=1"));
        assert_eq!(found.count(), pages, "{target}");
    }
    assert!(seen.len() > 240, "{}", seen.len());
}

#[test]
fn the_same_pages_are_files_that_lead_to_each_other() {
    let names = many();
    let dir = repo(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let site = site(&dir, None);
    let out = dir.path().join("out");
    let mut files = BTreeMap::new();
    let count = site.files(|path, content| {
        // Two files at one path, or a file at the path of a directory, would fail here.
        let file = out.join(path);
        fs::create_dir_all(file.parent().unwrap())?;
        fs::File::create_new(&file)?;
        files.insert(
            format!("/{path}"),
            String::from_utf8(content.to_vec()).unwrap(),
        );
        Ok(())
    });
    assert_eq!(count.unwrap(), files.len());
    assert!(files.len() > 240);
    let mut led_to = std::collections::BTreeSet::from(["/index.html".to_owned()]);
    for (path, page) in &files {
        for link in links(page, path) {
            let link = link.replace("%C3%A9", "\u{e9}");
            assert!(files.contains_key(&link), "{link} of {path}");
            led_to.insert(link);
        }
        assert!(
            !page.contains("<form") && page.contains("Written"),
            "{path}"
        );
    }
    assert_eq!(led_to.len(), files.len());
}

#[test]
fn what_is_not_there_is_404_and_what_is_not_ours_is_left_alone() {
    let dir = repo(&["a/b/c"]);
    let site = site(&dir, None);
    let status = |target: &str| ask(&site, target).map(|page| page.status);
    for target in [
        "/p/a/x/",
        "/p/x/",
        "/p/a/b/?page=2",
        "/?page=2",
        "/p/",
        "/p/a/b/c/",
        "/p/%00/",
        "/?page=x",
    ] {
        assert_eq!(status(target), Some(404), "{target}");
    }
    for target in ["/summary", "/refs/heads/a/b/c", "/config", "/index.html"] {
        assert_eq!(status(target), None, "{target}");
    }
    let moved = ask(&site, "/p/a").unwrap();
    assert_eq!(
        (moved.status, &moved.headers[0]),
        (308, &("Location", "a/".to_owned()))
    );
    let missing = site.not_found("/x/y/z", "cache.example.com");
    assert_eq!(links(text(&missing), "/x/y/z"), ["/", "/"]);
}

#[test]
fn nothing_that_others_say_is_more_than_text_on_a_page() {
    let dir = repo(&["a/b/c"]);
    let hostile = "\"><script>alert(1)</script><img src=x>'\u{202e}\u{1b}[2J\u{0}";
    let record = serde_json::json!({
        "time": "2026-01-01T00:00:00Z", "session": hostile, "identity": hostile, "client": hostile,
        "agent": hostile, "protocol": 2, "outcome": "done", "error": hostile,
        "refs": [
            {"name": hostile, "new": "ab".repeat(32), "outcome": "updated", "why": hostile},
            {"name": "a/b/c", "new": "ab".repeat(32), "outcome": "updated"},
        ],
        "objects": 1, "bytes": 1, "duration_ms": 1,
    });
    let audit = dir.path().join("audit");
    fs::write(&audit, format!("{record}\n")).unwrap();
    let site = site(&dir, Some(&audit));
    let query = "q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AE%1B";
    for (path, query) in [
        ("/", None),
        ("/p/a/b/", None),
        ("/search", Some(query)),
        ("/p/%3Cimg%20src=x%3E/", None),
    ] {
        let page = site.answer(path, query, hostile).unwrap();
        let text = text(&page);
        assert_eq!(text.matches("<script").count(), 1, "{path}");
        assert!(!text.contains("<img"), "{path}");
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{0}']), "{path}");
        let known = text.contains("alert(1)");
        assert_eq!(known, !path.contains("img"), "{path}");
        // An invalid host is in no line to copy.
        assert!(!text.contains("--remote https"), "{path}");
    }
}

#[test]
fn a_page_may_use_its_one_style_and_script_and_has_a_tag_of_its_content() {
    let dir = repo(&["a/b/c"]);
    let site = site(&dir, None);
    let page = ask(&site, "/p/a/b/").unwrap();
    let header = |name: &str| {
        let found = page.headers.iter().find(|(header, _)| *header == name);
        found.map(|(_, value)| value.clone()).unwrap()
    };
    let policy = header("Content-Security-Policy");
    assert!(
        policy.starts_with("default-src 'none'; ") && !policy.contains("unsafe"),
        "{policy}"
    );
    for tag in ["style", "script"] {
        let (_, rest) = text(&page).split_once(&format!("<{tag}>")).unwrap();
        let (inside, _) = rest.split_once(&format!("</{tag}>")).unwrap();
        let hash = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            Sha256::digest(inside),
        );
        assert!(
            policy.contains(&format!("{tag}-src 'sha256-{hash}'")),
            "{tag}"
        );
        assert!(inside.len() > 500);
    }
    for forbidden in [
        "style=\"",
        "onclick",
        "http-equiv=\"refresh\"",
        "src=\"http",
        "url(",
    ] {
        assert!(!text(&page).contains(forbidden), "{forbidden}");
    }
    assert_eq!(ask(&site, "/p/a/b/").unwrap().headers, page.headers);
    let other = ask(&site, "/").unwrap();
    assert!(!other.headers.contains(&("ETag", header("ETag"))));
}

#[test]
fn an_empty_cache_says_how_to_push_and_one_that_is_none_is_refused() {
    let dir = repo(&[]);
    let page = ask(&site(&dir, None), "/").unwrap();
    let text = text(&page);
    assert!(text.contains("Push the first artifact"), "{text}");
    assert!(text.contains("ssh://artifacts@cache.example.com/artifacts alpha/greeting/1"));
    assert!(!text.contains("<table"));
    fs::remove_file(dir.path().join("repo/config")).unwrap();
    assert!(Site::open(&dir.path().join("repo"), Options::default()).is_err());
}
