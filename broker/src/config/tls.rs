//! Decides whether certificate, key and authority make a TLS server, and whose client certificates it takes.

mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

pub use self::server::TlsServer;

use self::server::Identity;
use super::ListenerName;
use super::client_names::ClientNames;
use super::secret_file::{self, Reach};
use crate::problem::Problems;

/// The files that a listener names, and whose certificates it takes.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) certificate: Option<PathBuf>,
    pub(super) private_key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_names: ClientNames,
}

impl Tls {
    pub(super) fn any(&self) -> bool {
        self.certificate.is_some() || self.private_key.is_some() || self.client_ca.is_some()
    }
}

/// Reads the server's side of TLS, or notes what is wrong.
pub(super) fn check(name: ListenerName, files: Tls, problems: &mut Problems) -> Option<TlsServer> {
    if !files.any() {
        problems.note(
            format!("listen.{name}"),
            "has tcp without TLS",
            "add certificate and private_key, or on loopback clear_text = true",
        );
        return None;
    }
    TlsServer::open(name, files, problems)
}

fn build(name: ListenerName, tls: &Tls, problems: &mut Problems) -> Option<Identity> {
    let field = format!("listen.{name}");
    let certificates = match &tls.certificate {
        Some(path) => certificates_of(path, &format!("{field}.certificate"), problems),
        None => {
            problems.note(
                format!("{field}.certificate"),
                "is missing",
                "name the PEM file with the certificate chain",
            );
            None
        }
    };
    let key = match &tls.private_key {
        Some(path) => private_key(path, &format!("{field}.private_key"), problems),
        None => {
            problems.note(
                format!("{field}.private_key"),
                "is missing",
                "name the PEM file with the private key",
            );
            None
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match (name, &tls.client_ca) {
        (ListenerName::Mesh, None) => {
            problems.note(
                format!("{field}.client_ca"),
                "is missing",
                "name the PEM file with the authority of the filter's client certificates: over TCP they are required",
            );
            return None;
        }
        // There is no TLS on `admin`.
        (ListenerName::Admin, _) => return None,
        (ListenerName::Observe, None) | (ListenerName::Public, None) => WebPkiClientVerifier::no_client_auth(),
        (ListenerName::Mesh | ListenerName::Observe | ListenerName::Public, Some(path)) => {
            let field = format!("{field}.client_ca");
            let mut roots = RootCertStore::empty();
            let (added, ignored) = roots.add_parsable_certificates(certificates_of(path, &field, problems)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
            let verifier = match name {
                // People have none.
                ListenerName::Public => verifier.allow_unauthenticated(),
                ListenerName::Mesh | ListenerName::Observe | ListenerName::Admin => verifier,
            };
            match verifier.build() {
                Ok(verifier) if added > 0 && ignored == 0 => verifier,
                Ok(_) | Err(_) => {
                    problems.note(
                        field,
                        format!("{} holds no usable authority", path.display()),
                        "name its certificate in PEM",
                    );
                    return None;
                }
            }
        }
    };
    let (certificates, key) = (certificates?, key?);
    let certificate = certificates.first()?.clone();
    let built = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_client_cert_verifier(verifier))
        .and_then(|builder| builder.with_single_cert(certificates, key));
    match built {
        Ok(mut server) => {
            server.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(Identity {
                server: Arc::new(server),
                certificate,
            })
        }
        Err(error) => {
            problems.note(
                format!("{field}.private_key"),
                format!("does not go with the certificate: {error}"),
                "name the key that the certificate was made for",
            );
            None
        }
    }
}

pub(super) fn certificates_of(
    path: &Path,
    field: &str,
    problems: &mut Problems,
) -> Option<Vec<CertificateDer<'static>>> {
    let bytes = match secret_file::read_bytes(path, Reach::Unchecked) {
        Ok(bytes) => bytes,
        Err((problem, remedy)) => {
            problems.note(field, problem, remedy);
            return None;
        }
    };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Some(certificates),
        Ok(_) => {
            problems.note(
                field,
                format!("{} holds no certificate", path.display()),
                "name a PEM file",
            );
            None
        }
        Err(error) => {
            problems.note(field, format!("{}: {error}", path.display()), "name a PEM file");
            None
        }
    }
}

fn private_key(path: &Path, field: &str, problems: &mut Problems) -> Option<PrivateKeyDer<'static>> {
    let bytes = match secret_file::read_bytes(path, Reach::GroupReads) {
        Ok(bytes) => bytes,
        Err((problem, remedy)) => {
            problems.note(field, problem, remedy);
            return None;
        }
    };
    match PrivateKeyDer::from_pem_slice(&bytes) {
        Ok(key) => Some(key),
        Err(error) => {
            problems.note(
                field,
                format!("{}: {error}", path.display()),
                "name a PEM file with one key that has no passphrase",
            );
            None
        }
    }
}
