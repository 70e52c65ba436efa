//! The server of those who pull, as an operator would run it: with a certificate, as a user who can
//! only read.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::exec::{Failure, describe, run};
use crate::programs;

/// An authority, and what it has certified.
#[derive(Debug)]
pub struct Authority {
    dir: PathBuf,
}

impl Authority {
    /// Makes one in a directory that exists.
    pub fn create(dir: &Path) -> Result<Self, Failure> {
        let this = Self { dir: dir.into() };
        this.openssl(&["req", "-x509", "-subj", "/CN=Authority"], "authority")?;
        Ok(this)
    }

    /// Returns its certificate.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("authority.pem")
    }

    /// Certifies a new key for a name, which is also that of the files: returns the certificate and
    /// the key.
    pub fn certify(&self, name: &str) -> Result<(PathBuf, PathBuf), Failure> {
        let names = format!("subjectAltName=DNS:{name},DNS:localhost,IP:127.0.0.1");
        let subject = format!("/CN={name}");
        let (authority, key) = (self.certificate(), self.dir.join("authority.key"));
        let authority = authority.to_string_lossy();
        let mut by = vec!["req", "-x509", "-subj", &subject, "-addext", &names];
        let key = key.to_string_lossy();
        by.extend(["-CA", &authority, "-CAkey", &key]);
        by.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
        self.openssl(&by, name)?;
        Ok((
            self.dir.join(format!("{name}.pem")),
            self.dir.join(format!("{name}.key")),
        ))
    }

    fn openssl(&self, what: &[&str], name: &str) -> Result<(), Failure> {
        let key = self.dir.join(format!("{name}.key"));
        let mut command = Command::new("openssl");
        command.args(what).args(["-newkey", "ec", "-nodes"]);
        command.args(["-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        command.arg("-keyout").arg(&key).arg("-out");
        run(command.arg(self.dir.join(format!("{name}.pem"))))?.success()?;
        // The server runs as a user of its own.
        fs::set_permissions(&key, Permissions::from_mode(0o644))
            .map_err(Failure::doing("let the server read its key"))
    }
}

/// A running `artifact-cache-serve`.
#[derive(Debug)]
pub struct Serving {
    child: Child,
    said: Arc<Mutex<String>>,
    places: Vec<SocketAddr>,
    log: PathBuf,
    authority: Authority,
    _dir: TempDir,
}

impl Serving {
    /// Serves a repository with a certificate of its own, and with these arguments.
    pub fn start(repo: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let authority = Authority::create(dir.path())?;
        authority.certify("localhost")?;
        Self::start_in(dir, authority, repo, arguments)
    }

    /// Serves a repository to those alone who have a certificate of its authority.
    pub fn start_private(repo: &Path, arguments: &[&str]) -> Result<Self, Failure> {
        let dir = tempfile::tempdir().map_err(Failure::doing("make a directory"))?;
        let authority = Authority::create(dir.path())?;
        authority.certify("localhost")?;
        let ca = authority.certificate().to_string_lossy().into_owned();
        let arguments = [&["--client-ca", &ca], arguments].concat();
        Self::start_in(dir, authority, repo, &arguments)
    }

    fn start_in(
        dir: TempDir,
        authority: Authority,
        repo: &Path,
        arguments: &[&str],
    ) -> Result<Self, Failure> {
        open_to_all(dir.path())?;
        open_to_all(repo)?;
        let log = dir.path().join("access.log");
        let (cert, key) = (
            dir.path().join("localhost.pem"),
            dir.path().join("localhost.key"),
        );
        let mut command = command(repo)?;
        command.args(["--verbose", "--listen", "127.0.0.1:0"]);
        command.arg("--cert").arg(cert).arg("--key").arg(key);
        command.args(arguments);
        let output = File::create(&log).map_err(Failure::doing("make the access log"))?;
        command.stdin(Stdio::null()).stdout(output);
        let (child, said) = spawn(&mut command)?;
        let mut serving = Self {
            child,
            said,
            places: Vec::new(),
            log,
            authority,
            _dir: dir,
        };
        serving.places = serving.wait_for("serving on ")?;
        Ok(serving)
    }

    /// Returns where it listens, in the order of its arguments; the first is that of pullers.
    pub fn places(&self) -> &[SocketAddr] {
        &self.places
    }

    /// Returns the address of the repository.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/artifacts", self.places[0].port())
    }

    /// Returns who has certified it.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what it has said so far on standard error.
    pub fn said(&self) -> String {
        self.said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns its access log so far.
    pub fn log(&self) -> Result<String, Failure> {
        fs::read_to_string(&self.log).map_err(Failure::doing("read the access log"))
    }

    /// Waits until it says something, and returns the addresses after that.
    pub fn wait_for(&mut self, text: &str) -> Result<Vec<SocketAddr>, Failure> {
        let begun = Instant::now();
        loop {
            let said = self.said();
            if let Some((_, rest)) = said.split_once(text)
                && let Some((line, _)) = rest.split_once('\n')
            {
                return Ok(line
                    .split(", ")
                    .filter_map(|place| place.parse().ok())
                    .collect());
            }
            let ended = self.child.try_wait().ok().flatten();
            if ended.is_some() || begun.elapsed() > PATIENCE {
                return Err(Failure::new(format!("{ended:?}: no {text:?} in: {said}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = Pid::from_child(&self.child);
        let sent = kill_process(pid, signal).map_err(io::Error::from);
        sent.map_err(Failure::doing("send the server a signal"))
    }

    /// Waits for its end, and returns its exit code.
    pub fn wait(&mut self) -> Result<Option<i32>, Failure> {
        let ended = self.child.wait();
        Ok(ended.map_err(Failure::doing("wait for the server"))?.code())
    }

    /// Runs curl, which trusts this server, on a path of it.
    pub fn curl(&self, path: &str, arguments: &[&str]) -> Result<String, Failure> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--path-as-is", "--cacert"]);
        curl.arg(self.authority.certificate()).args(arguments);
        let address = format!("https://localhost:{}{path}", self.places[0].port());
        run(curl.arg(address))?.success()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the program with a repository, set up to run as a user who owns nothing.
pub fn command(repo: &Path) -> Result<Command, Failure> {
    let mut command = Command::new(programs::serve()?);
    command.arg(repo);
    if rustix::process::geteuid().is_root() {
        command.args(["--user", "nobody"]);
    }
    Ok(command)
}

/// Starts a program whose standard error is collected.
fn spawn(command: &mut Command) -> Result<(Child, Arc<Mutex<String>>), Failure> {
    let line = describe(command);
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::doing(format!("run `{line}`")))?;
    let said = Arc::<Mutex<String>>::default();
    if let Some(stderr) = child.stderr.take() {
        let said = Arc::clone(&said);
        thread::spawn(move || collect(stderr, &said));
    }
    Ok((child, said))
}

fn collect(stderr: impl Read, said: &Mutex<String>) -> io::Result<()> {
    for line in BufReader::new(stderr).lines() {
        let line = line?;
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        *said += &line;
        said.push('\n');
    }
    Ok(())
}

/// Lets everybody through to a directory of a test, which is made for its user alone.
fn open_to_all(path: &Path) -> Result<(), Failure> {
    let temporary = std::env::temp_dir();
    for dir in path.ancestors().take_while(|dir| **dir != *temporary) {
        let mode = fs::metadata(dir).map_err(Failure::doing(format!("look at {dir:?}")))?;
        let mode = mode.permissions().mode() | 0o055;
        fs::set_permissions(dir, Permissions::from_mode(mode))
            .map_err(Failure::doing(format!("open {dir:?} to the server")))?;
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(20);
