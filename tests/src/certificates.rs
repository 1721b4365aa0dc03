//! Makes a certificate authority and a listener certificate for `localhost`, both for this run only.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::error::HarnessError;

/// PEM files in a folder.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The certificate authority that a client must trust.
    pub authority: PathBuf,
    /// The listener's certificate, for `localhost` and 127.0.0.1.
    pub certificate: PathBuf,
    /// The listener's private key.
    pub private_key: PathBuf,
}

impl Certificates {
    /// Writes the three files into an existing folder.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Certificate`] or [`HarnessError::Io`].
    pub fn create(folder: &Path) -> Result<Self, HarnessError> {
        let (authority, certificate, private_key) = generate().map_err(HarnessError::Certificate)?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))
                .map(|()| path)
        };
        Ok(Self {
            authority: write("ca.pem", &authority)?,
            certificate: write("listener.pem", &certificate)?,
            private_key: write("listener.key", &private_key)?,
        })
    }
}

fn generate() -> Result<(String, String, String), rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, "kerbridge lab CA");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut listener = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    listener.distinguished_name.push(DnType::CommonName, "localhost");
    listener.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = listener.signed_by(&key, &authority)?;
    Ok((authority.pem(), certificate.pem(), key.serialize_pem()))
}
