//! `artifact-cache-serve`: serves the repository of an artifact cache over https.
//!
//! It opens its files and sockets, gives up the rights of root, confines itself, and serves. The
//! access log goes to standard output, everything else to standard error. It contains nothing of
//! libostree.

mod log;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use artifact_lines::Lines;
use artifact_page::PullUrl;
use artifact_protocol::exit;
use artifact_sandbox::{LayerStatus, Needs, privilege};
use artifact_serve::{
    AccessLog, CertificateFiles, Config, Error, Format, ListenError, Notifier, Order, Place, Pulls,
    Role, Server, Socket,
};
use clap::{CommandFactory, Parser, ValueEnum};
use nix::unistd::User;
use rustix::process::Resource;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::mpsc;

/// Serve the repository of an artifact cache over https.
///
///   artifact-cache-serve /home/artifacts/artifacts --listen 0.0.0.0:443 --user www-data \
///       --cert /etc/ssl/cache.example.com.pem --key /etc/ssl/cache.example.com.key
///
/// Pullers then use https://cache.example.com/artifacts. Files that pullers do not need are not
/// served.
///
/// The certificate is read again when its files change, or on SIGHUP. On SIGTERM, running answers
/// are finished, for at most 30 seconds. The user it runs as needs only to read the repository and
/// the key.
///
/// Exit codes: 0 stopped, 2 the command line, an address or the certificate is wrong, 9 the
/// repository cannot be served, 1 any other error.
#[derive(Debug, Parser)]
#[command(name = "artifact-cache-serve", version, verbatim_doc_comment)]
struct Args {
    /// The repository
    repo: PathBuf,
    /// The path under which pullers find it
    #[arg(long, value_name = "PATH", default_value = "/artifacts", value_parser = parse_at)]
    at: String,
    /// An address and port, or unix:/PATH; may be given several times [default: sockets of systemd]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<Place>,
    /// The certificate and its intermediate certificates, as PEM
    #[arg(long, value_name = "FILE", required_unless_present = "plain_http")]
    cert: Option<PathBuf>,
    /// The private key of the certificate, as PEM
    #[arg(
        long,
        value_name = "FILE",
        requires = "cert",
        required_unless_present = "plain_http"
    )]
    key: Option<PathBuf>,
    /// Admit only clients with a certificate from one of these authorities, as PEM
    #[arg(long, value_name = "FILE", requires = "cert")]
    client_ca: Option<PathBuf>,
    /// Serve without TLS, to a proxy on this machine
    #[arg(long, conflicts_with_all = ["cert", "key", "client_ca"])]
    plain_http: bool,
    /// Serve /metrics for Prometheus, /livez and /readyz at this address, without TLS
    #[arg(long, value_name = "ADDR")]
    metrics: Option<Place>,
    /// Become this user once the sockets are open; required when started by root
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The format of the access log
    #[arg(long, value_name = "FORM", value_enum, default_value_t = Log::Combined)]
    log: Log,
    /// The file of the access log [default: standard output]
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
    /// The most connections at once; further ones wait
    #[arg(long, value_name = "N", default_value_t = 2048,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// The most connections at once from one address, or one /64 of IPv6; further ones are refused
    #[arg(long, value_name = "N", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections_each: u32,
    /// Where the page for people says to pull from [default: the host that the browser asked]
    #[arg(long, value_name = "URL")]
    pull_url: Option<PullUrl>,
    /// What the page calls the cache [default: its host]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// The audit of the receiver, from which the page knows who pushed; this user needs to read it
    #[arg(long, value_name = "FILE")]
    audit: Option<PathBuf>,
    /// Serve no page for people
    #[arg(long, conflicts_with_all = ["pull_url", "title", "audit"])]
    no_page: bool,
    /// The most pulls to answer at once; further ones are told to try again
    #[arg(long, value_name = "N", default_value_t = 16,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pulls: u32,
    /// The most pulls at once from one address, or one /64 of IPv6
    #[arg(long, value_name = "N", default_value_t = 4,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pulls_each: u32,
    /// The most objects that one pull may reach
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    pull_objects: u64,
    /// Answer no pulls in one request; clients then fetch the files one by one
    #[arg(long, conflicts_with_all = ["pulls", "pulls_each", "pull_objects"])]
    no_pulls: bool,
    /// Report events on standard error
    #[arg(short, long)]
    verbose: bool,
    /// Report all details
    #[arg(short, long)]
    debug: bool,
    /// Do not confine this process: for systems where that fails, and for tracing
    #[arg(long)]
    no_sandbox: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Log {
    /// Apache's combined format
    Combined,
    /// One JSON object per line
    Json,
    /// No access log
    None,
}

/// Returns the definition of the command line, from which the manual page is made.
pub fn command() -> clap::Command {
    Args::command()
}

