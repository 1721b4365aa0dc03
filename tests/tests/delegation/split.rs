//! Two brokers behind one Envoy: one takes tickets and makes tokens, and has no account that acts for users; the other acts for
//! users, and has neither the key of a service nor one that signs.

use std::path::Path;
use std::time::Duration;

use kerbridge_tests::HarnessError;
use kerbridge_tests::broker::{Broker, BrokerSettings};
use kerbridge_tests::delegation::{ACCEPTOR, BRIDGE, DelegationRealm, table};
use kerbridge_tests::shipped::{ISSUER, ShippedYaml};
use kerbridge_tests::wait::wait_until;

use crate::bridge::{Bridge, Plan, seen};
use crate::realms::{mit, samba};

/// The cluster of the one that makes tokens, in Envoy's configuration.
const CLUSTER: &str = "  - name: kerbridge_broker\n";
/// That of the other.
const OTHER: &str = "kerbridge_delegation";
/// It may take a machine that is busy so long.
const WITHIN: Duration = Duration::from_secs(20);

/// The broker's cluster once more, by another name and behind another socket.
fn another_cluster(yaml: &mut ShippedYaml, socket: &Path) -> Result<(), HarnessError> {
    let text = yaml.text().to_owned();
    let cluster = text.split_once(CLUSTER).and_then(|(_, rest)| rest.split_once("\n\n"));
    let cluster = cluster
        .map_or("", |(cluster, _)| cluster)
        .replace("kerbridge_broker", OTHER);
    let pipe = cluster
        .split_once("{pipe: {path: ")
        .and_then(|(_, rest)| rest.split_once('}'));
    let cluster = cluster.replace(pipe.map_or("", |(path, _)| path), &socket.display().to_string());
    yaml.replace(CLUSTER, &format!("  - name: {OTHER}\n{cluster}\n\n{CLUSTER}"))
}

/// The one that acts for users, told of the other's keys and revocations.
fn acting(minting: &Broker, realm: &DelegationRealm, folder: &Path) -> Broker {
    let socket = minting.socket();
    let settings = BrokerSettings {
        issuer: ISSUER.to_owned(),
        realms: vec![realm.realm().to_owned()],
        acceptors: Vec::new(),
        keytab: realm.keytab(BRIDGE),
        policy: std::fs::read_to_string(minting.folder().join("policy.toml")).unwrap(),
        more: format!(
            "{}refused_targets = [{:?}]\n\
             [[delegation.keys]]\nissuer = {ISSUER:?}\nunix = {socket:?}\n\
             [[delegation.feeds]]\nissuer = {ISSUER:?}\nunix = {socket:?}\npoll = \"1s\"\n",
            table(&realm.principal(BRIDGE), &realm.keytab(BRIDGE)),
            realm.principal(ACCEPTOR),
        ),
    };
    let mut broker = Broker::prepare(folder, &settings).unwrap();
    broker.set_krb5_config(realm.clients().krb5_config());
    broker
}

/// How many tickets a broker has given out.
fn tickets(broker: &Broker) -> usize {
    broker.log().matches("\"message\":\"delegated\"").count()
}

fn two_brokers(realm: &DelegationRealm) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("mesh.sock");
    let plan = Plan {
        settings: "delegation = { cluster = \"kerbridge_delegation\", timeout = \"4s\" }\n",
        acts: false,
        ..Plan::default()
    };
    let mut bridge: Bridge = plan.start_with(realm, move |yaml| another_cluster(yaml, &socket));
    let alice = realm.principal("alice");
    let mut acting = acting(bridge.world.broker(), realm, folder.path());

    // What each of them has.
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let (minters, actors) = (read(&bridge.world.broker().config()), read(&acting.config()));
    assert!(
        minters.contains("acceptor") && !minters.contains("[delegation]"),
        "{minters}"
    );
    assert!(!actors.contains("acceptor") && !actors.contains("[keys]"), "{actors}");
    assert!(
        !actors.contains(&realm.keytab(ACCEPTOR).display().to_string()),
        "{actors}"
    );

    // Before it is there, what needs no ticket is served.
    let token = bridge.token("alice");
    assert_eq!(
        bridge.refused(&token, "/legacy/1"),
        (503, "broker_unavailable".to_owned())
    );
    acting.start().unwrap();
    wait_until("a ticket", WITHIN, || bridge.ask(&token, "/legacy/1").status == 200).unwrap();

    // By a token, and by a ticket that one broker makes a token of, and of that the other one a ticket.
    assert_eq!(seen(&bridge.ask(&token, "/legacy/2")), alice);
    let answer = bridge.world.curl_as("alice", "/legacy/3").send().unwrap();
    assert_eq!(seen(&answer), alice, "{}", bridge.apache.log());
    let given = tickets(&acting);
    assert!(given >= 3, "{given}: {}", acting.log());
    assert_eq!(tickets(bridge.world.broker()), 0);
    let folder: Vec<_> = walk(folder.path());
    assert!(!folder.iter().any(|name| name.contains("keyring")), "{folder:?}");

    // Who is taken out at the one is at the other.
    let jti = kerbridge_tests::token::decode(&token).unwrap().claims["jti"]
        .as_str()
        .unwrap()
        .to_owned();
    bridge.world.broker().revoke(&["--jti", &jti]).unwrap();
    let revoked = (401, "revoked".to_owned());
    wait_until("the revocation", WITHIN, || {
        let answer = bridge.ask(&token, "/legacy/4");
        answer.status != 200 && bridge.world.reason(&answer).unwrap() == revoked
    })
    .unwrap();

    // The one that makes tokens is away: those that were made still lead there.
    let token = bridge.token("alice");
    bridge.world.broker().stop().unwrap();
    assert_eq!(seen(&bridge.ask(&token, "/legacy/5")), alice);
    acting.stop().unwrap();
    assert_eq!(
        bridge.refused(&token, "/legacy/6"),
        (503, "broker_unavailable".to_owned())
    );
    assert_eq!(bridge.ask(&token, "/plain/7").status, 200);
    drop(bridge);
}

/// The files below a folder.
fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[test]
fn one_makes_tokens_and_another_one_behind_a_cluster_of_its_own_makes_tickets_of_them() {
    two_brokers(mit());
}

#[test]
#[ignore = "runs a domain controller, as root"]
fn one_makes_tokens_and_another_one_behind_a_cluster_of_its_own_makes_tickets_of_them_in_a_domain() {
    two_brokers(samba());
}
