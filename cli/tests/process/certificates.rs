//! Certificates that the tests make, and clients that trust them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority that signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// From when to when a certificate is valid.
#[derive(Clone, Copy)]
pub(crate) enum Valid {
    /// Longer than any test.
    Long,
    /// For three more days.
    ThreeDays,
    /// For a moment.
    Briefly(Duration),
    /// No longer, since yesterday.
    UntilYesterday,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: KeyPair,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        // Each has a name of its own, by which one is told from another.
        parameters.distinguished_name.push(DnType::CommonName, uuid::Uuid::now_v7().to_string());
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(parameters, key()).expect("good parameters"))
    }

    /// A certificate for `localhost`.
    pub(crate) fn issue(&self, valid: Valid) -> Issued {
        let mut parameters = CertificateParams::new(["localhost".to_owned()]).expect("a good name");
        let now = SystemTime::now();
        match valid {
            Valid::Long => {}
            Valid::ThreeDays => parameters.not_after = (now + 3 * DAY).into(),
            Valid::Briefly(time) => parameters.not_after = (now + time).into(),
            Valid::UntilYesterday => parameters.not_after = (now - DAY).into(),
        }
        let key = key();
        let certificate = parameters.signed_by(&key, &self.0).expect("good parameters");
        Issued { certificate: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// How a client that trusts this authority speaks TLS: these protocols over HTTP, and with this certificate of its own.
    pub(crate) fn client(&self, protocols: &[&str], own: Option<&Issued>) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("an authority's certificate");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => builder
                .with_client_auth_cert(vec![own.certificate.clone()], own.private_key())
                .expect("they belong together"),
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Issued {
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a private key")
    }

    /// Writes certificate and key into files of a directory, and returns their names.
    pub(crate) fn write(&self, directory: &Path) -> [PathBuf; 2] {
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| directory.join(name));
        std::fs::write(&certificate, &self.pem).expect("the folder is ours");
        std::fs::write(&key, self.key.serialize_pem()).expect("the folder is ours");
        [certificate, key]
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("there is randomness")
}
