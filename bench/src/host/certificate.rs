//! A certificate for a server on this machine.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The files of a certificate that signs itself.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    /// The certificate, which clients trust as an authority, too.
    pub(crate) file: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// A new one for 127.0.0.1, in `directory`.
    pub(crate) fn new(directory: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).context("cannot make a certificate")?;
        let (file, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
        std::fs::write(&file, made.cert.pem())?;
        std::fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { file, key })
    }

    /// The flags of a server that has it.
    pub(super) fn flags(&self) -> [String; 2] {
        [format!("--tls-cert={}", self.file.display()), format!("--tls-key={}", self.key.display())]
    }
}