/// Runs the program, and returns its exit code.
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return print(&error),
    };
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let said = log::start(match (args.debug, args.verbose) {
        (true, _) => tracing::Level::DEBUG,
        (false, true) => tracing::Level::INFO,
        (false, false) => tracing::Level::WARN,
    });
    let access = args.log.format().map(|format| AccessLog {
        format,
        lines: Lines::new(GATHER),
    });
    let ended = run(&args, access.as_ref(), &said);
    let code = match ended {
        Ok(()) => exit::DONE,
        Err(error) => {
            tracing::error!("{error:#}");
            exit_code(&error)
        }
    };
    if let Some(log) = access {
        log.lines.flush();
    }
    said.flush();
    ExitCode::from(code)
}

fn run(args: &Args, access: Option<&AccessLog>, said: &Arc<Lines>) -> anyhow::Result<()> {
    let log_file = access.map(|_| args.open_log()).transpose()?;
    let notifier = Notifier::from_env().context("cannot reach the service manager")?;
    let sockets = args.sockets()?;
    args.become_user()?;
    let certificate = args.certificate();
    let server = Server::open(Config {
        repo: args.repo.clone(),
        at: args.at.clone(),
        certificate: certificate.clone(),
        connections_max: args.connections(),
        connections_each_max: usize::try_from(args.connections_each)?,
        log: access.cloned(),
        page: args.page(),
        pulls: args.pulls()?,
    })?;
    // The sandbox denies the sockets by which a signal wakes a thread.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot hear signals")?;
    args.confine(certificate.as_ref());
    // Threads that start from here on are confined as well.
    (said.start()).context("cannot start the thread that writes the log")?;
    if let (Some(log), Some(file)) = (access, log_file) {
        log.lines.aim(Some(file));
        let started = log.lines.start();
        started.context("cannot start the thread that writes the access log")?;
    }
    let orders = obey(signals)?;
    Ok(server.run(sockets, orders, &notifier)?)
}

/// Turns signals into orders.
fn obey(mut signals: Signals) -> anyhow::Result<mpsc::UnboundedReceiver<Order>> {
    let (give, orders) = mpsc::unbounded_channel();
    let listen = move || {
        for signal in signals.forever() {
            let order = if signal == SIGHUP {
                Order::Reload
            } else {
                Order::Stop
            };
            if give.send(order).is_err() {
                return;
            }
        }
    };
    let started = thread::Builder::new()
        .name("signals".to_owned())
        .spawn(listen);
    started.context("cannot start the thread that hears signals")?;
    Ok(orders)
}

impl Args {
    fn certificate(&self) -> Option<CertificateFiles> {
        let (cert, key) = self.cert.clone().zip(self.key.clone())?;
        let client_ca = self.client_ca.clone();
        Some(CertificateFiles {
            cert,
            key,
            client_ca,
        })
    }

    fn page(&self) -> Option<artifact_page::Options> {
        let page = artifact_page::Options {
            title: self.title.clone(),
            pull_url: self.pull_url.clone(),
            at: self.at.clone(),
            plain_http: self.plain_http,
            push_url: None,
            audit: self.audit.clone(),
        };
        (!self.no_page).then_some(page)
    }

    fn pulls(&self) -> anyhow::Result<Option<Pulls>> {
        let pulls = Pulls {
            max: usize::try_from(self.pulls)?,
            each_max: usize::try_from(self.pulls_each)?,
            objects_max: self.pull_objects,
        };
        Ok((!self.no_pulls).then_some(pulls))
    }

    fn sockets(&self) -> Result<Vec<(Role, Socket)>, ListenError> {
        let mut sockets = Socket::inherited()?;
        for place in &self.listen {
            sockets.push(Socket::bind(place)?);
        }
        if sockets.is_empty() {
            return Err(ListenError::Nowhere);
        }
        if let Some(open) = sockets.iter().find(|socket| !socket.is_local())
            && self.plain_http
        {
            let place = open.place().to_string();
            return Err(ListenError::Plain { place });
        }
        let mut sockets: Vec<_> = sockets.into_iter().map(|s| (Role::Pullers, s)).collect();
        if let Some(place) = &self.metrics {
            sockets.push((Role::Metrics, Socket::bind(place)?));
        }
        Ok(sockets)
    }

    /// Gives up the rights of root: a server needs none once its sockets are open.
    fn become_user(&self) -> anyhow::Result<()> {
        let Some(name) = &self.user else {
            if rustix::process::geteuid().is_root() {
                bail!(Usage(
                    "will not serve as root: say as whom, such as --user www-data; \
                     `adduser --system --group artifact-serve` makes a user for it"
                        .to_owned()
                ));
            }
            return Ok(());
        };
        let user = User::from_name(name).with_context(|| format!("cannot look up {name}"))?;
        let Some(user) = user.filter(|user| !user.uid.is_root()) else {
            bail!(Usage(format!(
                "{name} is no user that can serve; `adduser --system --group {name}` makes one"
            )));
        };
        if rustix::process::geteuid().as_raw() == user.uid.as_raw() {
            return Ok(());
        }
        privilege::become_user(user.uid.as_raw(), user.gid.as_raw())
            .with_context(|| format!("cannot become {name}: only root can"))
    }

