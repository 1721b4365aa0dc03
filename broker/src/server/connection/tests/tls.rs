//! Whom a connection over TLS is of.

use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsConnector;

use super::*;

/// An authority, and what it signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, names: Vec<SanType>, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        (
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().unwrap())
}

fn tls(authority: &Authority, clients: ClientNames) -> ListenerConfig {
    tls_of(ListenerName::Mesh, authority, clients)
}

fn tls_of(name: ListenerName, authority: &Authority, clients: ClientNames) -> ListenerConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (chain, key) = authority.sign(vec![dns("localhost")], ExtendedKeyUsagePurpose::ServerAuth);
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), Arc::clone(&provider));
    let verifier = match name {
        ListenerName::Public => verifier.allow_unauthenticated(),
        ListenerName::Mesh | ListenerName::Observe | ListenerName::Admin => verifier,
    };
    let verifier = verifier.build().unwrap();
    let certificate = chain.first().unwrap().clone();
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let address = Address::Tls {
        address: "127.0.0.1:0".parse().unwrap(),
        server: Arc::new(TlsServer::for_test(server, certificate, clients)),
    };
    listener(name, address)
}

async fn exchange_by_tls(to: SocketAddr, authority: &Authority, client: Option<Identity>) -> io::Result<String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match client {
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    let stream = tokio::net::TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    exchange(TlsConnector::from(Arc::new(config)).connect(name, stream).await?).await
}

#[tokio::test]
async fn the_name_in_a_client_certificate_becomes_the_client_id() {
    let authority = Authority::new();
    let running = start(&tls(&authority, ClientNames::All), 10);
    let client = |names| Some(authority.sign(names, ExtendedKeyUsagePurpose::ClientAuth));
    for (names, client_id) in [
        (vec![dns("envoy.mesh.test"), dns("other.test")], "envoy.mesh.test"),
        (
            vec![uri("spiffe://mesh.test/ns/a/sa/envoy")],
            "spiffe://mesh.test/ns/a/sa/envoy",
        ),
    ] {
        let answer = exchange_by_tls(running.tcp(), &authority, client(names)).await.unwrap();
        assert_eq!(claims(&answer)["client_id"], client_id);
    }
}

#[tokio::test]
async fn on_public_a_certificate_names_the_client_and_none_is_needed() {
    let authority = Authority::new();
    let listed = ClientNames::Listed(["cli.test".to_owned()].into());
    let running = start(&tls_of(ListenerName::Public, &authority, listed), 10);
    let client = |name| Some(authority.sign(vec![dns(name)], ExtendedKeyUsagePurpose::ClientAuth));
    for (client, client_id) in [(None, "sidecar"), (client("cli.test"), "cli.test")] {
        let answer = exchange_by_tls(running.tcp(), &authority, client).await.unwrap();
        assert_eq!(claims(&answer)["client_id"], client_id);
    }
    let answer = exchange_by_tls(running.tcp(), &authority, client("other.test")).await;
    assert!(!matches!(&answer, Ok(text) if !text.is_empty()), "{answer:?}");
}

#[tokio::test]
async fn a_client_that_proves_no_name_gets_no_answer() {
    let authority = Authority::new();
    let running = start(&tls(&authority, ClientNames::All), 10);
    let foreign = Authority::new().sign(vec![dns("envoy.test")], ExtendedKeyUsagePurpose::ClientAuth);
    let server = authority.sign(vec![dns("envoy.test")], ExtendedKeyUsagePurpose::ServerAuth);
    let nameless = authority.sign(Vec::new(), ExtendedKeyUsagePurpose::ClientAuth);
    for client in [None, Some(foreign), Some(server), Some(nameless)] {
        let answer = exchange_by_tls(running.tcp(), &authority, client).await;
        assert!(!matches!(&answer, Ok(text) if !text.is_empty()), "{answer:?}");
    }
    let good = authority.sign(vec![dns("envoy.test")], ExtendedKeyUsagePurpose::ClientAuth);
    assert!(exchange_by_tls(running.tcp(), &authority, Some(good)).await.is_ok());
}

#[tokio::test]
async fn of_an_authoritys_clients_only_those_on_the_list_are_taken_under_the_name_that_becomes_the_client_id() {
    let authority = Authority::new();
    let listed = ["envoy.test", "spiffe://mesh.test/envoy"].map(str::to_owned);
    let running = start(&tls(&authority, ClientNames::Listed(listed.into())), 10);
    for (names, taken) in [
        (vec![dns("envoy.test")], true),
        (vec![uri("spiffe://mesh.test/envoy")], true),
        (vec![dns("other.test")], false),
        // Its name would be another than the one on the list.
        (vec![dns("other.test"), dns("envoy.test")], false),
        (vec![dns("other.test"), uri("spiffe://mesh.test/envoy")], false),
        (vec![dns("envoy.test.example")], false),
    ] {
        let client = authority.sign(names.clone(), ExtendedKeyUsagePurpose::ClientAuth);
        let answer = exchange_by_tls(running.tcp(), &authority, Some(client)).await;
        let answered = matches!(&answer, Ok(text) if text.starts_with("HTTP/1.1 200 "));
        assert_eq!(answered, taken, "{names:?} {answer:?}");
        assert!(taken || !matches!(&answer, Ok(text) if !text.is_empty()), "{answer:?}");
    }
}
