//! The broker trades a token for a ticket in its subject's name: who gets one, for what, and how each refusal is named.

use std::path::Path;

use kerbridge_tests::apache::{Apache, remote_user};
use kerbridge_tests::broker::{self, Broker, BrokerSettings};
use kerbridge_tests::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, LEGACY};
use kerbridge_tests::exchange_world::{Exchanged, exchange};
use kerbridge_tests::http::{Connection, Request};
use kerbridge_tests::initiator::token_in_child;
use serde_json::Value;
use tempfile::TempDir;

use crate::realms::mit;

const ISSUER: &str = "https://kerbridge.lab.test";

fn policy(realm: &DelegationRealm) -> String {
    let name = realm.realm();
    format!(
        r#"
[[audience]]
name = "orders"
[[grant]]
principals = ["*@{name}"]
audience = "orders"
[[delegation]]
target = "{LEGACY}@{name}"
audience = "orders"
principals = ["*@{name}"]
[[route]]
path_prefix = "/"
accept = ["negotiate", "bearer"]
audience = "orders"
"#
    )
}

struct World {
    broker: Broker,
    _folder: TempDir,
}

fn start(realm: &DelegationRealm, bridge: &str) -> World {
    let folder = tempfile::tempdir().unwrap();
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![realm.realm().to_owned()],
        acceptors: vec![realm.principal(ACCEPTOR)],
        keytab: realm.keytab(ACCEPTOR),
        policy: policy(realm),
        more: format!(
            "[delegation]\nprincipal = {:?}\nkeytab = {:?}\n",
            realm.principal(bridge),
            realm.keytab(bridge)
        ),
    };
    let mut broker = Broker::prepare(folder.path(), &settings).unwrap();
    broker.set_krb5_config(realm.clients().krb5_config());
    broker.start().unwrap();
    World {
        broker,
        _folder: folder,
    }
}

fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

impl World {
    fn token(&self, realm: &DelegationRealm, user: &str) -> String {
        let lab = Path::new(env!("CARGO_BIN_EXE_kerbridge-lab"));
        let tickets = realm.kinit(user).unwrap();
        let ticket = token_in_child(lab, realm.clients(), &tickets, &realm.principal(ACCEPTOR)).unwrap();
        match exchange(&self.broker.socket(), &ticket).unwrap() {
            Exchanged::Token(token) => token,
            Exchanged::Refused(status, reason) => panic!("{status} {reason}\n{}", self.broker.log()),
        }
    }

    fn ticket(&self, token: &str, target: &str) -> (u16, Value) {
        let body = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token\
             &requested_token_type=urn%3Akerbridge%3Atoken-type%3Anegotiate&audience={}&subject_token={}",
            escaped(target),
            escaped(token)
        );
        let request = Request::post("/oauth2/token", body).header("content-type", "application/x-www-form-urlencoded");
        let answer = broker::ask(&self.broker.socket(), &request).unwrap();
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }
}

#[test]
fn a_token_opens_a_service_that_takes_kerberos_only() {
    let realm = mit();
    let world = start(realm, BRIDGE);
    let apache = Apache::start(&realm.keytab(LEGACY)).unwrap();
    let token = world.token(realm, "alice");
    let (status, reply) = world.ticket(&token, &realm.principal(LEGACY));
    assert_eq!(status, 200, "{reply}\n{}", world.broker.log());
    let value = format!("Negotiate {}", reply["access_token"].as_str().unwrap());
    let mut connection = Connection::tcp(apache.port()).unwrap();
    let answer = connection
        .exchange(&Request::get("/").header("authorization", value))
        .unwrap();
    assert_eq!(answer.status, 200, "{}", apache.log());
    let seen = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(remote_user(&seen), Some(realm.principal("alice").as_str()));
}
