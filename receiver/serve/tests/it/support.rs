//! A repository made of plain files, a server on it, and a client that says what it likes.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use artifact_page::Options;
use artifact_serve::{
    CertificateFiles, Config, Notifier, Order, Place, Pulls, Role, Server, Socket,
};
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A server that runs until it is dropped.
pub(crate) struct Scene {
    pub(crate) address: SocketAddr,
    /// The address for monitoring.
    pub(crate) monitor: SocketAddr,
    pub(crate) orders: UnboundedSender<Order>,
    pub(crate) dir: TempDir,
    server: Option<JoinHandle<()>>,
}

/// The 62 digits of all objects here, behind the first two.
pub(crate) const REST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcd";
/// What must never be seen outside.
pub(crate) const SECRET: &str = "nobody may read this";
pub(crate) const REF: &str = "alpha/greeting/1";

impl Scene {
    pub(crate) fn start() -> Self {
        Self::start_for(Pulls::default())
    }

    /// Starts a server with these limits of pulls.
    pub(crate) fn start_for(pulls: Pulls) -> Self {
        Self::start_with(repository(), None, pulls, 200)
    }

    /// Starts a server that takes so many connections at once.
    pub(crate) fn start_small(connections_max: usize) -> Self {
        Self::start_with(repository(), None, Pulls::default(), connections_max)
    }

    /// Starts a server with a certificate.
    pub(crate) fn start_tls() -> Self {
        let dir = repository();
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| dir.path().join(name));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-nodes",
                "-subj",
                "/CN=localhost",
            ])
            .args(["-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&cert)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let client_ca = None;
        let files = CertificateFiles {
            cert,
            key,
            client_ca,
        };
        Self::start_with(dir, Some(files), Pulls::default(), 200)
    }

    /// Returns the file of the server's certificate, which is its own authority.
    pub(crate) fn certificate(&self) -> std::path::PathBuf {
        self.dir.path().join("cert.pem")
    }

    fn start_with(
        dir: TempDir,
        certificate: Option<CertificateFiles>,
        pulls: Pulls,
        connections_max: usize,
    ) -> Self {
        let bind = || {
            let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
            let socket = Socket::bind(&Place::Tcp(any)).unwrap();
            match *socket.place() {
                Place::Tcp(address) => (socket, address),
                Place::Unix(_) => panic!("{socket:?}"),
            }
        };
        let ((socket, address), (watched, monitor)) = (bind(), bind());
        let server = Server::open(Config {
            repo: dir.path().join("repo"),
            at: "/artifacts".to_owned(),
            certificate,
            page: Some(Options {
                at: "/artifacts".to_owned(),
                ..Options::default()
            }),
            connections_max,
            connections_each_max: 100,
            log: None,
            pulls: Some(pulls),
        })
        .unwrap();
        let (orders, received) = unbounded_channel();
        let sockets = vec![(Role::Pullers, socket), (Role::Metrics, watched)];
        let server = thread::spawn(move || {
            server.run(sockets, received, &Notifier::default()).unwrap();
        });
        Self {
            address,
            monitor,
            orders,
            dir,
            server: Some(server),
        }
    }

    /// Says something and no more, and returns all that comes back.
    pub(crate) fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The server may have hung up on what it has seen so far.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
    }

    /// Asks for a path, and returns the status, the head and the body.
    pub(crate) fn get(&self, path: &str, headers: &str) -> Reply {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
        let mut replies = replies(&self.say(request.as_bytes()));
        assert_eq!(replies.len(), 1, "{path}: {replies:?}");
        replies.remove(0)
    }

    pub(crate) fn repo(&self) -> std::path::PathBuf {
        self.dir.path().join("repo")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.orders.send(Order::Stop);
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    }
}

/// Takes what a server has said apart, as a client does that believes it.
pub(crate) fn replies(mut bytes: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while !bytes.is_empty() {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        bytes = &bytes[end + 4..];
        let len: usize = reply
            .header("content-length")
            .map_or(0, |len| len.parse().unwrap());
        let len = if status == 304 {
            0
        } else {
            len.min(bytes.len())
        };
        reply.body = bytes[..len].to_vec();
        bytes = &bytes[len..];
        replies.push(reply);
    }
    replies
}

/// Makes a repository, with secrets and traps in it.
fn repository() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    let write = |path: &str, text: &[u8]| {
        let path = repo.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "config",
        b"[core]\nrepo_version=1\nmode=archive-z2\n\n[remote \"x\"]\nurl=https://secret\n",
    );
    for name in [
        "refs/remotes",
        "refs/mirrors",
        "state",
        "tmp",
        "extensions/artifact-cache/staging",
    ] {
        fs::create_dir_all(repo.join(name)).unwrap();
    }
    write(
        &format!("refs/heads/{REF}"),
        format!("ab{REST}\n").as_bytes(),
    );
    write(&format!("objects/ab/{REST}.commit"), b"commit");
    write(&format!("objects/ab/{REST}.dirtree"), b"dirtree");
    write(&format!("objects/ab/{REST}.filez"), &content(100_000));
    write(&format!("objects/00/{REST}.commit"), b"partial");
    write(&format!("state/00{REST}.commitpartial"), b"");
    write("summary", b"summary");
    write("summary.sig", b"signature");
    let date = SystemTime::now();
    for name in ["summary", "summary.sig"] {
        let file = fs::File::options()
            .write(true)
            .open(repo.join(name))
            .unwrap();
        file.set_modified(date).unwrap();
    }
    let secret = SECRET.as_bytes();
    fs::write(dir.path().join("secret"), secret).unwrap();
    for path in [
        ".lock",
        "state/x",
        "tmp/x",
        "refs/remotes/x",
        "secret",
        "extensions/artifact-cache/x",
    ] {
        write(path, secret);
    }
    write("refs/heads/-dash", secret);
    write("refs/heads/.dot", secret);
    write(&format!("objects/ab/{REST}.file"), secret);
    write(&format!("objects/ab/{REST}.filez.tmp"), secret);
    traps(&repo);
    dir
}

/// Puts links, pipes, sockets and directories where files should be.
fn traps(repo: &Path) {
    let at = |n: &str, kind: &str| repo.join(format!("objects/{n}/{REST}.{kind}"));
    for n in ["01", "02", "03", "04", "05", "06", "07"] {
        fs::create_dir_all(repo.join(format!("objects/{n}"))).unwrap();
    }
    symlink("../../../secret", at("01", "filez")).unwrap();
    symlink("/etc/passwd", at("02", "filez")).unwrap();
    symlink(format!("../ab/{REST}.dirtree"), at("03", "dirtree")).unwrap();
    let pipe = Mode::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, at("04", "filez"), FileType::Fifo, pipe, 0).unwrap();
    fs::create_dir(at("05", "filez")).unwrap();
    drop(std::os::unix::net::UnixListener::bind(at("06", "filez")).unwrap());
    // Only root can make one; others have one hostile thing less.
    let zero = rustix::fs::makedev(1, 5);
    let _ = rustix::fs::mknodat(
        CWD,
        at("07", "filez"),
        FileType::CharacterDevice,
        pipe,
        zero,
    );
    symlink("ab", repo.join("objects/ac")).unwrap();
    symlink("../..", repo.join("refs/heads/up")).unwrap();
    symlink("../../../secret", repo.join("refs/heads/link")).unwrap();
    symlink("/etc", repo.join("deltas")).unwrap();
    symlink("/etc/passwd", repo.join("summary.idx")).unwrap();
}

/// Bytes that differ from place to place.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}
