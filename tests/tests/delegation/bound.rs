//! The service that wants its tickets bound to its channel: what it takes from a client that is there by itself.

use std::path::Path;

use kerbridge_tests::bound_service::BoundService;
use kerbridge_tests::certificates::{Certificates, SelfSigned, fingerprint};
use kerbridge_tests::delegation::OTHER;
use kerbridge_tests::http::Request;
use kerbridge_tests::initiator::{bound_token_in_child, token_in_child};
use kerbridge_tests::tls;

use crate::realms::mit;

#[test]
fn a_service_that_wants_bindings_takes_a_ticket_for_its_own_channel_only() {
    let realm = mit();
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::create(folder.path()).unwrap();
    let other = SelfSigned::create(folder.path(), "other", "rsa:2048", "sha256").unwrap();
    let name = realm.principal(OTHER);
    let service = BoundService::start(&name, &realm.keytab(OTHER), &certificates).unwrap();
    let send = |request: &Request| {
        let answer = tls::send(service.port(), &certificates.authority, request).unwrap();
        (answer.status, answer.text())
    };
    let with = |token: &str| send(&Request::get("/").header("authorization", format!("Negotiate {token}")));
    let lab = Path::new(env!("CARGO_BIN_EXE_kerbridge-lab"));
    let alice = realm.kinit("alice").unwrap();
    let bound = |certificate: &Path| {
        let hash = fingerprint(certificate, "sha256").unwrap();
        bound_token_in_child(lab, realm.clients(), &alice, &name, &hash).unwrap()
    };

    let good = bound(&certificates.certificate);
    let seen = format!("{{\"remote_user\":\"{}\"}}", realm.principal("alice"));
    assert_eq!(with(&good), (200, seen));
    // Once.
    assert_eq!(with(&good).0, 401);
    let unbound = token_in_child(lab, realm.clients(), &alice, &name).unwrap();
    assert_eq!(with(&unbound), (403, "unbound".to_owned()));
    assert_eq!(with(&bound(&other.certificate)), (403, "other channel".to_owned()));
    assert_eq!(send(&Request::get("/")), (401, "no ticket".to_owned()));
}
