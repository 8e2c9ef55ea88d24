//! TLS to the database, by rustls: which certificates are accepted.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::url::UrlError;

/// Makes TLS connections.
pub type Tls = MakeRustlsConnect;

/// An encrypted connection over `S`.
pub type Stream<S> = <Tls as MakeTlsConnect<S>>::Stream;

/// The value of `sslrootcert` that means the roots of the operating system.
const SYSTEM: &str = "system";

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Nothing: the connection is encrypted, but anybody may be at its other end.
    Nothing,
    /// Its chain: a trusted authority has signed it.
    Chain,
    /// Its chain, and that it is made out to the host's name.
    ChainAndName,
}

/// The maker of connections that check this much. `roots` is a file of certificates in PEM, or `system`, which is also the
/// default.
///
/// # Errors
/// [`UrlError::Certificates`] if `roots` cannot be read.
pub(crate) fn connector(verify: Verify, roots: Option<PathBuf>) -> Result<Tls, UrlError> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match verify {
        Verify::Nothing => Arc::new(Partial { roots: None, provider: Arc::clone(&provider) }),
        Verify::Chain => Arc::new(Partial { roots: Some(read_roots(roots)?), provider: Arc::clone(&provider) }),
        Verify::ChainAndName => {
            let roots = Arc::new(read_roots(roots)?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                .build()
                .map_err(|error| UrlError::Certificates("which were read".to_owned(), Box::new(error)))?
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn read_roots(path: Option<PathBuf>) -> Result<RootCertStore, UrlError> {
    let name = match &path {
        Some(path) if path.as_os_str() != SYSTEM => format!("{path:?}"),
        _ => "those of the operating system".to_owned(),
    };
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| UrlError::Certificates(name.clone(), error);
    let mut roots = RootCertStore::empty();
    match path.filter(|path| path.as_os_str() != SYSTEM) {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed(Box::new(error)))? {
                let certificate = certificate.map_err(|error| failed(Box::new(error)))?;
                roots.add(certificate).map_err(|error| failed(Box::new(error)))?;
            }
        }
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
    }
    if roots.is_empty() {
        let error = io::Error::new(io::ErrorKind::NotFound, "there is no root certificate to check against");
        return Err(failed(Box::new(error)));
    }
    Ok(roots)
}

/// Checks the chain if there are roots, and never the name. In any case the server must prove that it has the certificate's
/// key.
#[derive(Debug)]
struct Partial {
    roots: Option<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Partial {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
