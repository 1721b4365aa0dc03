//! Envoy and the broker on two machines: the mesh over TCP, with TLS both ways.

use std::time::Duration;

use kerbridge_tests::World;
use kerbridge_tests::certificates::CLIENT;
use kerbridge_tests::error::HarnessError;
use kerbridge_tests::port::free_tcp;
use kerbridge_tests::shipped::ShippedYaml;
use kerbridge_tests::wait::wait_until;
use serde_json::Value;

/// The cluster that the shipped file holds in comments, in place of the one on a Unix socket.
fn connect(yaml: &mut ShippedYaml, world: &[(&str, String)]) -> Result<(), HarnessError> {
    const CLUSTER: &str = "  #- name: kerbridge_broker\n";
    yaml.remove_block("- name: kerbridge_broker")?;
    let text = yaml.text().to_owned();
    let at = text.find(CLUSTER).unwrap();
    let (before, cluster) = text.split_at(at);
    let lines = cluster.lines().map(|line| line.replacen("  #", "  ", 1));
    *yaml = ShippedYaml::from_text(format!("{before}{}\n", lines.collect::<Vec<_>>().join("\n")));
    for (from, to) in world {
        yaml.replace(from, to)?;
    }
    Ok(())
}

/// What the broker logged of one kind, the last of it.
fn logged(world: &mut World, message: &str) -> Option<Value> {
    let log = world.broker().logged(&format!("\"message\":{message:?}"));
    let lines = log
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.into_iter().find(|line| line["message"] == message)
}

#[test]
fn over_tls_a_proxy_is_known_by_its_certificate_and_without_one_that_is_listed_it_gets_nothing() {
    let mut world = World::builder().broker_stopped().start().unwrap();
    let port = free_tcp().unwrap();
    world.listen_over_tls(port, CLIENT).unwrap();
    let files = world.certificates().clone();
    let certificate = files.client_certificate.display().to_string();
    let key = files.client_private_key.display().to_string();
    let fitted = [
        (
            "{address: broker.example.com, port_value: 8443}",
            format!("{{address: 127.0.0.1, port_value: {port}}}"),
        ),
        ("sni: broker.example.com", "sni: localhost".to_owned()),
        ("{exact: broker.example.com}", "{exact: localhost}".to_owned()),
        ("/etc/envoy/tls/mesh.crt", certificate.clone()),
        ("/etc/envoy/tls/mesh.key", key.clone()),
        ("/etc/envoy/tls/mesh-ca.crt", files.authority.display().to_string()),
    ];
    world.restart_envoy(|yaml| connect(yaml, &fitted)).unwrap();
    wait_until("keys by way of tls", Duration::from_secs(20), || {
        world.curl_as("alice", "/orders/1").send().unwrap().status == 200
    })
    .unwrap();
    let line = logged(&mut world, "exchanged").unwrap();
    assert_eq!(
        (line["client_id"].as_str(), line["listener"].as_str()),
        (Some(CLIENT), Some("mesh"))
    );
    let token = world.token("alice", "/orders/1").unwrap();
    let with_token = |world: &World| {
        let answer = world.curl("/orders/1").bearer(&token).send().unwrap();
        if answer.status == 200 {
            (200, "ok".to_owned())
        } else {
            world.reason(&answer).unwrap()
        }
    };
    let with_ticket = |world: &World| {
        let answer = world.curl_as("alice", "/orders/1").send().unwrap();
        world.reason(&answer).unwrap()
    };

    // The same certificate, of the same authority, and no longer on the list.
    world.listen_over_tls(port, "somebody.else").unwrap();
    let arrived = world.upstream().requests().len();
    assert_eq!(with_ticket(&world), (503, "broker_unavailable".to_owned()));
    assert_eq!(world.upstream().requests().len(), arrived);
    assert_eq!(with_token(&world), (200, "ok".to_owned()));
    let line = logged(&mut world, "a client certificate is not on the listener's client_names").unwrap();
    assert_eq!(line["client_id"], CLIENT);

    // No certificate, and no keys from before.
    world.listen_over_tls(port, CLIENT).unwrap();
    let shown = format!(
        "tls_certificates:\n          - certificate_chain: {{filename: {certificate}}}\n            private_key: {{filename: {key}}}\n"
    );
    world
        .restart_envoy(|yaml| yaml.replace(&shown, "tls_certificates: []\n"))
        .unwrap();
    let arrived = world.upstream().requests().len();
    for _ in 0..3 {
        assert_eq!(with_ticket(&world).0, 503);
        assert_eq!(with_token(&world), (503, "keys_unavailable".to_owned()));
    }
    assert_eq!(world.upstream().requests().len(), arrived);
    assert!(!world.broker().log().contains("\"message\":\"exchanged\""));
}
