//! The source that a cache is read from: its files, over the web or by path.
//!
//! Nothing read from it is trusted: the summary is parsed strictly, and pulling verifies every
//! object.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

#[cfg(feature = "pull")]
use artifact_formats::{Commit, ObjectId, ObjectKind};
use artifact_formats::{RepoConfig, Summary, SummaryRef};
use artifact_protocol::exit;
#[cfg(feature = "pull")]
use artifact_sender::{Checksum, RefName};
use artifact_sender::{Remote, Welcome, escape, greet};
use ureq::tls::{RootCerts, TlsConfig};

use crate::address::{Address, WebUrl};
use crate::args::Args;
use crate::output::Output;
use crate::trouble::Trouble;
use crate::{AGENT, session};

/// The repository of a cache, for reading.
#[derive(Debug)]
pub(crate) enum Origin {
    Web(Web),
    Path(PathBuf),
}

/// A repository behind a web server, and the connections to it.
#[derive(Debug)]
pub(crate) struct Web {
    url: WebUrl,
    agent: ureq::Agent,
}

impl Origin {
    /// Finds the place to read a cache from, and asks its receiver if the address is one of ssh.
    pub(crate) async fn of(
        address: &Address,
        args: &Args,
        output: &Output,
    ) -> Result<Self, Trouble> {
        let remote = match address {
            Address::Web(url) => return Ok(Self::Web(Web::new(url.clone()))),
            Address::Receiver(Remote::Local(path)) => return Ok(Self::Path(path.clone())),
            Address::Receiver(remote) => remote,
        };
        let server = session::run(remote, args, output, async |c, dialect| {
            greet(c, AGENT, dialect).await
        })
        .await?;
        Self::announced(remote, &server)
    }

    /// Returns the place to pull from that a server has announced.
    pub(crate) fn announced(remote: &Remote, server: &Welcome) -> Result<Self, Trouble> {
        let trouble = |text| {
            Trouble {
            may_pass: false,
            code: exit::STORAGE,
            text,
            advice: Some(
                "name the web address yourself, with --remote https://...; the operator can set it \
                 with --pull-url in the server's ForceCommand"
                    .to_owned(),
            ),
        }
        };
        let Some(announced) = &server.pull_url else {
            return Err(trouble(format!(
                "{remote} does not announce a place to pull from"
            )));
        };
        // Only the web: no server may make us read files of this machine.
        let url = announced.as_raw().parse::<WebUrl>().map_err(|_| {
            let announced = announced.escaped();
            trouble(format!(
                "{remote} says to pull from {announced:?}, which is not a web address"
            ))
        })?;
        Ok(Self::Web(Web::new(url)))
    }

    /// Reads the summary, if the cache has one.
    pub(crate) fn summary(&self) -> Result<Option<Summary>, Trouble> {
        let Some(bytes) = self.read("summary", SUMMARY_LEN_MAX)? else {
            return Ok(None);
        };
        let summary = Summary::parse(&bytes);
        summary
            .map(Some)
            .map_err(|error| self.bad("summary", &error.to_string()))
    }

    /// Reads the refs that the summary lists.
    pub(crate) fn refs(&self) -> Result<BTreeMap<String, SummaryRef>, Trouble> {
        if let Some(summary) = self.summary()? {
            return Ok(summary.refs);
        }
        // If the repository itself is missing, report that instead.
        self.config()?;
        if let Self::Path(path) = self
            && is_without_files(&path.join("refs/heads"))
        {
            return Ok(BTreeMap::new());
        }
        Err(Trouble {
            may_pass: false,
            code: exit::STORAGE,
            text: format!("{self} has no summary, so its refs cannot be listed"),
            advice: Some(
                "the first push creates it; until then you can pull a ref by its name".into(),
            ),
        })
    }

    /// Reads the repository's configuration; a repository without one is an error.
    pub(crate) fn config(&self) -> Result<RepoConfig, Trouble> {
        let Some(bytes) = self.read("config", CONFIG_LEN_MAX)? else {
            return Err(Trouble {
                may_pass: false,
                code: exit::STORAGE,
                text: format!("{self} is not an OSTree repository: it has no config"),
                advice: Some("give the address of the repository's own directory".into()),
            });
        };
        let text = String::from_utf8_lossy(&bytes);
        RepoConfig::parse(&text).map_err(|error| self.bad("config", &error.to_string()))
    }

    /// Reads the commit that a ref holds, if the ref exists.
    #[cfg(feature = "pull")]
    pub(crate) fn commit_of(&self, name: &RefName) -> Result<Option<Checksum>, Trouble> {
        let file = format!("refs/heads/{name}");
        let Some(bytes) = self.read(&file, REF_LEN_MAX)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let commit = text.trim_end().parse();
        commit
            .map(Some)
            .map_err(|_| self.bad(&file, "it does not contain a checksum"))
    }

