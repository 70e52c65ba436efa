//! What a user reads from caches: pull, list, check, and the configuration that names them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use artifact_formats::ObjectKind;
use artifact_tests::cache::Cache;
use artifact_tests::exec::{Failure, Ran, run};
use artifact_tests::http::HttpServer;
use artifact_tests::listing::compare;
use artifact_tests::programs;
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::tree::Tree;
use serde_json::Value;

use crate::{every_kind, source};

const ONE: &str = "project/one/key";
const TWO: &str = "project/two/key";
/// A port on which no server listens.
const NOWHERE: &str = "http://127.0.0.1:1";

/// A cache that holds two artifacts, and the repository they came from.
struct Scene {
    cache: Cache,
    tree: Tree,
    from: Repo,
}

impl Scene {
    fn start() -> Result<Self, Failure> {
        let cache = Cache::start()?;
        let (tree, from) = (every_kind(&cache)?, source(&cache, Mode::BareUser)?);
        from.commit(TWO, tree.root(), &[])?;
        tree.file("more", b"something more", 0o644)?;
        from.commit(ONE, tree.root(), &[])?;
        cache.push(&from, &[ONE, TWO])?.must_exit(0)?;
        Ok(Self { cache, tree, from })
    }

    /// Runs a subcommand with arguments.
    fn client(&self, subcommand: &str, arguments: &[&str]) -> Result<Ran, Failure> {
        run(self.cache.client(subcommand)?.args(arguments))
    }

    /// Pulls into the repository `local`.
    fn pull(&self, arguments: &[&str]) -> Result<Ran, Failure> {
        let local = self.local().path().display().to_string();
        self.client("pull", &[&["--repo", local.as_str()], arguments].concat())
    }

    fn local(&self) -> Repo {
        Repo::at(&self.cache.scratch("local"))
    }

    /// Serves a copy of the cache with other refs, as another cache.
    fn copy(&self, name: &str, refs: &[&str]) -> Result<(PathBuf, HttpServer), Failure> {
        let path = self.cache.scratch(name);
        let copy = Repo::init(&path, Mode::Archive)?;
        // Over HTTP: objects pulled from a path would be links to the originals.
        copy.pull_http(&self.cache.pull_url(), refs)?;
        copy.ostree("summary", ["-u"])?;
        let server = HttpServer::start(&path)?;
        Ok((path, server))
    }

    /// Moves a file object out of a copy; returns its old and new paths.
    fn put_a_file_away(&self, copy: &Path) -> Result<(PathBuf, PathBuf), Failure> {
        let id = Repo::at(copy).objects(ObjectKind::File)?[0];
        let place = copy.join("objects").join(id.archive_path());
        let away = self.cache.scratch("away");
        fs::rename(&place, &away).map_err(Failure::doing("put a file away"))?;
        Ok((place, away))
    }

    /// Checks that a ref is in `local`, complete, and names the right tree.
    fn must_have(&self, name: &str) -> Result<(), Failure> {
        let local = self.local();
        if local.commit_of(name)? != self.from.commit_of(name)? {
            return Err(Failure::new(format!("{name} is another commit here")));
        }
        local.fsck()?;
        if name == ONE {
            let checkout = self.cache.scratch("checkout");
            local.checkout(name, &checkout)?;
            compare(self.tree.root(), &checkout)?;
            fs::remove_dir_all(checkout).map_err(Failure::doing("clear up"))?;
        }
        Ok(())
    }
}

fn must_exit(ran: Ran, code: i32) -> Ran {
    assert_eq!(ran.code, Some(code), "{ran}");
    ran
}

fn objects(ran: &Ran) -> Vec<Value> {
    let read = |line| serde_json::from_str(line).expect("every line is JSON");
    ran.stdout.lines().map(read).collect()
}

