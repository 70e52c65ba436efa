//! Certificates: read at the start, and again when their files change.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use crate::error::CertificateError;

/// The files of a certificate.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The server's certificate and its intermediate certificates, as PEM.
    pub cert: PathBuf,
    /// Its private key, as PEM.
    pub key: PathBuf,
    /// The authorities of clients' certificates, as PEM; by default, clients need none.
    pub client_ca: Option<PathBuf>,
}

impl CertificateFiles {
    /// Returns the directories of these files and of their future replacements: a replacement has
    /// the file's name, or that of a link's target.
    pub fn dirs(&self) -> Vec<PathBuf> {
        let parent = |path: &Path| path.parent().map(Path::to_owned);
        let mut dirs: Vec<_> = self
            .all()
            .flat_map(|path| {
                let absolute = std::path::absolute(path).ok();
                [absolute, path.canonicalize().ok()]
            })
            .flatten()
            .filter_map(|path| parent(&path))
            .collect();
        dirs.sort();
        dirs.dedup();
        dirs
    }

    fn all(&self) -> impl Iterator<Item = &Path> {
        let client_ca = self.client_ca.as_deref();
        [&*self.cert, &self.key].into_iter().chain(client_ca)
    }

    fn load(&self) -> Result<ServerConfig, CertificateError> {
        let chain = self.certificates(&self.cert, "certificate")?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|source| unreadable("private key", &self.key, source))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| self.refused(source))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => builder.with_client_cert_verifier(self.verifier(path)?),
        };
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|source| match source {
                rustls::Error::InconsistentKeys(_) => CertificateError::Mismatch {
                    cert: self.cert.clone(),
                    key: self.key.clone(),
                },
                source => self.refused(source),
            })?;
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        Ok(config)
    }

    fn verifier(
        &self,
        path: &Path,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, CertificateError> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| {
            let path = path.to_owned();
            CertificateError::Authority { path, source }
        };
        let mut roots = RootCertStore::empty();
        for authority in self.certificates(path, "authorities for clients")? {
            roots
                .add(authority)
                .map_err(|error| refused(error.into()))?;
        }
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| refused(error.into()))
    }

    fn certificates(
        &self,
        path: &Path,
        what: &'static str,
    ) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let chain: Vec<_> = read.map_err(|source| unreadable(what, path, source))?;
        if chain.is_empty() {
            let path = path.to_owned();
            return Err(CertificateError::Empty { path });
        }
        Ok(chain)
    }

    fn refused(&self, source: rustls::Error) -> CertificateError {
        CertificateError::Refused {
            cert: self.cert.clone(),
            key: self.key.clone(),
            source,
        }
    }

    /// Returns a fingerprint that distinguishes these files from their replacements.
    fn print(&self) -> Print {
        let print = |path| {
            let file = std::fs::metadata(path).ok()?;
            let (inode, len) = (file.ino(), file.len());
            Some([inode, len, file.mtime() as u64, file.mtime_nsec() as u64])
        };
        Print(self.all().map(print).collect())
    }
}

/// The certificate in use.
#[derive(Debug)]
pub(crate) struct Certificates {
    files: CertificateFiles,
    current: RwLock<Arc<ServerConfig>>,
}

/// The state of the files when they were last checked.
#[derive(Debug, PartialEq)]
pub(crate) struct Print(Vec<Option<[u64; 4]>>);

impl Certificates {
    pub(crate) fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        let current = RwLock::new(Arc::new(files.load()?));
        Ok(Self { files, current })
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }

    pub(crate) fn print(&self) -> Print {
        self.files.print()
    }

    /// Reads the files again. If that fails, the certificate in use stays.
    pub(crate) fn reload(&self) -> Result<(), CertificateError> {
        let new = Arc::new(self.files.load()?);
        *self.current.write() = new;
        Ok(())
    }
}

fn unreadable(what: &'static str, path: &Path, source: pem::Error) -> CertificateError {
    let hint = match &source {
        pem::Error::NoItemsFound => "is it PEM, and the right file?",
        pem::Error::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "this user may not read it: give the file to a group that the user is in, `chgrp GROUP \
             FILE; chmod 640 FILE`"
        }
        pem::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "is the path right?"
        }
        _ => "is it PEM?",
    };
    CertificateError::Read {
        what,
        path: path.to_owned(),
        hint,
        source,
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The names of protocols for ALPN.
pub(crate) const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
