//! Whom a client trusts, and as whom it introduces itself.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::options::WebOptions;

/// The certificates to use cannot be read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// A file cannot be read, or has no certificate or key.
    #[error("cannot read {what} from {}", path.display())]
    Unreadable {
        /// The wanted content.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The certificates do not fit together, or no authority is known.
    #[error("cannot use the certificates")]
    Unusable(#[from] rustls::Error),
}

/// Prepares https: the authorities that this machine trusts and those of the options, and the
/// client's certificate.
pub(super) fn configuration(options: &WebOptions) -> Result<ClientConfig, CertificateError> {
    let provider = Arc::new(ring::default_provider());
    let mut own = Vec::new();
    for path in &options.authorities {
        own.extend(certificates(path)?);
    }
    let platform = Platform {
        own,
        provider: Arc::clone(&provider),
        verifier: OnceLock::new(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        // Dangerous in general; this verifier asks the platform's authorities.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(platform));
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let key = PrivateKeyDer::from_pem_file(&identity.key)
                .map_err(unreadable("a key", &identity.key))?;
            builder.with_client_auth_cert(certificates(&identity.certificate)?, key)?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities of this machine, and further ones. They are read once a server shows a
/// certificate: plain http needs none.
#[derive(Debug)]
struct Platform {
    own: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    verifier: OnceLock<Result<Verifier, rustls::Error>>,
}

impl Platform {
    fn verifier(&self) -> Result<&Verifier, rustls::Error> {
        let make = || {
            let provider = Arc::clone(&self.provider);
            Verifier::new_with_extra_roots(self.own.iter().cloned(), provider)
        };
        let made = self.verifier.get_or_init(make).as_ref();
        made.map_err(rustls::Error::clone)
    }
}

impl ServerCertVerifier for Platform {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier()?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let read: Vec<_> = read.map_err(unreadable("certificates", path))?;
    if read.is_empty() {
        return Err(unreadable("certificates", path)(pem::Error::NoItemsFound));
    }
    Ok(read)
}

fn unreadable(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> CertificateError {
    let path = path.to_owned();
    move |source| CertificateError::Unreadable { what, path, source }
}