#[test]
fn the_ssh_address_alone_is_enough_to_push_and_to_pull() {
    let scene = Scene::start().unwrap();
    let cache = &scene.cache;
    cache
        .configure(&format!("artifacts:\n  url: {}\n", cache.push_url()))
        .unwrap();
    scene
        .from
        .commit("project/three/key", scene.tree.root(), &[])
        .unwrap();
    let from = scene.from.path().display().to_string();
    let pushed = scene.client("push", &["--repo", &from, "project/three/key"]);
    must_exit(pushed.unwrap(), 0);
    let ran = must_exit(scene.pull(&[ONE, "project/three/key"]).unwrap(), 0);
    assert!(
        ran.stdout
            .contains("created a repository of mode bare-user"),
        "{ran}"
    );
    assert!(ran.stdout.contains(&cache.push_url()), "{ran}");
    scene.must_have(ONE).unwrap();
    scene.must_have("project/three/key").unwrap();
    let listed = must_exit(scene.client("list", &["--json"]).unwrap(), 0);
    let sizes: Vec<_> = objects(&listed)
        .iter()
        .map(|r#ref| r#ref["size"].as_u64())
        .collect();
    assert!(
        sizes.len() == 3 && sizes.iter().all(|size| *size > Some(300_000)),
        "{listed}"
    );
    let checked = must_exit(scene.client("check", &[]).unwrap(), 0);
    assert!(checked.stdout.contains("archive-z2, 3 refs"), "{checked}");
    assert!(
        checked.stdout.contains("the same as the receiver writes"),
        "{checked}"
    );
    cache.wait_idle().unwrap();
}

#[test]
fn every_mode_of_repository_can_be_pulled_into_over_the_web_and_from_a_path() {
    let scene = Scene::start().unwrap();
    let plain = "project/plain/key";
    let options = ["--canonical-permissions", "--no-xattrs"];
    scene
        .from
        .commit(plain, scene.tree.root(), &options)
        .unwrap();
    scene
        .cache
        .push(&scene.from, &[plain])
        .unwrap()
        .must_exit(0)
        .unwrap();
    let path = scene.cache.repo().path().display().to_string();
    for mode in ["archive", "bare-user", "bare-user-only", "bare"] {
        for remote in [&path, &scene.cache.pull_url()] {
            let local = scene.local();
            local.ostree("init", [format!("--mode={mode}")]).unwrap();
            must_exit(scene.pull(&["--remote", remote, plain]).unwrap(), 0);
            scene.must_have(plain).unwrap();
            // Only this mode cannot hold special permission bits.
            let code = if mode == "bare-user-only" { 7 } else { 0 };
            must_exit(scene.pull(&["--remote", remote, ONE]).unwrap(), code);
            fs::remove_dir_all(local.path()).unwrap();
        }
    }
}

#[test]
fn each_ref_comes_from_the_first_cache_that_has_it() {
    let scene = Scene::start().unwrap();
    let (_, first) = scene.copy("first", &[TWO]).unwrap();
    scene
        .cache
        .configure(&format!(
            "artifacts:\n- url: {}\n- url: {}\n",
            first.url(),
            scene.cache.pull_url()
        ))
        .unwrap();
    let ran = must_exit(scene.pull(&["--json", ONE, TWO]).unwrap(), 0);
    let came: Vec<_> = objects(&ran)
        .iter()
        .filter(|object| object["event"] == "done")
        .map(|done| (done["refs"][0]["name"].clone(), done["origin"].clone()))
        .collect();
    let expected = [
        (TWO.into(), first.url().into()),
        (ONE.into(), scene.cache.pull_url().into()),
    ];
    assert_eq!(came, expected, "{ran}");
    scene.must_have(ONE).unwrap();
    scene.must_have(TWO).unwrap();

    // Existing objects are not fetched again, and the pull names refs that no cache has.
    let ran = must_exit(scene.pull(&[ONE, "project/none/key"]).unwrap(), 4);
    assert!(ran.stdout.contains("unchanged"), "{ran}");
    assert!(
        ran.stderr.contains("no cache has project/none/key"),
        "{ran}"
    );

    let listed = must_exit(scene.client("list", &["--json"]).unwrap(), 0);
    let caches: Vec<_> = objects(&listed)
        .iter()
        .map(|r#ref| (r#ref["name"].clone(), r#ref["cache"].clone()))
        .collect();
    assert_eq!(
        caches,
        [
            (ONE.into(), scene.cache.pull_url().into()),
            (TWO.into(), Value::from(first.url())),
        ]
    );
}

#[test]
fn a_cache_out_of_reach_is_passed_over_unless_strict() {
    let scene = Scene::start().unwrap();
    let pull_url = scene.cache.pull_url();
    scene
        .cache
        .configure(&format!(
            "artifacts:\n- url: {NOWHERE}\n- url: {pull_url}\n"
        ))
        .unwrap();
    let ran = must_exit(scene.pull(&["--strict", ONE]).unwrap(), 5);
    assert!(ran.stderr.contains(NOWHERE), "{ran}");
    assert!(scene.local().refs().unwrap().is_empty());
    let ran = must_exit(scene.pull(&[ONE]).unwrap(), 0);
    assert!(ran.stderr.contains("warning: cannot read"), "{ran}");
    scene.must_have(ONE).unwrap();
    // A ref that the cache lacks may be in the cache that does not answer.
    must_exit(scene.pull(&["project/none/key"]).unwrap(), 5);
    must_exit(scene.pull(&["--remote", NOWHERE, ONE]).unwrap(), 5);
    let listed = must_exit(scene.client("list", &[]).unwrap(), 0);
    assert!(listed.stderr.contains("warning: cannot read"), "{listed}");
    must_exit(scene.client("list", &["--strict"]).unwrap(), 5);
}

#[test]
fn a_push_goes_to_all_that_are_to_be_pushed_to_and_passes_over_one_out_of_reach() {
    let scene = Scene::start().unwrap();
    let (near, _) = scene.copy("near", &[TWO]).unwrap();
    let gone = "ssh://127.0.0.1:1/gone";
    let configure = |near_push: &str, gone_push: &str| {
        let text = format!(
            "artifacts:\n- url: {gone}\n  push: {gone_push}\n- url: {}\n- url: {}\n  push: \
             {near_push}\n",
            scene.cache.pull_url(),
            near.display(),
        );
        scene.cache.configure(&text).unwrap();
    };
    let from = scene.from.path().display().to_string();
    let push = |arguments: &[&str]| {
        let arguments = [&["--repo", from.as_str()], arguments, &[ONE]].concat();
        scene.client("push", &arguments).unwrap()
    };
    configure("true", "true");
    let ran = must_exit(push(&["--strict"]), 5);
    assert!(ran.stderr.contains(gone), "{ran}");
    let ran = must_exit(push(&[]), 0);
    assert!(
        ran.stderr.contains("warning: ssh could not connect"),
        "{ran}"
    );
    let pushed = Repo::at(&near).commit_of(ONE).unwrap();
    assert_eq!(pushed, scene.from.commit_of(ONE).unwrap());
    configure("false", "true");
    must_exit(push(&[]), 5);
    configure("false", "false");
    let ran = must_exit(push(&[]), 2);
    assert!(ran.stderr.contains("names no cache to push to"), "{ran}");
}

#[test]
fn a_pattern_pulls_and_lists_what_is_of_it_and_nothing_else() {
    let scene = Scene::start().unwrap();
    let remote = ["--remote", &scene.cache.pull_url()];
    let pull = |pattern: &str| {
        scene
            .pull(&[&remote[..], &["--all", pattern]].concat())
            .unwrap()
    };
    must_exit(pull("project/*"), 4);
    must_exit(pull("project/o*/*"), 0);
    let names = |repo: Repo| repo.refs().unwrap().into_keys().collect::<BTreeSet<_>>();
    assert_eq!(names(scene.local()), BTreeSet::from([ONE.to_owned()]));
    must_exit(pull("**"), 0);
    assert_eq!(names(scene.local()), names(scene.from.clone()));
    scene.must_have(ONE).unwrap();
    let list = |pattern: &str| {
        let arguments = [&remote[..], &[pattern]].concat();
        must_exit(scene.client("list", &arguments).unwrap(), 0).stdout
    };
    assert_eq!(list("project/two/**").lines().count(), 1);
    assert!(list("project/two/**").starts_with(&format!("{TWO}  ")));
    assert_eq!(list("project/*"), "");
    must_exit(scene.client("list", &["a**"]).unwrap(), 2);
}

#[test]
fn a_damaged_object_is_not_taken_and_its_ref_not_set() {
    let scene = Scene::start().unwrap();
    let (path, damaged) = scene.copy("damaged", &[ONE]).unwrap();
    let repo = Repo::at(&path);
    let path = path.display().to_string();
    repo.damage(&repo.objects(ObjectKind::File).unwrap()[0])
        .unwrap();
    for remote in [&damaged.url(), &path] {
        let ran = must_exit(scene.pull(&["--remote", remote, ONE]).unwrap(), 9);
        assert!(ran.stderr.contains("damaged"), "{ran}");
        assert!(scene.local().refs().unwrap().is_empty());
    }
    // The next cache has the whole ref; good objects from the first are not fetched again.
    let remotes = [
        "--remote",
        &damaged.url(),
        "--remote",
        &scene.cache.pull_url(),
    ];
    let ran = must_exit(scene.pull(&[&remotes[..], &[ONE]].concat()).unwrap(), 0);
    assert!(ran.stderr.contains("warning: cannot pull from"), "{ran}");
    scene.must_have(ONE).unwrap();
}

#[test]
fn a_pull_that_breaks_off_sets_no_ref_and_the_next_one_fetches_the_rest() {
    let scene = Scene::start().unwrap();
    let (path, partial) = scene.copy("partial", &[ONE]).unwrap();
    let (lost, away) = scene.put_a_file_away(&path).unwrap();
    let pull = || {
        scene
            .pull(&["--json", "--remote", &partial.url(), ONE])
            .unwrap()
    };
    let ran = must_exit(pull(), 9);
    assert!(ran.stderr.contains("404"), "{ran}");
    assert!(scene.local().refs().unwrap().is_empty());
    fs::rename(&away, &lost).unwrap();
    let ran = must_exit(pull(), 0);
    let all = Repo::at(&path).listing(&[]).unwrap().paths().count() as u64;
    let fetched = objects(&ran)[0]["objects_fetched"].as_u64().unwrap();
    assert!(fetched < all / 2, "{fetched} of {all} paths: {ran}");
    scene.must_have(ONE).unwrap();
}

#[test]
fn a_pull_that_is_killed_sets_no_ref_and_the_next_one_goes_on() {
    let scene = Scene::start().unwrap();
    let (path, slow) = scene.copy("slow", &[ONE]).unwrap();
    let (held, away) = scene.put_a_file_away(&path).unwrap();
    // Nothing is written into it, so that a request for it waits.
    let made = run(Command::new("mkfifo").arg(&held)).unwrap();
    must_exit(made, 0);
    let mut pull = scene.cache.client("pull").unwrap();
    pull.arg("--repo").arg(scene.local().path());
    let mut pull = pull.args(["--remote", &slow.url(), ONE]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while staged(scene.local().path()) == 0 {
        assert!(pull.try_wait().unwrap().is_none(), "it did not wait");
        assert!(
            Instant::now() < deadline,
            "nothing was staged within a minute"
        );
        thread::sleep(Duration::from_millis(1));
    }
    pull.kill().unwrap();
    pull.wait().unwrap();
    // This lets the web server's thread go. Opening for reading and writing succeeds even if no
    // thread waits.
    drop(fs::File::options().read(true).write(true).open(&held));
    fs::rename(&away, &held).unwrap();
    assert!(scene.local().refs().unwrap().is_empty());
    must_exit(scene.pull(&["--remote", &slow.url(), ONE]).unwrap(), 0);
    scene.must_have(ONE).unwrap();
}

/// Counts the objects that an unfinished pull has staged.
fn staged(repo: &Path) -> usize {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
    entries(&repo.join("extensions/artifact-cache/staging"))
        .flat_map(|staging| entries(&staging.path()))
        .filter(|entry| entry.file_name().len() > 64)
        .count()
}

#[test]
fn without_a_summary_a_known_ref_is_pulled_and_a_list_says_why_not() {
    let scene = Scene::start().unwrap();
    fs::remove_file(scene.cache.repo().path().join("summary")).unwrap();
    let remote = ["--remote", &scene.cache.pull_url()];
    must_exit(scene.pull(&[&remote[..], &[ONE]].concat()).unwrap(), 0);
    scene.must_have(ONE).unwrap();
    let ran = must_exit(scene.client("list", &remote).unwrap(), 9);
    assert!(ran.stderr.contains("has no summary"), "{ran}");
    let ran = must_exit(
        scene
            .pull(&[&remote[..], &["--all", "**"]].concat())
            .unwrap(),
        9,
    );
    assert!(ran.stderr.contains("has no summary"), "{ran}");
}

#[test]
fn what_is_wrong_on_this_side_is_said_to_be_so() {
    let scene = Scene::start().unwrap();
    let url = scene.cache.pull_url();
    let into = |repo: PathBuf| {
        let repo = repo.display().to_string();
        let ran = scene.client("pull", &["--repo", &repo, "--remote", &url, ONE]);
        must_exit(ran.unwrap(), 7).stderr
    };
    assert!(into(scene.cache.scratch("no/parent")).contains("cannot create"));
    assert!(into(scene.tree.root().into()).contains("as a repository"));
    scene
        .cache
        .configure("artifacts:\n- url: /a\n  pusch: true\n")
        .unwrap();
    for subcommand in ["list", "check"] {
        let ran = must_exit(scene.client(subcommand, &[]).unwrap(), 2);
        assert!(
            ran.stderr
                .contains("artifact-cache.yaml:3: unknown key \"pusch\""),
            "{ran}"
        );
    }
    let other = scene.cache.scratch("other.yaml").display().to_string();
    let ran = must_exit(scene.client("list", &["--config", &other]).unwrap(), 2);
    assert!(ran.stderr.contains("the file does not exist"), "{ran}");
    fs::write(&other, format!("artifacts: {{url: '{url}'}}")).unwrap();
    must_exit(scene.client("list", &["--config", &other]).unwrap(), 0);
}

/// Runs `check` with a command that replaces ssh, and returns its advice.
fn advice(scene: &Scene, ssh: &str, code: i32) -> Result<String, Failure> {
    let url = scene.cache.push_url();
    let ran = scene.client("check", &["--ssh", ssh, "--remote", &url])?;
    let ran = must_exit(ran, code);
    assert!(!ran.stderr.contains('\u{1b}'), "{ran}");
    let advice = ran.stderr.lines().filter(|line| line.starts_with("  "));
    Ok(advice.collect::<Vec<_>>().join("\n"))
}

#[test]
fn check_tells_what_ssh_has_against_it() {
    let scene = Scene::start().unwrap();
    let ssh = scene.cache.sshd().ssh_command();
    assert_eq!(advice(&scene, &ssh, 0).unwrap(), "");
    let said = advice(&scene, &ssh.replace("/user_key", "/host_key"), 5).unwrap();
    assert!(said.contains("knows no key of yours"), "{said}");
    let said = advice(&scene, &ssh.replace("/known_hosts", "/none"), 5).unwrap();
    assert!(
        said.contains("does not know the server's key yet"),
        "{said}"
    );
    // A different key from the known one.
    let (_, dir) = ssh.split_once("UserKnownHostsFile=").unwrap();
    let dir = PathBuf::from(dir.split("/known_hosts").next().unwrap());
    let known = fs::read_to_string(dir.join("known_hosts")).unwrap();
    let host = known.split(' ').next().unwrap();
    let key = fs::read_to_string(dir.join("user_key.pub")).unwrap();
    fs::write(dir.join("changed"), format!("{host} {key}")).unwrap();
    let said = advice(&scene, &ssh.replace("/known_hosts", "/changed"), 5).unwrap();
    assert!(said.contains("not the same as before"), "{said}");
    let ran = scene.client("check", &["--remote", "ssh://127.0.0.1:1/artifacts"]);
    let ran = must_exit(ran.unwrap(), 5);
    assert!(ran.stderr.contains("no server listens there"), "{ran}");
    let said = advice(&scene, "/no/such/program", 5).unwrap();
    assert!(said.contains("--ssh names a program"), "{said}");
}

#[test]
fn check_tells_what_is_wrong_at_the_other_end() {
    let scene = Scene::start().unwrap();
    let shell = |script: &str| format!("sh -c {}", quoted(script));
    let said = advice(&scene, &shell("no-such-receiver"), 5).unwrap();
    assert!(said.contains("not on the PATH that sshd gives"), "{said}");
    let said = advice(&scene, &shell("echo Welcome to host; cat >&2"), 6).unwrap();
    assert!(said.contains("prints before the receiver speaks"), "{said}");
    let traceback = "Traceback (most recent call last):
buildstream._artifactcache.pushreceive.PushException: Unrecognized message byteorder";
    let old = format!("head -c 5 >/dev/null; echo '{traceback}' >&2; exit 1");
    let said = advice(&scene, &shell(&old), 6).unwrap();
    assert!(said.contains("an older one"), "{said}");
    // When told to, the client speaks no older version.
    let first = shell("printf 'l\\000\\000!\\000mode'; cat >&2");
    let url = scene.cache.push_url();
    let only_new = ["--protocol", "2", "--ssh", &first, "--remote", &url];
    let ran = must_exit(scene.client("check", &only_new).unwrap(), 6);
    assert!(ran.stderr.contains("an older one"), "{ran}");
    let receiver = programs::receiver().unwrap();
    let script = format!("exec {} /no/such/repository", receiver.display());
    let said = advice(&scene, &shell(&script), 9).unwrap();
    assert!(said.contains("is that of an archive repository"), "{said}");
}

#[test]
fn check_tells_what_a_key_may_do() {
    let scene = Scene::start().unwrap();
    let config = scene.cache.scratch("rights.toml");
    let grants = "[[identity]]\nname = \"ci\"\nkeys = []\npush = [\"alpha/**\"]\n";
    fs::write(&config, grants).unwrap();
    let check = |identity: &str| {
        let script = format!(
            "exec {} --pull-url {} --config {} --identity {identity} {}",
            programs::receiver().unwrap().display(),
            scene.cache.pull_url(),
            config.display(),
            scene.cache.repo().path().display(),
        );
        let ssh = format!("sh -c {}", quoted(&script));
        scene
            .client("check", &["--ssh", &ssh, "--remote", "ssh://cache"])
            .unwrap()
    };
    let ran = must_exit(check("ci"), 0);
    assert!(
        ran.stdout
            .contains("it calls you  ci\nyou may       create alpha/**\n"),
        "{ran}"
    );
    let ran = must_exit(check("nobody"), 3);
    assert!(ran.stderr.contains("your key may change nothing"), "{ran}");
}

#[test]
fn check_tells_where_the_web_server_is_wrong() {
    let scene = Scene::start().unwrap();
    let receiver = programs::receiver().unwrap();
    let repo = scene.cache.repo().path().display();
    let announce = |option: &str| {
        let script = format!("exec {} {option} {repo}", receiver.display());
        format!("sh -c {}", quoted(&script))
    };
    let url = scene.cache.pull_url();
    assert_eq!(
        advice(&scene, &announce(&format!("--pull-url {url}")), 0).unwrap(),
        ""
    );
    let said = advice(&scene, &announce(""), 9).unwrap();
    assert!(said.contains("name the web address yourself"), "{said}");
    let said = advice(&scene, &announce("--pull-url /srv/cache"), 9).unwrap();
    assert!(said.contains("name the web address yourself"), "{said}");
    let said = advice(&scene, &announce(&format!("--pull-url {url}/wrong")), 9).unwrap();
    assert!(said.contains("the repository's own directory"), "{said}");
    let said = advice(&scene, &announce(&format!("--pull-url {NOWHERE}")), 5).unwrap();
    assert!(said.contains("no server listens there"), "{said}");
    // The served summary looks right, but belongs to another repository.
    let (path, other) = scene.copy("other", &[TWO]).unwrap();
    let repo = Repo::at(&path);
    repo.add_ref(ONE, &repo.commit_of(TWO).unwrap()).unwrap();
    repo.ostree("summary", ["-u"]).unwrap();
    let said = advice(&scene, &announce(&format!("--pull-url {}", other.url())), 9).unwrap();
    assert!(
        said.contains("the repository that the receiver writes"),
        "{said}"
    );
    // The receiver has none of its refs.
    let (_, empty) = scene.copy("less", &[TWO]).unwrap();
    fs::remove_file(scene.cache.repo().path().join("refs/heads").join(TWO)).unwrap();
    let said = advice(&scene, &announce(&format!("--pull-url {}", empty.url())), 9).unwrap();
    assert!(
        said.contains("the repository that the receiver writes"),
        "{said}"
    );
}

fn quoted(script: &str) -> String {
    format!("'{}'", script.replace('\'', r"'\''"))
}
