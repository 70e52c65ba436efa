//! What a server opens outside the sandbox: the repository and the certificate.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use artifact_page::Site;
use artifact_sender::Repository;
use tokio::runtime;
use tokio::sync::Semaphore;

use crate::answer::Shared;
use crate::connections::{CertificateFiles, Certificates};
use crate::error::Error;
use crate::limits::Shares;
use crate::pull::{Puller, Pulls};
use crate::reply::Readers;
use crate::report::{AccessLog, Metrics};
use crate::repository::{Files, Pairs};

/// The configuration of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory of the repository.
    pub repo: PathBuf,
    /// The path of its root in URLs, such as `/artifacts`; empty for the root of the host.
    pub at: String,
    /// The certificate; without one, the server speaks plain HTTP/1.1, and only to this machine.
    pub certificate: Option<CertificateFiles>,
    /// The most connections at once.
    pub connections_max: usize,
    /// The most connections at once from one address; twice as many of its requests may run.
    pub connections_each_max: usize,
    /// The access log, if any.
    pub log: Option<AccessLog>,
    /// What the page for people says; without it there is none.
    pub page: Option<artifact_page::Options>,
    /// The limits of pulls; without them none is answered.
    pub pulls: Option<Pulls>,
}

/// A server that has opened everything it needs from outside the sandbox.
#[derive(Debug)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
    pub(crate) certificates: Option<Arc<Certificates>>,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) connections_each: Arc<Shares>,
}

impl Server {
    /// Opens the repository and reads the certificate.
    pub fn open(config: Config) -> Result<Self, Error> {
        let files = Files::open(&config.repo).and_then(|files| {
            files.config()?;
            Ok(files)
        });
        let files = files.map_err(|source| Error::Repository {
            path: config.repo.clone(),
            source,
        })?;
        if files.may_write() {
            tracing::warn!(
                "this user may write to the repository, and need only read: run the server as \
                 another one"
            );
        }
        let site = config.page.map(|page| Site::open(&config.repo, page));
        let site = site.transpose().map_err(|source| Error::Page {
            path: config.repo.clone(),
            source: Box::new(source),
        })?;
        let site = site.map(Arc::new);
        let repository = config.pulls.map(|_| Repository::open(&config.repo));
        let repository = repository.transpose().map_err(|source| Error::Pulls {
            path: config.repo.clone(),
            source: Box::new(source),
        })?;
        let metrics = Metrics::new();
        let puller = repository.zip(config.pulls);
        let puller = puller.map(|(repository, limits)| {
            let metrics = Arc::clone(&metrics);
            Puller::new(repository, limits, metrics)
        });
        let private = config
            .certificate
            .as_ref()
            .is_some_and(|files| files.client_ca.is_some());
        let certificates = config.certificate.map(Certificates::load).transpose()?;
        // If tokio is built with signals, the first runtime of a process makes a pair of sockets
        // for all of them, which the sandbox denies.
        let first = runtime::Builder::new_current_thread().enable_io().build();
        drop(first.map_err(Error::Runtime)?);
        let shared = Shared {
            files,
            pairs: Pairs::default(),
            at: config.at,
            readers: Readers::default(),
            metrics,
            log: config.log,
            answers: Arc::new(Semaphore::new(2 * config.connections_max)),
            answers_each: Shares::new(2 * config.connections_each_max),
            stopping: AtomicBool::new(false),
            private,
            site,
            puller,
        };
        Ok(Self {
            shared: Arc::new(shared),
            certificates: certificates.map(Arc::new),
            connections: Arc::new(Semaphore::new(config.connections_max)),
            connections_each: Shares::new(config.connections_each_max),
        })
    }
}