    /// Reads a commit object, if it exists.
    #[cfg(feature = "pull")]
    pub(crate) fn commit(&self, commit: Checksum) -> Result<Option<Commit>, Trouble> {
        let id = ObjectId::new(ObjectKind::Commit, commit);
        let file = format!("objects/{}", id.loose_path("commit"));
        let Some(bytes) = self.read(&file, COMMIT_LEN_MAX)? else {
            return Ok(None);
        };
        if Checksum::of(&bytes) != commit {
            return Err(self.bad(&file, "its checksum does not match its name"));
        }
        let parsed = Commit::parse(&bytes);
        parsed
            .map(Some)
            .map_err(|error| self.bad(&file, &error.to_string()))
    }

    /// Reads a file of the repository, if it exists.
    fn read(&self, file: &str, len_max: u64) -> Result<Option<Vec<u8>>, Trouble> {
        match self {
            Self::Web(web) => web.read(file, len_max),
            Self::Path(path) => {
                let path = path.join(file);
                let mut bytes = Vec::new();
                let result = std::fs::File::open(&path)
                    .and_then(|file| file.take(len_max).read_to_end(&mut bytes));
                match result {
                    Ok(_) => Ok(Some(bytes)),
                    Err(error) if is_absent(&error) => Ok(None),
                    Err(error) => Err(Trouble {
                        may_pass: false,
                        code: exit::STORAGE,
                        text: format!("cannot read {}: {error}", path.display()),
                        advice: None,
                    }),
                }
            }
        }
    }

    fn bad(&self, file: &str, reason: &str) -> Trouble {
        Trouble {
            may_pass: false,
            code: exit::STORAGE,
            text: format!("cannot use {self}/{file}: {}", escape(reason)),
            advice: None,
        }
    }
}

impl Web {
    fn new(url: WebUrl) -> Self {
        let roots = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier);
        let config = ureq::Agent::config_builder()
            .user_agent(AGENT)
            .tls_config(roots.build())
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_per_read(Some(ANSWER_TIMEOUT));
        Self {
            url,
            agent: config.build().into(),
        }
    }

    #[cfg(feature = "pull")]
    pub(crate) const fn url(&self) -> &WebUrl {
        &self.url
    }

    fn read(&self, file: &str, len_max: u64) -> Result<Option<Vec<u8>>, Trouble> {
        let url = format!("{}/{file}", self.url);
        let failed = |error: ureq::Error| unreachable(&url, &error);
        let mut response = self.agent.get(&url).call().map_err(failed)?;
        let (code, advice) = match response.status().as_u16() {
            200 => {
                let body = response.body_mut().with_config().limit(len_max);
                return body.read_to_vec().map(Some).map_err(failed);
            }
            404 | 410 => return Ok(None),
            401 | 403 => (
                exit::STORAGE,
                Some("the web server must let everybody read it"),
            ),
            429 | 500.. => (
                exit::CONNECTION,
                Some("the web server has failed: try again later"),
            ),
            _ => (exit::STORAGE, None),
        };
        Err(Trouble {
            may_pass: code == exit::CONNECTION,
            code,
            text: format!("the web server answers {} for {url}", response.status()),
            advice: advice.map(str::to_owned),
        })
    }
}

/// Describes a failed request.
fn unreachable(url: &str, error: &ureq::Error) -> Trouble {
    let reason = match error {
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    };
    let advice = match error {
        _ if reason.contains("failed to lookup") => {
            Some("the host's name is unknown: check its spelling")
        }
        _ if reason.contains("refused") => Some("no server listens there: check the port"),
        _ if reason.contains("certificate") => {
            Some("add its authority to those that this machine trusts, below /etc/ssl/certs")
        }
        _ => None,
    };
    Trouble {
        // An unknown name, a closed port or a bad certificate will not change soon.
        may_pass: advice.is_none() && !matches!(error, ureq::Error::BodyExceedsLimit(_)),
        code: match error {
            ureq::Error::BodyExceedsLimit(_) => exit::STORAGE,
            _ => exit::CONNECTION,
        },
        text: format!("cannot read {url}: {}", escape(&reason)),
        advice: advice.map(str::to_owned),
    }
}

/// Returns whether a directory and its subdirectories contain no file.
fn is_without_files(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().all(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_without_files(&entry.path())
    })
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory
    )
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Web(web) => web.url.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

/// The largest summary that any libostree reads.
const SUMMARY_LEN_MAX: u64 = 128 * 1024 * 1024;
const CONFIG_LEN_MAX: u64 = 1024 * 1024;
#[cfg(feature = "pull")]
const COMMIT_LEN_MAX: u64 = artifact_formats::limits::MAX_METADATA_LEN as u64;
#[cfg(feature = "pull")]
const REF_LEN_MAX: u64 = 4096;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
