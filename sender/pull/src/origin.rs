//! The place that commits come from: the files of a repository, over the web or by path.
//!
//! Nothing read from it is trusted: everything is parsed strictly, and every object is verified by
//! the store.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use artifact_formats::limits::{MAX_DETACHED_LEN, MAX_METADATA_LEN};
use artifact_formats::{Checksum, ObjectId, RefName, RepoConfig, Summary, SummaryRef};
use artifact_sender::{Repository, escape};
use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::error::Error;
use crate::local::is_absent;
use crate::web::{Cause, Web, WebError, WebOptions, WebUrl};

/// A repository to pull from.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(crate) kind: Kind,
    large: Arc<Semaphore>,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Web(Arc<Web>),
    Path(PathBuf),
}

impl Origin {
    /// A repository behind a web server.
    ///
    /// # Errors
    ///
    /// The certificates of the options cannot be used.
    pub fn web(url: WebUrl, options: &WebOptions) -> Result<Self, WebError> {
        Web::new(url, options).map(|web| Self::of(Kind::Web(Arc::new(web))))
    }

    /// A repository on this machine, of any mode.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self::of(Kind::Path(path.into()))
    }

    fn of(kind: Kind) -> Self {
        Self {
            kind,
            large: Arc::new(Semaphore::new(1)),
        }
    }

    /// Reads the repository's configuration.
    ///
    /// # Errors
    ///
    /// It has none, or cannot be read.
    pub async fn config(&self) -> Result<RepoConfig, Error> {
        let Some(bytes) = self.read("config", CONFIG_LEN_MAX).await? else {
            return Err(Error::NotARepository {
                origin: self.to_string(),
            });
        };
        let text = String::from_utf8_lossy(&bytes);
        RepoConfig::parse(&text).map_err(|source| Error::Config {
            origin: self.to_string(),
            source,
        })
    }

    /// Reads the summary, if the repository has one.
    ///
    /// # Errors
    ///
    /// It is malformed, or cannot be read.
    pub async fn summary(&self) -> Result<Option<Summary>, Error> {
        match self.read("summary", SUMMARY_LEN_MAX).await? {
            Some(bytes) => self.parse_summary(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Reads the refs that the summary lists.
    ///
    /// # Errors
    ///
    /// There is no summary, or it is malformed or cannot be read.
    pub async fn refs(&self) -> Result<BTreeMap<String, SummaryRef>, Error> {
        if let Some(summary) = self.summary().await? {
            return Ok(summary.refs);
        }
        self.without_summary().await?;
        Ok(BTreeMap::new())
    }

    /// Succeeds if a repository without a summary has no refs.
    pub(crate) async fn without_summary(&self) -> Result<(), Error> {
        // If the repository itself is missing, report that instead.
        self.config().await?;
        match &self.kind {
            Kind::Path(path) if is_without_files(&path.join("refs/heads")) => Ok(()),
            Kind::Path(_) | Kind::Web(_) => Err(Error::NoSummary {
                origin: self.to_string(),
            }),
        }
    }

    /// Reads the summary's bytes and those of its signatures, if it has them.
    pub(crate) async fn summary_with_signatures(
        &self,
    ) -> Result<Option<(Bytes, Option<Bytes>)>, Error> {
        let signatures = self.read("summary.sig", SIGNATURES_LEN_MAX).await?;
        let summary = self.read("summary", SUMMARY_LEN_MAX).await?;
        Ok(summary.map(|summary| (summary, signatures)))
    }

    pub(crate) fn parse_summary(&self, bytes: &[u8]) -> Result<Summary, Error> {
        Summary::parse(bytes).map_err(|error| self.bad("summary", &error.to_string()))
    }

    /// Reads the commit that a ref holds, if the ref exists.
    ///
    /// # Errors
    ///
    /// Its file cannot be read, or is malformed.
    pub async fn commit_of(&self, name: &RefName) -> Result<Option<Checksum>, Error> {
        let file = format!("refs/heads/{name}");
        let Some(bytes) = self.read(&file, REF_LEN_MAX).await? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes);
        let commit = text.trim_end().parse();
        commit
            .map(Some)
            .map_err(|_| self.bad(&file, "it does not contain a checksum"))
    }

    /// Reads a commit object whose checksum is right, if it exists.
    pub(crate) async fn commit(&self, commit: Checksum) -> Result<Option<Bytes>, Error> {
        let file = format!("objects/{}", ObjectId::commit(commit).archive_path());
        let found = self.read_in_turn(&file, MAX_METADATA_LEN as u64).await?;
        match found {
            Some(bytes) if Checksum::of(&bytes) != commit => {
                Err(self.bad(&file, "its checksum does not match its name: it is damaged"))
            }
            found => Ok(found),
        }
    }

    /// Reads a commit's detached metadata, if it has some.
    pub(crate) async fn detached(&self, commit: Checksum) -> Result<Option<Bytes>, Error> {
        let id = ObjectId::commit(commit);
        let file = format!("objects/{}", id.loose_path("commitmeta"));
        let found = self.read_in_turn(&file, MAX_DETACHED_LEN as u64).await?;
        // Without an entry it says nothing.
        Ok(found.filter(|bytes| !bytes.is_empty()))
    }

    /// Opens a repository on this machine, to read its objects.
    pub(crate) fn repository(path: &Path) -> Result<Repository, Error> {
        Repository::open(path).map_err(Error::Source)
    }

    /// Reads a file that is small, as a rule. If it is not, waits until no other such file is being
    /// read: many are read at once.
    async fn read_in_turn(&self, file: &str, len_max: u64) -> Result<Option<Bytes>, Error> {
        match self.read(file, USUAL_LEN_MAX).await {
            Err(Error::Web(WebError {
                cause: Cause::TooLarge { .. },
                ..
            })) => {
                let _turn = self.large.acquire().await;
                self.read(file, len_max).await
            }
            Err(Error::BadFile { .. }) => self.read(file, len_max).await,
            read => read,
        }
    }

    /// Reads a file of the repository, if it exists; again, if that can help.
    async fn read(&self, file: &str, len_max: u64) -> Result<Option<Bytes>, Error> {
        for attempt in 1..ATTEMPTS {
            match (self.read_once(file, len_max).await, &self.kind) {
                (Err(Error::Web(error)), Kind::Web(web)) if error.may_pass() => {
                    tracing::debug!(%error, "trying again");
                    web.pause(attempt, Some(&error)).await;
                }
                (read, _) => return read,
            }
        }
        self.read_once(file, len_max).await
    }

    async fn read_once(&self, file: &str, len_max: u64) -> Result<Option<Bytes>, Error> {
        match &self.kind {
            Kind::Web(web) => Ok(web.read(file, len_max).await?),
            Kind::Path(path) => {
                let path = path.join(file);
                let mut bytes = Vec::new();
                let read = File::open(&path).and_then(|file| {
                    // One byte more shows that there is more.
                    file.take(len_max.saturating_add(1)).read_to_end(&mut bytes)
                });
                match read {
                    Ok(len) if len as u64 > len_max => {
                        Err(self.bad(file, &format!("it has more than {len_max} bytes")))
                    }
                    Ok(_) => Ok(Some(bytes.into())),
                    Err(error) if is_absent(&error) => Ok(None),
                    Err(error) => Err(self.bad(file, &error.to_string())),
                }
            }
        }
    }

    fn bad(&self, file: &str, reason: &str) -> Error {
        Error::BadFile {
            origin: self.to_string(),
            file: file.to_owned(),
            reason: escape(reason),
        }
    }
}

/// Returns whether a directory and its subdirectories contain no file.
fn is_without_files(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    entries.flatten().all(|entry| {
        entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_without_files(&entry.path())
    })
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Web(web) => web.url().fmt(f),
            Kind::Path(path) => path.display().fmt(f),
        }
    }
}

/// The largest summary that any libostree reads.
const SUMMARY_LEN_MAX: u64 = 128 * 1024 * 1024;
const SIGNATURES_LEN_MAX: u64 = 1024 * 1024;
const CONFIG_LEN_MAX: u64 = 1024 * 1024;
const REF_LEN_MAX: u64 = 4096;
/// Most commits, and their detached metadata, are shorter than that.
const USUAL_LEN_MAX: u64 = 64 * 1024;
const ATTEMPTS: u32 = 4;
