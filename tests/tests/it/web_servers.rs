//! The web servers of the manual, with the configurations that it prints.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use artifact_tests::exec::{Failure, run};
use artifact_tests::repo::{Mode, Repo};
use artifact_tests::{programs, pulled, serving};

use crate::extra;
use crate::place::Place;

/// A web server that runs until this is dropped.
struct Web {
    place: Place,
    // The one that is asked comes first.
    servers: Vec<Child>,
    port: u16,
}

impl Drop for Web {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // The master of nginx takes its worker along.
            let pid = rustix::process::Pid::from_child(server);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = server.wait();
        }
    }
}

/// An answer, as far as it is looked at.
#[derive(Debug)]
struct Answer {
    status: u16,
    cache_control: String,
    etag: String,
    body: String,
}

impl Web {
    /// Serves a cache with one ref, its page, and what has to stay hidden.
    fn start(kind: &str) -> Result<Self, Failure> {
        let place = Place::new();
        place.admin(&["init", "server"]).success()?;
        place.commit("alpha/greeting/k", "hello");
        place.push(&["alpha/greeting/k"]).must_exit(0)?;
        place.admin(&["page", "server", "--out", "www"]).success()?;
        let home = place.dir.path().join("home");
        fs::create_dir(&home).map_err(Failure::doing("make a directory"))?;
        fs::rename(place.server.path(), home.join("artifacts"))
            .map_err(Failure::doing("move the repository"))?;
        for path in [
            "tmp/secret",
            "extensions/artifact-cache/secret",
            "secret",
            "refs/heads/.x",
        ] {
            fs::write(home.join("artifacts").join(path), "secret").unwrap();
        }
        fs::write(place.dir.path().join("outside"), "secret").unwrap();
        symlink(
            place.dir.path().join("outside"),
            home.join("artifacts/refs/heads/planted"),
        )
        .unwrap();
        let (port, behind) = (free_port()?, free_port()?);
        certify(place.dir.path())?;
        let mut servers = vec![match kind {
            "caddy" => caddy(place.dir.path(), port)?,
            _ => nginx(kind, place.dir.path(), port, behind)?,
        }];
        if kind == "nginx proxy" {
            let mut serve = serving::command(&home.join("artifacts"))?;
            serve.args(["--plain-http", "--log", "none", "--listen"]);
            serve
                .arg(format!("127.0.0.1:{behind}"))
                .stderr(Stdio::null());
            servers.push(serve.spawn().map_err(Failure::doing("run the server"))?);
        }
        let web = Self {
            place,
            servers,
            port,
        };
        let begun = Instant::now();
        while !web
            .get("/artifacts/config", &[])
            .is_ok_and(|answer| answer.status == 200)
        {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(Failure::new(format!("{kind} does not answer")));
            }
        }
        Ok(web)
    }

    fn repo(&self) -> PathBuf {
        self.place.dir.path().join("home/artifacts")
    }

    /// Asks for a path as it stands, without having a client tidy it.
    fn get(&self, path: &str, options: &[&str]) -> Result<Answer, Failure> {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--insecure",
            "--path-as-is",
            "--include",
        ])
        .args(options)
        .arg(format!("https://localhost:{}{path}", self.port));
        let said = run(&mut curl)?.success()?.replace('\r', "");
        let (head, body) = said.split_once("\n\n").unwrap_or((&said, ""));
        let field = |name: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(": "));
            let found = lines.find(|(field, _)| field.eq_ignore_ascii_case(name));
            found.map_or(String::new(), |(_, value)| value.to_owned())
        };
        Ok(Answer {
            status: head
                .split(' ')
                .nth(1)
                .and_then(|word| word.parse().ok())
                .unwrap_or(0),
            cache_control: field("cache-control"),
            etag: field("etag"),
            body: body.to_owned(),
        })
    }

    /// Returns the path of some object, from the root of the server.
    fn object(&self) -> String {
        let objects = Repo::at(&self.repo())
            .objects(artifact_formats::ObjectKind::File)
            .unwrap();
        format!("/artifacts/objects/{}", objects[0].archive_path())
    }
}

/// Returns the configuration that the manual prints for a server.
fn manual(kind: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../receiver/MANUAL.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, section) = text.split_once("\n## Other web servers\n").unwrap();
    let (_, rest) = section.split_once(&format!("\n```{kind}\n")).unwrap();
    rest.split_once("\n```\n").unwrap().0.to_owned()
}

