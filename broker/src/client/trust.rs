//! Decides whose certificates a server may have: the authorities that were named, or those of this machine.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use super::trouble::{Kind, Trouble};

/// Largest file of authorities that is read: those of a distribution are a quarter of it.
const LARGEST: u64 = 1024 * 1024;
/// Where distributions have theirs: Debian, Fedora, openSUSE, Alpine.
const OF_THIS_MACHINE: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A client that takes certificates of these authorities, for the server's name.
pub(super) fn client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Trouble> {
    let file = match ca {
        Some(file) => file,
        None => {
            let there = OF_THIS_MACHINE.iter().map(Path::new).find(|path| path.exists());
            there.ok_or_else(|| {
                Trouble::new(
                    Kind::FileUnusable,
                    "this machine has no file of certificate authorities",
                    "install ca-certificates, or name one with --cacert",
                )
            })?
        }
    };
    let roots = authorities(file, ca.is_some())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut client = builder
        .map_err(|error| unusable(file, &error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(client))
}

/// Where the file was named, all of it must be good; distributions have authorities that rustls does not take.
fn authorities(file: &Path, named: bool) -> Result<RootCertStore, Trouble> {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|open| open.take(LARGEST).read_to_end(&mut bytes));
    read.map_err(|error| unusable(file, &error.to_string()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let read = read.map_err(|error| unusable(file, &error.to_string()))?;
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(read);
    if added == 0 || (named && ignored > 0) {
        return Err(unusable(
            file,
            "it holds no usable certificate in PEM, or others beside it",
        ));
    }
    Ok(roots)
}

fn unusable(file: &Path, why: &str) -> Trouble {
    Trouble::new(
        Kind::FileUnusable,
        format!(
            "the certificate authorities in {} cannot be used: {why}",
            file.display()
        ),
        "name a PEM file with --cacert",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_authorities_is_named_with_what_to_name_instead() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let none = client(Some(&file)).unwrap_err();
        assert_eq!(none.kind, Kind::FileUnusable);
        assert!(none.to_string().contains("ca.pem"), "{none}");
        assert!(none.to_string().contains("--cacert"), "{none}");
        for text in [
            "",
            "nonsense",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(client(Some(&file)).unwrap_err().kind, Kind::FileUnusable, "{text:?}");
        }
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(&file, made.cert.pem()).unwrap();
        assert!(client(Some(&file)).is_ok());
    }
}
