//! The command line, and what it asks of the operating system.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use artifact_page::PullUrl;
use artifact_sandbox::{LayerStatus, Needs, privilege};
use artifact_serve::{CertificateFiles, Format, ListenError, Place, Pulls, Role, Socket};
use clap::{Parser, ValueEnum};
use nix::unistd::User;
use rustix::process::Resource;

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
pub(crate) struct Args {
    /// The repository
    pub(crate) repo: PathBuf,
    /// The path under which pullers find it
    #[arg(long, value_name = "PATH", default_value = "/artifacts", value_parser = parse_at)]
    pub(crate) at: String,
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
    pub(crate) log: Log,
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
    pub(crate) connections_each: u32,
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
    pub(crate) verbose: bool,
    /// Report all details
    #[arg(short, long)]
    pub(crate) debug: bool,
    /// Do not confine this process: for systems where that fails, and for tracing
    #[arg(long)]
    no_sandbox: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Log {
    /// Apache's combined format
    Combined,
    /// One JSON object per line
    Json,
    /// No access log
    None,
}

impl Args {
    pub(crate) fn certificate(&self) -> Option<CertificateFiles> {
        let (cert, key) = self.cert.clone().zip(self.key.clone())?;
        let client_ca = self.client_ca.clone();
        Some(CertificateFiles {
            cert,
            key,
            client_ca,
        })
    }

    pub(crate) fn page(&self) -> Option<artifact_page::Options> {
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

    pub(crate) fn pulls(&self) -> anyhow::Result<Option<Pulls>> {
        let pulls = Pulls {
            max: usize::try_from(self.pulls)?,
            each_max: usize::try_from(self.pulls_each)?,
            objects_max: self.pull_objects,
        };
        Ok((!self.no_pulls).then_some(pulls))
    }

    pub(crate) fn sockets(&self) -> Result<Vec<(Role, Socket)>, ListenError> {
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
    pub(crate) fn become_user(&self) -> anyhow::Result<()> {
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
    pub(crate) fn confine(&self, certificate: Option<&CertificateFiles>) {
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
            connects: false,
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
    pub(crate) fn connections(&self) -> usize {
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

    pub(crate) fn open_log(&self) -> anyhow::Result<File> {
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
    pub(crate) const fn format(self) -> Option<Format> {
        match self {
            Self::Combined => Some(Format::Combined),
            Self::Json => Some(Format::Json),
            Self::None => None,
        }
    }
}

/// A fault of the command line that the parser cannot see.
#[derive(Debug)]
pub(crate) struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

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

/// Files that one pull has open at most: objects that are read ahead.
const FILES_OF_PULL: u64 = 160;
/// Files in addition to those of connections: sockets, the repository, certificates, logs.
const SPARE_FILES: u64 = 256;

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
