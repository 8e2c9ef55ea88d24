//! TLS to a server that runs already, at `https://`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// What a connection is read from and written to: clear, or TLS. A TLS session is boxed, because it is a hundred times as
/// large as a socket.
pub(crate) type Stream = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The certificates that are trusted, and the name that the server's certificate must have.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the authorities in a file in PEM, or those of the system.
    ///
    /// # Errors
    /// The file cannot be read or has no certificates, or the host has no name.
    pub(super) fn new(host: &str, authorities: Option<&Path>) -> anyhow::Result<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).context("no certificate is for such a host")?;
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(authorities)?)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config), name })
    }

    /// The same for connections over HTTP/2.
    pub(super) fn for_http2(&self) -> Self {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self { config: Arc::new(config), name: self.name.clone() }
    }

    pub(super) async fn wrap(&self, stream: TcpStream) -> anyhow::Result<Stream> {
        let wrapped = TlsConnector::from(Arc::clone(&self.config)).connect(self.name.clone(), stream).await;
        Ok(Either::Right(Box::new(wrapped.context("no TLS with the server")?)))
    }
}

fn roots(authorities: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        Some(file) => {
            let unusable = || format!("--ca-file: {} has no certificates in PEM that can be used", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(unusable)? {
                roots.add(certificate.with_context(unusable)?).with_context(unusable)?;
            }
        }
    }
    anyhow::ensure!(!roots.is_empty(), "no authority is trusted: give a file of some with --ca-file");
    Ok(roots)
}
