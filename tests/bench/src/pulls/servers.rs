//! The servers that pullers talk to, and links to them.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use artifact_tests::exec::Failure;
use artifact_tests::link::Link;
use artifact_tests::programs;
use artifact_tests::serving::{Authority, Serving};
use artifact_tests::sshd::Sshd;
use tempfile::TempDir;

use crate::pulls::puller::{Puller, Way};

/// Servers of one repository, each behind a link.
#[derive(Debug)]
pub struct Servers {
    serving: Serving,
    nginx: Nginx,
    ssh: Link,
    to_serving: Link,
    to_nginx: Link,
}

impl Servers {
    /// Serves a repository over links of this round trip.
    pub fn start(sshd: &Sshd, source: &Path, round_trip: Duration) -> Result<Self, Failure> {
        let serving = Serving::start(source, &[])?;
        let nginx = Nginx::start(source)?;
        Ok(Self {
            ssh: Link::start(sshd.port(), round_trip)?,
            to_serving: Link::start(serving.places()[0].port(), round_trip)?,
            to_nginx: Link::start(nginx.port, round_trip)?,
            serving,
            nginx,
        })
    }

    /// Returns the addresses: through the links, or not.
    pub fn way(&self, sshd: &Sshd, linked: bool) -> Way {
        let port = |link: &Link, port| if linked { link.port() } else { port };
        let url = |port| format!("https://localhost:{port}/artifacts");
        let ca = |authority: &Authority| authority.certificate().to_string_lossy().into_owned();
        let (serving, nginx) = (self.serving.places()[0].port(), self.nginx.port);
        Way {
            ssh_port: port(&self.ssh, sshd.port()),
            ssh: sshd.ssh_command(),
            user: sshd.user().to_owned(),
            serve: (
                url(port(&self.to_serving, serving)),
                ca(self.serving.authority()),
            ),
            nginx: (url(port(&self.to_nginx, nginx)), ca(&self.nginx.authority)),
        }
    }

    /// Returns the bytes that a puller's link has carried: to the server, and back.
    pub fn carried(&self, puller: Puller) -> (u64, u64) {
        match puller {
            _ if puller.is_over_ssh() => self.ssh.carried(),
            Puller::Post | Puller::OstreeFromServe => self.to_serving.carried(),
            _ => self.to_nginx.carried(),
        }
    }
}

/// A plain nginx, as Debian configures it, with HTTP/2.
#[derive(Debug)]
struct Nginx {
    child: Child,
    port: u16,
    authority: Authority,
    _dir: TempDir,
}

impl Nginx {
    fn start(repo: &Path) -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let authority = Authority::create(dir.path())?;
        let (certificate, key) = authority.certify("localhost")?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.map_err(Failure::doing("find a port"))?.port();
        let (at, repo) = (dir.path().display(), repo.display());
        let (certificate, key) = (certificate.display(), key.display());
        let config = format!(
            "daemon off; pid {at}/pid; error_log {at}/log; user root; worker_processes auto;\n\
             events {{ worker_connections 768; }}\n\
             http {{ sendfile on; tcp_nopush on; access_log {at}/access;\n\
             server {{ listen 127.0.0.1:{port} ssl http2;\n\
             ssl_certificate {certificate}; ssl_certificate_key {key};\n\
             location /artifacts/ {{ alias {repo}/; }} }} }}\n"
        );
        let file = dir.path().join("nginx.conf");
        fs::write(&file, config).map_err(Failure::doing("write a configuration"))?;
        let mut nginx = Command::new("nginx");
        nginx
            .arg("-c")
            .arg(&file)
            .arg("-e")
            .arg(dir.path().join("log"));
        nginx.stdin(Stdio::null()).stderr(Stdio::null());
        let child = nginx
            .spawn()
            .map_err(Failure::doing("run nginx; `apt-get install nginx-light`"))?;
        let nginx = Self {
            child,
            port,
            authority,
            _dir: dir,
        };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(Failure::new("nginx does not listen"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master takes its workers along.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Starts sshd without a ForceCommand, with a PATH that has our receiver.
pub fn sshd() -> Result<Sshd, Failure> {
    let receiver = programs::receiver()?;
    let ours = receiver.parent().unwrap_or(Path::new("/")).display();
    Sshd::start(&format!(
        "PATH={ours}:$PATH; export PATH; eval \"$SSH_ORIGINAL_COMMAND\""
    ))
}

const PATIENCE: Duration = Duration::from_secs(20);
