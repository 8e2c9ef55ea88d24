//! TLS by rustls: whom the client trusts, and how it shows who it is.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::{Error, Result};

/// Certificates and keys in PEM.
#[derive(Clone, Default)]
pub(crate) struct TlsSettings {
    /// The authorities that are trusted. Without them those of the system are.
    pub(crate) authorities: Option<Vec<u8>>,
    /// The client's own certificate and its key.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

#[derive(Clone)]
pub(crate) struct Connector(TlsConnector);

impl Connector {
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self> {
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::setting(error.to_string()))?
            .with_root_certificates(roots(settings.authorities.as_deref())?);
        let config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|_| Error::setting("the client's key must be in PEM, without a password"))?;
                let unusable = |error| Error::setting(format!("the client's certificate cannot be used: {error}"));
                builder.with_client_auth_cert(chain, key).map_err(unusable)?
            }
        };
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    pub(crate) async fn wrap(&self, host: &str, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        self.0.connect(name, stream).await
    }
}

fn roots(authorities: Option<&[u8]>) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let Some(pem) = authorities else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::setting("an https URL needs the system's certificates, and there are none"));
        }
        return Ok(roots);
    };
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| Error::setting(format!("an authority cannot be used: {error}")))?;
    }
    Ok(roots)
}

/// At least one certificate.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let all: std::result::Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).ok_or_else(|| Error::setting("certificates must be in PEM"))
}