/// Puts the places of a test into a configuration.
fn adapted(kind: &str, dir: &Path) -> String {
    let dir = dir.display();
    manual(kind)
        .replace("/home/artifacts", &format!("{dir}/home"))
        .replace("/var/www/artifact-cache", &format!("{dir}/www"))
        .replace("/etc/ssl/cache.example.com", &format!("{dir}/tls"))
}

fn free_port() -> Result<u16, Failure> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    Ok(free.map_err(Failure::doing("find a port"))?.port())
}

fn certify(dir: &Path) -> Result<(), Failure> {
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args([
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-days",
            "2",
        ])
        .arg("-keyout")
        .arg(dir.join("tls.key"))
        .arg("-out")
        .arg(dir.join("tls.pem"));
    run(&mut openssl)?.success().map(drop)
}

fn nginx(kind: &str, dir: &Path, port: u16, behind: u16) -> Result<Child, Failure> {
    let at = dir.display();
    let server = adapted(kind, dir).replace("443", &port.to_string());
    let server = server.replace("8080", &behind.to_string());
    let server: Vec<_> = server
        .lines()
        .filter(|line| !line.contains("[::]"))
        .collect();
    let config = format!(
        "daemon off; worker_processes 1; pid {at}/pid; error_log {at}/log;\nevents {{}}\nhttp {{\n\
         access_log off; include /etc/nginx/mime.types; proxy_temp_path {at}/temp;\n{}\n}}\n",
        server.join("\n")
    );
    fs::write(dir.join("nginx.conf"), config).unwrap();
    let mut nginx = Command::new("nginx");
    nginx
        .arg("-c")
        .arg(dir.join("nginx.conf"))
        .args(["-e", "/dev/null"]);
    nginx.stderr(Stdio::null());
    nginx
        .spawn()
        .map_err(Failure::doing("run nginx; `apt-get install nginx-light`"))
}

fn caddy(dir: &Path, port: u16) -> Result<Child, Failure> {
    let site = adapted("caddy", dir);
    let site = site.replacen("cache.example.com", &format!("https://localhost:{port}"), 1);
    let options = "{\n admin off\n auto_https disable_redirects\n}\n";
    fs::write(dir.join("Caddyfile"), format!("{options}{site}\n")).unwrap();
    let mut caddy = Command::new("caddy");
    caddy
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(dir.join("Caddyfile"))
        .env("HOME", dir)
        .env("XDG_DATA_HOME", dir)
        .stderr(Stdio::null());
    caddy
        .spawn()
        .map_err(Failure::doing("run caddy; `apt-get install caddy`"))
}

/// Checks what pullers and people get, and what nobody does.
fn must_serve(web: &Web, page: &str, follows_links: bool) {
    let object = web.object();
    let status = |path: &str| web.get(path, &[]).unwrap();
    let found = status(&object);
    assert_eq!(
        (found.status, found.cache_control.contains("immutable")),
        (200, true),
        "{found:?}"
    );
    for path in [
        "/artifacts/summary",
        "/artifacts/refs/heads/alpha/greeting/k",
        "/artifacts/config",
        "/",
        page,
    ] {
        let found = status(path);
        assert_eq!(
            (found.status, found.cache_control.as_str()),
            (200, "no-cache"),
            "{path}: {found:?}"
        );
    }
    assert_eq!(
        status("/artifacts/config").body,
        "[core]\nrepo_version=1\nmode=archive-z2\n"
    );
    assert!(status("/").body.contains("<h1>"));

    for path in [
        "/artifacts/tmp/secret",
        "/artifacts/secret",
        "/artifacts/.lock",
        "/artifacts/extensions/artifact-cache/secret",
        "/artifacts/state/",
        "/artifacts/objects/",
        "/artifacts/refs/heads/.x",
        "/artifacts/refs/heads/",
        "/artifacts/../artifacts/tmp/secret",
        "/artifacts/refs/heads/../../tmp/secret",
        "/artifacts/refs/heads/..%2f..%2ftmp/secret",
        "/artifacts/refs/heads/%2e%2e/%2e%2e/tmp/secret",
        "/artifacts//tmp/secret",
        "/artifacts/refs/heads/alpha/greeting/k/../../../../../tmp/secret",
        "/../outside",
        "/..%2foutside",
        "/nothing",
    ] {
        let found = status(path);
        assert!(matches!(found.status, 400 | 403 | 404), "{path}: {found:?}");
        assert!(!found.body.contains("secret"), "{path}: {found:?}");
    }
    let planted = status("/artifacts/refs/heads/planted");
    assert_eq!(
        planted.body.contains("secret"),
        follows_links,
        "{planted:?}"
    );

    let name = "/artifacts/refs/heads/alpha/greeting/k";
    let part = web.get(name, &["--range", "2-5"]).unwrap();
    assert_eq!(part.status, 206, "{part:?}");
    assert_eq!(part.body, status(name).body[2..6]);
    let tag = status("/artifacts/summary").etag;
    let header = format!("If-None-Match: {tag}");
    assert_eq!(
        web.get("/artifacts/summary", &["--header", &header])
            .unwrap()
            .status,
        304
    );
    let posted = web.get("/artifacts/summary", &["--data", "x"]).unwrap();
    assert!(matches!(posted.status, 400 | 405), "{posted:?}");

    let user = Repo::init(&web.place.dir.path().join("user"), Mode::BareUser).unwrap();
    let url = format!("https://localhost:{}/artifacts", web.port);
    let remote = [
        "add",
        "--no-gpg-verify",
        "--set=tls-permissive=true",
        "web",
        &url,
    ];
    user.ostree("remote", remote).unwrap();
    user.ostree("pull", ["web", "alpha/greeting/k"]).unwrap();
    user.fsck().unwrap();
}

