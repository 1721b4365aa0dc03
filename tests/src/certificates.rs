//! Makes a certificate authority, a listener certificate for `localhost` and a client certificate for a proxy, all for this
//! run only.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};

use crate::error::HarnessError;
use crate::process::{OwnedProcess, Spawn};

/// PEM files in a folder.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The certificate authority that a client must trust.
    pub authority: PathBuf,
    /// The listener's certificate, for `localhost` and 127.0.0.1.
    pub certificate: PathBuf,
    /// The listener's private key, mode 0600.
    pub private_key: PathBuf,
    /// The certificate that [`CLIENT`] shows.
    pub client_certificate: PathBuf,
    /// Its private key, mode 0600.
    pub client_private_key: PathBuf,
}

/// The name in the client certificate.
pub const CLIENT: &str = "envoy.lab.test";

impl Certificates {
    /// Writes the files into an existing folder.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Certificate`] or [`HarnessError::Io`].
    pub fn create(folder: &Path) -> Result<Self, HarnessError> {
        Self::create_for("127.0.0.1", folder)
    }

    /// The same for `localhost` and another address.
    ///
    /// # Errors
    ///
    /// As [`Certificates::create`].
    pub fn create_for(address: &str, folder: &Path) -> Result<Self, HarnessError> {
        let [
            authority,
            certificate,
            private_key,
            client_certificate,
            client_private_key,
        ] = generate(address).map_err(HarnessError::Certificate)?;
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(mode)))
                .map_err(|source| HarnessError::io(format!("write {}", path.display()), source))
                .map(|()| path)
        };
        Ok(Self {
            authority: write("ca.pem", &authority, 0o644)?,
            certificate: write("listener.pem", &certificate, 0o644)?,
            private_key: write("listener.key", &private_key, 0o600)?,
            client_certificate: write("client.pem", &client_certificate, 0o644)?,
            client_private_key: write("client.key", &client_private_key, 0o600)?,
        })
    }
}

/// A certificate for `localhost` that is its own authority, made by openssl.
#[derive(Clone, Debug)]
pub struct SelfSigned {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub private_key: PathBuf,
}

impl SelfSigned {
    /// Makes `NAME.pem` and `NAME.key` in an existing folder. `key` and `signature` are openssl's words: `rsa:2048` or the
    /// name of a curve, and `sha384` for instance.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ProgramMissing`], or [`HarnessError::Exited`] with what openssl said.
    pub fn create(folder: &Path, name: &str, key: &str, signature: &str) -> Result<Self, HarnessError> {
        let made = Self {
            certificate: folder.join(format!("{name}.pem")),
            private_key: folder.join(format!("{name}.key")),
        };
        let curve = format!("ec_paramgen_curve:{key}");
        let kind = if key.starts_with("rsa:") {
            vec!["-newkey", key]
        } else {
            vec!["-newkey", "ec", "-pkeyopt", &curve]
        };
        let spawn = Spawn::new("openssl", folder)
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg(format!("-{signature}"))
            .args(kind)
            .arg("-keyout")
            .arg(&made.private_key)
            .arg("-out")
            .arg(&made.certificate);
        openssl(spawn)?;
        Ok(made)
    }
}

/// The hash of the first certificate of a PEM file, as openssl computes it; `hash` is its word (`sha256`).
///
/// # Errors
///
/// [`HarnessError::ProgramMissing`], [`HarnessError::Exited`] with what openssl said, or
/// [`HarnessError::UnexpectedAnswer`].
pub fn fingerprint(certificate: &Path, hash: &str) -> Result<Vec<u8>, HarnessError> {
    let folder = certificate.parent().unwrap_or(Path::new("."));
    let spawn = Spawn::new("openssl", folder)
        .args(["x509", "-noout", "-fingerprint"])
        .arg(format!("-{hash}"))
        .arg("-in")
        .arg(certificate);
    let said = openssl(spawn)?;
    // `sha384 Fingerprint=AB:CD:…`
    let octets = said.trim().rsplit('=').next().unwrap_or_default().split(':');
    let read: Result<Vec<u8>, _> = octets.map(|octet| u8::from_str_radix(octet, 16)).collect();
    read.map_err(|_no_hex| HarnessError::UnexpectedAnswer {
        what: "openssl x509 -fingerprint".to_owned(),
        answer: said,
    })
}

fn openssl(spawn: Spawn) -> Result<String, HarnessError> {
    let mut openssl = OwnedProcess::start(spawn)?;
    let status = openssl.wait_exit(Duration::from_secs(60))?;
    if status.success() {
        Ok(openssl.log())
    } else {
        Err(HarnessError::Exited {
            name: "openssl".to_owned(),
            status,
            log: openssl.log_tail(),
        })
    }
}

fn generate(address: &str) -> Result<[String; 5], rcgen::Error> {
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, "kerbridge lab CA");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut listener = CertificateParams::new(["localhost".to_owned(), address.to_owned()])?;
    listener.distinguished_name.push(DnType::CommonName, "localhost");
    listener.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = listener.signed_by(&key, &authority)?;

    let client_key = KeyPair::generate()?;
    let client = CertificateParams::new([CLIENT.to_owned()])?.signed_by(&client_key, &authority)?;
    Ok([
        authority.pem(),
        certificate.pem(),
        key.serialize_pem(),
        client.pem(),
        client_key.serialize_pem(),
    ])
}
