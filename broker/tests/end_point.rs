//! The binding of real certificates, beside what openssl says of them.

#![expect(clippy::unwrap_used, reason = "tests and their helpers may fail loudly")]

use std::path::Path;
use std::process::Command;

use kerbridge_broker::channel_bindings::{NoEndPoint, bindings_of};
use kerbridge_gss::ChannelBindings;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn make(file: &Path, key: &[&str], signature: &[&str]) {
    let key_file = file.with_extension("key");
    let mut arguments = vec![
        "req",
        "-x509",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-days",
        "2",
        "-newkey",
    ];
    arguments.extend(key);
    arguments.extend(signature);
    arguments.extend(["-keyout", key_file.to_str().unwrap(), "-out", file.to_str().unwrap()]);
    openssl(&arguments);
}

/// `sha384 Fingerprint=AB:CD:…`
fn fingerprint(file: &Path, hash: &str) -> Vec<u8> {
    let said = openssl(&[
        "x509",
        "-noout",
        "-fingerprint",
        &format!("-{hash}"),
        "-in",
        file.to_str().unwrap(),
    ]);
    let (_, hex) = said.trim().split_once('=').unwrap();
    let bytes = hex.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap());
    bytes.collect()
}

#[test]
fn a_binding_is_what_openssl_computes_for_the_signature_of_the_certificate() {
    const RSA: &[&str] = &["rsa:2048"];
    const P_256: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
    const P_384: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
    const PSS: &[&str] = &["-sigopt", "rsa_padding_mode:pss"];
    let folder = tempfile::tempdir().unwrap();
    let mut cases = Vec::new();
    for key in [RSA, P_256, P_384] {
        for (signature, hash) in [
            ("-sha1", "sha256"),
            ("-sha256", "sha256"),
            ("-sha384", "sha384"),
            ("-sha512", "sha512"),
        ] {
            cases.push((key, vec![signature], hash));
        }
    }
    for (signature, hash) in [("-sha256", "sha256"), ("-sha384", "sha384"), ("-sha512", "sha512")] {
        cases.push((RSA, [&[signature], PSS].concat(), hash));
    }
    cases.push((RSA, vec!["-md5"], "sha256"));
    for (index, (key, signature, hash)) in cases.into_iter().enumerate() {
        let file = folder.path().join(format!("{index}.pem"));
        make(&file, key, &signature);
        let certificate = CertificateDer::from_pem_file(&file).unwrap();
        let expected = ChannelBindings::tls_server_end_point(&fingerprint(&file, hash));
        assert_eq!(bindings_of(&certificate), Ok(expected), "{key:?} {signature:?}");
    }
}

#[test]
fn an_edwards_curve_has_no_binding() {
    let folder = tempfile::tempdir().unwrap();
    for curve in ["ed25519", "ed448"] {
        let file = folder.path().join(curve);
        make(&file, &[curve], &[]);
        let certificate = CertificateDer::from_pem_file(&file).unwrap();
        assert_eq!(bindings_of(&certificate), Err(NoEndPoint::Undefined), "{curve}");
    }
}
