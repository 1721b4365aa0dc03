//! Certificates that are replaced while the broker serves.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::fixture::{Folder, Serving, get, text};
use crate::{made, wait_until};

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, name: &str) -> (CertificateDer<'static>, String, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (certificate.der().clone(), certificate.pem(), key)
    }
}

fn write(folder: &Folder, name: &str, text: &str) {
    let path = folder.path("made").join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Gives the server a certificate of this authority.
fn identify(folder: &Folder, authority: &Authority) {
    let (_, certificate, key) = authority.sign("localhost");
    write(folder, "broker.pem", &certificate);
    write(folder, "broker.key", &key.serialize_pem());
}

/// A broker whose mesh is on TLS, and where it is.
fn serving(folder: &Folder) -> (Serving, String) {
    let config = folder.path("made/kerbridge.toml");
    let tls = "[listen.mesh]\ntcp = \"127.0.0.1:0\"\ncertificate = \"broker.pem\"\nprivate_key = \"broker.key\"\n\
               client_ca = \"mesh-ca.pem\"";
    let lines = fs::read_to_string(&config).unwrap();
    let lines = lines
        .lines()
        .filter(|line| *line != "unix = \"mesh.sock\"" && !line.starts_with("mode = "));
    let text: Vec<&str> = lines
        .map(|line| if line == "[listen.mesh]" { tls } else { line })
        .collect();
    let observe = "\n[listen.observe]\nunix = \"observe.sock\"\n";
    fs::write(&config, text.join("\n") + observe).unwrap();
    let broker = Serving::start(folder);
    let line = broker.log.lines().find(|line| line.contains("\"tls:")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    let address = line["address"]
        .as_str()
        .unwrap()
        .strip_prefix("tls:")
        .unwrap()
        .to_owned();
    (broker, address)
}

/// One request by a client of one authority to a server that must be another's.
fn ask(address: &str, server: &Authority, client: &Authority) -> io::Result<String> {
    let mut roots = RootCertStore::empty();
    roots.add(server.0.der().clone()).unwrap();
    let (certificate, _, key) = client.sign("envoy.mesh.test");
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .unwrap();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(session, stream);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: k\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_certificate_and_an_authority_that_are_replaced_count_for_the_next_connection() {
    let folder = made();
    let (first, second) = (Authority::new(), Authority::new());
    identify(&folder, &first);
    write(&folder, "mesh-ca.pem", &first.0.pem());
    let (broker, address) = serving(&folder);
    let good = |server, client| ask(&address, server, client).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "));
    assert!(good(&first, &first));
    assert!(!good(&second, &first) && !good(&first, &second));

    identify(&folder, &second);
    wait_until("the new certificate", || good(&second, &first));
    assert!(!good(&first, &first));
    write(&folder, "mesh-ca.pem", &second.0.pem());
    wait_until("the new authority", || good(&second, &second));
    assert!(!good(&second, &first));

    let bad = || get(&folder.path("made/observe.sock"), "/metrics").contains("kerbridge_listener_certificates_bad 1\n");
    assert!(!bad());
    write(&folder, "broker.pem", "-----BEGIN CERTIFICATE-----\n");
    wait_until("a certificate that is cut off to be noticed", bad);
    assert!(good(&second, &second));
    identify(&folder, &second);
    wait_until("a good one to be noticed", || !bad());
    broker.signal(Signal::TERM);
    let (status, log) = broker.end();
    assert_eq!(status.code(), Some(0), "{log}");
    // Nobody said which of the authority's clients are the mesh's.
    assert!(log.contains("\"field\":\"listen.mesh.client_names\""), "{log}");
    let output = folder.run(&["config", "check", "--config", "made/kerbridge.toml"]);
    assert_eq!(output.status.code(), Some(0));
    let warning = text(&output.stderr);
    assert!(
        warning.contains("warning: listen.mesh.client_names: is absent"),
        "{warning}"
    );
}
