//! The files that TLS is set up from: read, checked as a whole, and made into a configuration of rustls.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier,
};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};

/// What clients may speak over TLS (ALPN), in the order in which it is preferred.
const PROTOCOLS: [&[u8]; 2] = [super::tls::HTTP2, b"http/1.1"];

/// The files, in PEM.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate, followed by those between it and its authority.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// The authorities whose certificates clients must show. Without them no client needs one.
    pub client_ca: Option<PathBuf>,
}

/// Why files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {0:?}")]
    Read(PathBuf, #[source] io::Error),
    /// A file holds something else than certificates.
    #[error("{0:?} must hold certificates in PEM")]
    Certificates(PathBuf, #[source] Option<Error>),
    /// A file holds no key that can be used.
    #[error("{0:?} must hold a private key in PEM without a password")]
    Key(PathBuf, #[source] pem::Error),
    /// The certificate and the key do not belong together, or cannot be used.
    #[error("the certificate in {0:?} cannot be used with the key in {1:?}")]
    Pair(PathBuf, PathBuf, #[source] Error),
    /// Clients cannot be checked against the authorities.
    #[error("no client can be checked against {0:?}")]
    ClientCa(PathBuf, #[source] VerifierBuilderError),
    /// The certificate is not valid now.
    #[error("the certificate in {0:?} is {1}")]
    Time(PathBuf, &'static str),
}

impl TlsError {
    /// The error and its causes in one line.
    pub(super) fn in_full(&self) -> String {
        let causes = std::iter::successors(Some(self as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

/// What the files hold. It has no `Debug`, because a private key is in it.
#[derive(PartialEq, Eq)]
pub(super) struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Contents {
    /// Whether the server shows the same certificate with both.
    pub(super) fn has_certificate_of(&self, other: &Self) -> bool {
        self.certificate == other.certificate
    }
}

/// What the files were made into.
pub(super) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) validity: Validity,
}

/// From when to when all certificates of a chain are valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity {
    from: Duration,
    to: Duration,
}

impl TlsFiles {
    /// Reads all files.
    pub(super) fn read(&self) -> Result<Contents, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| TlsError::Read(path.to_owned(), error));
        Ok(Contents {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(read).transpose()?,
        })
    }

    /// Makes a configuration of what the files hold. Whether the certificate is valid now is left to the caller.
    pub(super) fn load(&self, contents: &Contents) -> Result<Loaded, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let chain = certificates(&self.certificate, &contents.certificate)?;
        let validity = Validity::of(&chain, &provider)
            .map_err(|error| TlsError::Certificates(self.certificate.clone(), Some(error)))?;
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|error| TlsError::Key(self.key.clone(), without_bytes(error)))?;
        let clients = match (&self.client_ca, &contents.client_ca) {
            (Some(path), Some(pem)) => client_verifier(path, pem, &provider)?,
            _ => WebPkiClientVerifier::no_client_auth(),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring offers TLS 1.2 and 1.3")
            .with_client_cert_verifier(clients)
            .with_single_cert(chain, key)
            .map_err(|error| TlsError::Pair(self.certificate.clone(), self.key.clone(), error))?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        if self.client_ca.is_some() {
            // A client that resumes a session shows no certificate, and gets another session: it would go on for ever with a
            // certificate that has expired.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Loaded { config: Arc::new(config), validity })
    }
}

/// The certificates of a file; at least one.
fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    chain.ok().filter(|chain| !chain.is_empty()).ok_or_else(|| TlsError::Certificates(path.to_owned(), None))
}

fn client_verifier(
    path: &Path,
    pem: &[u8],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| TlsError::Certificates(path.to_owned(), Some(error)))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| TlsError::ClientCa(path.to_owned(), error))
}

/// The error without what it quotes of the file, which may be a part of the key.
fn without_bytes(error: pem::Error) -> pem::Error {
    match error {
        pem::Error::IllegalSectionStart { .. } => pem::Error::NoItemsFound,
        pem::Error::MissingSectionEnd { .. } => pem::Error::MissingSectionEnd { end_marker: b"-----END".to_vec() },
        error => error,
    }
}

impl Validity {
    /// Reads the times of all certificates, which are thereby parsed.
    fn of(chain: &[CertificateDer<'_>], provider: &CryptoProvider) -> Result<Self, Error> {
        let mut all = Self { from: Duration::ZERO, to: Duration::MAX };
        for certificate in chain {
            let certificate = ParsedCertificate::try_from(certificate)?;
            all.from = all.from.max(bound(&certificate, Duration::ZERO, provider)?);
            all.to = all.to.min(bound(&certificate, Duration::from_secs(u64::MAX), provider)?);
        }
        Ok(all)
    }

    /// What is wrong with the certificate now, if anything.
    pub(super) fn fault(&self, now: SystemTime) -> Option<&'static str> {
        let now = since_unix(now);
        match () {
            () if now < self.from => Some("not valid yet"),
            () if now > self.to => Some("expired"),
            () => None,
        }
    }

    /// When the certificate ends, since 1970.
    pub(super) fn end(&self) -> Duration {
        self.to
    }

    /// How long the certificate is still valid.
    pub(super) fn left(&self, now: SystemTime) -> Duration {
        self.to.saturating_sub(since_unix(now))
    }
}

/// The time in which a certificate is valid and which is nearest to `time`. webpki has no function for it, but its check
/// tells it where it fails.
fn bound(certificate: &ParsedCertificate<'_>, time: Duration, provider: &CryptoProvider) -> Result<Duration, Error> {
    let (authorities, now) = (RootCertStore::empty(), UnixTime::since_unix_epoch(time));
    let algorithms = provider.signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(certificate, &authorities, &[], now, algorithms) {
        Err(Error::InvalidCertificate(
            CertificateError::NotValidYetContext { not_before: nearest, .. }
            | CertificateError::ExpiredContext { not_after: nearest, .. },
        )) => Ok(Duration::from_secs(nearest.as_secs())),
        Err(error @ Error::InvalidCertificate(CertificateError::BadEncoding)) => Err(error),
        // Only an authority is missing.
        _ => Ok(time),
    }
}

fn since_unix(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}
