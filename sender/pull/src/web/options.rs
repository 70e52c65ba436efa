//! How web servers are reached.

use std::path::PathBuf;
use std::time::Duration;

/// How to reach web servers.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// The program and its version, for the server's log.
    pub agent: String,
    /// Files of certificates of authorities to trust, in addition to those of this machine.
    pub authorities: Vec<PathBuf>,
    /// The certificate to introduce this client with.
    pub identity: Option<WebIdentity>,
    /// How long to wait for an answer, or for its next bytes.
    pub read_timeout: Duration,
    /// The pause before a failed request is made again, about; each further one is twice as long.
    pub pause: Duration,
}

/// A client's certificate, and its key; PEM files.
#[derive(Clone, Debug)]
pub struct WebIdentity {
    /// The file of the certificate, and of those between it and the authority.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
}

impl Default for WebOptions {
    fn default() -> Self {
        Self {
            agent: concat!("artifact-puller/", env!("CARGO_PKG_VERSION")).to_owned(),
            authorities: Vec::new(),
            identity: None,
            read_timeout: Duration::from_secs(60),
            pause: Duration::from_millis(200),
        }
    }
}
