//! Why the server cannot serve, with advice.

use std::io;
use std::path::PathBuf;

use artifact_formats::ConfigError;

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The repository cannot be served; the operator or the disk is at fault.
    #[error("cannot serve the repository {}", path.display())]
    Repository {
        /// Its path.
        path: PathBuf,
        /// The reason.
        source: RepositoryError,
    },
    /// The page for people cannot be made: this user cannot read all that it shows.
    #[error("cannot read what the page of {} shows; --no-page serves without one", path.display())]
    Page {
        /// The repository.
        path: PathBuf,
        /// Why.
        source: Box<artifact_store::Error>,
    },
    /// The repository cannot be read for pulls.
    #[error("cannot read {} for pulls; --no-pulls serves its files alone", path.display())]
    Pulls {
        /// The repository.
        path: PathBuf,
        /// Why.
        source: Box<artifact_sender::Error>,
    },
    /// The certificate cannot be used.
    #[error("cannot serve with TLS")]
    Certificate(#[from] CertificateError),
    /// No socket can be opened.
    #[error("cannot listen")]
    Listen(#[from] ListenError),
    /// The machine lacks a resource that the server needs.
    #[error("cannot start the threads of the server")]
    Runtime(#[source] io::Error),
}

/// Why a directory cannot be served as a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepositoryError {
    /// The directory cannot be opened.
    #[error(
        "cannot open it: is the path right, and may this user read it? \
         `artifact-cache-admin init REPO` makes a new one"
    )]
    Open(#[source] io::Error),
    /// Its `config` cannot be read.
    #[error("cannot read its config: may this user read it? `ls -l REPO/config` tells")]
    Config(#[source] io::Error),
    /// It has no `config`.
    #[error("it is no repository: it has no config; `artifact-cache-admin init REPO` makes one")]
    NoConfig,
    /// Its `config` is malformed.
    #[error("its config cannot be used")]
    Malformed(#[from] ConfigError),
    /// Its objects are not in the form that pullers read.
    #[error(
        "its mode is {0}, and only archive can be pulled over https; \
         `artifact-cache-admin init REPO` makes one that can"
    )]
    Mode(&'static str),
    /// It has no objects, as if its disk were not mounted.
    #[error("it has no directory of objects: is its disk mounted?")]
    NoObjects,
    /// Its objects cannot be looked at.
    #[error("cannot look at its objects")]
    Objects(#[source] io::Error),
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read as PEM.
    #[error("cannot read the {what} in {}: {hint}", path.display())]
    Read {
        /// The missing content.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Advice.
        hint: &'static str,
        /// The reason.
        source: rustls::pki_types::pem::Error,
    },
    /// A file contains no certificate.
    #[error(
        "there is no certificate in {}: a PEM file begins with -----BEGIN CERTIFICATE-----",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The key belongs to another certificate.
    #[error(
        "the key in {} does not belong to the certificate in {}; `openssl x509 -noout -pubkey -in \
         CERT` and `openssl pkey -pubout -in KEY` must print the same",
        key.display(), cert.display()
    )]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// The TLS library refuses the certificate or the key.
    #[error(
        "the certificate in {} cannot be used with the key in {}",
        cert.display(), key.display()
    )]
    Refused {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The reason.
        source: rustls::Error,
    },
    /// The TLS library refuses an authority for clients.
    #[error("the authorities for clients in {} cannot be used", path.display())]
    Authority {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why no socket can be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// No address is given.
    #[error("nothing says where: give --listen ADDRESS:PORT, or start it by a socket of systemd")]
    Nowhere,
    /// A text is no address.
    #[error("{place:?} is no address and port, such as 0.0.0.0:443 or [::]:443, nor unix:/PATH")]
    Address {
        /// What was given.
        place: String,
    },
    /// Another program uses the address.
    #[error("{place} is in use; `ss -ltnp` says by whom")]
    InUse {
        /// What was given.
        place: String,
    },
    /// This user may not use the address.
    #[error(
        "this user may not listen on {place}: ports below 1024 take root with --user, \
         AmbientCapabilities=CAP_NET_BIND_SERVICE, or a socket of systemd"
    )]
    Denied {
        /// What was given.
        place: String,
    },
    /// The address cannot be used.
    #[error("cannot use {place}")]
    Bind {
        /// What was given.
        place: String,
        /// Why.
        source: io::Error,
    },
    /// A socket from the service manager cannot be used.
    #[error("cannot use socket {index} of those that were handed over")]
    Inherited {
        /// Counted from 0.
        index: usize,
        /// Why.
        source: io::Error,
    },
    /// An eavesdropper could read the traffic.
    #[error(
        "{place} can be reached from other machines, and --plain-http is for proxies on this one: \
         listen on 127.0.0.1 or unix:/PATH, or give --cert and --key"
    )]
    Plain {
        /// The address.
        place: String,
    },
}