    /// Confines this process to reading the repository and the certificate, as far as the kernel
    /// supports it.
    fn confine(&self, certificate: Option<&CertificateFiles>) {
        if self.no_sandbox {
            return tracing::warn!("not confined, as told by --no-sandbox");
        }
        let mut read = certificate.map(CertificateFiles::dirs).unwrap_or_default();
        read.push(self.repo.clone());
        // After a rotation there is another file.
        let audit = self.audit.as_deref().and_then(Path::parent);
        read.extend(
            audit
                .filter(|dir| !dir.as_os_str().is_empty())
                .map(Path::to_owned),
        );
        let needs = Needs {
            written: Vec::new(),
            read,
            accepts: true,
            open_files_max: files_for(u64::from(self.connections))
                + FILES_OF_PULL * u64::from(self.pulls),
        };
        for layer in artifact_sandbox::enter(&needs) {
            match layer.status {
                LayerStatus::Absent(_) => {
                    tracing::warn!("sandbox: {}: {}", layer.what, layer.status)
                }
                _ => tracing::debug!("sandbox: {}: {}", layer.what, layer.status),
            }
        }
    }

    /// Returns the number of connections that this process's limit of open files allows.
    fn connections(&self) -> usize {
        let wanted = u64::from(self.connections);
        let files = rustix::process::getrlimit(Resource::Nofile).maximum;
        let possible = files.map_or(wanted, |files| files.saturating_sub(SPARE_FILES) / 3);
        if possible < wanted {
            tracing::warn!(
                "only {possible} connections, and not {wanted}: a connection takes up to three \
                 open files, and this process may have {} (ulimit -n, LimitNOFILE)",
                files.unwrap_or_default()
            );
        }
        usize::try_from(possible.clamp(1, wanted)).unwrap_or(usize::MAX)
    }

    fn open_log(&self) -> anyhow::Result<File> {
        let Some(path) = &self.log_file else {
            let stdout = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3);
            return Ok(stdout.context("cannot write to standard output")?.into());
        };
        let opened = File::options().append(true).create(true).open(path);
        opened.map_err(|error| {
            let path = path.display();
            Usage(format!("cannot write the access log to {path}: {error}")).into()
        })
    }
}

/// Files that this many connections take: one each, and one for each answer that may run.
const fn files_for(connections: u64) -> u64 {
    3 * connections + SPARE_FILES
}

impl Log {
    const fn format(self) -> Option<Format> {
        match self {
            Self::Combined => Some(Format::Combined),
            Self::Json => Some(Format::Json),
            Self::None => None,
        }
    }
}

/// A fault of the command line that the parser cannot see.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() || error.is::<ListenError>() {
        return exit::USAGE;
    }
    match error.downcast_ref() {
        Some(Error::Repository { .. } | Error::Page { .. } | Error::Pulls { .. }) => exit::STORAGE,
        Some(Error::Certificate(_) | Error::Listen(_)) => exit::USAGE,
        _ => exit::OTHER,
    }
}

/// Reads the path of the repository's root in URLs: empty, or with a slash only at its beginning.
fn parse_at(text: &str) -> Result<String, String> {
    let path = text.trim_end_matches('/');
    let component = |part: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
        !matches!(part, "" | "." | "..") && part.bytes().all(plain)
    };
    match path.strip_prefix('/') {
        None if path.is_empty() && text.starts_with('/') => Ok(String::new()),
        Some(rest) if rest.split('/').all(component) => Ok(path.to_owned()),
        _ => Err("a path such as /artifacts, of letters, digits, - . _ ~ and /".to_owned()),
    }
}

/// Prints help or the version, or the fault of the command line.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    ExitCode::from(match printed {
        _ if error.use_stderr() => exit::USAGE,
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => exit::OTHER,
        _ => exit::DONE,
    })
}

/// Files that one pull has open at most: objects that are read ahead.
const FILES_OF_PULL: u64 = 160;
/// Files in addition to those of connections: sockets, the repository, certificates, logs.
const SPARE_FILES: u64 = 256;

/// Lines of the access log that come within this time are written together.
const GATHER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_the_root_has_no_slash_at_its_end_and_nothing_to_encode() {
        assert_eq!(parse_at("/").unwrap(), "");
        assert_eq!(parse_at("/artifacts").unwrap(), "/artifacts");
        assert_eq!(parse_at("/a/b-c.d_e~/").unwrap(), "/a/b-c.d_e~");
        for path in [
            "",
            "artifacts",
            "/a//b",
            "/../a",
            "/a/.",
            "/a b",
            "/a%20b",
            "//",
        ] {
            let parsed = parse_at(path);
            assert!(
                parsed.is_err() || parsed == Ok(String::new()) && path == "//",
                "{path:?}"
            );
        }
    }
}