#[test]
fn nginx_as_the_manual_has_it_serves_what_pullers_need_and_hides_the_rest() {
    must_serve(&Web::start("nginx").unwrap(), AS_FILE, false);
}

#[test]
fn caddy_as_the_manual_has_it_serves_what_pullers_need_and_hides_the_rest() {
    if extra() {
        must_serve(&Web::start("caddy").unwrap(), AS_FILE, true);
    }
}

#[test]
fn nginx_in_front_of_our_server_passes_on_what_it_says() {
    if extra() {
        must_serve(
            &Web::start("nginx proxy").unwrap(),
            "/p/alpha/greeting/",
            false,
        );
    }
}

#[test]
fn nginx_in_front_of_our_server_passes_on_the_answer_to_a_pull_as_it_comes() {
    if !extra() {
        return;
    }
    let web = Web::start("nginx proxy").unwrap();
    let tree = web.place.dir.path().join("tree");
    // More than nginx keeps in memory.
    let noise = artifact_models::random::Random(1).bytes(30_000_000);
    fs::write(tree.join("large"), noise).unwrap();
    let repo = Repo::at(&web.repo());
    repo.commit("alpha/large/k", &tree, &[]).unwrap();
    let url = format!("https://localhost:{}/artifacts", web.port);
    let asked = pulled::said(pulled::request(&["alpha/large/k"], &[]), &[]);
    let (body, answer) = ("request", "answer");
    let at = |name: &str| web.place.dir.path().join(name);
    fs::write(at(body), asked).unwrap();
    let mut curl = Command::new("curl");
    // Slower than the server.
    curl.args([
        "--silent",
        "--fail",
        "--insecure",
        "--limit-rate",
        "12M",
        "--data-binary",
    ]);
    curl.arg(format!("@{}", at(body).display()));
    curl.args([
        "--header",
        "Content-Type: application/vnd.artifact-cache.pull",
    ]);
    curl.arg("--output")
        .arg(at(answer))
        .arg(format!("{url}/pull"));
    run(&mut curl).unwrap().success().unwrap();
    let got = pulled::heard(&fs::read(at(answer)).unwrap()).unwrap();
    assert!(got.ids().unwrap().len() > 4, "{:?}", got.sent);
    let kept: Vec<_> = fs::read_dir(at("temp")).unwrap().collect();
    assert!(
        kept.is_empty(),
        "nginx has written the answer to its disk: {kept:?}"
    );

    // And the client takes it.
    let mut pull = Command::new(programs::client().unwrap());
    pull.args(["pull", "--remote", &url, "--ca"])
        .arg(at("tls.pem"));
    pull.arg("--repo").arg(at("mine")).arg("alpha/large/k");
    pull.env("HOME", web.place.dir.path());
    run(&mut pull).unwrap().success().unwrap();
    Repo::at(&at("mine")).fsck().unwrap();
}

const AS_FILE: &str = "/p/alpha/greeting/index.html";
