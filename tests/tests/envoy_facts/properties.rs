//! What the module can know of the connection.

use std::path::Path;
use std::process::Command;

use kerbridge_tests::http::{Connection, Request};
use serde_json::{Value, json};

use crate::bootstrap::{Bootstrap, direct, probe};

fn tls(folder: &Path) -> Value {
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    json!({"transport_socket": {"name": "tls", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{
                "certificate_chain": {"filename": folder.join("cert.pem")},
                "private_key": {"filename": folder.join("key.pem")},
            }],
        },
    }}})
}

fn run(program: &str, args: &[&str], url: &str) -> String {
    let output = Command::new(program).args(args).arg(url).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn only_tls_version_tells_clear_from_tls() {
    let folder = tempfile::tempdir().unwrap();
    let ask =
        probe("headers=property connection/tls_version; property request/scheme; first x-forwarded-proto; answer");
    let envoy = Bootstrap::default()
        .listener("clear", std::slice::from_ref(&ask), &direct(418), &json!({}))
        .listener(
            "edge",
            std::slice::from_ref(&ask),
            &direct(418),
            &json!({"use_remote_address": true}),
        )
        .listener("tls", &[ask], &direct(418), &json!({}))
        .chain(&tls(folder.path()))
        .start();
    let url =
        |scheme: &str, listener: &str| format!("{scheme}://localhost:{}/", envoy.listener_port(listener).unwrap());
    let seen = |version: &str, scheme: &str, forwarded: &str| {
        format!(
            "property connection/tls_version -> {version}\nproperty request/scheme -> \"{scheme}\"\n\
             first x-forwarded-proto -> \"{forwarded}\"\n"
        )
    };
    assert_eq!(
        run("curl", &["-sk"], &url("https", "tls")),
        seen("\"TLSv1.3\"", "https", "https")
    );
    assert_eq!(
        run("curl", &["-sk", "--tls-max", "1.2"], &url("https", "tls")),
        seen("\"TLSv1.2\"", "https", "https")
    );
    assert_eq!(
        run("curl", &["-s"], &url("http", "clear")),
        seen("none", "http", "http")
    );
    let forward = ["-s", "-H", "x-forwarded-proto: https"];
    assert_eq!(
        run("curl", &forward, &url("http", "clear")),
        seen("none", "https", "https")
    );
    assert_eq!(
        run("curl", &forward, &url("http", "edge")),
        seen("none", "http", "http")
    );
    let spoof = ["-H", ":scheme: https"];
    assert_eq!(
        run("nghttp", &spoof, &url("http", "clear")),
        seen("none", "https", "http")
    );
    assert_eq!(
        run("nghttp", &spoof, &url("http", "edge")),
        seen("none", "https", "http")
    );
}

#[test]
fn the_server_name_needs_the_tls_inspector() {
    let folder = tempfile::tempdir().unwrap();
    let ask = probe("headers=property connection/requested_server_name; answer");
    let inspector = json!({"listener_filters": [{
        "name": "tls_inspector",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
        },
    }]});
    let tls = tls(folder.path());
    let envoy = Bootstrap::default()
        .listener("without", std::slice::from_ref(&ask), &direct(418), &json!({}))
        .chain(&tls)
        .listener("with", &[ask], &direct(418), &json!({}))
        .chain(&tls)
        .last_listener(&inspector)
        .start();
    let url = |listener: &str| format!("https://localhost:{}/", envoy.listener_port(listener).unwrap());
    assert_eq!(
        run("curl", &["-sk"], &url("without")),
        "property connection/requested_server_name -> none\n"
    );
    assert_eq!(
        run("curl", &["-sk"], &url("with")),
        "property connection/requested_server_name -> \"localhost\"\n"
    );
}

#[test]
fn the_request_id_is_the_clients_unless_the_listener_is_an_edge() {
    let ask = probe("headers=property request/id; first x-request-id; answer");
    // Loopback counts as internal unless said otherwise, and an internal caller may bring its own.
    let external = json!({"cidr_ranges": [{"address_prefix": "192.0.2.0", "prefix_len": 24}]});
    let envoy = Bootstrap::default()
        .listener("inner", std::slice::from_ref(&ask), &direct(418), &json!({}))
        .listener(
            "edge",
            &[ask],
            &direct(418),
            &json!({"use_remote_address": true, "internal_address_config": external}),
        )
        .start();
    let send = |listener: &str| {
        let url = format!("http://localhost:{}/", envoy.listener_port(listener).unwrap());
        run("curl", &["-s", "-H", "x-request-id: mine"], &url)
    };
    assert_eq!(
        send("inner"),
        "property request/id -> \"mine\"\nfirst x-request-id -> \"mine\"\n"
    );
    assert!(!send("edge").contains("mine"));
}

#[test]
fn the_source_address_is_the_forwarded_one_unless_the_listener_is_an_edge() {
    let ask = probe("headers=property source/address; answer");
    let envoy = Bootstrap::default()
        .listener("inner", std::slice::from_ref(&ask), &direct(418), &json!({}))
        .listener("edge", &[ask], &direct(418), &json!({"use_remote_address": true}))
        .start();
    let send = |listener: &str| {
        let url = format!("http://127.0.0.1:{}/", envoy.listener_port(listener).unwrap());
        run("curl", &["-s", "-H", "x-forwarded-for: 192.0.2.1"], &url)
    };
    assert!(send("inner").starts_with("property source/address -> \"192.0.2.1:0\"\n"));
    assert!(send("edge").starts_with("property source/address -> \"127.0.0.1:"));
}

/// What `connection/id` and `request/protocol` are for a request.
fn connection_and_protocol(answer: &str) -> (String, String) {
    let value = |name: &str| {
        let line = answer
            .lines()
            .find(|line| line.starts_with(&format!("property {name} -> ")));
        line.unwrap().rsplit(" -> ").next().unwrap().to_owned()
    };
    (value("connection/id"), value("request/protocol"))
}

#[test]
fn each_connection_has_a_number_of_its_own() {
    let ask = probe("headers=property connection/id; property request/protocol; answer");
    let envoy = Bootstrap::default()
        .listener("front", &[ask], &direct(418), &json!({}))
        .start_with(2);
    let port = envoy.listener_port("front").unwrap();
    let mut numbers = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::tcp(port).unwrap();
        let mut ask = || connection_and_protocol(&connection.exchange(&Request::get("/")).unwrap().text());
        let (number, protocol) = ask();
        assert_eq!(protocol, "\"HTTP/1.1\"");
        assert_eq!(ask().0, number);
        numbers.push(number);
    }
    let seen = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), seen, "{numbers:?}");
    // Eight bytes, little-endian: small numbers, so that most of them are zero.
    assert!(
        numbers.iter().all(|number| number.ends_with("\\x00\\x00\\x00\\x00\"")),
        "{numbers:?}"
    );

    let two = run("nghttp", &[], &format!("http://localhost:{port}/"));
    let (number, protocol) = connection_and_protocol(&two);
    assert_eq!(protocol, "\"HTTP/2\"");
    assert!(!numbers.contains(&number));
}
