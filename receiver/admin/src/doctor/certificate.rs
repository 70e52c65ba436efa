//! When the certificate of a web server expires, whoever has signed it.

use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// Returns when the certificate of a server expires.
pub(super) fn expiry(host: &str, port: u16) -> Result<SystemTime, String> {
    let seen = Arc::new(Seen {
        provider: Arc::new(ring::default_provider()),
        certificate: Mutex::default(),
    });
    let config = ClientConfig::builder_with_provider(Arc::clone(&seen.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Seen>::clone(&seen))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let io = |error: std::io::Error| error.to_string();
    let address = (host, port).to_socket_addrs().map_err(io)?.next();
    let address = address.ok_or("the name has no address")?;
    let mut socket = TcpStream::connect_timeout(&address, PATIENCE).map_err(io)?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(io)?;
    socket.set_write_timeout(Some(PATIENCE)).map_err(io)?;
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    // The certificate comes early: an error behind it does not matter.
    let ended = connection.complete_io(&mut socket);
    let certificate = seen
        .certificate
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    match (certificate, ended) {
        (Some(certificate), _) => not_after(&certificate),
        (None, Err(error)) => Err(error.to_string()),
        (None, Ok(_)) => Err("the server showed no certificate".to_owned()),
    }
}

fn not_after(certificate: &[u8]) -> Result<SystemTime, String> {
    let certificate = Certificate::from_der(certificate).map_err(|error| error.to_string())?;
    let not_after = certificate.tbs_certificate().validity().not_after;
    Ok(SystemTime::UNIX_EPOCH + not_after.to_unix_duration())
}

/// Takes note of the certificate, and believes it. Nothing is sent to such a server.
#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    certificate: Mutex<Option<Vec<u8>>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut certificate = self
            .certificate
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *certificate = Some(end_entity.to_vec());
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

const PATIENCE: Duration = Duration::from_secs(5);
